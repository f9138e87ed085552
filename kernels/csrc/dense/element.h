// One batch element of a model with a dense memory: what it keeps, and what the passes over its rows share.
#pragma once

#include "dense/rows.h"
#include "sequence/controller.h"

namespace mb {

// Whether the threads share the rows of one element, for there are fewer elements than threads.
MB_FN bool shares_rows(const Arguments& a) { return a.batch < a.threads && num_chunks(a.slots) > 1; }

struct DenseElement : ControllerElement {
    const int64_t N, chunks;
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
          V(a.write_heads),
          scratch{a.scratch ? a.scratch + element * a.scratch_stride : nullptr, 0} {
        grad_hidden = scratch.take(H);
    }

    // Where the state [B, n] after t steps is.
    MB_FN Real* state_at(Real* first, Real* tape, Real* last, int64_t t, int64_t n) const {
        if (t == 0 || t == a.steps) return (t ? last : first) + b * n;
        return tape + ((a.taped ? t - 1 : t % 2) * a.batch + b) * n;
    }
    MB_FN Real* memory(int64_t t) const {
        return state_at(a.first_memory, a.memory_tape, a.last_memory, t && !a.taped ? a.steps : t, N * W);
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

    MB_FN static Real norm_of(const Real* vector, int64_t width) {
        return square_root(Warp{}.sum(width, [=](int64_t w) MB_INLINE { return vector[w] * vector[w]; }) + epsilon);
    }
};

// f(element, chunk number) for the chunks of all elements of a tile... (an element's one after the other)

}  // namespace mb
