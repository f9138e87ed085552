// The block of the `emu` build: 7 host threads. A prime, because with 4 strided loops coincide and a missing barrier can hide.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <vector>

namespace mb {

constexpr int64_t emulated_threads = 7;

class Barrier {
  public:
    void wait() {
        std::unique_lock<std::mutex> lock(mutex_);
        const int64_t round = round_;
        if (++waiting_ == emulated_threads) {
            waiting_ = 0;
            ++round_;
            woken_.notify_all();
        } else {
            woken_.wait(lock, [&] { return round != round_; });
        }
    }

  private:
    std::mutex mutex_;
    std::condition_variable woken_;
    int64_t waiting_ = 0, round_ = 0;
};

struct Group : OneLane {
    static constexpr int64_t lanes = 1;
    int64_t lane() const { return 0; }
    void sync() const {}
    void agree(Choice&) const {}
    template <class F> void each(int64_t n, F f) const {
        for (int64_t i = 0; i < n; ++i) f(i);
    }
    template <class F> Real sum(int64_t n, F f) const {
        Real total = 0;
        for (int64_t i = 0; i < n; ++i) total += f(i);
        return total;
    }
    template <class F, class G> Real each_then_sum(int64_t n, F f, G g) const {
        each(n, f);
        return sum(n, g);
    }
    template <class Weight, class Row> void combine(Real* out, int64_t width, int64_t n, Weight weight, Row row) const {
        each(width, [&](int64_t w) { out[w] = 0; });
        for (int64_t k = 0; k < n; ++k) {
            const auto* const values = row(k);
            if (values == nullptr) continue;
            const Real factor = weight(k);
            each(width, [&](int64_t w) { out[w] += factor * static_cast<Real>(values[w]); });
        }
    }
    static constexpr int64_t unit_rows = 2;
    void sum_rows(const Vectors& x, int64_t first, const Real* matrix, int64_t stride, int64_t rows, int64_t columns) const {
        Real* const out = x.out[0] + first;
        const Real *const start = x.start[0] + first, *const v = x.v[0];
        for (int64_t j = 0; j < rows; ++j) out[j] = start[j] + sum(columns, [&](int64_t k) { return matrix[j * stride + k] * v[k]; });
    }
    static constexpr int64_t unit_columns = 2;
    void sum_columns(const Vectors& x, int64_t first, const Real* matrix, int64_t stride, int64_t rows, int64_t columns) const {
        sum_columns(x.out[0] + first, x.start[0] ? x.start[0] + first : nullptr, matrix, stride, x.vector(0), rows, columns, first);
    }
    template <class V>
    void sum_columns(Real* out, const Real* start, const Real* matrix, int64_t stride, V v, int64_t rows, int64_t columns, int64_t) const {
        for (int64_t j = 0; j < columns; ++j)
            out[j] = sum(rows, [&](int64_t k) { return static_cast<Real>(v[k]) * matrix[k * stride + j]; }) + (start ? start[j] : Real(0));
    }
    bool leads() const { return true; }
};

struct Team {
    static constexpr int64_t lanes = 1, tile = 1;
    int64_t thread;
    int64_t rank() const { return thread; }
    int64_t lane() const { return 0; }
    template <class F> void tiles(int64_t first, int64_t end, F f) const {
        for (int64_t i = first + thread; i < end; i += emulated_threads) f(i, 1);
    }
};

// A barrier by its place in the text, so that a test can leave it out and show that a missing one is caught.
struct Site {
    const char* file;
    int line;
    bool operator==(const Site& other) const { return line == other.line && std::strcmp(file, other.file) == 0; }
};
inline Site skipped_site{"", 0};
inline std::vector<Site> sites_met;

struct Block {
    static constexpr int64_t together = 1;  // elements of a crew
    static constexpr int64_t lists = emulated_threads;
    template <class F> void teams(F f) const { f(Team{thread}); }
    Barrier* barrier;
    int64_t thread;

    int64_t rank() const { return thread; }
    int64_t size() const { return emulated_threads; }
    void sync(const char* file = __builtin_FILE(), int line = __builtin_LINE()) const {
        const Site site{file, line};
        if (thread == 0 && std::find(sites_met.begin(), sites_met.end(), site) == sites_met.end()) sites_met.push_back(site);
        if (!(site == skipped_site)) barrier->wait();
    }
    template <class F> void each(int64_t n, F f) const {
        for (int64_t i = thread; i < n; i += emulated_threads) f(i);
    }
    template <class F> void rows(int64_t n, F f) const {
        for (int64_t i = thread; i < n; i += emulated_threads) f(i, Group{});
    }
    template <class F> void one(F f) const {
        if (thread == 0) f();
    }
};

template <class T> inline bool claim(T* place, T expected, T desired) {
    T found = expected;
    __atomic_compare_exchange_n(place, &found, desired, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    return found == expected || found == desired;
}
inline int32_t take_number(int32_t* counter) { return __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED); }
inline void prefetch(const void*) {}


inline void dots_of(const Store* const* rows, const Real* query, int64_t width, Real* dots) {
    dots[0] = 0;
    for (int64_t w = 0; w < width; ++w) dots[0] += static_cast<Real>(rows[0][w]) * query[w];
}

}  // namespace mb
