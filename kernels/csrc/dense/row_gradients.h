// The gradients of the rows of a memory after a step.
#pragma once

#include "dense/rows.h"

namespace mb {

// What some heads have scored the rows of a block with: of each a key, and numbers of the rows, `to_key`: a row's
// gradient is the sum of to_key * key.
struct ScoredKeys {
    Count heads;
    Inputs keys, to_key;
};

struct RowGradients {
    int64_t width;
    const Real *rows, *to_row;   // minus to_row * row is a part of the row's gradient
    Inputs weights, grad_reads;  // of the heads of `reads`
    ScoredKeys reads, late;      // of the read heads, and of those that scored the rows in the step after

    // Complete the gradients of a block. To sums [R, W]: of to_key * row.
    MB_FN void complete(int64_t size, Real* grads, Outputs sums) const {
        for (int64_t w = 0; w < width; ++w) {
            const Real *const own = rows + w * size, *const factor = to_row;
            Real* const grad = grads + w * size;
            for_vector(size, [=](int64_t i) MB_INLINE { grad[i] -= factor[i] * own[i]; });
        }
        add_outer(grads, size, width, weights, grad_reads, reads.heads);
        add_outer(grads, size, width, reads.to_key, reads.keys, reads.heads);
        add_outer(grads, size, width, late.to_key, late.keys, late.heads);
        accumulate_rows(rows, size, width, reads.to_key, reads.heads, sums);
    }
};

}  // namespace mb
