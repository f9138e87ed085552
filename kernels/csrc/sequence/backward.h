// The recurrence backwards: gradients from the last step to the first. The memory is rolled back step by step, so that
// it is in the state each gradient needs (Rae et al. 2016, section 3.4 and supplement A). Order of a step: read, write,
// rollback, controller.
#pragma once

#include "memory/touched_rows.h"
#include "sequence/element.h"

namespace mb {

template <int fixed_width>
struct BackwardElement : Element {
    MB_FN BackwardElement(const Block& block, const Arguments& a, int64_t element)
        : Element(block, a, element, fixed_width ? fixed_width : a.width) {}

    // The rows that step t accesses: E written, F read and, for SDNC, F found by content lookup.
    MB_FN Count accesses() const { return E + F * (a.links ? 2 : 1); }
    MB_FN int32_t row_accessed(int64_t t, Count i) const {
        return i < E ? written(t)[i] : i < E + F ? read_index(t + 1)[i - E] : content_index(t)[i - E - F];
    }
    // Slots in row_gradient of those rows; t = T: of the rows read before the first step.
    MB_FN int32_t* touched_slots(int64_t t) const { return a.touched_slot + (t * a.batch + b) * accesses(); }
    MB_FN Real* gradient_row(int32_t slot) const { return a.row_gradient + (b * a.touched_stride + slot) * W; }

    // Assign a slot of row_gradient to each row that the pass touched. Visible after the next sync.
    MB_FN void assign_touched_slots() {
        const TouchedRows touched{a.slot_hash + b * 2 * a.table_size,
                                  a.table_size,
                                  a.touched_count + b,
                                  a.continued != 0,
                                  gradient_row(0),
                                  W};
        const Count n = accesses();
        const int64_t T = steps();
        const auto row_of_access = [&](int64_t i) {
            if (i < T * n) return row_accessed(i / n, i % n);
            return i - T * n < F ? read_index(0)[i - T * n] : -1;
        };
        touched.assign_slots(block, (T + 1) * n, row_of_access,
                             [&](int64_t i, int32_t slot) { touched_slots(i / n)[i % n] = slot; });
    }

    // Gradients of the memory and the interface from step t; the memory is rolled back to before it.
    MB_FN void memory_backward(int64_t t) {
        Real* const last_weights = a.grad_weights + b * F;
        add_output_gradient(t);
        store_cell_inputs(t);
        gather_support(t);
        read_backward(t, last_weights);
        clocks.end_of(block, Phase::read);
        write_backward(t, last_weights);
        clocks.end_of(block, Phase::write);
        undo_or_redo_step(t, false);
        clocks.end_of(block, Phase::rollback);
    }

    // grad_weights [R, K], in: gradient of the read weights of t from the write of t+1.
    MB_FN void read_backward(int64_t t, const Real* grad_weights) {
        const Real *const p = interface(t), *const grad_reads = grad_carry + H;
        const Real* const cosines = tape_at(a.similarity, t, F);
        const int32_t *const index = read_index(t + 1), *const rows = content_index(t), *const slot = touched_slots(t);
        const Real *const read = read_weights(t + 1), *const weights = content_weights(t);
        Real* const grad_p = interface_gradient(t);
        compute_query_norms(p);
        block.for_each_by_warp(F, [&](Count i, Warp warp) {
            const Store* row = memory + (index[i] < 0 ? 0 : index[i]) * W;
            const Real* grad = grad_reads + i / K * W;
            const Real dot = warp.sum(W, [&](int64_t w) { return static_cast<Real>(row[w]) * grad[w]; });
            if (warp.is_leader()) grad_read[i] = index[i] < 0 ? 0 : dot + grad_weights[i];
        });
        block.sync();
        block.for_each(R, [&](Count r) {
            Real* const own = grad_content + r * K;
            if (a.links)
                mix_reads_backward(t, r, grad_p);
            else
                for (Count k = 0; k < K; ++k) own[k] = grad_read[r * K + k];
            Real inner = 0, grad_beta = 0;
            const Real beta = a.strength ? p[strengths + r] : 1;
            for (Count k = 0; k < K; ++k) inner += weights[r * K + k] * own[k];
            for (Count k = 0; k < K; ++k) {
                const Real grad_score = weights[r * K + k] * (own[k] - inner);
                grad_beta += grad_score * cosines[r * K + k];
                own[k] = rows[r * K + k] < 0 ? 0 : beta * grad_score;
            }
            // the derivative of beta = 1 + softplus(z) is sigmoid(z) = 1 - exp(1 - beta)
            if (a.strength) grad_p[strengths + r] = grad_beta * (1 - exponential(1 - beta));
        });
        block.sync();
        block.for_each_by_warp(R, [&](Count r, Warp warp) {
            const Real *const query = p + r * W, *const cosine = cosines + r * K, *const grad = grad_content + r * K;
            const int32_t* const own = rows + r * K;
            Real along = 0;  // component of the rows' gradients along the query
            for (Count k = 0; k < K; ++k) along += own[k] < 0 ? Real(0) : grad[k] * cosine[k];
            const Real to_query = along / (query_norms[r] * query_norms[r]);
            warp.weighted_sum(
                grad_p + r * W, W, K, [&](Count k) { return grad[k] / (norms[own[k]] * query_norms[r]); },
                [&](Count k) { return own[k] < 0 ? nullptr : memory + own[k] * W; });
            warp.for_each(W, [&](int64_t w) { grad_p[r * W + w] -= to_query * query[w]; });
        });
        for_each_distinct_row(
            block, a.links ? 2 * F : F, [&](Count i) { return slot[E + i]; },
            [&](Warp warp, Count i) {
                Real* const grad = gradient_row(slot[E + i]);
                const Count c = i % F, r = c / K;
                if (i < F) {
                    const Real weight = read[i];
                    warp.for_each(W, [&](int64_t w) { grad[w] += weight * grad_reads[r * W + w]; });
                }
                if (!a.links || i >= F) {
                    const Store* row = memory + rows[c] * W;
                    const Real *const query = p + r * W, norm = norms[rows[c]];
                    const Real to_query = grad_content[c] / (norm * query_norms[r]);
                    const Real to_row = grad_content[c] * cosines[c] / (norm * norm);
                    warp.for_each(
                        W, [&](int64_t w) { grad[w] += to_query * query[w] - to_row * static_cast<Real>(row[w]); });
                }
            });
        block.sync();
    }

    // SDNC's mixed read of head r: gradients of its modes and content weights. Links are constants.
    MB_FN void mix_reads_backward(int64_t t, Count r, Real* grad_p) {
        const Real* const parts = tape_at(a.mode_parts, t, 2 * F) + r * K * 2;
        const Real* const mode = interface(t) + modes + 3 * r;
        const int32_t *const index = read_index(t + 1) + r * K, *const rows = content_index(t) + r * K;
        const Real* weights = content_weights(t) + r * K;
        Real grads[3] = {0, 0, 0};
        for (Count k = 0; k < K; ++k) grad_content[r * K + k] = 0;
        for (Count k = 0; k < K; ++k) {
            const Real grad = grad_read[r * K + k];
            if (index[k] < 0) continue;
            grads[0] += grad * parts[2 * k];
            grads[2] += grad * parts[2 * k + 1];
            for (Count j = 0; j < K; ++j)
                if (rows[j] == index[k]) {
                    grads[1] += grad * weights[j];
                    grad_content[r * K + j] += grad * mode[1];
                }
        }
        const Real inner = grads[0] * mode[0] + grads[1] * mode[1] + grads[2] * mode[2];
        for (Count i = 0; i < 3; ++i) grad_p[modes + 3 * r + i] = mode[i] * (grads[i] - inner);
    }

    // grad_weights [R, K], out: gradient of the read weights of t-1 from this write.
    MB_FN void write_backward(int64_t t, Real* grad_weights) {
        const Real* const p = interface(t);
        const int32_t *const rows = written(t), *const slot = touched_slots(t);
        Real* const grad_p = interface_gradient(t);
        // No gradient: a later head erases this row in the same step.
        const auto has_gradient = [&](Count entry) {
            for (Count v = entry / (1 + S) + 1; v < V; ++v)
                if (rows[v * (1 + S)] == rows[entry] && erases(p, v)) return false;
            return rows[entry] >= 0;
        };
        block.for_each_by_warp(E + V, [&](Count i, Warp warp) {
            const Count v = i < E ? i / (1 + S) : i - E, head = v * (1 + S);
            const Real* const value = p + values + v * W;
            if (i < E) {
                const Real* const grad = gradient_row(has_gradient(i) ? slot[i] : 0);
                const Real dot = warp.sum(W, [&](int64_t w) { return grad[w] * value[w]; });
                if (warp.is_leader()) dots[i] = has_gradient(i) ? dot : 0;
                return;
            }
            warp.weighted_sum(
                grad_p + values + v * W, W, 1 + S, [&](Count e) { return entry_weight(p, rows, v, e); },
                [&](Count e) { return has_gradient(head + e) ? gradient_row(slot[head + e]) : nullptr; });
        });
        block.sync();
        const auto dot_of = [&](Count v, Count s) {
            return dots[v * (1 + S) + (support_rows[v * S + s] == rows[v * (1 + S)] ? 0 : 1 + s)];
        };
        block.for_each(V, [&](Count v) {
            Real to_reads = 0;
            const Real alpha = p[alphas + v], gamma = p[gammas + v], unused = dots[v * (1 + S)];
            for (Count s = 0; s < S; ++s) to_reads += support_weights[v * S + s] * dot_of(v, s);
            grad_p[alphas + v] = (gamma * to_reads + (1 - gamma) * unused) * alpha * (1 - alpha);
            grad_p[gammas + v] = alpha * (to_reads - unused) * gamma * (1 - gamma);
        });
        block.for_each(V * S, [&](Count i) {
            grad_support[i] = support_rows[i] < 0 ? 0 : to_read(p, i / S) * dot_of(i / S, i % S);
        });
        // M_t of an erased row does not depend on M_{t-1}.
        for_each_distinct_row(
            block, V, [&](Count v) { return erases(p, v) ? rows[v * (1 + S)] : -1; },
            [&](Warp warp, Count v) {
                Real* const grad = gradient_row(slot[v * (1 + S)]);
                warp.for_each(W, [&](int64_t w) { grad[w] = 0; });
            });
        block.sync();
        const int32_t* index = read_index(t);
        block.for_each(F, [&](Count i) {
            Real grad = grad_support[V < R ? 0 : i];
            if (V < R) {  // a row read by several heads is in the support once, at its first position
                Count first = 0;
                while (index[first] != index[i]) ++first;
                grad = grad_support[first] / static_cast<Real>(R);
            }
            grad_weights[i] = index[i] < 0 ? 0 : grad;
        });
    }
};

template <int fixed_width>
struct Backward : ControllerTile<BackwardElement<fixed_width>> {
    typedef BackwardElement<fixed_width> Element;
    typedef ControllerTile<Element> Tile;
    using Tile::Tile, Tile::block, Tile::clocks, Tile::for_each_element, Tile::for_each_step_back,
        Tile::controller_backward;

    MB_FN void run() {
        clocks().start(block);
        for_each_element([](Element& element) { element.assign_touched_slots(); });
        clocks().end_of(block, Phase::rest);
        for_each_step_back([&](int64_t t) {
            for_each_element([&](Element& element) { element.memory_backward(t); });
            controller_backward(t);
        });
    }
};

}  // namespace mb
