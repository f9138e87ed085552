// A write of V heads that erases and adds (Graves et al. 2014, eq 3-4): all erases, then all adds; forward and
// backward, a block of rows at a time.
#pragma once

#include "dense/rows.h"

namespace mb {

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
    // weights; to of_add, of_erase [V, W] the gradients of add, and minus those of erase. `later` [rows] is scratch.
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
        VectorSums<count> sums;
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
                sums.add(h, own[h] * others[h]);
                Real* const of_weight = grad_weights[first + h] + i;
                store_columns(of_weight, load_columns<Vector>(of_weight) - factors[h] * others[h]);
            }
            store_columns(grads + i, all);
        });
        for (int h = 0; h < count; ++h) of_erase[first + h][w] += sums.of(h);
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
