// The memory of the DAM (Rae et al. 2016, section 3.2): each write head adds to the rows its read head read last and to
// the least used row, which is wiped first; then the read heads read by content.
//
// Forward passes over the memory once a step: it writes a chunk of rows, scores them, and reads them with the chunk's
// own softmax, to which the factors of the whole one are brought afterwards. Backward passes over M_t and its gradient
// once: what the softmax needs of all rows is the product of what was read and its gradient. It needs no memory of
// before.
#pragma once

#include <memory>

#include "dense/element.h"
#include "dense/keep_and_add.h"

namespace mb {

struct DamElement : DenseElement {
    // offsets in the interface vector; queries come first
    const Count strengths, values, alphas, gammas;
    // Scratch: vectors [R, N] and [V, N], with `added` what each write head adds to a row, with its value; sums of each
    // chunk [chunks, part_stride].
    Real *key_norms, *added, *parts, *softmaxes;
    Count part_stride;

    MB_FN DamElement(const Block& block, const Arguments& a, int64_t element)
        : DenseElement(block, a, element),
          strengths(R * W),
          values(strengths + (a.strength ? R : 0)),
          alphas(values + V * W),
          gammas(alphas + V) {
        key_norms = scratch.take(R);
        added = scratch.take(V * N);
        softmaxes = scratch.take(3 * R * chunks);
        part_stride = R * (W + 1) + V * (W + 2);
        parts = scratch.take(part_stride * chunks);
    }

    MB_FN Softmax softmax(Count r) const {
        Real* const own = softmaxes + 3 * r * chunks;
        return Softmax{own, own + chunks, own + 2 * chunks};
    }
    MB_FN Real* part(int64_t chunk) const { return parts + chunk * part_stride; }
    MB_FN int32_t* unused(int64_t t) const { return tape_at(a.unused_rows, t, V); }
    MB_FN Real strength(const Real* p, Count r) const { return a.strength ? p[strengths + r] : Real(1); }

    MB_FN void compute_key_norms(const Real* p) {
        block.for_each_by_warp(R, [&](Count r, Warp warp) {
            const Real norm = norm_of(p + r * W, W);
            if (warp.is_leader()) key_norms[r] = norm;
        });
    }

    // Of the write of step t, in a chunk: its weights to `written` (their sum, if there is a place for it) and, but for
    // rows that a later head wipes, to `added`; to `keep` 0 for rows that are wiped, else 1.
    MB_FN void compute_write_weights(int64_t t, const Real* p, const Chunk& chunk, Real* keep, Real* written) const {
        const int64_t n = chunk.size();
        const int32_t* const rows = unused(t);
        for_vector(n, [=](int64_t i) MB_INLINE { keep[i] = 1; });
        for (Count v = 0; v < V; ++v) {
            const Real to_read = p[alphas + v] * p[gammas + v] / (V == R ? Real(1) : static_cast<Real>(R));
            Real* const own = added + v * N + chunk.first;
            for (Count r = V == R ? v : 0; r < (V == R ? v + 1 : R); ++r) {
                const Real* const before = read_weights(t) + r * N + chunk.first;
                if (V == R || r == 0)
                    for_vector(n, [=](int64_t i) MB_INLINE { own[i] = to_read * before[i]; });
                else
                    for_vector(n, [=](int64_t i) MB_INLINE { own[i] += to_read * before[i]; });
            }
            const int64_t row = rows[v] - chunk.first;
            if (row >= 0 && row < n) own[row] += p[alphas + v] * (1 - p[gammas + v]);
            if (written && v == 0) for_vector(n, [=](int64_t i) MB_INLINE { written[i] = own[i]; });
            if (written && v > 0) for_vector(n, [=](int64_t i) MB_INLINE { written[i] += own[i]; });
        }
        for (Count v = 0; v < V; ++v) {
            const int64_t row = rows[v] - chunk.first;
            if (row < 0 || row >= n) continue;
            keep[row] = 0;
            for (Count u = 0; u < v; ++u) added[u * N + rows[v]] *= 0;  // NaN stays
        }
    }
};

struct DamForward : DamElement {
    Real *written, *least;  // [N] sum of the write weights; [chunks, V] the least usages of each chunk
    int32_t* least_rows;
    const int64_t first_candidates;  // before the first step

    MB_FN DamForward(const Block& block, const Arguments& a, int64_t element)
        : DamElement(block, a, element), first_candidates(first_candidates_of(a, element)) {
        place_rows_forward(false);
        written = scratch.take(N), least = scratch.take(V * chunks);
        least_rows = reinterpret_cast<int32_t*>(scratch.take(V * chunks));
    }

    MB_FN Real* usage() const { return a.last_usage + b * N; }

    MB_FN void load_first_states() {
        load_first_controller();
        if (T > 0) load_first_rows();
        block.for_each_chunk(chunks, [&](int64_t number) {
            const Chunk own = chunk(number);
            const Real* const first = a.first_usage + b * N;
            Real* const last = usage();
            for (int64_t i = own.first; i < own.end; ++i) last[i] = first[i];
            find_least_used(own);
        });
        block.sync();
    }

    // Visible after the next sync.
    MB_FN void activate_interface(int64_t t) {
        Real* const p = interface(t);
        block.for_each(values - strengths, [&](Count r) { p[strengths + r] = 1 + softplus(p[strengths + r]); });
        block.for_each(2 * V, [&](Count v) { p[alphas + v] = sigmoid(p[alphas + v]); });
        compute_key_norms(p);
        block.on_leader([&] { choose_unused(t); });
    }

    // The V least used rows of a chunk. NaN is the least usage of all; of equal ones the lower row comes first.
    MB_FN void find_least_used(const Chunk& chunk) {
        Real copy[Block::chunk_rows];
        Real* const rest = copy;
        const Real* const own = usage() + chunk.first;
        const int64_t n = chunk.size();
        for_vector(n, [=](int64_t i) MB_INLINE { rest[i] = own[i] != own[i] ? -infinity() : own[i]; });
        for (Count v = 0; v < V; ++v) {
            int64_t best = 0;
            const Real low = -largest(n, [=](int64_t i) MB_INLINE { return -rest[i]; });
            while (best < n && !(rest[best] <= low)) ++best;
            if (best == n) best = 0;  // all are infinite
            least[chunk.number * V + v] = rest[best];
            least_rows[chunk.number * V + v] = static_cast<int32_t>(chunk.first + best);
            rest[best] = infinity();
        }
    }
    MB_FN void choose_unused(int64_t t) {
        for (Count v = 0; v < V; ++v) {
            int64_t best = 0;
            for (int64_t i = 1; i < V * chunks; ++i)
                if (least[i] < least[best]) best = i;
            unused(t)[v] = least_rows[best];
            least[best] = infinity();
        }
    }

    MB_FN void step(int64_t t) {
        Real* const p = interface(t);
        block.sync();
        block.for_each_chunk(chunks, [&](int64_t number) { write_and_read(t, p, chunk(number)); });
        block.sync();
        clocks.end_of(block, Phase::write);
        block.on_leader([&] {
            for (Count r = 0; r < R; ++r) {
                softmax(r).combine(chunks);
                add_parts(carry(t + 1) + H + r * W, W, parts + r * W, part_stride, chunks, softmax(r).factors);
            }
        });
        block.sync();
        clocks.end_of(block, Phase::read);
        block.for_each_chunk(chunks, [&](int64_t number) { finish_weights(t, chunk(number)); });
        clocks.end_of(block, Phase::addressing);
    }

    MB_FN int64_t num_candidates(int64_t t) const {
        const int64_t overwritten = first_candidates + (t + 1) * V;
        return overwritten < N ? overwritten : N;
    }

    MB_FN void write_and_read(int64_t t, const Real* p, const Chunk& chunk) {
        Real kept[Block::chunk_rows];
        compute_write_weights(t, p, chunk, kept, written + chunk.first);
        Real *const before = memory(t) + chunk.first * W, *const after = memory(t + 1) + chunk.first * W;
        Real *const norm = norms(t + 1), *const weights = read_weights(t + 1);  // scores until they are read with
        const bool streamed = after != before && is_streamed(memory(t + 1), N * W);
        const std::unique_ptr<Real[]> room(streamed ? new Real[chunk.size() * W] : nullptr);
        Real* const rows = streamed ? room.get() : after;  // while they are in a cache
        const RowWrites writes{W, {p, W}, R, false};
        for_each_row_block(chunk, [&](int64_t first, int64_t size) {
            const int64_t at = (first - chunk.first) * W;
            const Real* const keep = kept + (first - chunk.first);
            const Outputs scores{weights + first, N};
            if (V == 1)
                return writes.run(before + at, size, rows + at, norm + first, scores,
                                  KeepAndAdd{keep, added + first, p + values});
            write_block(first, size, keep, before + at, p + values, rows + at);
            writes.run(rows + at, size, rows + at, norm + first, scores, NoWrite{});
        });
        finish_norms(chunk, norm);
        for (Count r = 0; r < R; ++r)
            begin_content(chunk, weights + r * N, strength(p, r) / key_norms[r], norm, num_candidates(t), softmax(r));
        read_chunk(chunk, rows - chunk.first * W, weights, part(chunk.number));
        if (streamed) stream_numbers(rows, chunk.size() * W, after);
    }

    MB_FN void write_block(int64_t first, int64_t size, const Real* keep, const Real* before, const Real* value,
                           Real* after) const {
        for (int64_t w = 0; w < W; ++w) {
            const Real* const from = before + w * size;
            Real* const to = after + w * size;
            for_vector(size, [=](int64_t i) MB_INLINE { to[i] = keep[i] * from[i]; });
        }
        add_outer(after, size, W, {added + first, N}, {value, W}, V);
    }

    MB_FN void finish_weights(int64_t t, const Chunk& chunk) {
        Real *const weights = read_weights(t + 1), *const own = usage() + chunk.first;
        const Real discount = *a.discount, *const by_writes = written + chunk.first;
        for (Count r = 0; r < R; ++r) finish_softmax(chunk, softmax(r), weights + r * N);
        Real sums[Block::chunk_rows];
        Real* const by_reads = sums;
        for_vector(chunk.size(), [=](int64_t i) MB_INLINE { by_reads[i] = 0; });
        for (Count r = 0; r < R; ++r) {
            const Real* const of_head = weights + r * N + chunk.first;
            for_vector(chunk.size(), [=](int64_t i) MB_INLINE { by_reads[i] += of_head[i]; });
        }
        for_vector(chunk.size(),
                   [=](int64_t i) MB_INLINE { own[i] = discount * own[i] + (by_writes[i] + by_reads[i]); });
        find_least_used(chunk);
    }
};

struct DamBackward : DamElement {
    Real *cosines, *to_keys, *inner;  // [R, N], [R, N], [R]

    MB_FN DamBackward(const Block& block, const Arguments& a, int64_t element) : DamElement(block, a, element) {
        cosines = scratch.take(R * N), to_keys = scratch.take(R * N), inner = scratch.take(R);
        place_rows_backward();
    }

    MB_FN Real* grad_read_weights() const { return a.grad_read_weights + b * R * N; }

    MB_FN void begin() const { load_last_rows(); }
    MB_FN void end() const { store_first_gradient(); }

    MB_FN void step(int64_t t) {
        Real *const p = interface(t), *const grad_p = interface_gradient(t);
        add_output_gradient(t);
        store_cell_inputs(t);
        compute_key_norms(p);  // no sync: each thread weighs gradients of its own chunks
        block.for_each_chunk(chunks, [&](int64_t number) { weigh_gradients(t, chunk(number)); });
        block.sync();
        block.on_leader([&] {
            const Real *const reads = carry(t + 1) + H, *const grad_reads = grad_carry + H;
            add_parts(inner, R, parts, part_stride, chunks);
            for (Count r = 0; r < R; ++r)
                inner[r] +=
                    Warp{}.sum(W, [=](int64_t w) MB_INLINE { return reads[r * W + w] * grad_reads[r * W + w]; });
        });
        block.sync();
        clocks.end_of(block, Phase::read);
        block.for_each_chunk(chunks, [&](int64_t number) { write_backward(t, p, chunk(number)); });
        block.sync();
        block.on_leader([&] { finish_interface(p, grad_p); });
        block.sync();
        clocks.end_of(block, Phase::write);
    }

    // To the parts [R]: products of the weights and the gradients that they have from the step after. What the read
    // adds to these gradients has the product of reads and their gradient.
    MB_FN void weigh_gradients(int64_t t, const Chunk& chunk) const {
        for (Count r = 0; r < R; ++r) {
            const int64_t at = r * N + chunk.first;
            const Real *const own = read_weights(t + 1) + at, *const grad = grad_read_weights() + at;
            part(chunk.number)[r] = Warp{}.sum(chunk.size(), [=](int64_t i) MB_INLINE { return own[i] * grad[i]; });
        }
    }

    // The one pass over the memory and its gradient: completes that of the rows after the step, and makes of it that of
    // the rows before. To the parts: keys, score gradients, values; of each write head its gradient at the rows read
    // before, and at its unused row.
    MB_FN void write_backward(int64_t t, const Real* p, const Chunk& chunk) {
        const int64_t n = chunk.size(), begin = chunk.first;
        const Real *const grad_reads = grad_carry + H, *const norm = norms(t + 1), *const read = read_weights(t + 1);
        Real *const sums = part(chunk.number), *const of_values = sums + R * (W + 1),
                    *const of_gates = of_values + V * W;
        Real* const grad_read = grad_read_weights();
        Real kept[Block::chunk_rows], rests[Block::chunk_rows], own_rests[Block::chunk_rows];
        Real *const keep = kept, *const to_row = rests, *const own_to_row = own_rests;
        Real* const after = memory(t + 1);
        compute_write_weights(t, p, chunk, keep, nullptr);
        read_chunk_backward(chunk, after, norm, p, W, key_norms, read, grad_read, cosines, nullptr);
        for_vector(2 * V, [=](int64_t i) { of_gates[i] = 0; });
        LaneSums lanes((R + V) * W);
        const Outputs key_lanes = lanes.of_heads(0, W), value_lanes = lanes.of_heads(R * W, W);
        for_vector(n, [=](int64_t i) MB_INLINE { to_row[i] = 0; });
        for (Count r = 0; r < R; ++r) {
            const int64_t at = r * N + begin;
            sums[R * W + r] = content_backward(n, strength(p, r), key_norms[r], inner[r], read + at, norm + begin,
                                               grad_read + at, cosines + at, grad_read + at, to_keys + at, own_to_row);
            for_vector(n, [=](int64_t i) MB_INLINE { to_row[i] += own_to_row[i]; });
        }
        Real* const grad_written = cosines;  // [V, N]: these are used up
        for_each_row_block(chunk, [&](int64_t first, int64_t size) {
            Real* const grads = grad_memory() + first * W;
            const ScoredKeys reads{R, {p, W}, {to_keys + first, N}};
            const RowGradients gradients{
                W, after + first * W, to_row + (first - begin), {read + first, N}, {grad_reads, W}, reads, {}};
            if (V == 1) {
                const KeepAndAdd write{keep + (first - begin), added + first, p + values};
                return gradients.complete(size, grads, key_lanes,
                                          KeepAndAddBackward{write, grad_written + first, value_lanes[0]});
            }
            gradients.complete(size, grads, key_lanes, NoWrite{});
            score_rows(grads, size, W, {p + values, W}, V, {grad_written + first, N});
            accumulate_rows(grads, size, W, {added + first, N}, V, value_lanes);
            for (int64_t i = 0; i < size; ++i)
                if (keep[first + i - begin] == 0)
                    for (int64_t w = 0; w < W; ++w) grads[w * size + i] *= 0;
        });
        lanes.store(0, R * W, sums);
        lanes.store(R * W, V * W, of_values);
        const int32_t* const unused_of = unused(t);
        for (Count v = 0; v < V; ++v) {
            Real* const grad = grad_written + v * N;
            for (Count u = v + 1; u < V; ++u)
                if (unused_of[u] >= begin && unused_of[u] < chunk.end) grad[unused_of[u]] = 0;
            if (unused_of[v] >= begin && unused_of[v] < chunk.end) of_gates[2 * v + 1] = grad[unused_of[v]];
        }
        for (Count r = 0; r < R; ++r) {
            const Count v = V == R ? r : 0;
            const Real share = V == R ? Real(1) : 1 / static_cast<Real>(R);
            const Real* const grad = grad_written + v * N + begin;
            const Real* const before = read_weights(t) + r * N + begin;
            Real* const to = grad_read + r * N + begin;
            of_gates[2 * v] += share * Warp{}.sum(n, [=](int64_t i) MB_INLINE { return grad[i] * before[i]; });
            const Real factor = share * p[alphas + v] * p[gammas + v];
            for_vector(n, [=](int64_t i) MB_INLINE { to[i] = factor * grad[i]; });
        }
    }

    MB_FN void finish_interface(const Real* p, Real* grad_p) const {
        for (Count r = 0; r < R; ++r) {
            finish_key(p + r * W, key_norms[r], strength(p, r), parts + r * W, parts + R * W + r, part_stride,
                       grad_p + r * W, a.strength ? grad_p + strengths + r : nullptr);
            if (a.strength) grad_p[strengths + r] *= softplus_slope(p[strengths + r] - 1);
        }
        add_parts(grad_p + values, V * W, parts + R * (W + 1), part_stride, chunks);
        for (Count v = 0; v < V; ++v) {
            const Real* const of_gates = parts + R * (W + 1) + V * W + 2 * v;
            const Real to_read = sum_of_parts(of_gates, part_stride, chunks);
            const Real to_unused = sum_of_parts(of_gates + 1, part_stride, chunks);
            const Real alpha = p[alphas + v], gamma = p[gammas + v];
            grad_p[alphas + v] = (gamma * to_read + (1 - gamma) * to_unused) * alpha * (1 - alpha);
            grad_p[gammas + v] = alpha * (to_read - to_unused) * gamma * (1 - gamma);
        }
    }
};

}  // namespace mb
