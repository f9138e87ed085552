// A warp of one lane: what the cpu and emu builds have in common.
#pragma once

#include <chrono>

#include "block/block.h"
#include "block/bytes.h"

#if defined(__clang__)
#define MB_ONE_COPY __attribute__((noinline))
#else
#define MB_ONE_COPY __attribute__((noinline, noclone))
#endif

namespace mb {

inline int64_t now_ns() {
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
}

// The lanes of a warp that hold the same value: here only this one.
struct MatchMask {
    int64_t previous() const { return -1; }  // the lane before this one, -1: none
    int64_t rank() const { return 0; }       // lanes before this one
    int64_t last() const { return 0; }
};

// Which of 16 numbers are greater than a limit, as bits; as the build does it best.
inline uint32_t numbers_above(const Real* numbers, Real limit);

// `Warp` adds sum, matvec and matvec_transposed, whose order of additions differs between the builds.
template <class Warp>
struct OneLane {
    static constexpr int64_t lanes = 1;
    int64_t lane() const { return 0; }
    bool is_leader() const { return true; }
    void sync() const {}
    void argmax(ScoredRow&) const {}  // the best of all lanes, to every lane

    template <class F>
    void for_each(int64_t n, F f) const {
        MB_INDEPENDENT
        for (int64_t i = 0; i < n; ++i) f(i);
    }
    // The `count` best of n scores in order, values and numbers: the higher, of equal ones the lower number. NaN counts
    // as -infinity.
    void rank(const Real* scores, int64_t n, int64_t count, Real* values, int32_t* numbers) const {
        constexpr int64_t at_once = 16;
        int64_t found = 0;
        const auto insert = [&](int64_t i) {
            const Real own = scores[i] != scores[i] ? -infinity() : scores[i];
            if (found == count && !(own > values[count - 1])) return;
            int64_t place = found < count ? found++ : count - 1;
            for (; place > 0 && own > values[place - 1]; --place)
                values[place] = values[place - 1], numbers[place] = numbers[place - 1];
            values[place] = own, numbers[place] = static_cast<int32_t>(i);
        };
        int64_t i = 0;
        while (i < n && found < count) insert(i++);
        for (; i + at_once <= n; i += at_once)  // most are worse than the last one found
            for (uint32_t which = numbers_above(scores + i, values[count - 1]); which; which &= which - 1)
                insert(i + __builtin_ctz(which));
        for (; i < n; ++i) insert(i);
    }
    // f(0) + ... + f(n - 1), whole numbers.
    template <class F>
    Count count(Count n, F f) const {
        Count total = 0;
        for (Count i = 0; i < n; ++i) total += f(i);
        return total;
    }
    // f(i) for each i < n, then the sum of g(i).
    template <class F, class G>
    Real each_then_sum(int64_t n, F f, G g) const {
        for_each(n, f);
        return static_cast<const Warp*>(this)->sum(n, g);
    }
    // out[w] = sum_k weight(k) row(k)[w] over n rows; a null row is skipped.
    template <class Weight, class Row>
    void weighted_sum(Real* out, int64_t width, int64_t n, Weight weight, Row row) const {
        for_each(width, [&](int64_t w) { out[w] = 0; });
        for (int64_t k = 0; k < n; ++k) {
            const auto* const values = row(k);
            if (values == nullptr) continue;
            const Real factor = weight(k);
            for_each(width, [&](int64_t w) { out[w] += factor * static_cast<Real>(values[w]); });
        }
    }
    // The first i < n for which `holds`, else n.
    template <class F>
    int64_t find_first(int64_t n, F holds) const {
        int64_t i = 0;
        while (i < n && !holds(i)) ++i;
        return i;
    }
    // f(i), by the whole warp, for each i < n for which `holds`, in order.
    template <class F, class G>
    void for_each_where(int64_t n, F holds, G f) const {
        for (int64_t i = 0; i < n; ++i)
            if (holds(i)) f(i);
    }
    // The lanes for which `holds`, as bits.
    template <class F>
    uint32_t ballot(F holds) const {
        return holds(0);
    }
    MatchMask match_any(int32_t) const { return {}; }
    // The value that a lane has.
    int32_t from_lane(int32_t value, Count) const { return value; }
    // The sum of `own` over the lanes before this one; `total`: over all.
    Count exclusive_sum(Count own, Count& total) const { return total = own, 0; }
};

// What a lane tile of one lane keeps of a scan: the lists of all heads, one head after the other.
template <class LaneTile>
struct OneLaneTile {
    static constexpr int64_t heads = 1;
    int64_t head() const { return 0; }
    bool keeps() const { return true; }
    // 1 / norm of the first n rows, 0 of the others of a row tile.
    template <int64_t rows>
    void reciprocals(const Real* norms, int64_t n, Real* scale) const {
        for (int64_t j = 0; j < rows; ++j) scale[j] = j < n ? Real(1) / norms[j] : Real(0);
    }
    // Of 8 rows, as bits, those whose bound for a query is not less than `least`.
    template <int fixed_words, class Query>
    uint32_t rows_reaching(const int32_t* block, int64_t words, const Query* query, int64_t, int64_t,
                           float least) const {
        return mb::rows_reaching<fixed_words>(block, words, *query, least);
    }
    bool any(uint32_t rows) const { return rows != 0; }  // of the lane tiles of a warp
};

// dots[j] = rows[j] . query, for the rows of a tile.
template <class T>
inline void dot_rows(const T* const* rows, const Real* query, int64_t width, Real* dots);

// Rows of a scan that a lane tile scores together. Past the end, the last row is read again. Of a width that is known,
// rows in bfloat16 are made numbers of the model once for all queries.
template <int fixed_width, class LaneTile>
struct OneLaneRowTile {
    static constexpr bool converts = fixed_width && sizeof(Store) < sizeof(Real);
    const Store* rows[LaneTile::rows];
    Real converted[LaneTile::rows][converts ? fixed_width : 1];
    OneLaneRowTile(const LaneTile&, const Store* memory, int64_t first, int64_t count, int64_t width) {
        for (int64_t j = 0; j < LaneTile::rows; ++j)
            rows[j] = memory + (first + (j < count ? j : count - 1)) * (fixed_width ? fixed_width : width);
        convert();
    }
    OneLaneRowTile(const LaneTile&, const Store* memory, const int64_t (&numbers)[LaneTile::rows], int64_t width) {
        for (int64_t j = 0; j < LaneTile::rows; ++j)
            rows[j] = memory + numbers[j] * (fixed_width ? fixed_width : width);
        convert();
    }
    void dot(const LaneTile&, const Real* query, int64_t, int64_t width, Real* dots) const {
        if constexpr (converts) {
            const Real* numbers[LaneTile::rows];
            for (int64_t j = 0; j < LaneTile::rows; ++j) numbers[j] = converted[j];
            dot_rows(numbers, query, fixed_width, dots);
        } else if constexpr (fixed_width) {
            dot_rows(rows, query, fixed_width, dots);
        } else {
            dot_any_width(rows, query, width, dots);
        }
    }

  private:
    void convert() {
        if constexpr (converts)
            for (int64_t j = 0; j < LaneTile::rows; ++j)
                for (int64_t w = 0; w < fixed_width; ++w) converted[j][w] = static_cast<Real>(rows[j][w]);
    }
    // Compiled once: of the numbers that fill no vector, one copy of a loop may fuse products with sums where another
    // does not, and all scans of a memory must give a row the same score.
    MB_ONE_COPY static void dot_any_width(const Store* const* rows, const Real* query, int64_t width, Real* dots) {
        dot_rows(rows, query, width, dots);
    }
};

}  // namespace mb
