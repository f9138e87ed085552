// The memory of the NTM backwards: of a step first the read, then the addressing of the read heads, the write, and the
// addressing of the write heads.
#pragma once

#include "dense/ntm.h"

namespace mb {

template <int fixed_width>
struct NtmBackward : NtmElement {
    // Vectors over N. In turn: gradient of the shifted weights, then to_key; gradient of the content weights, then of
    // the scores. to_key and to_row: a row's gradient is to_key * key - to_row * row; those of the write heads are
    // added a step later.
    Real *cosines, *grad_shifted, *grad_content, *write_to_key, *write_to_row, *inner;

    MB_FN NtmBackward(const Block& block, const Arguments& a, int64_t element)
        : NtmElement(block, a, element, fixed_width ? fixed_width : a.width) {
        cosines = scratch.take(R * N), grad_shifted = scratch.take(most * N), grad_content = scratch.take(most * N);
        write_to_key = scratch.take(V * N), write_to_row = scratch.take(V * N), inner = scratch.take(heads);
    }

    MB_FN Real* grad_read_weights() const { return a.grad_read_weights + b * R * N; }
    MB_FN Real* grad_write_weights() const { return a.grad_write_weights + b * V * N; }

    MB_FN void begin() {}

    MB_FN void step(int64_t t) {
        Real *const p = interface(t), *const grad_p = interface_gradient(t);
        add_output_gradient(t);
        store_cell_inputs(t);
        compute_key_norms(t);
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
        Real* const rows = memory(0);
        block.for_each_chunk(chunks, [&](int64_t number) {
            const Chunk own = chunk(number);
            for_each_tile(own, [&](int64_t first, int64_t count) {
                for (Count v = 0; v < V; ++v)
                    add_score_gradient(rows_of(grad_memory(), first, count), rows_of(rows, first, count),
                                       Factors(write_to_key + v * N + first, count), address(interface(0), R + v).key,
                                       Factors(write_to_row + v * N + first, count), count);
            });
        });
    }

    // grad += to_key * key - to_row * row
    MB_LEAF void add_score_gradient(const RowsOf<Real>& grads, const RowsOf<Real>& rows, const Factors& to_key,
                                    const Real* key, const Factors& to_row, int64_t count) const {
        for_each_columns(W, [&](auto zero, int64_t w) MB_INLINE {
            typedef decltype(zero) Vector;
            const Vector own = load_columns<Vector>(key + w);
            for (int64_t k = 0; k < count; ++k)
                store_columns(grads.at[k] + w, load_columns<Vector>(grads.at[k] + w) + to_key.of[k] * own -
                                                   to_row.of[k] * load_columns<Vector>(rows.at[k] + w));
        });
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
        Real *const inner_sums = of_add + V * W, *const decayed = inner_sums + V;
        Real* const grad_written = grad_write_weights();
        Real* const next = t + 1 < T ? interface(t + 1) : nullptr;  // its write keys have scored these rows
        Real rests[Block::chunk_rows], own_rests[Block::chunk_rows];
        Real *const to_row = rests, *const own_to_row = own_rests;
        for_vector(chunk.size(), [=](int64_t i) MB_INLINE { to_row[i] = 0; });
        for_vector(R * W, [=](int64_t i) MB_INLINE { sums[i] = 0; });
        for_vector(2 * V * W, [=](int64_t i) MB_INLINE { of_erase[i] = 0; });
        for (Count r = 0; r < R; ++r) {
            const int64_t at = r * N + chunk.first;
            sums[R * W + r] = content_backward(chunk.size(), address(p, r).strength(), key_norms[r], inner[r],
                                               content(t, r) + chunk.first, norm + chunk.first, grad_content + at,
                                               cosines + at, grad_content + at, grad_shifted + at, own_to_row);
            for_vector(chunk.size(), [=](int64_t i) MB_INLINE { to_row[i] += own_to_row[i]; });
        }
        for (Count v = 0; next && v < V; ++v) {
            const Real* const from = write_to_row + v * N + chunk.first;
            for_vector(chunk.size(), [=](int64_t i) MB_INLINE { to_row[i] += from[i]; });
        }
        const ScoredKeys reads{R, p, A, grad_shifted};
        const ScoredKeys late{next ? V : 0, next ? address(next, R).key : nullptr, A, write_to_key};
        const RowGradients after{N, W, memory(t + 1), grad_memory(), read, grad_reads, reads, late};
        const ErasesAndAdds write{V, N, W, written, erase(p, 0), add(p, 0), memory(t), grad_memory(), grad_written};
        for_each_tile(chunk, [&](int64_t first, int64_t count) {
            after.complete(first, count, Factors(to_row + (first - chunk.first), count), sums);
            write.undo(first, count, of_add, of_erase, decayed);
        });
        for (Count v = 0; v < V; ++v) {
            const Real *const w = written + v * N + chunk.first, *const grad = grad_written + v * N + chunk.first;
            inner_sums[v] = Warp{}.sum(chunk.size(), [=](int64_t i) MB_INLINE { return w[i] * grad[i]; });
        }
    }

    // The scores of the write keys: to the parts their gradients, and what is left for the rows' gradients.
    MB_FN void score_backward(int64_t t, Real* p, const Chunk& chunk) {
        const Real* const norm = norms(t);
        Real *const rows = memory(t), *const sums = part(chunk.number);
        Real vector[Block::chunk_rows];
        Real* const cosine = vector;
        for_vector(V * W, [=](int64_t i) MB_INLINE { sums[i] = 0; });
        for (Count v = 0; v < V; ++v) {
            const Count h = R + v;
            const Real* const key = address(p, h).key;
            const Real key_norm = key_norms[h];
            for_each_tile(chunk, [&](int64_t first, int64_t count) {
                Real numbers[tile_rows];
                dot_tile(rows_of(rows, first, count), key, W, numbers);
                store_tile(cosine + (first - chunk.first), numbers, count);
            });
            const Real* const n = norm + chunk.first;
            for_vector(chunk.size(), [=](int64_t i) MB_INLINE { cosine[i] /= n[i] * key_norm; });
            const int64_t at = v * N + chunk.first;
            sums[V * W + v] = content_backward(chunk.size(), address(p, h).strength(), key_norm, inner[h],
                                               content(t, h) + chunk.first, n, grad_content + at, cosine,
                                               grad_content + at, write_to_key + at, write_to_row + at);
            for_each_tile(chunk, [&](int64_t first, int64_t count) {
                accumulate_tile(sums + v * W, rows_of(rows, first, count), Factors(write_to_key + v * N + first, count),
                                W);
            });
        }
    }
};

}  // namespace mb
