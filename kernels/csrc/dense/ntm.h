// The memory of the NTM (Graves et al. 2014, section 3): a step addresses and writes, then addresses and reads.
//
// Forward passes over the memory three times a step: it scores the write keys; it writes, and takes the norms and the
// scores of the read keys of the rows it has written; it reads. Backward passes over M_t three times for a step, and
// over its gradient once: the gradient of the write keys' scores is added in the pass of the step before.
#pragma once

#include "dense/element.h"
#include "dense/location.h"

namespace mb {

struct NtmElement : DenseElement {
    const Count S, A, heads, most;  // S: reach of the shift, A: size of an address, most: heads that address at once
    const Location location;
    // Scratch. Vectors [most, N]; sums of each chunk [chunks, part_stride].
    Real *key_norms, *scores, *parts, *softmaxes;
    Count part_stride;

    MB_FN NtmElement(const Block& block, const Arguments& a, int64_t element)
        : DenseElement(block, a, element),
          S(a.shifts),
          A(W + 4 + 2 * a.shifts),
          heads(R + V),
          most(R > V ? R : V),
          location{N, S} {
        key_norms = scratch.take(heads);
        scores = scratch.take(most * N);
        softmaxes = scratch.take(6 * heads * chunks);
        const Count vectors = heads * (W + 3) + 2 * V * W, numbers = heads * (2 * S + 4);
        part_stride = vectors + numbers;
        parts = scratch.take(part_stride * chunks);
    }

    // Of head h; read heads come first.
    MB_FN Address address(Real* interface, Count h) const { return Address{interface + h * A, W}; }
    MB_FN Real* erase(Real* interface, Count v) const { return interface + heads * A + v * W; }
    MB_FN Real* add(Real* interface, Count v) const { return interface + heads * A + (V + v) * W; }
    MB_FN Real* content(int64_t t, Count h) const { return a.content_tape + ((t * a.batch + b) * heads + h) * N; }
    MB_FN Softmax softmax(Count number) const {
        Real* const own = softmaxes + 3 * number * chunks;
        return Softmax{own, own + chunks, own + 2 * chunks};
    }
    MB_FN Softmax content_softmax(Count h) const { return softmax(h); }
    MB_FN Softmax sharp_softmax(Count h) const { return softmax(heads + h); }
    MB_FN Real* part(int64_t chunk) const { return parts + chunk * part_stride; }

    MB_FN void compute_key_norms(int64_t t) {
        block.for_each_by_warp(heads, [&](Count h, Warp warp) {
            const Real norm = norm_of(interface(t) + h * A, W);
            if (warp.is_leader()) key_norms[h] = norm;
        });
    }
};

struct NtmForward : NtmElement {
    MB_FN NtmForward(const Block& block, const Arguments& a, int64_t element) : NtmElement(block, a, element) {
        place_rows_forward(true);
    }

    // Visible after the next sync.
    MB_FN void activate_interface(int64_t t) {
        Real* const p = interface(t);
        block.for_each_by_warp(heads, [&](Count h, Warp warp) {
            if (!warp.is_leader()) return;
            const Address own = address(p, h);
            own.strength() = softplus(own.strength());
            own.gate() = sigmoid(own.gate());
            own.sharpening() = 1 + softplus(own.sharpening());
            Real *const shifts = own.shifts(), top = shifts[0], total = 0;
            for (Count i = 1; i <= 2 * S; ++i) top = shifts[i] > top ? shifts[i] : top;
            for (Count i = 0; i <= 2 * S; ++i) total += shifts[i] = exponential(shifts[i] - top);
            for (Count i = 0; i <= 2 * S; ++i) shifts[i] /= total;
        });
        Real* const erased = erase(p, 0);
        block.for_each(V * W, [=](Count i) MB_INLINE { erased[i] = sigmoid(erased[i]); });
        compute_key_norms(t);
    }

    MB_FN void step(int64_t t) {
        Real* const p = interface(t);
        block.sync();
        block.for_each_chunk(chunks, [&](int64_t number) { score_write_keys(t, p, chunk(number)); });
        block.sync();
        locate(t, p, R, V, write_weights(t), write_weights(t + 1));
        clocks.end_of(block, Phase::addressing);
        block.for_each_chunk(chunks, [&](int64_t number) { write(t, p, chunk(number)); });
        block.sync();
        clocks.end_of(block, Phase::write);
        locate(t, p, 0, R, read_weights(t), read_weights(t + 1));
        clocks.end_of(block, Phase::addressing);
        block.for_each_chunk(chunks, [&](int64_t number) { read(t, chunk(number)); });
        block.sync();
        block.on_leader([&] { add_parts(carry(t + 1) + H, R * W, parts, part_stride, chunks); });
        block.sync();
        clocks.end_of(block, Phase::read);
    }

    MB_FN void score_write_keys(int64_t t, Real* p, const Chunk& chunk) {
        Real* const rows = memory(t);
        for_each_row_block(chunk, [&](int64_t first, int64_t size) {
            if (t == 0) norm_rows(rows + first * W, size, W, norms(0) + first);
            score_rows(rows + first * W, size, W, {address(p, R).key, A}, V, {scores + first, N});
        });
        for (Count v = 0; v < V; ++v) begin_content(chunk, scores + v * N, p, R + v, norms(t));
    }

    MB_FN void begin_content(const Chunk& chunk, Real* own, Real* p, Count h, const Real* norm) const {
        const Real scale = address(p, h).strength() / key_norms[h];
        DenseElement::begin_content(chunk, own, scale, norm, N, content_softmax(h));
    }

    // The weights of some heads, up to the factors of their last softmax.
    MB_FN void locate(int64_t t, Real* p, Count first_head, Count count, const Real* before, Real* after) {
        block.on_leader([&] {
            for (Count h = first_head; h < first_head + count; ++h) content_softmax(h).combine(chunks);
        });
        block.sync();
        block.for_each_chunk(chunks, [&](int64_t number) {
            for (Count i = 0; i < count; ++i) {
                const Count h = first_head + i;
                location.forward(chunk(number), address(p, h), scores + i * N, content_softmax(h), before + i * N,
                                 a.taped ? content(t, h) : nullptr, after + i * N, sharp_softmax(h));
            }
        });
        block.sync();
        block.on_leader([&] {
            for (Count h = first_head; h < first_head + count; ++h) sharp_softmax(h).combine(chunks);
        });
        block.sync();
    }

    // All erases, then all adds; norms and products with the read keys of the rows written.
    MB_FN void write(int64_t t, Real* p, const Chunk& chunk) {
        Real* const weights = write_weights(t + 1);
        for (Count v = 0; v < V; ++v) finish_softmax(chunk, sharp_softmax(R + v), weights + v * N);
        Real *const after = memory(t + 1), *const norm = norms(t + 1);
        const Real* const before = memory(t);
        const RowWrites writes{W, {p, A}, R, V == 1 && after != before && is_streamed(after, N * W)};
        for_each_row_block(chunk, [&](int64_t first, int64_t size) {
            const Real* const from = before + first * W;
            Real *const rows = after + first * W, *const squares = norm + first;
            const Outputs products{scores + first, N};
            if (V == 1) {
                const EraseAndAdd change{weights + first, erase(p, 0), add(p, 0)};
                return writes.run(from, size, rows, squares, products, change);
            }
            ErasesAndAdds{V, W, {weights + first, N}, {erase(p, 0), W}, {add(p, 0), W}}.run(from, size, rows);
            writes.run(rows, size, rows, squares, products, NoWrite{});
        });
        if (writes.streamed) end_of_streams();
        finish_norms(chunk, norm);
        for (Count r = 0; r < R; ++r) begin_content(chunk, scores + r * N, p, r, norm);
    }

    MB_FN void read(int64_t t, const Chunk& chunk) {
        Real* const weights = read_weights(t + 1);
        for (Count r = 0; r < R; ++r) finish_softmax(chunk, sharp_softmax(r), weights + r * N);
        read_chunk(chunk, memory(t + 1), weights, part(chunk.number));
    }
};

}  // namespace mb
