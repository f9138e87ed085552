// The memory of the DNC backwards: of a step first the read, then the link, the write, and the usage.
#pragma once

#include "dense/dnc.h"

namespace mb {

struct DncBackward : DncElement {
    // [R, N] but for the last lines: link_rows [R + 1, N], vectors [N].
    Real *cosines, *to_keys, *grad_content, *grad_forward, *grad_backward, *link_rows;
    Real *write_to_key, *write_to_row, *grad_allocation, *products, *inner;

    MB_FN DncBackward(const Block& block, const Arguments& a, int64_t element) : DncElement(block, a, element) {
        for (Real** vectors : {&cosines, &to_keys, &grad_content, &grad_forward, &grad_backward})
            *vectors = scratch.take(R * N);
        link_rows = scratch.take((R + 1) * N);
        for (Real** vector : {&write_to_key, &write_to_row, &grad_allocation, &products}) *vector = scratch.take(N);
        inner = scratch.take(R + 3);
        place_rows_backward();
    }

    MB_FN Real* grad_read_weights() const { return a.grad_read_weights + b * R * N; }
    MB_FN Real* grad_write_weights() const { return a.grad_write_weights + b * N; }
    MB_FN Real* grad_usage() const { return a.grad_usage + b * N; }
    MB_FN Real* grad_precedence() const { return a.grad_precedence + b * N; }
    // Of the write: the product of its content weights and their gradient, the sum of its weights, and the product of
    // the precedence before and the gradient of that after.
    MB_FN Real& write_inner() const { return inner[R]; }
    MB_FN Real& total_write() const { return inner[R + 1]; }
    MB_FN Real& preceding() const { return inner[R + 2]; }

    MB_FN void step(int64_t t) {
        Real *const p = interface(t), *const grad_p = interface_gradient(t);
        add_output_gradient(t);
        store_cell_inputs(t);
        compute_key_norms(p);
        take_over_rows(t);
        block.sync();
        block.for_each_chunk(chunks, [&](int64_t number) { read_backward(t, p, chunk(number)); });
        block.sync();
        block.on_leader([&] {
            finish_modes(p, grad_p);
            total_write() = sum_of_parts(parts + 4 * R, part_stride, chunks);
            preceding() = sum_of_parts(parts + 4 * R + 1, part_stride, chunks);
            allocation_of(t).run(usage(t + 1), allocation);
        });  // no sync: the link needs nothing of this
        clocks.end_of(block, Phase::read);
        const LinkMatrix matrix = link_matrix(t);
        const int64_t since = t % a.link_stride, kept = t - since;
        const auto updates = [&](int64_t u) { return link_update(kept + u); };
        block.for_each_chunk(link_chunks, [&](int64_t number) {
            matrix.run_backward(number, link(kept), since + 1, updates, a.grad_link + b * N * N, grad_forward,
                                grad_backward, {link_rows, link_part(number)});
        });
        block.sync();
        clocks.end_of(block, Phase::link);
        block.for_each_chunk(chunks, [&](int64_t number) { write_backward(t, p, chunk(number)); });
        block.sync();
        block.on_leader([&] {
            finish_write(p, grad_p);
            allocation_of(t).run_backward(usage(t + 1), grad_allocation, grad_usage(), products);
        });
        block.sync();
        clocks.end_of(block, Phase::write);
        block.for_each_chunk(chunks, [&](int64_t number) {
            score_backward(t, p, chunk(number));
            usage_backward(t, p, chunk(number));
        });
        block.sync();
        block.on_leader([&] {
            finish_key(p + write_key, key_norms[R], p[write_strength], parts, parts + W, part_stride,
                       grad_p + write_key, grad_p + write_strength);
            grad_p[write_strength] *= strength_slope(p[write_strength]);
            for (Count r = 0; r < R; ++r)
                grad_p[frees + r] =
                    sum_of_parts(parts + W + 1 + r, part_stride, chunks) * p[frees + r] * (1 - p[frees + r]);
        });
        block.sync();
        clocks.end_of(block, Phase::addressing);
    }

    MB_FN Real strength_slope(Real strength) const { return softplus_slope(a.strength ? strength - 1 : strength); }

    // The gradient of the memory before the first step lacks that of the first write key's scores.
    MB_FN void end() {
        if (!a.first_gradient || T == 0) return;
        block.for_each_chunk(chunks, [&](int64_t number) { add_late_scores(chunk(number)); });
        store_first_gradient();
    }
    MB_FN void add_late_scores(const Chunk& chunk) const {
        for_each_row_block(chunk, [&](int64_t first, int64_t size) {
            RowGradients{W, memory(0) + first * W, write_to_row + first, {}, {}, {}, late_keys(interface(0), first)}
                .complete(size, grad_memory() + first * W, {}, NoWrite{});
        });
    }
    // The write key of interface p, which has scored the rows of the block from `first` on.
    MB_FN ScoredKeys late_keys(const Real* p, int64_t first) const {
        return ScoredKeys{1, {p + write_key, W}, {write_to_key + first, N}};
    }

    MB_FN void begin() const { load_last_rows(); }

    // To the parts [4 R + 2]: of each head the products of the gradient of its weights with weights, backward, content
    // and forward weights; then the sum of the write weights and the product of the precedences.
    MB_FN void read_backward(int64_t t, const Real* p, const Chunk& chunk) {
        Real* const sums = part(chunk.number);
        const int64_t n = chunk.size();
        read_chunk_backward(chunk, memory(t + 1), norms(t + 1), p, W, key_norms, read_weights(t + 1),
                            grad_read_weights(), cosines, sums);
        for (Count r = 0; r < R; ++r) {
            const int64_t at = r * N + chunk.first;
            const Real *const grad = grad_read_weights() + at, *const backward = directions(t) + at;
            const Real *const forward = backward + R * N, *const found = content(t, r) + chunk.first;
            const Real *const mode = p + modes + 3 * r, to_backward = mode[0], to_content = mode[1],
                              to_forward = mode[2];
            sums[R + 3 * r] = Warp{}.sum(n, [=](int64_t i) MB_INLINE { return grad[i] * backward[i]; });
            sums[R + 3 * r + 1] = Warp{}.sum(n, [=](int64_t i) MB_INLINE { return grad[i] * found[i]; });
            sums[R + 3 * r + 2] = Warp{}.sum(n, [=](int64_t i) MB_INLINE { return grad[i] * forward[i]; });
            Real *const of_backward = grad_backward + at, *const of_content = grad_content + at;
            Real* const of_forward = grad_forward + at;
            for_vector(n, [=](int64_t i) MB_INLINE {
                of_backward[i] = to_backward * grad[i];
                of_content[i] = to_content * grad[i];
                of_forward[i] = to_forward * grad[i];
            });
        }
        const Real *const written = write_weights(t + 1) + chunk.first, *const before = precedence(t) + chunk.first;
        const Real* const grad = grad_precedence() + chunk.first;
        sums[4 * R] = Warp{}.sum(n, [=](int64_t i) MB_INLINE { return written[i]; });
        sums[4 * R + 1] = Warp{}.sum(n, [=](int64_t i) MB_INLINE { return grad[i] * before[i]; });
    }
    MB_FN void finish_modes(const Real* p, Real* grad_p) const {
        for (Count r = 0; r < R; ++r) {
            const Real* const mode = p + modes + 3 * r;
            Real grads[3], along = 0;
            add_parts(grads, 3, parts + R + 3 * r, part_stride, chunks);
            for (Count i = 0; i < 3; ++i) along += mode[i] * grads[i];
            for (Count i = 0; i < 3; ++i) grad_p[modes + 3 * r + i] = mode[i] * (grads[i] - along);
            inner[r] = mode[1] * grads[1];
        }
    }

    // The one pass over the gradient of the memory. To the parts: keys and score gradients of the read heads, adds,
    // erases, and the products of the gradient of the write weights with allocation and content weights.
    MB_FN void write_backward(int64_t t, const Real* p, const Chunk& chunk) {
        const int64_t n = chunk.size(), begin = chunk.first;
        Real *const sums = part(chunk.number), *const of_add = sums + R * (W + 1), *const of_erase = of_add + W;
        Real* const of_gates = of_erase + W;
        Real rests[Block::chunk_rows], own_rests[Block::chunk_rows];
        Real *const to_row = rests, *const own_to_row = own_rests;
        const bool is_late = t + 1 < T;
        const Real* const late_to_row = write_to_row + begin;
        LaneSums lanes((R + 2) * W);
        for_vector(n, [=](int64_t i) MB_INLINE { to_row[i] = 0; });
        if (is_late) for_vector(n, [=](int64_t i) MB_INLINE { to_row[i] = late_to_row[i]; });
        for (Count r = 0; r < R; ++r) {
            const int64_t at = r * N + begin;
            sums[R * W + r] = content_backward(n, p[strengths + r], key_norms[r], inner[r], content(t, r) + begin,
                                               norms(t + 1) + begin, grad_content + at, cosines + at, grad_content + at,
                                               to_keys + at, own_to_row);
            for_vector(n, [=](int64_t i) MB_INLINE { to_row[i] += own_to_row[i]; });
        }
        Real *const grad_written = grad_write_weights(), *const grad = grad_written + begin;
        Real *const grad_before = grad_precedence() + begin, *const of_links = own_to_row;
        const Real rest = 1 - total_write(), of_total = preceding(), *const by_rows = link_rows + R * N + begin;
        add_link_parts(chunk, R, of_links);
        for_vector(n, [=](int64_t i) MB_INLINE { grad[i] += grad_before[i] - of_total + by_rows[i] + of_links[i]; });
        add_link_parts(chunk, R + 1, of_links);
        for_vector(n, [=](int64_t i) MB_INLINE { grad_before[i] = rest * grad_before[i] + of_links[i]; });
        const Real* const before = memory(t);  // of which the rows after the write are made again
        const Real *const read = read_weights(t + 1), *const written = write_weights(t + 1);
        Real* const next = is_late ? interface(t + 1) : nullptr;
        for_each_row_block(chunk, [&](int64_t first, int64_t size) {
            Real* const grads = grad_memory() + first * W;
            const ScoredKeys reads{R, {p, W}, {to_keys + first, N}};
            const ScoredKeys late = next ? late_keys(next, first) : ScoredKeys{};
            const EraseAndAdd write{written + first, p + erases, p + values};
            RowGradients{
                W, before + first * W, to_row + (first - begin), {read + first, N}, {grad_carry + H, W}, reads, late}
                .complete(size, grads, lanes.of_heads(0, W),
                          EraseAndAddBackward{write, grad_written + first, lanes.of_heads(R * W, W)[0],
                                              lanes.of_heads((R + 1) * W, W)[0]});
        });
        lanes.store(0, R * W, sums);
        lanes.store(R * W, 2 * W, of_add);
        const Real *const free = allocation + begin, *const found = content(t, R) + begin,
                          to_free = p[gate] * p[allocate];
        Real* const of_free = grad_allocation + begin;
        of_gates[0] = Warp{}.sum(n, [=](int64_t i) MB_INLINE { return grad[i] * free[i]; });
        of_gates[1] = Warp{}.sum(n, [=](int64_t i) MB_INLINE { return grad[i] * found[i]; });
        for_vector(n, [=](int64_t i) MB_INLINE { of_free[i] = to_free * grad[i]; });
        for (Count r = 0; r < R; ++r) {
            Real* const grad_read = grad_read_weights() + r * N + begin;
            const Real* const of_rows = link_rows + r * N + begin;
            add_link_parts(chunk, r, of_links);
            for_vector(n, [=](int64_t i) MB_INLINE { grad_read[i] = of_rows[i] + of_links[i]; });
        }
    }
    MB_FN void finish_write(const Real* p, Real* grad_p) const {
        for (Count r = 0; r < R; ++r) {
            finish_key(p + r * W, key_norms[r], p[strengths + r], parts + r * W, parts + R * W + r, part_stride,
                       grad_p + r * W, grad_p + strengths + r);
            grad_p[strengths + r] *= strength_slope(p[strengths + r]);
        }
        const Real* const of_write = parts + R * (W + 1);
        add_parts(grad_p + values, W, of_write, part_stride, chunks);
        add_parts(grad_p + erases, W, of_write + W, part_stride, chunks);
        for (Count w = 0; w < W; ++w) grad_p[erases + w] *= -p[erases + w] * (1 - p[erases + w]);
        const Real to_free = sum_of_parts(of_write + 2 * W, part_stride, chunks);
        const Real to_found = sum_of_parts(of_write + 2 * W + 1, part_stride, chunks);
        const Real mix = p[allocate], open = p[gate];
        grad_p[gate] = (mix * to_free + (1 - mix) * to_found) * open * (1 - open);
        grad_p[allocate] = open * (to_free - to_found) * mix * (1 - mix);
        write_inner() = open * (1 - mix) * to_found;
    }

    // The scores of the write key: to the parts [W + 1] their gradients, and what is left for the rows' gradients.
    MB_FN void score_backward(int64_t t, const Real* p, const Chunk& chunk) {
        const int64_t n = chunk.size(), begin = chunk.first;
        Real *const rows = memory(t), *const sums = part(chunk.number);
        Real vector[Block::chunk_rows];
        Real* const cosine = vector;
        for_each_row_block(chunk, [&](int64_t first, int64_t size) {
            score_rows(rows + first * W, size, W, {p + write_key, W}, 1, {cosine + (first - begin), N});
        });
        const Real *const norm = norms(t) + begin, key_norm = key_norms[R];
        const Real to_found = p[gate] * (1 - p[allocate]);
        Real* const grad = grad_allocation + begin;  // used up
        const Real* const of_weights = grad_write_weights() + begin;
        for_vector(n, [=](int64_t i) MB_INLINE {
            cosine[i] /= norm[i] * key_norm;
            grad[i] = to_found * of_weights[i];
        });
        sums[W] = content_backward(n, p[write_strength], key_norm, write_inner(), content(t, R) + begin, norm, grad,
                                   cosine, grad, write_to_key + begin, write_to_row + begin);
        LaneSums lanes(W);
        for_each_row_block(chunk, [&](int64_t first, int64_t size) {
            accumulate_rows(rows + first * W, size, W, {write_to_key + first, N}, 1, lanes.of_heads(0, W));
        });
        lanes.store(0, W, sums);
    }

    // The usage, from that before and from the weights before. To the parts, after those of the scores: free gates.
    MB_FN void usage_backward(int64_t t, const Real* p, const Chunk& chunk) {
        const int64_t n = chunk.size(), begin = chunk.first;
        Real *const sums = part(chunk.number) + W + 1, *const grad = grad_usage() + begin;
        Real* const grad_written = grad_write_weights() + begin;
        const Real *const before = usage(t) + begin, *const written = write_weights(t) + begin;
        Real kept[Block::chunk_rows], others[Block::chunk_rows];
        Real *const retention = kept, *const rest = others;
        for (Count r = 0; r < R; ++r) {
            const Real *const own = read_weights(t) + r * N + begin, free = p[frees + r];
            Real* const grad_read = grad_read_weights() + r * N + begin;
            for_vector(
                n, [=](int64_t i) MB_INLINE { rest[i] = grad[i] * (before[i] + written[i] - before[i] * written[i]); });
            for (Count q = 0; q < R; ++q) {
                if (q == r) continue;
                const Real *const other = read_weights(t) + q * N + begin, of_other = p[frees + q];
                for_vector(n, [=](int64_t i) MB_INLINE { rest[i] *= 1 - of_other * other[i]; });
            }
            sums[r] = -Warp{}.sum(n, [=](int64_t i) MB_INLINE { return rest[i] * own[i]; });
            for_vector(n, [=](int64_t i) MB_INLINE { grad_read[i] -= free * rest[i]; });
        }
        for_vector(n, [=](int64_t i) MB_INLINE { retention[i] = grad[i]; });
        for (Count r = 0; r < R; ++r) {
            const Real *const own = read_weights(t) + r * N + begin, free = p[frees + r];
            for_vector(n, [=](int64_t i) MB_INLINE { retention[i] *= 1 - free * own[i]; });
        }
        for_vector(n, [=](int64_t i) MB_INLINE {
            grad_written[i] = retention[i] * (1 - before[i]);
            grad[i] = retention[i] * (1 - written[i]);
        });
    }
};

}  // namespace mb
