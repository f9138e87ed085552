// Writing a few rows of a memory in place, and restoring them bit for bit (Rae et al. 2016, section 3.2 and 3.4).
#pragma once

#include "arguments.h"
#include "block.h"

namespace mb {

MB_FN int64_t support_of(const Arguments& a) { return a.writers == a.heads ? a.reads : a.heads * a.reads; }
MB_FN int64_t written_of(const Arguments& a) { return a.writers * (1 + support_of(a)); }

// row = (wipe ? 0 : row) + weight * value, its old content and norm going to the journal.
MB_FN void write_row(const Group& group, Store* row, Real* norm, int64_t width, Real weight, const Real* value, bool wipe, Store* old_row, Real* old_norm) {
    if (old_row)
        group.each(width, [&](int64_t w) { old_row[w] = row[w]; });
    group.each(width, [&](int64_t w) { row[w] = (wipe ? Real(0) : static_cast<Real>(row[w])) + weight * value[w]; });
    const Real square = group.sum(width, [&](int64_t w) { return static_cast<Real>(row[w]) * static_cast<Real>(row[w]); });
    if (group.leads()) {
        if (old_norm) *old_norm = *norm;
        *norm = square_root(square + epsilon);
    }
}

// out [W] = sum of weight * row over K rows, those that are there (Rae et al. 2016, eq 4).
template <class Index>
MB_FN void read_rows(const Group& group, const Store* memory, const Index* index, const Real* weights, int64_t reads, int64_t width, Real* out) {
    group.each(width, [&](int64_t w) { out[w] = 0; });
    for (int64_t k = 0; k < reads; ++k) {
        if (index[k] < 0) continue;
        const Store* row = memory + index[k] * width;
        const Real weight = weights[k];
        group.each(width, [&](int64_t w) { out[w] += weight * static_cast<Real>(row[w]); });
    }
}

template <class T> MB_FN void exchange(T& one, T& other) {
    const T kept = one;
    one = other;
    other = kept;
}

// Swap the rows of one write with the journal: undoes it, and done in the other order makes it again. The entries of one head are distinct rows.
MB_FN void swap_rows(const Block& block, const int32_t* written, int64_t entries, Store* memory, Real* norms, int64_t width, Store* old_rows, Real* old_norms) {
    block.rows(entries, [&](int64_t e, Group group) {
        const int64_t row = written[e];
        if (row < 0) return;
        group.each(width, [&](int64_t w) { exchange(memory[row * width + w], old_rows[e * width + w]); });
        if (group.leads()) exchange(norms[row], old_norms[e]);
    });
}

}  // namespace mb
