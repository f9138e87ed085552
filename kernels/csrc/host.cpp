// Entry points of the cpu and emu builds: a plain C interface over raw pointers, items divided among threads.
#include <atomic>
#include <thread>
#include <vector>

#include "entries.h"

namespace mb {

template <class F>
void in_block(F work) {
#ifdef MB_EMULATE
    in_emulated_blocks(work);
#else
    work(Block{});
#endif
}

// GOMP_parallel of the OpenMP runtime that the process uses; null: there is none, each call starts its own threads.
typedef void (*Parallel)(void (*function)(void*), void* data, unsigned threads, unsigned flags);
Parallel shared_team = nullptr;

// work(block, item) for every item, a block each; threads take the next item when free.
template <class F>
void for_items(int64_t items, int64_t threads, F work) {
    std::atomic<int64_t> next{0};
    auto share = [&] {
        for (int64_t item; (item = next++) < items;) in_block([&](const Block& block) { work(block, item); });
    };
    if (threads > items) threads = items;
    if (threads <= 1) return share();
    if (shared_team)
        return shared_team([](void* data) { (*static_cast<decltype(share)*>(data))(); }, &share,
                           static_cast<unsigned>(threads), 0);
    std::vector<std::thread> others;
    for (int64_t i = 1; i < threads; ++i) others.emplace_back(share);
    share();
    for (auto& other : others) other.join();
}

}  // namespace mb

using namespace mb;

#pragma GCC visibility push(default)
extern "C" {

int64_t mb_arguments_bytes() { return sizeof(Arguments); }
void mb_share_team(Parallel parallel) { shared_team = parallel; }

// The first position whose row number is not in [low, high), or -1.
int64_t mb_first_bad_row(const int64_t* rows, int64_t count, int64_t low, int64_t high) {
    for (int64_t i = 0; i < count; ++i)
        if (rows[i] < low || rows[i] >= high) return i;
    return -1;
}

#define MB_ENTRY(name, items)                                               \
    void mb_##name(const Arguments* arguments) {                            \
        const Arguments& a = *arguments;                                    \
        for_items(items, a.threads, [&](const Block& block, int64_t item) { \
            if (a.width == 32)                                              \
                entries::name<32>(block, a, item);                          \
            else                                                            \
                entries::name<0>(block, a, item);                           \
        });                                                                 \
    }
MB_ENTRIES
#undef MB_ENTRY
}
