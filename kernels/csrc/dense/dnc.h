// The memory of the DNC (Graves et al. 2016, Methods), in the order of DeepMind's code: usage, write, link, read.
//
// Forward passes over the memory three times a step, as the NTM does, and once over the link. Backward passes over M_t
// three times for a step, once over its gradient, and once over the link and its gradient.
#pragma once

#include "dense/allocation.h"
#include "dense/element.h"
#include "dense/link_matrix.h"

namespace mb {

struct DncElement : DenseElement {
    // offsets in the interface vector; read keys come first
    const Count strengths, write_key, write_strength, erases, values, frees, allocate, gate, modes;
    const int64_t link_chunks;
    // Scratch: key_norms [R + 1], the write key's last; [R + 1, N] vectors; sums of each chunk [chunks, part_stride]
    // and of each chunk of the link [link chunks, R + 2, N].
    Real *key_norms, *allocation, *parts, *link_parts, *softmaxes;
    Count part_stride;

    MB_FN DncElement(const Block& block, const Arguments& a, int64_t element)
        : DenseElement(block, a, element),
          strengths(R * W),
          write_key(strengths + R),
          write_strength(write_key + W),
          erases(write_strength + 1),
          values(erases + W),
          frees(values + W),
          allocate(frees + R),
          gate(allocate + 1),
          modes(gate + 1),
          link_chunks(LinkMatrix::chunks(a.slots)) {
        key_norms = scratch.take(R + 1);
        allocation = scratch.take(N);
        softmaxes = scratch.take(3 * (R + 1) * chunks);
        part_stride = R * (W + 1) + 3 * W + 4 * R + 8;
        parts = scratch.take(part_stride * chunks);
        link_parts = scratch.take(link_chunks * (R + 2) * N);
    }

    MB_FN Real* usage(int64_t t) const { return state_at(a.first_usage, a.usage_tape, a.last_usage, t, N); }
    MB_FN Real* precedence(int64_t t) const {
        return state_at(a.first_precedence, a.precedence_tape, a.last_precedence, t, N);
    }
    // The tape holds the link of every link_stride-th step; the others are at the place of the last, each until the
    // next.
    MB_FN Real* link(int64_t t) const {
        if (t == 0) return a.first_link + b * N * N;
        if (t == T || !a.taped || t % a.link_stride) return a.last_link + b * N * N;
        return a.link_tape + ((t / a.link_stride - 1) * a.batch + b) * N * N;
    }
    MB_FN LinkUpdate link_update(int64_t t) const { return {write_weights(t + 1), precedence(t)}; }
    MB_FN Real* content(int64_t t, Count h) const { return a.content_tape + ((t * a.batch + b) * (R + 1) + h) * N; }
    MB_FN Real* directions(int64_t t) const { return tape_at(a.direction_tape, t, 2 * R * N); }
    MB_FN Allocation allocation_of(int64_t t) const { return Allocation{N, tape_at(a.usage_order, t, N)}; }
    MB_FN LinkMatrix link_matrix(int64_t t) const { return LinkMatrix{N, R, read_weights(t)}; }
    MB_FN Softmax softmax(Count h) const {
        Real* const own = softmaxes + 3 * h * chunks;
        return Softmax{own, own + chunks, own + 2 * chunks};
    }
    MB_FN Real* part(int64_t chunk) const { return parts + chunk * part_stride; }
    MB_FN Real* link_part(int64_t chunk) const { return link_parts + chunk * (R + 2) * N; }

    MB_FN void compute_key_norms(const Real* p) {
        block.for_each_by_warp(R + 1, [&](Count h, Warp warp) {
            const Real norm = norm_of(p + (h < R ? h * W : write_key), W);
            if (warp.is_leader()) key_norms[h] = norm;
        });
    }
    // sum [of chunk] = sum of the parts of all chunks of the link, of vector `number` [N].
    MB_FN void add_link_parts(const Chunk& chunk, Count number, Real* sum) const {
        add_parts(sum, chunk.size(), link_parts + number * N + chunk.first, (R + 2) * N, link_chunks);
    }
};

struct DncForward : DncElement {
    Real *scores, *sorting;  // [R + 1, N], the write key's last; [3, N]

    MB_FN DncForward(const Block& block, const Arguments& a, int64_t element) : DncElement(block, a, element) {
        scores = scratch.take((R + 1) * N), sorting = scratch.take(3 * N);
        place_rows_forward(true);
    }

    // Visible after the next sync.
    MB_FN void activate_interface(int64_t t) {
        Real* const p = interface(t);
        const Real least = a.strength ? Real(1) : Real(0);
        block.for_each(R + 1, [&](Count h) {
            Real& strength = p[h < R ? strengths + h : write_strength];
            strength = least + softplus(strength);
        });
        block.for_each(W, [&](Count w) { p[erases + w] = sigmoid(p[erases + w]); });
        block.for_each(R + 2, [&](Count i) { p[frees + i] = sigmoid(p[frees + i]); });
        block.for_each(R, [&](Count r) {
            Real* const mode = p + modes + 3 * r;
            Real top = mode[0] > mode[1] ? mode[0] : mode[1], total = 0;
            top = mode[2] > top ? mode[2] : top;
            for (Count i = 0; i < 3; ++i) total += mode[i] = exponential(mode[i] - top);
            for (Count i = 0; i < 3; ++i) mode[i] /= total;
        });
        compute_key_norms(p);
    }

    MB_FN void step(int64_t t) {
        Real* const p = interface(t);
        block.sync();
        block.for_each_chunk(chunks, [&](int64_t number) { score_write_key(t, p, chunk(number)); });
        block.sync();
        block.on_leader([&] {
            softmax(R).combine(chunks);
            allocation_of(t).sort(usage(t + 1), sorting);
            allocation_of(t).run(usage(t + 1), allocation);
        });
        block.sync();
        clocks.end_of(block, Phase::addressing);
        block.for_each_chunk(chunks, [&](int64_t number) { write(t, p, chunk(number)); });
        block.sync();
        block.on_leader([&] {  // no sync: the link needs nothing of this
            for (Count r = 0; r < R; ++r) softmax(r).combine(chunks);
            total_write() = sum_of_parts(parts, part_stride, chunks);
        });
        clocks.end_of(block, Phase::write);
        const LinkMatrix matrix = link_matrix(t);
        Real* const forward = directions(t) + R * N;
        block.for_each_chunk(link_chunks, [&](int64_t number) {
            matrix.run(number, link_update(t), link(t), link(t + 1), forward, link_part(number));
        });
        block.sync();
        clocks.end_of(block, Phase::link);
        block.for_each_chunk(chunks, [&](int64_t number) { read(t, p, chunk(number)); });
        block.sync();
        block.on_leader([&] { add_parts(carry(t + 1) + H, R * W, parts, part_stride, chunks); });
        block.sync();
        clocks.end_of(block, Phase::read);
    }
    MB_FN Real& total_write() const { return softmax(R).largest_of[0]; }

    MB_FN void score_write_key(int64_t t, const Real* p, const Chunk& chunk) {
        Real *const rows = memory(t), *const own = scores + R * N;
        for_each_row_block(chunk, [&](int64_t first, int64_t size) {
            if (t == 0) norm_rows(rows + first * W, size, W, norms(0) + first);
            score_rows(rows + first * W, size, W, {p + write_key, W}, 1, {own + first, N});
        });
        begin_content(chunk, own, p[write_strength] / key_norms[R], norms(t), N, softmax(R));
        Real* const after = usage(t + 1) + chunk.first;
        const Real *const before = usage(t) + chunk.first, *const written = write_weights(t) + chunk.first;
        for_vector(chunk.size(),
                   [=](int64_t i) MB_INLINE { after[i] = before[i] + written[i] - before[i] * written[i]; });
        for (Count r = 0; r < R; ++r) {
            const Real *const read = read_weights(t) + r * N + chunk.first, free = p[frees + r];
            for_vector(chunk.size(), [=](int64_t i) MB_INLINE { after[i] *= 1 - free * read[i]; });
        }
    }

    MB_FN void write(int64_t t, const Real* p, const Chunk& chunk) {
        const int64_t n = chunk.size();
        Real* const weights = write_weights(t + 1);
        finish_softmax(chunk, softmax(R), scores + R * N);
        const Real *const free = allocation + chunk.first, *const found = scores + R * N + chunk.first;
        const Real to_free = p[gate] * p[allocate], to_found = p[gate] * (1 - p[allocate]);
        Real *const own = weights + chunk.first, *const kept = a.taped ? content(t, R) + chunk.first : nullptr;
        for_vector(n, [=](int64_t i) MB_INLINE { own[i] = to_free * free[i] + to_found * found[i]; });
        if (kept) for_vector(n, [=](int64_t i) MB_INLINE { kept[i] = found[i]; });
        part(chunk.number)[0] = Warp{}.sum(n, [=](int64_t i) MB_INLINE { return own[i]; });
        Real *const after = memory(t + 1), *const norm = norms(t + 1);
        const Real* const before = memory(t);
        const RowWrites writes{W, {p, W}, R, after != before && is_streamed(after, N * W)};
        for_each_row_block(chunk, [&](int64_t first, int64_t size) {
            writes.run(before + first * W, size, after + first * W, norm + first, {scores + first, N},
                       EraseAndAdd{weights + first, p + erases, p + values});
        });
        if (writes.streamed) end_of_streams();
        finish_norms(chunk, norm);
        for (Count r = 0; r < R; ++r)
            begin_content(chunk, scores + r * N, p[strengths + r] / key_norms[r], norm, N, softmax(r));
    }

    MB_FN void read(int64_t t, const Real* p, const Chunk& chunk) {
        const int64_t n = chunk.size();
        Real* const weights = read_weights(t + 1);
        for (Count r = 0; r < R; ++r) {
            finish_softmax(chunk, softmax(r), scores + r * N);
            const Real *const mode = p + modes + 3 * r, to_backward = mode[0], to_content = mode[1],
                              to_forward = mode[2];
            Real* const backward = directions(t) + r * N + chunk.first;
            const Real *const forward = backward + R * N, *const found = scores + r * N + chunk.first;
            Real *const own = weights + r * N + chunk.first, *const kept =
                                                                 a.taped ? content(t, r) + chunk.first : nullptr;
            add_link_parts(chunk, r, backward);
            for_vector(n, [=](int64_t i) MB_INLINE {
                own[i] = to_backward * backward[i] + to_content * found[i] + to_forward * forward[i];
            });
            if (kept) for_vector(n, [=](int64_t i) MB_INLINE { kept[i] = found[i]; });
        }
        const Real rest = 1 - total_write();
        Real* const after = precedence(t + 1) + chunk.first;
        const Real *const before = precedence(t) + chunk.first, *const written = write_weights(t + 1) + chunk.first;
        for_vector(n, [=](int64_t i) MB_INLINE { after[i] = rest * before[i] + written[i]; });
        read_chunk(chunk, memory(t + 1), weights, part(chunk.number));
    }
};

}  // namespace mb
