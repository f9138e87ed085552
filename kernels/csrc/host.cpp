// Entry points of the cpu and emu builds: a plain C interface over raw pointers, items spread over threads.
#include <thread>
#include <vector>

#include "entries.h"

namespace mb {

template <class F> void in_block(F work) {
#ifdef MB_EMULATE
    Barrier barrier;
    std::vector<std::thread> threads;
    for (int64_t i = 0; i < emulated_threads; ++i)
        threads.emplace_back([&, i] { work(Block{&barrier, i}); });
    for (auto& thread : threads) thread.join();
#else
    work(Block{});
#endif
}

// work(block, item) for every item, each by one block.
template <class F> void for_items(int64_t items, int64_t threads, F work) {
    const int64_t stride = threads > 1 ? threads : 1;
    const auto share = [&](int64_t first) {
        for (int64_t item = first; item < items; item += stride) in_block([&](const Block& block) { work(block, item); });
    };
    std::vector<std::thread> others;
    for (int64_t i = 1; i < stride && i < items; ++i) others.emplace_back(share, i);
    share(0);
    for (auto& other : others) other.join();
}

}  // namespace mb

using namespace mb;

#pragma GCC visibility push(default)
extern "C" {

int64_t mb_arguments_bytes() { return sizeof(Arguments); }

#define ENTRY(name, each)                                                                  \
    void mb_##name(const Arguments* arguments) {                                           \
        const Arguments& a = *arguments;                                                   \
        for_items(a.batch * (each), a.threads, [&](const Block& block, int64_t item) {     \
            if (a.width == 32) entries::name<32>(block, a, item);                          \
            else entries::name<0>(block, a, item);                                         \
        });                                                                                \
    }
MB_ENTRIES
}
