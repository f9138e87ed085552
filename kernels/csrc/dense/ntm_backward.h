// The memory of the NTM backwards: of a step first the read, then the addressing of the read heads, the write, and the
// addressing of the write heads.
#pragma once

#include "dense/ntm.h"

namespace mb {

struct NtmBackward : NtmElement {
    // Vectors over N. In turn: gradient of the shifted weights, then to_key; gradient of the content weights, then of
    // the scores. to_key and to_row: a row's gradient is to_key * key - to_row * row; those of the write heads are
    // added a step later.
    Real *cosines, *grad_shifted, *grad_content, *write_to_key, *write_to_row, *inner;

    MB_FN NtmBackward(const Block& block, const Arguments& a, int64_t element) : NtmElement(block, a, element) {
        cosines = scratch.take(R * N), grad_shifted = scratch.take(most * N), grad_content = scratch.take(most * N);
        write_to_key = scratch.take(V * N), write_to_row = scratch.take(V * N), inner = scratch.take(heads);
        place_rows_backward();
    }

    MB_FN Real* grad_read_weights() const { return a.grad_read_weights + b * R * N; }
    MB_FN Real* grad_write_weights() const { return a.grad_write_weights + b * V * N; }

    MB_FN void begin() const { load_last_rows(); }

    MB_FN void step(int64_t t) {
        Real *const p = interface(t), *const grad_p = interface_gradient(t);
        add_output_gradient(t);
        store_cell_inputs(t);
        compute_key_norms(t);
        take_over_rows(t);
        block.sync();
        block.for_each_chunk(chunks, [&](int64_t number) { read_backward(t, p, chunk(number)); });
        block.sync();
        block.on_leader([&] { add_parts(inner, R, parts, part_stride, chunks); });
        block.sync();
        clocks.end_of(block, Phase::read);
        locate_backward(t, p, grad_p, 0, R, read_weights(t), read_weights(t + 1), grad_read_weights());
        clocks.end_of(block, Phase::addressing);
        block.for_each_chunk(chunks, [&](int64_t number) { write_backward(t, p, chunk(number)); });
        block.sync();
        block.on_leader([&] {
            for (Count r = 0; r < R; ++r) finish_key(p, grad_p, r, parts + r * W, parts + R * W + r);
            Real* const of_write = parts + R * W + R;
            add_parts(erase(grad_p, 0), V * W, of_write, part_stride, chunks);
            add_parts(add(grad_p, 0), V * W, of_write + V * W, part_stride, chunks);
            add_parts(inner + R, V, of_write + 2 * V * W, part_stride, chunks);
            const Real* const erased = erase(p, 0);
            for (Count i = 0; i < V * W; ++i) erase(grad_p, 0)[i] *= -erased[i] * (1 - erased[i]);
        });
        block.sync();
        clocks.end_of(block, Phase::write);
        locate_backward(t, p, grad_p, R, V, write_weights(t), write_weights(t + 1), grad_write_weights());
        block.for_each_chunk(chunks, [&](int64_t number) { score_backward(t, p, chunk(number)); });
        block.sync();
        block.on_leader([&] {
            for (Count v = 0; v < V; ++v) finish_key(p, grad_p, R + v, parts + v * W, parts + V * W + v);
        });
        block.sync();
        clocks.end_of(block, Phase::addressing);
    }

    // The gradient of the memory before the first step lacks that of the first write keys' scores.
    MB_FN void end() {
        if (!a.first_gradient || T == 0) return;
        block.for_each_chunk(chunks, [&](int64_t number) { add_late_scores(chunk(number)); });
        store_first_gradient();
    }
    MB_FN void add_late_scores(const Chunk& chunk) const {
        Real rests[Block::chunk_rows];
        Real* const to_row = rests - chunk.first;
        for (int64_t i = chunk.first; i < chunk.end; ++i) to_row[i] = 0;
        add_late_to_row(chunk, to_row);
        for_each_row_block(chunk, [&](int64_t first, int64_t size) {
            RowGradients{W, memory(0) + first * W, to_row + first, {}, {}, {}, late_keys(interface(0), first)}.complete(
                size, grad_memory() + first * W, {}, NoWrite{});
        });
    }
    MB_FN void add_late_to_row(const Chunk& chunk, Real* to_row) const {
        for (Count v = 0; v < V; ++v) {
            const Real* const from = write_to_row + v * N + chunk.first;
            Real* const own = to_row + chunk.first;
            for_vector(chunk.size(), [=](int64_t i) MB_INLINE { own[i] += from[i]; });
        }
    }
    // The write keys of interface p, which have scored the rows of the block from `first` on.
    MB_FN ScoredKeys late_keys(Real* p, int64_t first) const {
        return ScoredKeys{V, {address(p, R).key, A}, {write_to_key + first, N}};
    }

    MB_FN void read_backward(int64_t t, Real* p, const Chunk& chunk) {
        read_chunk_backward(chunk, memory(t + 1), norms(t + 1), p, A, key_norms, read_weights(t + 1),
                            grad_read_weights(), cosines, part(chunk.number));
    }

    // From the gradients of weights `after` to those of the content weights, and of the weights `before`, which take
    // their place. `inner` of these heads: product of weights and gradient, before and after.
    MB_FN void locate_backward(int64_t t, Real* p, Real* grad_p, Count first_head, Count count, const Real* before,
                               const Real* after, Real* grads) {
        const Count each = 2 + 2 * S;
        block.for_each_chunk(chunks, [&](int64_t number) {
            for (Count i = 0; i < count; ++i) {
                const Count h = first_head + i;
                location.sharpen_backward(chunk(number), address(p, h), content(t, h), before + i * N, after + i * N,
                                          grads + i * N, inner[h], grad_shifted + i * N, part(number) + i * each);
            }
        });
        block.sync();
        block.on_leader([&] {
            for (Count i = 0; i < count; ++i) {
                const Address own = address(p, first_head + i), grad = address(grad_p, first_head + i);
                const Real* const sums = parts + i * each;
                grad.sharpening() = sum_of_parts(sums, part_stride, chunks) * softplus_slope(own.sharpening() - 1);
                add_parts(grad.shifts(), 2 * S + 1, sums + 1, part_stride, chunks);
                Real along = 0;
                for (Count j = 0; j <= 2 * S; ++j) along += own.shifts()[j] * grad.shifts()[j];
                for (Count j = 0; j <= 2 * S; ++j) grad.shifts()[j] = own.shifts()[j] * (grad.shifts()[j] - along);
            }
        });
        block.sync();
        block.for_each_chunk(chunks, [&](int64_t number) {
            for (Count i = 0; i < count; ++i) {
                const Count h = first_head + i;
                location.interpolate_backward(chunk(number), address(p, h), content(t, h), before + i * N,
                                              grad_shifted + i * N, grad_content + i * N, grads + i * N,
                                              part(number) + 2 * i);
            }
        });
        block.sync();
        block.on_leader([&] {
            for (Count i = 0; i < count; ++i) {
                const Count h = first_head + i;
                const Real gate = address(p, h).gate();
                address(grad_p, h).gate() = sum_of_parts(parts + 2 * i, part_stride, chunks) * gate * (1 - gate);
                inner[h] = sum_of_parts(parts + 2 * i + 1, part_stride, chunks);
            }
        });
        block.sync();
    }

    MB_FN void finish_key(Real* p, Real* grad_p, Count h, const Real* sums, const Real* along) const {
        const Address own = address(p, h), grad = address(grad_p, h);
        DenseElement::finish_key(own.key, key_norms[h], own.strength(), sums, along, part_stride, grad.key,
                                 &grad.strength());
        grad.strength() *= softplus_slope(own.strength());
    }

    // The one pass over the gradient of the memory: completes that of the rows after the step, and makes of it that of
    // the rows before. To the parts: keys and score gradients of the read heads, erases, adds, and the product of write
    // weights and their gradients.
    MB_FN void write_backward(int64_t t, Real* p, const Chunk& chunk) {
        const Real *const grad_reads = grad_carry + H, *const norm = norms(t + 1);
        const Real *const read = read_weights(t + 1), *const written = write_weights(t + 1);
        Real *const sums = part(chunk.number), *const of_erase = sums + R * W + R, *const of_add = of_erase + V * W;
        Real* const inner_sums = of_add + V * W;
        Real* const grad_written = grad_write_weights();
        Real* const next = t + 1 < T ? interface(t + 1) : nullptr;  // its write keys have scored these rows
        Real rests[Block::chunk_rows], own_rests[Block::chunk_rows], later[Block::block_rows];
        Real *const to_row = rests, *const own_to_row = own_rests;
        for_vector(chunk.size(), [=](int64_t i) MB_INLINE { to_row[i] = 0; });
        LaneSums lanes((R + 2 * V) * W);
        const Outputs key_lanes = lanes.of_heads(0, W), erase_lanes = lanes.of_heads(R * W, W),
                      add_lanes = lanes.of_heads((R + V) * W, W);
        for (Count r = 0; r < R; ++r) {
            const int64_t at = r * N + chunk.first;
            sums[R * W + r] = content_backward(chunk.size(), address(p, r).strength(), key_norms[r], inner[r],
                                               content(t, r) + chunk.first, norm + chunk.first, grad_content + at,
                                               cosines + at, grad_content + at, grad_shifted + at, own_to_row);
            for_vector(chunk.size(), [=](int64_t i) MB_INLINE { to_row[i] += own_to_row[i]; });
        }
        if (next) add_late_to_row(chunk, to_row - chunk.first);
        const Real *const after = memory(t + 1), *const before = memory(t);
        for_each_row_block(chunk, [&](int64_t first, int64_t size) {
            Real* const grads = grad_memory() + first * W;
            const ScoredKeys reads{R, {p, A}, {grad_shifted + first, N}};
            const ScoredKeys late = next ? late_keys(next, first) : ScoredKeys{};
            const Real* const from = before + first * W;
            const RowGradients gradients{W,
                                         V == 1 ? from : after + first * W,
                                         to_row + (first - chunk.first),
                                         {read + first, N},
                                         {grad_reads, W},
                                         reads,
                                         late};
            if (V == 1) {  // the rows after the write are made again
                const EraseAndAdd write{written + first, erase(p, 0), add(p, 0)};
                return gradients.complete(
                    size, grads, key_lanes,
                    EraseAndAddBackward{write, grad_written + first, add_lanes[0], erase_lanes[0]});
            }
            gradients.complete(size, grads, key_lanes, NoWrite{});
            ErasesAndAdds{V, W, {written + first, N}, {erase(p, 0), W}, {add(p, 0), W}}.undo(
                from, size, grads, {grad_written + first, N}, add_lanes, erase_lanes, later);
        });
        lanes.store(0, R * W, sums);
        lanes.store(R * W, 2 * V * W, of_erase);
        for (Count v = 0; v < V; ++v) {
            const Real *const w = written + v * N + chunk.first, *const grad = grad_written + v * N + chunk.first;
            inner_sums[v] = Warp{}.sum(chunk.size(), [=](int64_t i) MB_INLINE { return w[i] * grad[i]; });
        }
    }

    // The scores of the write keys: to the parts their gradients, and what is left for the rows' gradients.
    MB_FN void score_backward(int64_t t, Real* p, const Chunk& chunk) {
        const Real *const norm = norms(t), *const rows = memory(t);
        Real *const sums = part(chunk.number), *const write_cosines = grad_shifted;  // used up
        for_each_row_block(chunk, [&](int64_t first, int64_t size) {
            score_rows(rows + first * W, size, W, {address(p, R).key, A}, V, {write_cosines + first, N});
        });
        for (Count v = 0; v < V; ++v) {
            const Count h = R + v;
            const Real key_norm = key_norms[h], *const n = norm + chunk.first;
            Real* const cosine = write_cosines + v * N + chunk.first;
            for_vector(chunk.size(), [=](int64_t i) MB_INLINE { cosine[i] /= n[i] * key_norm; });
            const int64_t at = v * N + chunk.first;
            sums[V * W + v] = content_backward(chunk.size(), address(p, h).strength(), key_norm, inner[h],
                                               content(t, h) + chunk.first, n, grad_content + at, cosine,
                                               grad_content + at, write_to_key + at, write_to_row + at);
        }
        LaneSums lanes(V * W);
        for_each_row_block(chunk, [&](int64_t first, int64_t size) {
            accumulate_rows(rows + first * W, size, W, {write_to_key + first, N}, V, lanes.of_heads(0, W));
        });
        lanes.store(0, V * W, sums);
    }
};

}  // namespace mb
