// One batch element of a model with a dense memory: what it keeps, and what the passes over its rows share.
#pragma once

#include "dense/row_gradients.h"
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

    MB_FN DenseElement(const Block& block, const Arguments& a, int64_t element, int64_t width)
        : ControllerElement(block, a, element, width),
          N(a.slots),
          chunks(num_chunks(a.slots)),
          T(steps()),
          V(a.write_heads),
          scratch{a.scratch ? a.scratch + element * a.scratch_stride : nullptr, 0} {
        grad_hidden = scratch.take(H);
    }

    // The states of the memory are read and written where they are.
    MB_FN void load_first_states() {
        load_first_controller();
        block.sync();
    }
    MB_FN void store_last_states() {
        store_last_controller();
        if (T > 0) return;
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
    MB_FN Real* memory(int64_t t) const {
        return state_at(a.first_memory, a.memory_tape, a.last_memory, t && !a.taped ? T : t, N * W);
    }
    MB_FN Real* read_weights(int64_t t) const {
        return state_at(a.first_read_weights, a.read_weights_tape, a.last_read_weights, t, R * N);
    }
    MB_FN Real* write_weights(int64_t t) const {
        return state_at(a.first_write_weights, a.write_weights_tape, a.last_write_weights, t, V * N);
    }
    MB_FN Real* norms(int64_t t) const { return a.row_norms + ((a.taped ? t : t % 2) * a.batch + b) * N; }
    MB_FN Real* grad_memory() const { return a.grad_memory + b * N * W; }

    template <class T>
    MB_FN RowsOf<T> rows_of(T* matrix, int64_t first, int64_t count) const {
        return RowsOf<T>(matrix, first, count, W);
    }
    MB_FN Chunk chunk(int64_t number) const { return Chunk(number, N); }

    // From products of rows and a key to exp(scale * product / norm - the chunk's largest); rows from `end` on are
    // none.
    MB_FN void begin_content(const Chunk& chunk, Real* scores, Real scale, const Real* norm, int64_t end,
                             const Softmax& softmax) const {
        Real* const own = scores + chunk.first;
        const Real* const n = norm + chunk.first;
        for_vector(chunk.size(), [=](int64_t i) MB_INLINE { own[i] = scale * own[i] / n[i]; });
        softmax.begin(chunk, scores, end);
    }
    // Weights in the chunk, up to the factors of their softmax before.
    MB_FN void finish_softmax(const Chunk& chunk, const Softmax& softmax, Real* weights) const {
        const Real factor = softmax.factors[chunk.number];
        Real* const own = weights + chunk.first;
        for_vector(chunk.size(), [=](int64_t i) MB_INLINE { own[i] *= factor; });
    }
    // sums [R, W] = sum over the rows of the chunk of each head's weights [R, N] * row.
    MB_FN void read_chunk(const Chunk& chunk, Real* rows, const Real* weights, Real* sums) const {
        for_vector(R * W, [=](int64_t j) { sums[j] = 0; });
        for_each_tile(chunk, [&](int64_t first, int64_t count) {
            const RowsOf<Real> tile = rows_of(rows, first, count);
            for (Count r = 0; r < R; ++r)
                accumulate_tile(sums + r * W, tile, Factors(weights + r * N + first, count), W);
        });
    }
    // Of the rows of a chunk with the R keys, `stride` apart: grads [R, N] += rows . grad_reads, cosines [R, N];
    // sums [R] = weights . grads.
    MB_FN void read_chunk_backward(const Chunk& chunk, Real* rows, const Real* norm, const Real* keys, int64_t stride,
                                   const Real* key_norms, const Real* weights, Real* grads, Real* cosines,
                                   Real* sums) const {
        const Real* const grad_reads = grad_carry + H;
        for_each_tile(chunk, [&](int64_t first, int64_t count) {
            const RowsOf<Real> tile = rows_of(rows, first, count);
            Real numbers[tile_rows];
            for (Count r = 0; r < R; ++r) {
                dot_tile(tile, grad_reads + r * W, W, numbers);
                for (int64_t k = 0; k < count; ++k) grads[r * N + first + k] += numbers[k];
                dot_tile(tile, keys + r * stride, W, numbers);
                store_tile(cosines + r * N + first, numbers, count);
            }
        });
        for (Count r = 0; r < R; ++r) {
            Real* const cosine = cosines + r * N + chunk.first;
            const Real *const n = norm + chunk.first, key_norm = key_norms[r];
            for_vector(chunk.size(), [=](int64_t i) MB_INLINE { cosine[i] /= n[i] * key_norm; });
            const Real *const w = weights + r * N + chunk.first, *const grad = grads + r * N + chunk.first;
            sums[r] = Warp{}.sum(chunk.size(), [=](int64_t i) MB_INLINE { return w[i] * grad[i]; });
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
