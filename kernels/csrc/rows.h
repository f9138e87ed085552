// Writing a few rows of a memory in place, and restoring them bit for bit (Rae et al. 2016, section 3.2 and 3.4).
#pragma once

#include "arguments.h"
#include "block.h"

namespace mb {

MB_FN int64_t support_of(const Arguments& a) { return a.writers == a.heads ? a.reads : a.heads * a.reads; }
MB_FN int64_t written_of(const Arguments& a) { return a.writers * (1 + support_of(a)); }

// row = (wipe ? 0 : row) + weight * value, its old content and norm going to the journal.
MB_FN void write_row(const Group& group, Store* row, Real* norm, int64_t width, Real weight, const Real* value, bool wipe, Store* old_row, Real* old_norm) {
    const auto write = [&](int64_t w) {
        const Store before = row[w];
        if (old_row) old_row[w] = before;
        row[w] = (wipe ? Real(0) : static_cast<Real>(before)) + weight * value[w];
    };
    const Real square = group.each_then_sum(width, write, [&](int64_t w) { return static_cast<Real>(row[w]) * static_cast<Real>(row[w]); });
    if (group.leads()) {
        if (old_norm) *old_norm = *norm;
        *norm = square_root(square + epsilon);
    }
}

// out [W] = sum of weight * row over K rows, those that are there (Rae et al. 2016, eq 4).
template <class Index>
MB_FN void read_rows(const Group& group, const Store* memory, const Index* index, const Real* weights, int64_t reads, int64_t width, Real* out) {
    group.combine(out, width, reads, [&](int64_t k) { return weights[k]; }, [&](int64_t k) { return index[k] < 0 ? nullptr : memory + index[k] * width; });
}

template <class T> MB_FN void exchange(T& one, T& other) {
    const T kept = one;
    one = other;
    other = kept;
}

// f(group, i) for each i < n with a row(i) that is one, not -1: those of the same row by one group, in turn.
template <class Row, class F> MB_FN void by_row(const Block& block, int64_t n, Row row, F f) {
    block.rows(n, [&](int64_t i, Group group) {
        const int32_t own = row(i);
        const auto same = [&](int64_t j) { return row(j) == own; };
        if (own < 0) return;
        if (block.size() == 1) f(group, i);  // which takes all in turn anyhow
        else if (group.first(n, same) == i) group.each_where(n, same, [&](int64_t j) { f(group, j); });
    });
}

// Swap the rows of a step's writes [entries] with the journal, the last first: undoes them; with `forward`, the first first: makes them again.
MB_FN void swap_rows(const Block& block, const int32_t* written, int64_t entries, bool forward, Store* memory, Real* norms, int64_t width, Store* old_rows, Real* old_norms) {
    const auto entry = [&](int64_t i) { return forward ? i : entries - 1 - i; };
    by_row(block, entries, [&](int64_t i) { return written[entry(i)]; }, [&](Group group, int64_t i) {
        const int64_t e = entry(i), row = written[e];
        group.each(width, [&](int64_t w) { exchange(memory[row * width + w], old_rows[e * width + w]); });
        if (group.leads()) exchange(norms[row], old_norms[e]);
    });
}

}  // namespace mb
