// What a step does to the banks of the heads, made of its interface vector W_p x + b_p (Cabannes et al. 2026): the
// slots that product keys find with their weights, values, and gates; and the gradients of W_p, b_p and x.
//
// Columns of an interface vector [P]: the S scores of each head's write, [R, S], and of its read; values [R, W]; decays
// [R]; strengths [R]. S: numbers of all factors. Few columns have a gradient: of the scores those of the slots found.
#pragma once

#include "slots/product_keys.h"

namespace mb {

// One head in one step; `place`: (t B + b) R + r.
struct SlotAccess {
    const Block& block;
    const Arguments& a;
    const int64_t place, W;
    const Count R, r;
    Count S = 0;

    MB_FN SlotAccess(const Block& block, const Arguments& a, int64_t place, int64_t width)
        : block(block), a(a), place(place), W(width), R(a.heads), r(static_cast<Count>(place % a.heads)) {
        for (Count f = 0; f < a.factors; ++f) S += static_cast<Count>(a.sides[f]);
    }

    // The first column of this head's part.
    MB_FN int64_t scores(bool read) const { return (read ? R + r : r) * static_cast<int64_t>(S); }
    MB_FN int64_t value() const { return 2 * R * static_cast<int64_t>(S) + r * W; }
    MB_FN int64_t decay() const { return R * (2 * static_cast<int64_t>(S) + W) + r; }
    MB_FN int64_t strength() const { return decay() + R; }

    // vector: the interface vector [P] of the step. scratch: what find_slots takes.
    MB_FN void run(const Real* vector, Real* scratch) const {
        find(vector, false, a.writes, a.delta_rows + place * a.writes, a.delta_weights + place * a.writes, scratch);
        find(vector, true, a.reads, a.delta_reads + place * a.reads, a.delta_read_weights + place * a.reads, scratch);
        const Real* const from = vector + value();
        Real* const to = a.delta_values + place * W;
        block.for_each(W, [=](int64_t w) MB_INLINE { to[w] = from[w]; });
        block.on_leader([&] {
            a.delta_decay[place] = -exponential(a.log_decay[r]) * softplus(vector[decay()] + a.step_bias[r]);
            a.delta_strength[place] = sigmoid(vector[strength()]);
        });
    }

    // Gradients of what `run` made become those of the columns it was made of; of weights those of the slots' scores.
    MB_FN void run_back() const {
        back(false, a.writes, a.delta_weights + place * a.writes, a.grad_delta_weights + place * a.writes);
        back(true, a.reads, a.delta_read_weights + place * a.reads, a.grad_delta_read_weights + place * a.reads);
        block.on_leader([&] {
            const Real kept = exponential(a.log_decay[r]), beta = a.delta_strength[place];
            Real* const gates = a.grad_gate_columns + 2 * place;
            gates[0] = a.grad_delta_decay[place] * -kept * softplus_slope(-a.delta_decay[place] / kept);
            gates[1] = a.grad_delta_strength[place] * beta * (1 - beta);
        });
    }

    // f(column, its gradient), of which a column may have several; after `run_back`.
    template <class F>
    MB_FN void for_each_gradient(F f) const {
        for_each_score(false, a.writes, a.delta_rows + place * a.writes, a.grad_delta_weights + place * a.writes, f);
        for_each_score(true, a.reads, a.delta_reads + place * a.reads, a.grad_delta_read_weights + place * a.reads, f);
        const Real* const gates = a.grad_gate_columns + 2 * place;
        for (int64_t w = 0; w < W; ++w) f(value() + w, a.grad_delta_values[place * W + w]);
        f(decay(), gates[0]);
        f(strength(), gates[1]);
    }

  private:
    static constexpr Real least_norm = Real(1e-12);  // as torch's normalize

    // The slots of an access and their weights. The next search uses the same scratch.
    MB_FN void find(const Real* vector, bool read, Count K, int64_t* rows, Real* weights, Real* scratch) const {
        const Real* const own = vector + scores(read);
        const int64_t bank = place % (a.batch * R) * a.slots;
        find_slots(block, a, own, K, scratch, rows);
        block.on_leader([&] {
            for (Count k = 0; k < K; ++k) {
                Real sum = 0;
                for_each_number(rows[k], [&](Count number) { sum += own[number]; });
                weights[k] = sum;
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
    template <class F>
    MB_FN void for_each_score(bool read, Count K, const int64_t* rows, const Real* grads, F f) const {
        for (Count k = 0; k < K; ++k)
            for_each_number(rows[k] % a.slots, [&](Count number) { f(scores(read) + number, grads[k]); });
    }

    MB_FN void softmax(Real* numbers, Count K) const {
        const Real scale = *a.score_scale;
        Real largest = scale * numbers[0], total = 0;
        for (Count k = 0; k < K; ++k) {
            numbers[k] *= scale;
            if (numbers[k] > largest) largest = numbers[k];
        }
        for (Count k = 0; k < K; ++k) total += numbers[k] = exponential(numbers[k] - largest);
        for (Count k = 0; k < K; ++k) numbers[k] /= total;
    }
    // Returns what it divided by.
    MB_FN static Real divide_by_norm(Real* numbers, Count K) {
        Real squares = 0;
        for (Count k = 0; k < K; ++k) squares += numbers[k] * numbers[k];
        const Real norm = square_root(squares), by = norm < least_norm ? least_norm : norm;
        for (Count k = 0; k < K; ++k) numbers[k] /= by;
        return by;
    }
    // Through the weights of an access to the scores of its slots, in place.
    MB_FN void back(bool read, Count K, const Real* weights, Real* grads) const {
        block.on_leader([&] {
            Real dot = 0;
            for (Count k = 0; k < K; ++k) dot += weights[k] * grads[k];
            if (a.unit_weights) {
                const Real norm = a.score_norms[2 * place + read];
                for (Count k = 0; k < K; ++k)
                    grads[k] = (norm > least_norm ? grads[k] - weights[k] * dot : grads[k]) / norm;
            } else {
                for (Count k = 0; k < K; ++k) grads[k] = *a.score_scale * weights[k] * (grads[k] - dot);
            }
        });
    }
};

// What makes the interface vectors: the hidden state of an LSTM, or without one the input.
MB_FN int64_t num_makers(const Arguments& a) { return a.hidden ? a.hidden : a.input_size; }
MB_FN const Real* makers_of(const Arguments& a, int64_t step) {  // step: t B + b
    return a.hidden ? a.carry + (a.batch + step) * (a.hidden + a.heads * a.width) : a.x + step * a.input_size;
}

// grad += W_p^T gradients of the columns of a head's part, after `run_back` and a sync.
MB_FN void add_gradient_of_makers(const SlotAccess& head, Real* grad) {
    const int64_t X = num_makers(head.a);
    head.for_each_gradient([&](int64_t column, Real of_column) {
        const Real* const weights = head.a.interface_weight + column * X;
        head.block.for_each(X, [=](int64_t i) MB_INLINE { grad[i] += of_column * weights[i]; });
    });
}

namespace entries {

// Reads Sizes and, of DeltaRule, `delta_interface` to `step_bias`; writes what delta_forward reads.
template <int fixed_width>
MB_FN void slot_access(const Block& block, const Arguments& a, int64_t item) {
    const Real* const vector = a.delta_interface + item / a.heads * a.interface_size;
    SlotAccess(block, a, item, fixed_width ? fixed_width : a.width).run(vector, a.scratch + item * a.scratch_stride);
}

// For one step of a batch element: gradients of the columns in place of those that delta_backward left, and of x.
template <int fixed_width>
MB_FN void slot_access_back(const Block& block, const Arguments& a, int64_t item) {
    Real* const grad = a.grad_makers + item * a.input_size;
    block.for_each(a.input_size, [=](int64_t i) MB_INLINE { grad[i] = 0; });
    for (int64_t r = 0; r < a.heads; ++r) {
        const SlotAccess head(block, a, item * a.heads + r, fixed_width ? fixed_width : a.width);
        head.run_back();
        block.sync();
        add_gradient_of_makers(head, grad);
    }
}

// After that, of all steps: what a head adds to the gradients of the rows of W_p and b_p that are its own.
template <int fixed_width>
MB_FN void slot_weights_back(const Block& block, const Arguments& a, int64_t item) {
    const int64_t X = num_makers(a);
    for (int64_t step = a.steps * a.batch; step-- > 0;) {
        const SlotAccess head(block, a, step * a.heads + item, fixed_width ? fixed_width : a.width);
        const Real* const x = makers_of(a, step);
        head.for_each_gradient([&](int64_t column, Real of_column) {
            Real* const grad = a.grad_interface_weight + column * X;
            block.for_each(X, [=](int64_t i) MB_INLINE { grad[i] += of_column * x[i]; });
            block.on_leader([&] { a.grad_interface_bias[column] += of_column; });
        });
        block.on_leader([&] {
            a.grad_step_bias[item] += a.grad_gate_columns[2 * head.place];
            a.grad_log_decay[item] += a.grad_delta_decay[head.place] * a.delta_decay[head.place];
        });
    }
}

}  // namespace entries

}  // namespace mb
