// Work divided among the CPU threads of the process.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "block/denormals.h"

namespace mb {

// GOMP_parallel of the OpenMP runtime that the process uses; null: there is none, each call starts its own threads.
typedef void (*Parallel)(void (*function)(void*), void* data, unsigned threads, unsigned flags);
inline Parallel shared_team = nullptr;

// work(item) for every item; threads take the next item when free.
template <class F>
void divide(int64_t items, int64_t threads, F work) {
    std::atomic<int64_t> next{0};
    auto share = [&] {
        [[maybe_unused]] const DenormalsAsZero mode;
        for (int64_t item; (item = next++) < items;) work(item);
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
