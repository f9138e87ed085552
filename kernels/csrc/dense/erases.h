// A write of V heads that erases and adds (Graves et al. 2014, eq 3-4): all erases, then all adds; forward and
// backward, a block of rows at a time.
#pragma once

#include "dense/rows.h"

namespace mb {

// The write of one head, as what is done to vectors of rows while they are in registers (dense/row_writes.h,
// dense/row_gradients.h).
struct EraseAndAdd {
    const Real *weights, *erase, *add;  // over the rows of the block; [W]

    template <class Vector, int at_once>
    struct Of {
        const Real *erase, *add;
        Vector weight[at_once];
        MB_FN Vector after(int j, int64_t w, Vector row) const {
            return row * (1 - erase[w] * weight[j]) + add[w] * weight[j];
        }
    };
    template <class Vector, int at_once>
    MB_FN Of<Vector, at_once> of(int64_t i) const {
        Of<Vector, at_once> own{erase, add, {}};
        for (int j = 0; j < at_once; ++j) own.weight[j] = load_columns<Vector>(weights + i + j * lanes_of<Vector>);
        return own;
    }
};

// The same backwards: adds to the gradients of the weights; to of_add, of_erase [W], in lanes, the gradients of add,
// and minus those of erase.
struct EraseAndAddBackward {
    EraseAndAdd write;
    Real *grad_weights, *of_add, *of_erase;

    template <class Vector, int at_once>
    struct Of : EraseAndAdd::Of<Vector, at_once> {
        Real *of_add, *of_erase, *grad_weights;
        Vector grad_weight[at_once];
        MB_FN void undo(int64_t w, const Vector (&before)[at_once], Vector (&grads)[at_once]) {
            const Real erased = this->erase[w], added = this->add[w];
            Vector to_add = {}, to_erase = {};
            for (int j = 0; j < at_once; ++j) {
                const Vector own = this->weight[j], product = grads[j] * before[j];
                to_add += grads[j] * own;
                to_erase += product * own;
                grad_weight[j] += grads[j] * added - product * erased;
                grads[j] *= 1 - erased * own;
            }
            add_to_lanes(of_add + w * sum_lanes, to_add);
            add_to_lanes(of_erase + w * sum_lanes, to_erase);
        }
        MB_FN void end() const {
            for (int j = 0; j < at_once; ++j) store_columns(grad_weights + j * lanes_of<Vector>, grad_weight[j]);
        }
    };
    template <class Vector, int at_once>
    MB_FN Of<Vector, at_once> of(int64_t i) const {
        Of<Vector, at_once> own{write.of<Vector, at_once>(i), of_add, of_erase, grad_weights + i, {}};
        for (int j = 0; j < at_once; ++j)
            own.grad_weight[j] = load_columns<Vector>(own.grad_weights + j * lanes_of<Vector>);
        return own;
    }
};

struct ErasesAndAdds {
    Count heads;
    int64_t width;
    Inputs weights;     // of each head over the rows of the block
    Inputs erase, add;  // [W] of each head

    // Writes to `after`, which may be `before`.
    MB_FN void run(const Real* before, int64_t size, Real* after) const {
        const Real* from = before;
        for_each_group(heads, [&](auto group, Count first) MB_INLINE {
            constexpr int count = group();
            for (int64_t w = 0; w < width; ++w)
                for_each_columns(size,
                                 [&, old = from + w * size, own = after + w * size](auto zero, int64_t i) MB_INLINE {
                                     typedef decltype(zero) Vector;
                                     Vector row = load_columns<Vector>(old + i);
                                     for (int h = 0; h < count; ++h)
                                         row *= 1 - erase[first + h][w] * load_columns<Vector>(weights[first + h] + i);
                                     if (heads == count)
                                         for (int h = 0; h < count; ++h)
                                             row += add[first + h][w] * load_columns<Vector>(weights[first + h] + i);
                                     store_columns(own + i, row);
                                 });
            from = after;
        });
        if (heads > 4) add_outer(after, size, width, weights, add, heads);
    }

    // From the gradients `grads` of a block of rows after the write to those before it. Adds to the gradients of the
    // weights; to of_add, of_erase [V, W], in lanes, the gradients of add, and minus those of erase. `later` [rows] is
    // scratch.
    MB_FN void undo(const Real* before, int64_t size, Real* grads, Outputs grad_weights, Outputs of_add,
                    Outputs of_erase, Real* later) const {
        score_rows<true>(grads, size, width, add, heads, grad_weights);
        accumulate_rows(grads, size, width, weights, heads, of_add);
        for (int64_t w = 0; w < width; ++w)
            for_each_group(heads, [&](auto group, Count first) MB_INLINE {
                erase_backward<group()>(first, w, before + w * size, size, grads + w * size, grad_weights, of_erase,
                                        later);
            });
    }

    // Of the column w, for some heads. What an erase multiplies is the row before as all other heads have erased it:
    // the gradient already holds the factors of the heads before these, `later` those of the heads after them.
    template <int count>
    MB_FN void erase_backward(Count first, int64_t w, const Real* before, int64_t size, Real* grads,
                              Outputs grad_weights, Outputs of_erase, Real* later) const {
        const bool is_last = first + count == heads;
        if (!is_last) find_later(first + count, w, size, later);
        Real factors[count];
        for (int h = 0; h < count; ++h) factors[h] = erase[first + h][w];
        for_each_columns(size, [&](auto zero, int64_t i) MB_INLINE {
            typedef decltype(zero) Vector;
            Vector own[count], keep[count], others[count];
            for (int h = 0; h < count; ++h) {
                own[h] = load_columns<Vector>(weights[first + h] + i);
                keep[h] = 1 - factors[h] * own[h];
            }
            const Vector grad = load_columns<Vector>(grads + i);
            Vector product = grad * load_columns<Vector>(before + i);
            if (!is_last) product *= load_columns<Vector>(later + i);
            Vector all = grad;  // with the factors of these heads
            for (int h = 0; h < count; ++h) all *= keep[h];
            products_of_others(product, keep, others);
            for (int h = 0; h < count; ++h) {
                add_to_lanes(of_erase[first + h] + w * sum_lanes, own[h] * others[h]);
                Real* const of_weight = grad_weights[first + h] + i;
                store_columns(of_weight, load_columns<Vector>(of_weight) - factors[h] * others[h]);
            }
            store_columns(grads + i, all);
        });
    }

    // others[h] = product times all factors but factors[h].
    template <int count, class Vector>
    MB_LEAF static void products_of_others(Vector product, const Vector (&factors)[count], Vector (&others)[count]) {
        Vector before = product;
        for (int h = 0; h < count; ++h) {
            others[h] = before;
            before *= factors[h];
        }
        Vector after = factors[count - 1];
        for (int h = count - 1; h-- > 0;) {
            others[h] *= after;
            after *= factors[h];
        }
    }

    MB_FN void find_later(Count first, int64_t w, int64_t size, Real* later) const {
        for_vector(size, [=](int64_t i) MB_INLINE { later[i] = 1; });
        for (Count h = first; h < heads; ++h) {
            const Real factor = erase[h][w], *const own = weights[h];
            for_vector(size, [=](int64_t i) MB_INLINE { later[i] *= 1 - factor * own[i]; });
        }
    }
};

}  // namespace mb
