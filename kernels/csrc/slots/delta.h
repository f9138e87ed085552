// A sequence of steps of the gated delta rule on one head's bank of slots, in place (Cabannes et al. 2026):
//
//     M[s] <- exp(g) M[s];   r = sum_n k_n M[s_n];   M[s_n] <- M[s_n] + k_n beta (v - r);   y = sum_m q_m M[s'_m]
//
// Forward keeps the rows overwritten; backward restores them step by step. Each thread works on columns of its own, so
// only sums over columns need barriers. Kw rows are written a step, all different; Kr are read.
#pragma once

#include "memory/rounded_rows.h"
#include "memory/rows.h"
#include "memory/touched_rows.h"
#include "sequence/batch_tile.h"

namespace mb {

struct DeltaSequence {
    const Block& block;
    const Arguments& a;
    const int64_t item, W;  // of the B R heads
    const Count Kw, Kr;
    Real *change, *grad_change, *grad_error, *grad_exponents;  // scratch: [W] three times, [Kw]
    Store* restored;                                           // scratch: [Kw, W], of passes that keep rows rounded

    MB_FN DeltaSequence(const Block& block, const Arguments& a, int64_t item, int64_t width)
        : block(block), a(a), item(item), W(width), Kw(a.writes), Kr(a.reads) {
        change = a.scratch + item * a.scratch_stride, grad_change = change + W, grad_error = grad_change + W;
        grad_exponents = grad_error + W, restored = reinterpret_cast<Store*>(grad_exponents + Kw);
    }

    MB_FN int64_t steps() const { return steps_of(a, item / a.heads); }
    // Of a buffer [T, B, R, n], what belongs to step t of this head.
    template <class T>
    MB_FN T* at(T* buffer, int64_t t, int64_t n) const {
        return buffer + (t * a.batch * a.heads + item) * n;
    }
    MB_FN Store* row(int64_t number) const { return a.memory + number * W; }
    MB_FN RoundedRows rounded(int64_t t) const {
        return RoundedRows{at(a.rounded_rows, t, Kw * W * a.rounded_bytes), at(a.rounded_largest, t, Kw), W,
                           a.rounded_bytes};
    }
    // The share of row n that a write keeps before it is corrected.
    MB_FN Real kept(int64_t t, Count n) const {
        const Real decay = *at(a.delta_decay, t, 1);
        return static_cast<Real>(exponential(a.weighted ? decay * at(a.delta_weights, t, Kw)[n] : decay));
    }

    // change = beta (v - r); content(n) is what row n held before.
    template <class Content>
    MB_FN void compute_change(int64_t t, Content content) const {
        const Real *const k = at(a.delta_weights, t, Kw), *const v = at(a.delta_values, t, W);
        Real* const out = change;
        block.for_each(W, [=](int64_t w) MB_INLINE { out[w] = v[w]; });
        for (Count n = 0; n < Kw; ++n) {
            const Real factor = k[n], share = kept(t, n);
            const Store* const own = content(n);
            block.for_each(W, [=](int64_t w) MB_INLINE { out[w] -= factor * (share * static_cast<Real>(own[w])); });
        }
    }

    MB_FN void step(int64_t t) const {
        const int64_t *const written = at(a.delta_rows, t, Kw), *const read = at(a.delta_reads, t, Kr);
        const Real *const k = at(a.delta_weights, t, Kw), *const q = at(a.delta_read_weights, t, Kr);
        const Real strength = *at(a.delta_strength, t, 1), *const by = change;
        const bool rounds = RoundedRows::are_kept(a);
        if (rounds) {
            block.sync();
            block.for_each_by_warp(Kw, [&](Count n, Warp warp) { rounded(t).keep(warp, n, row(written[n])); });
            block.sync();
        }
        compute_change(t, [&](Count n) { return row(written[n]); });
        for (Count n = 0; n < Kw; ++n) {
            const Real factor = k[n] * strength, share = kept(t, n);
            Store* const own = row(written[n]);
            Store* const old = a.taped && !rounds ? at(a.delta_old_rows, t, Kw * W) + n * W : nullptr;
            if (old) block.for_each(W, [=](int64_t w) MB_INLINE { old[w] = own[w]; });
            block.for_each(W,
                           [=](int64_t w) MB_INLINE { own[w] = share * static_cast<Real>(own[w]) + factor * by[w]; });
        }
        Real* const out = at(a.delta_out, t, W);
        block.for_each(W, [=](int64_t w) MB_INLINE { out[w] = 0; });
        for (Count m = 0; m < Kr; ++m) {
            const Store* const own = row(read[m]);
            const Real weight = q[m];
            block.for_each(W, [=](int64_t w) MB_INLINE { out[w] += weight * static_cast<Real>(own[w]); });
        }
    }

    // The rows that step t accesses: Kw written, Kr read; and their slots in row_gradient.
    MB_FN Count accesses() const { return Kw + Kr; }
    MB_FN int32_t* touched_slots(int64_t t) const { return at(a.touched_slot, t, accesses()); }
    MB_FN Real* gradient_row(int32_t slot) const { return a.row_gradient + (item * a.touched_stride + slot) * W; }

    // Assign a slot of row_gradient to each row that the steps touched. Visible after the next sync.
    MB_FN void assign_touched_slots() const {
        const TouchedRows touched{a.slot_hash + item * 2 * a.table_size,
                                  a.table_size,
                                  a.touched_count + item,
                                  a.continued != 0,
                                  gradient_row(0),
                                  W};
        const Count n = accesses();
        const int64_t first = item * a.slots;
        const auto row_of_access = [&](int64_t i) {
            const int64_t t = i / n, k = i % n;
            const int64_t row = k < Kw ? at(a.delta_rows, t, Kw)[k] : at(a.delta_reads, t, Kr)[k - Kw];
            return static_cast<int32_t>(row - first);
        };
        touched.assign_slots(block, steps() * n, row_of_access,
                             [&](int64_t i, int32_t slot) { touched_slots(i / n)[i % n] = slot; });
    }

    MB_FN void step_back(int64_t t) const {
        const int64_t* const read = at(a.delta_reads, t, Kr);
        const int32_t *const place = touched_slots(t), *const read_place = place + Kw;
        const Real *const k = at(a.delta_weights, t, Kw), *const q = at(a.delta_read_weights, t, Kr);
        const Real strength = *at(a.delta_strength, t, 1), *const grad_y = at(a.grad_delta_out, t, W);
        const bool rounds = RoundedRows::are_kept(a);
        Store* const old = rounds ? restored : at(a.delta_old_rows, t, Kw * W);
        if (rounds) {
            block.for_each_by_warp(Kw, [&](Count n, Warp warp) { rounded(t).restore(warp, n, old + n * W); });
            block.sync();
        }
        for (Count m = 0; m < Kr; ++m) {
            Real* const own = gradient_row(read_place[m]);
            const Real weight = q[m];
            block.for_each(W, [=](int64_t w) MB_INLINE { own[w] += weight * grad_y[w]; });
        }
        compute_change(t, [&](Count n) { return old + n * W; });  // the error v - r, not yet beta times it
        Real *const of_change = grad_change, *const of_error = grad_error;
        block.for_each(W, [=](int64_t w) MB_INLINE { of_change[w] = 0; });
        for (Count n = 0; n < Kw; ++n) {
            const Real factor = k[n], *const own = gradient_row(place[n]);
            block.for_each(W, [=](int64_t w) MB_INLINE { of_change[w] += factor * own[w]; });
        }
        Real* const of_value = at(a.grad_delta_values, t, W);
        block.for_each(W, [=](int64_t w) MB_INLINE { of_value[w] = of_error[w] = strength * of_change[w]; });
        block.sync();
        sum_columns(t, read, place, old, grad_y, strength);
        block.sync();
        block.on_leader([&] {
            Real total = 0;
            for (Count n = 0; n < Kw; ++n) total += grad_exponents[n];
            *at(a.grad_delta_decay, t, 1) = total;
        });
        for (Count n = 0; n < Kw; ++n) {
            const Real factor = k[n], share = kept(t, n);
            Real* const grad = gradient_row(place[n]);
            block.for_each(W, [=](int64_t w) MB_INLINE { grad[w] = share * (grad[w] - factor * of_error[w]); });
        }
        exchange(t);
    }

    // What is summed over columns: gradients of the weights, of the strength, and of the exponents of the decay.
    MB_FN void sum_columns(int64_t t, const int64_t* read, const int32_t* place, const Store* old, const Real* grad_y,
                           Real strength) const {
        const Real *const k = at(a.delta_weights, t, Kw), decay = *at(a.delta_decay, t, 1);
        Real *const of_weights = at(a.grad_delta_weights, t, Kw), *const of_reads =
                                                                      at(a.grad_delta_read_weights, t, Kr);
        block.for_each_by_warp(Kr + Kw + 1, [&](Count i, Warp warp) {
            if (i < Kr) {
                const Store* const own = row(read[i]);
                const Real dot = warp.sum(W, [&](int64_t w) { return grad_y[w] * static_cast<Real>(own[w]); });
                if (warp.is_leader()) of_reads[i] = dot;
            } else if (i < Kr + Kw) {
                const Count n = i - Kr;
                const Real share = kept(t, n), factor = k[n], *const grad = gradient_row(place[n]);
                const Store* const own = old + n * W;
                Real of_weight = warp.sum(W, [&](int64_t w) {
                    return strength * change[w] * grad[w] - grad_error[w] * (share * static_cast<Real>(own[w]));
                });
                const Real of_exponent = warp.sum(W, [&](int64_t w) {
                    return (grad[w] - factor * grad_error[w]) * (share * static_cast<Real>(own[w]));
                });
                if (a.weighted) of_weight += of_exponent * decay;
                if (warp.is_leader())
                    of_weights[n] = of_weight, grad_exponents[n] = a.weighted ? of_exponent * factor : of_exponent;
            } else {
                const Real dot = warp.sum(W, [&](int64_t w) { return grad_change[w] * change[w]; });
                if (warp.is_leader()) *at(a.grad_delta_strength, t, 1) = dot;
            }
        });
    }

    // Undo the write of step t, or redo it.
    MB_FN void exchange(int64_t t) const {
        const int64_t* const written = at(a.delta_rows, t, Kw);
        if (RoundedRows::are_kept(a)) {
            block.for_each_by_warp(Kw, [&](Count n, Warp warp) { rounded(t).exchange(warp, n, row(written[n])); });
            return;
        }
        Store* const old = at(a.delta_old_rows, t, Kw * W);
        for (Count n = 0; n < Kw; ++n) {
            Store *const own = row(written[n]), *const other = old + n * W;
            block.for_each(W, [=](int64_t w) MB_INLINE { swap_values(own[w], other[w]); });
        }
    }
    // The same where nothing else happens between steps: rows kept rounded are exchanged by warps, not by columns.
    MB_FN void exchange_alone(int64_t t) const {
        exchange(t);
        if (RoundedRows::are_kept(a)) block.sync();
    }
};

namespace entries {

template <int fixed_width>
MB_FN DeltaSequence delta_sequence(const Block& block, const Arguments& a, int64_t item) {
    return DeltaSequence(block, a, item, fixed_width ? fixed_width : a.width);
}
template <int fixed_width>
MB_FN void delta_forward(const Block& block, const Arguments& a, int64_t item) {
    const DeltaSequence head = delta_sequence<fixed_width>(block, a, item);
    for (int64_t t = 0; t < head.steps(); ++t) head.step(t);
}
template <int fixed_width>
MB_FN void delta_backward(const Block& block, const Arguments& a, int64_t item) {
    const DeltaSequence head = delta_sequence<fixed_width>(block, a, item);
    head.assign_touched_slots();
    block.sync();
    for (int64_t t = head.steps(); t-- > 0;) head.step_back(t);
}
template <int fixed_width>
MB_FN void delta_undo(const Block& block, const Arguments& a, int64_t item) {
    const DeltaSequence head = delta_sequence<fixed_width>(block, a, item);
    for (int64_t t = head.steps(); t-- > 0;) head.exchange_alone(t);
}
template <int fixed_width>
MB_FN void delta_redo(const Block& block, const Arguments& a, int64_t item) {
    const DeltaSequence head = delta_sequence<fixed_width>(block, a, item);
    for (int64_t t = 0; t < head.steps(); ++t) head.exchange_alone(t);
}

}  // namespace entries

}  // namespace mb
