// Rows that are overwritten, kept for backward as two bytes a number (bfloat16) or one: levels -127..127 of a row's
// largest magnitude, which is kept beside them. So a row that comes back and is kept again comes back the same. Of a
// row with a number that is not finite, all come back as NaN where they are levels. Twin:
// kernels/reference/snapshot.py.
#pragma once

#include "memory/byte_rows.h"
#include "memory/rows.h"

namespace mb {

MB_LEAF float nearest_whole(float x) { return rintf(x); }
MB_LEAF double nearest_whole(double x) { return rint(x); }

// The largest magnitude of n numbers; NaN if one of them is.
template <class F>
MB_FN Real largest_magnitude(int64_t n, F f) {
    if constexpr (sizeof(Real) == 4) {
        return float_of_bits(largest_bits(n, f));
    } else {
        Real largest = 0;
        for (int64_t w = 0; w < n; ++w) {
            const Real number = f(w), size = number < 0 ? -number : number;
            largest = size > largest || size != size ? size : largest;
        }
        return largest;
    }
}

struct RoundedRows {
#ifdef MB_EXACT_ROWS  // the usual builds for a GPU
    static constexpr bool may_be_kept = false;
#else
    static constexpr bool may_be_kept = true;
#endif
    int8_t* const content;       // [n, W bytes]
    Real* const largest;         // [n], of levels
    const int64_t width, bytes;  // of a row; of a number: 2 or 1

    // Whether a pass keeps rows so.
    MB_FN static bool are_kept(const Arguments& a) { return may_be_kept && a.rounded_bytes; }

    MB_FN void keep(const Warp& warp, int64_t entry, const Store* row) const {
        if (bytes == 2) {
            Bf16* const to = halves(entry);
            warp.for_each(width, [&](int64_t w) { to[w] = static_cast<Real>(row[w]); });
            return;
        }
        int8_t* const to = content + entry * width;
        const Real all = largest_of(row);
        warp.for_each(width, [&](int64_t w) { to[w] = level(row[w], all); });
        if (warp.is_leader()) largest[entry] = all;
    }
    MB_FN void restore(const Warp& warp, int64_t entry, Store* row) const {
        if (bytes == 2) {
            const Bf16* const from = halves(entry);
            warp.for_each(width, [&](int64_t w) { row[w] = static_cast<Real>(from[w]); });
            return;
        }
        const int8_t* const from = content + entry * width;
        const Real all = largest[entry];
        warp.for_each(width, [&](int64_t w) { row[w] = number(from[w], all); });
    }
    // Restore a row and keep what it holds now.
    MB_FN void exchange(const Warp& warp, int64_t entry, Store* row) const {
        if (bytes == 2) {
            Bf16* const kept = halves(entry);
            warp.for_each(width, [&](int64_t w) {
                const Bf16 before = kept[w];
                kept[w] = static_cast<Real>(row[w]);
                row[w] = static_cast<Real>(before);
            });
            return;
        }
        int8_t* const kept = content + entry * width;
        const Real all = largest[entry], now = largest_of(row);
        warp.sync();
        warp.for_each(width, [&](int64_t w) {
            const int8_t before = kept[w];
            kept[w] = level(row[w], now);
            row[w] = number(before, all);
        });
        if (warp.is_leader()) largest[entry] = now;
        warp.sync();
    }

  private:
    MB_FN Bf16* halves(int64_t entry) const { return reinterpret_cast<Bf16*>(content) + entry * width; }
    MB_FN Real largest_of(const Store* row) const {
        return largest_magnitude(width, [&](int64_t w) { return static_cast<Real>(row[w]); });
    }
    MB_FN static int8_t level(Real number, Real all) {
        const Real level = nearest_whole(number / all * row_levels);
        return static_cast<int8_t>(level == level ? level : Real(0));  // NaN: of a row of zeros, or not finite
    }
    MB_FN static Real number(int8_t level, Real all) { return static_cast<Real>(level) / row_levels * all; }
};

// `swap_rows` of rows kept so. Their norms are computed anew.
MB_FN void exchange_rows(const Block& block, const int32_t* written, Count entries, bool forward, Store* memory,
                         Real* norms, const RoundedRows& kept) {
    for_each_written_row(block, written, entries, forward, [&](Warp warp, Count e) {
        Store* const row = memory + written[e] * kept.width;
        kept.exchange(warp, e, row);
        const Real square =
            warp.sum(kept.width, [&](int64_t w) { return static_cast<Real>(row[w]) * static_cast<Real>(row[w]); });
        if (warp.is_leader()) norms[written[e]] = square_root(square + epsilon);
    });
}

}  // namespace mb
