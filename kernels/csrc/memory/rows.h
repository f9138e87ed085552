// Writing a few rows of a memory in place, and restoring them bit for bit (Rae et al. 2016, sections 3.2 and 3.4).
#pragma once

#include "arguments.h"
#include "block/block.h"

namespace mb {

MB_FN Count support_size(const Arguments& a) { return a.write_heads == a.heads ? a.reads : a.heads * a.reads; }
MB_FN Count written_size(const Arguments& a) { return a.write_heads * (1 + support_size(a)); }

// row = (erase ? 0 : row) + weight * value. Old content and norm go to the journal, if there is one.
MB_FN void write_row(const Warp& warp, Store* row, Real* norm, int64_t width, Real weight, const Real* value,
                     bool erase, Store* old_row, Real* old_norm) {
    const auto write = [&](int64_t w) {
        const Store before = row[w];
        if (old_row) old_row[w] = before;
        row[w] = (erase ? Real(0) : static_cast<Real>(before)) + weight * value[w];
    };
    const Real square = warp.each_then_sum(
        width, write, [&](int64_t w) { return static_cast<Real>(row[w]) * static_cast<Real>(row[w]); });
    if (warp.is_leader()) {
        if (old_norm) *old_norm = *norm;
        *norm = square_root(square + epsilon);
    }
}

// out [W] = sum of weight * row over K rows, -1: none (Rae et al. 2016, eq 4).
template <class Index>
MB_FN void read_rows(const Warp& warp, const Store* memory, const Index* index, const Real* weights, Count reads,
                     int64_t width, Real* out) {
    warp.weighted_sum(
        out, width, reads, [&](Count k) { return weights[k]; },
        [&](Count k) { return index[k] < 0 ? nullptr : memory + index[k] * width; });
}

template <class T>
MB_FN void swap_values(T& x, T& y) {
    const T old = x;
    x = y;
    y = old;
}

// f(warp, i) for each i < n whose row(i) is not -1. Entries of one row are handled serially by one warp.
template <class Row, class F>
MB_FN void for_each_distinct_row(const Block& block, Count n, Row row, F f) {
    block.for_each_by_warp(n, [&](Count i, Warp warp) {
        const int32_t own = row(i);
        const auto same = [&](Count j) { return row(j) == own; };
        if (own < 0) return;
        if (block.size() == 1)
            f(warp, i);  // serial anyway
        else if (warp.find_first(n, same) == i)
            warp.for_each_where(n, same, [&](Count j) { f(warp, j); });
    });
}

// f(warp, entry) of the rows written in a step: in reverse order to undo the writes, else (`forward`) to redo them.
template <class F>
MB_FN void for_each_written_row(const Block& block, const int32_t* written, Count entries, bool forward, F f) {
    const auto entry = [&](Count i) { return forward ? i : entries - 1 - i; };
    for_each_distinct_row(
        block, entries, [&](Count i) { return written[entry(i)]; }, [&](Warp warp, Count i) { f(warp, entry(i)); });
}

// Exchange the rows written in a step with the journal.
MB_FN void swap_rows(const Block& block, const int32_t* written, Count entries, bool forward, Store* memory,
                     Real* norms, int64_t width, Store* old_rows, Real* old_norms) {
    for_each_written_row(block, written, entries, forward, [&](Warp warp, Count e) {
        const int64_t row = written[e];
        warp.for_each(width, [&](int64_t w) { swap_values(memory[row * width + w], old_rows[e * width + w]); });
        if (warp.is_leader()) swap_values(norms[row], old_norms[e]);
    });
}

}  // namespace mb
