// What a step does to a head's bank, made of the step's interface vector (Cabannes et al. 2026): the slots that product
// keys find with their weights, the value, and the gates; and the gradient of that vector.
//
// Columns of an interface vector [P]: of each head the S scores of its write, then of its read; values [R, W]; decays
// [R]; strengths [R]. What may follow is not read. S: numbers of all factors.
#pragma once

#include "slots/product_keys.h"

namespace mb {

struct SlotAccess {
    const Block& block;
    const Arguments& a;
    const int64_t place, W;  // (t B + b) R + r
    const Count R, r;
    Count S = 0;

    MB_FN SlotAccess(const Block& block, const Arguments& a, int64_t place, int64_t width)
        : block(block), a(a), place(place), W(width), R(a.heads), r(static_cast<Count>(place % a.heads)) {
        for (Count f = 0; f < a.factors; ++f) S += static_cast<Count>(a.sides[f]);
    }

    // Of this head, in the interface vector of its step.
    template <class T>
    MB_FN T* scores(T* vectors, bool read) const {
        return vector_of(vectors) + (read ? R + r : r) * S;
    }
    template <class T>
    MB_FN T* value(T* vectors) const {
        return vector_of(vectors) + 2 * R * S + r * W;
    }
    template <class T>
    MB_FN T* decay(T* vectors) const {
        return vector_of(vectors) + R * (2 * S + W) + r;
    }
    template <class T>
    MB_FN T* strength(T* vectors) const {
        return decay(vectors) + R;
    }

    MB_FN void run() const {
        const int64_t bank = place % (a.batch * R) * a.slots;
        find(false, a.writes, a.delta_rows + place * a.writes, a.delta_weights + place * a.writes, bank);
        find(true, a.reads, a.delta_reads + place * a.reads, a.delta_read_weights + place * a.reads, bank);
        const Real* const from = value(a.delta_interface);
        Real* const to = a.delta_values + place * W;
        block.for_each(W, [=](int64_t w) MB_INLINE { to[w] = from[w]; });
        block.on_leader([&] {
            a.delta_decay[place] =
                -exponential(a.log_decay[r]) * softplus(*decay(a.delta_interface) + a.step_bias[r]);
            a.delta_strength[place] = sigmoid(*strength(a.delta_interface));
        });
    }

    // The gradient of the interface vector, from those of what `run` made.
    MB_FN void run_back() const {
        back(false, a.writes, a.delta_rows + place * a.writes, a.delta_weights + place * a.writes,
             a.grad_delta_weights + place * a.writes);
        back(true, a.reads, a.delta_reads + place * a.reads, a.delta_read_weights + place * a.reads,
             a.grad_delta_read_weights + place * a.reads);
        const Real* const from = a.grad_delta_values + place * W;
        Real* const to = value(a.grad_delta_interface);
        block.for_each(W, [=](int64_t w) MB_INLINE { to[w] = from[w]; });
        block.on_leader([&] {
            const Real kept = exponential(a.log_decay[r]), beta = a.delta_strength[place];
            *decay(a.grad_delta_interface) =
                a.grad_delta_decay[place] * -kept * softplus_slope(-a.delta_decay[place] / kept);
            *strength(a.grad_delta_interface) = a.grad_delta_strength[place] * beta * (1 - beta);
        });
    }

  private:
    template <class T>
    MB_FN T* vector_of(T* vectors) const {
        return vectors + place / R * a.interface_size;
    }

    // The slots of an access and their weights. Before the next search the leader is done with the scratch.
    MB_FN void find(bool read, Count K, int64_t* rows, Real* weights, int64_t bank) const {
        const Real* const own = scores(a.delta_interface, read);
        find_slots(block, a, own, K, a.scratch + place * a.scratch_stride, rows);
        block.on_leader([&] {
            for (Count k = 0; k < K; ++k) {
                weights[k] = score_of(own, rows[k]);
                rows[k] += bank;
            }
            if (a.unit_weights)
                a.score_norms[2 * place + read] = divide_by_norm(weights, K);
            else
                softmax(weights, K);
        });
        block.sync();
    }

    // f(place among the S scores) for the number of a slot in each factor, from the last factor to the first.
    template <class F>
    MB_FN void for_each_number(int64_t slot, F f) const {
        Count end = S;
        for (Count factor = static_cast<Count>(a.factors); factor-- > 0;) {
            const int64_t side = a.sides[factor];
            end -= static_cast<Count>(side);
            f(end + static_cast<Count>(slot % side));
            slot /= side;
        }
    }
    MB_FN Real score_of(const Real* own, int64_t slot) const {
        Real sum = 0;
        for_each_number(slot, [&](Count number) { sum += own[number]; });
        return sum;
    }
    MB_FN void softmax(Real* scores, Count K) const {
        const Real scale = *a.score_scale;
        Real largest = scale * scores[0], total = 0;
        for (Count k = 0; k < K; ++k) {
            scores[k] *= scale;
            if (scores[k] > largest) largest = scores[k];
        }
        for (Count k = 0; k < K; ++k) total += scores[k] = exponential(scores[k] - largest);
        for (Count k = 0; k < K; ++k) scores[k] /= total;
    }
    // As torch's normalize: by at least 1e-12. Returns what it divided by.
    MB_FN static Real divide_by_norm(Real* scores, Count K) {
        Real squares = 0;
        for (Count k = 0; k < K; ++k) squares += scores[k] * scores[k];
        const Real norm = square_root(squares), by = norm < least_norm ? least_norm : norm;
        for (Count k = 0; k < K; ++k) scores[k] /= by;
        return by;
    }
    static constexpr Real least_norm = Real(1e-12);

    // Through the weights to the scores; a number that several slots share has the sum of their gradients.
    MB_FN void back(bool read, Count K, const int64_t* rows, const Real* weights, const Real* grads) const {
        Real* const own = scores(a.grad_delta_interface, read);
        block.on_leader([&] {
            Real dot = 0;
            for (Count k = 0; k < K; ++k) dot += weights[k] * grads[k];
            const Real norm = a.unit_weights ? a.score_norms[2 * place + read] : Real(0);
            for (Count k = 0; k < K; ++k) {
                Real grad = 0;
                if (!a.unit_weights)
                    grad = *a.score_scale * weights[k] * (grads[k] - dot);
                else if (norm > least_norm)
                    grad = (grads[k] - weights[k] * dot) / norm;
                else
                    grad = grads[k] / norm;
                for_each_number(rows[k] % a.slots, [&](Count number) { own[number] += grad; });
            }
        });
    }
};

namespace entries {

// Reads Sizes and, of DeltaRule, `delta_interface` to `step_bias`; writes what delta_forward reads.
template <int fixed_width>
MB_FN void slot_access(const Block& block, const Arguments& a, int64_t item) {
    SlotAccess(block, a, item, fixed_width ? fixed_width : a.width).run();
}
template <int fixed_width>
MB_FN void slot_access_back(const Block& block, const Arguments& a, int64_t item) {
    SlotAccess(block, a, item, fixed_width ? fixed_width : a.width).run_back();
}

}  // namespace entries

}  // namespace mb
