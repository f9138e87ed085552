// Entry points of the cpu and emu builds: a plain C interface over raw pointers, the batch spread over threads.
#include <thread>
#include <vector>

#include "sequence.h"

namespace mb {

template <class F> void in_block(F work) {
#ifdef MB_EMULATE
    Barrier barrier;
    std::vector<std::thread> threads;
    for (int64_t i = 0; i < emulated_threads; ++i)
        threads.emplace_back([&, i] {
            *Block::syncs() = 0;
            work(Block{&barrier, i});
        });
    for (auto& thread : threads) thread.join();
#else
    work(Block{});
#endif
}

// work(block, element) for every batch element, each by one block.
template <class F> void for_batch(const Arguments& a, F work) {
    const auto share = [&](int64_t first) {
        for (int64_t element = first; element < a.batch; element += a.threads) in_block([&](const Block& block) { work(block, element); });
    };
    std::vector<std::thread> others;
    for (int64_t i = 1; i < a.threads && i < a.batch; ++i) others.emplace_back(share, i);
    share(0);
    for (auto& other : others) other.join();
}

// work(sequence) with the word size known to the compiler where it is a common one.
template <class F> void for_sequences(const Arguments& a, F work) {
    for_batch(a, [&](const Block& block, int64_t element) {
        if (a.width == 32) {
            Sequence<32> sequence(block, a, element);
            work(sequence);
        } else {
            Sequence<0> sequence(block, a, element);
            work(sequence);
        }
    });
}

}  // namespace mb

using namespace mb;

#pragma GCC visibility push(default)
extern "C" {

int64_t mb_arguments_bytes() { return sizeof(Arguments); }
int64_t mb_scratch(const Arguments* a) {
#ifdef MB_EMULATE
    return Sequence<0>::scratch_size(*a, emulated_threads);
#else
    return Sequence<0>::scratch_size(*a, 1);
#endif
}
void mb_forward(const Arguments* a) {
    for_sequences(*a, [](auto& sequence) { sequence.forward(); });
}
void mb_number_rows(const Arguments* a) {
    for_sequences(*a, [](auto& sequence) { sequence.number_rows(); });
}
void mb_backward(const Arguments* a) {
    for_sequences(*a, [](auto& sequence) { sequence.backward(); });
}
void mb_undo(const Arguments* a) {
    for_sequences(*a, [&](auto& sequence) {
        for (int64_t t = a->steps; t-- > 0;) sequence.swap_step(t, false);
    });
}
void mb_redo(const Arguments* a) {
    for_sequences(*a, [&](auto& sequence) {
        for (int64_t t = 0; t < a->steps; ++t) sequence.swap_step(t, true);
    });
}
}
