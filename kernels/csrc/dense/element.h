// One batch element of a model with a dense memory: what it keeps, and what the passes over its rows share.
#pragma once

#include "dense/erases.h"
#include "dense/row_gradients.h"
#include "dense/row_writes.h"
#include "sequence/controller.h"

namespace mb {

// Whether the threads share the rows of one element, for there are fewer elements than threads.
MB_FN bool shares_rows(const Arguments& a) { return a.batch < a.threads && num_chunks(a.slots) > 1; }

struct DenseElement : ControllerElement {
    const int64_t N, chunks, T;  // T: steps of this element
    const Count V;

    // Scratch is given out from `begin` on; from null it is only counted.
    struct Scratch {
        Real* begin;
        int64_t used;
        MB_FN Real* take(int64_t n) {
            used += n;
            return begin ? begin + used - n : nullptr;
        }
    };
    Scratch scratch;
    Real *first_rows, *last_rows;  // the memory before the first step and after the last, in blocks of columns

    MB_FN DenseElement(const Block& block, const Arguments& a, int64_t element)
        : ControllerElement(block, a, element, a.width),
          N(a.slots),
          chunks(num_chunks(a.slots)),
          T(steps()),
          V(a.write_heads),
          scratch{a.scratch ? a.scratch + element * a.scratch_stride : nullptr, 0} {
        grad_hidden = scratch.take(H);
    }

    // Forward makes the memory before the first step where the memory after it comes, which is changed in place. Where
    // there is no other step and backward needs it, it is kept on the tape.
    MB_FN void place_rows_forward(bool is_needed_backward) {
        last_rows = a.last_memory + b * N * W;
        first_rows = a.taped && T == 1 && is_needed_backward ? rows_on_tape(0) : memory(1);
    }
    // In backward both are copies at the same place, which the first step takes over.
    MB_FN void place_rows_backward() {
        last_rows = scratch.take(N * W);
        first_rows = T == 1 ? rows_on_tape(0) : last_rows;
    }
    MB_FN Real* rows_on_tape(int64_t t) const { return a.memory_tape + (t * a.batch + b) * N * W; }

    // Of a memory [N, W], to blocks of columns.
    MB_FN void load_rows(const Real* rows, Real* columns) const {
        block.for_each_chunk(chunks, [&](int64_t number) {
            for_each_row_block(chunk(number), [&](int64_t first, int64_t size) {
                rows_to_columns(rows + first * W, columns + first * W, size, W);
            });
        });
    }
    MB_FN void load_first_rows() const { load_rows(a.first_memory + b * N * W, first_rows); }
    // Backward, before the step t; visible after the next sync.
    MB_FN void take_over_rows(int64_t t) const {
        if (t == 0 && T > 1) load_first_rows();
    }

    // The other states of the memory are read and written where they are.
    MB_FN void load_first_states() {
        load_first_controller();
        if (T > 0) load_first_rows();
        block.sync();
    }
    MB_FN void store_last_states() {
        store_last_controller();
        if (T > 0)
            return block.for_each_chunk(
                chunks, [&](int64_t number) { convert_in_place(chunk(number), last_rows, W, columns_to_rows); });
        keep(a.first_memory, a.last_memory, N * W), keep(a.first_read_weights, a.last_read_weights, R * N);
        keep(a.first_write_weights, a.last_write_weights, V * N), keep(a.first_usage, a.last_usage, N);
        keep(a.first_precedence, a.last_precedence, N), keep(a.first_link, a.last_link, N * N);
    }
    // The state [B, n] of an element without a step is that before.
    MB_FN void keep(const Real* first, Real* last, int64_t n) const {
        block.for_each(first ? n : 0, [&](int64_t i) { last[b * n + i] = first[b * n + i]; });
    }

    // Where the state [B, n] after t steps is.
    MB_FN Real* state_at(Real* first, Real* tape, Real* last, int64_t t, int64_t n) const {
        if (t == 0 || t == T) return (t ? last : first) + b * n;
        return tape + ((a.taped ? t - 1 : t % 2) * a.batch + b) * n;
    }
    // The memory after t steps, in blocks of columns.
    MB_FN Real* memory(int64_t t) const {
        if (t == 0) return first_rows;
        return t == T || !a.taped ? last_rows : rows_on_tape(t - 1);
    }
    MB_FN Real* read_weights(int64_t t) const {
        return state_at(a.first_read_weights, a.read_weights_tape, a.last_read_weights, t, R * N);
    }
    MB_FN Real* write_weights(int64_t t) const {
        return state_at(a.first_write_weights, a.write_weights_tape, a.last_write_weights, t, V * N);
    }
    MB_FN Real* norms(int64_t t) const { return a.row_norms + ((a.taped ? t : t % 2) * a.batch + b) * N; }
    MB_FN Real* grad_memory() const { return a.grad_memory + b * N * W; }

    MB_FN Chunk chunk(int64_t number) const { return Chunk(number, N); }

    // Backward: the memory after the pass and its gradient, whose place stays, to blocks of columns. Visible after the
    // next sync; each thread may go on with its own chunks, here and below.
    MB_FN void load_last_rows() const {
        if (T == 0) return;
        load_rows(a.last_memory + b * N * W, last_rows);
        block.for_each_chunk(
            chunks, [&](int64_t number) { convert_in_place(chunk(number), grad_memory(), W, rows_to_columns); });
    }
    // The gradient of the memory before the pass, back to [N, W], if anyone wants it.
    MB_FN void store_first_gradient() const {
        if (T == 0 || !a.first_gradient) return;
        block.for_each_chunk(
            chunks, [&](int64_t number) { convert_in_place(chunk(number), grad_memory(), W, columns_to_rows); });
    }

    // From products of rows and a key to exp(scale * product / norm - the chunk's largest); rows from `end` on are
    // none.
    MB_FN void begin_content(const Chunk& chunk, Real* scores, Real scale, const Real* norm, int64_t end,
                             const Softmax& softmax) const {
        Real* const own = scores + chunk.first;
        const Real* const n = norm + chunk.first;
        for_vector(chunk.size(), [=](int64_t i) MB_INLINE { own[i] = scale * own[i] / n[i]; });
        softmax.begin(chunk, scores, end);
    }
    // From squares to norms.
    MB_FN static void finish_norms(const Chunk& chunk, Real* norm) {
        Real* const own = norm + chunk.first;
        for_vector(chunk.size(), [=](int64_t i) MB_INLINE { own[i] = square_root(own[i] + epsilon); });
    }
    // Weights in the chunk, up to the factors of their softmax before.
    MB_FN void finish_softmax(const Chunk& chunk, const Softmax& softmax, Real* weights) const {
        const Real factor = softmax.factors[chunk.number];
        Real* const own = weights + chunk.first;
        for_vector(chunk.size(), [=](int64_t i) MB_INLINE { own[i] *= factor; });
    }
    // sums [R, W] = sum over the rows of the chunk of each head's weights [R, N] * row.
    MB_FN void read_chunk(const Chunk& chunk, Real* rows, const Real* weights, Real* sums) const {
        LaneSums lanes(R * W);
        for_each_row_block(chunk, [&](int64_t first, int64_t size) {
            accumulate_rows(rows + first * W, size, W, {weights + first, N}, R, lanes.of_heads(0, W));
        });
        lanes.store(0, R * W, sums);
    }
    // Of the rows of a chunk with the R keys, `stride` apart: grads [R, N] += rows . grad_reads, cosines [R, N];
    // sums [R] (or null) = weights . grads.
    MB_FN void read_chunk_backward(const Chunk& chunk, Real* rows, const Real* norm, const Real* keys, int64_t stride,
                                   const Real* key_norms, const Real* weights, Real* grads, Real* cosines,
                                   Real* sums) const {
        const Real* const grad_reads = grad_carry + H;
        for_each_row_block(chunk, [&](int64_t first, int64_t size) {
            score_rows<true>(rows + first * W, size, W, {grad_reads, W}, R, {grads + first, N});
            score_rows(rows + first * W, size, W, {keys, stride}, R, {cosines + first, N});
        });
        for (Count r = 0; r < R; ++r) {
            Real* const cosine = cosines + r * N + chunk.first;
            const Real *const n = norm + chunk.first, key_norm = key_norms[r];
            for_vector(chunk.size(), [=](int64_t i) MB_INLINE { cosine[i] /= n[i] * key_norm; });
            const Real *const w = weights + r * N + chunk.first, *const grad = grads + r * N + chunk.first;
            if (sums) sums[r] = Warp{}.sum(chunk.size(), [=](int64_t i) MB_INLINE { return w[i] * grad[i]; });
        }
    }
    // Of a head, in a chunk of n rows at which all pointers point: from gradients of the content weights to those of
    // the scores (which may take their place), to_key and to_row. `inner`: product of content weights and their
    // gradients. Returns the product of the scores' gradients and cosines.
    MB_FN static Real content_backward(int64_t n, Real strength, Real key_norm, Real inner, const Real* weight,
                                       const Real* norm, const Real* grads, const Real* cosine, Real* grad_scores,
                                       Real* to_key, Real* to_row) {
        for_vector(n, [=](int64_t i) MB_INLINE {
            const Real grad = weight[i] * (grads[i] - inner), to_dot = strength * grad / norm[i];
            grad_scores[i] = grad;
            to_key[i] = to_dot / key_norm;
            to_row[i] = to_dot * cosine[i] / norm[i];
        });
        return Warp{}.sum(n, [=](int64_t i) MB_INLINE { return grad_scores[i] * cosine[i]; });
    }
    // Gradients of a key and its strength. `sums`: sum over rows of to_key * row; `along`: of score gradients * cosine,
    // in the parts.
    MB_FN void finish_key(const Real* key, Real key_norm, Real strength, const Real* sums, const Real* along,
                          int64_t part_stride, Real* grad_key, Real* grad_strength) const {
        add_parts(grad_key, W, sums, part_stride, chunks);
        const Real total = sum_of_parts(along, part_stride, chunks), to_key = strength * total / (key_norm * key_norm);
        for_vector(W, [=](int64_t w) { grad_key[w] -= to_key * key[w]; });
        if (grad_strength) *grad_strength = total;
    }

    MB_FN static Real norm_of(const Real* vector, int64_t width) {
        return square_root(Warp{}.sum(width, [=](int64_t w) MB_INLINE { return vector[w] * vector[w]; }) + epsilon);
    }
};

}  // namespace mb
