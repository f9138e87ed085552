// Threads that take turns on one thread of the system: each runs until it waits for the others. A wait costs little,
// and which one runs when is always the same. For a sanitizer each is a thread of its own.
#pragma once

#include <ucontext.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>

#if defined(__SANITIZE_THREAD__)
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned);
void __tsan_switch_to_fiber(void*, unsigned);
void __tsan_acquire(void*);
void __tsan_release(void*);
}
#else
inline void* __tsan_get_current_fiber() { return nullptr; }
inline void* __tsan_create_fiber(unsigned) { return nullptr; }
inline void __tsan_switch_to_fiber(void*, unsigned) {}
inline void __tsan_acquire(void*) {}
inline void __tsan_release(void*) {}
#endif
#if defined(__SANITIZE_ADDRESS__)
extern "C" {
void __sanitizer_start_switch_fiber(void**, const void*, size_t);
void __sanitizer_finish_switch_fiber(void*, const void**, size_t*);
}
#else
inline void __sanitizer_start_switch_fiber(void**, const void*, size_t) {}
inline void __sanitizer_finish_switch_fiber(void*, const void**, size_t*) {}
#endif

// A function that switches: for ThreadSanitizer no order between fibers follows from what it reads and writes.
#define MB_SWITCHES __attribute__((no_sanitize("thread", "address"), noinline))

namespace mb::fibers {

constexpr int64_t most = 4096;
constexpr size_t stack_bytes = size_t(1) << 18;
constexpr unsigned no_order = 1;  // between the fiber that is left and the one that goes on

struct Fiber {
    ucontext_t context;  // where it starts
    void* place[5];      // where it goes on
    void* stack;
    size_t stack_size;
    void *of_threads, *fake_stack;  // the sanitizers' own
    bool started, done;
};

// Fibers of one thread of the system. They serve all its runs: ThreadSanitizer takes long to make one.
struct Pool {
    Fiber* const fibers = static_cast<Fiber*>(std::calloc(most, sizeof(Fiber)));
    Fiber caller = {};
    int64_t count = 0, current = 0, left = 0;
    int64_t polls = 0;  // looks at a barrier since the last change
    const std::function<void(int64_t)>* work = nullptr;
    char begun = 0, ended = 0;  // whose addresses order what is before and after a run

    MB_SWITCHES ~Pool() {
        for (int64_t i = 0; i < most; ++i) std::free(fibers[i].stack);
        std::free(fibers);
    }
};
MB_SWITCHES inline Pool& pool() {
    static thread_local Pool own;
    return own;
}

MB_SWITCHES inline void switch_to(Fiber& from, Fiber& to) {
    __sanitizer_start_switch_fiber(from.done ? nullptr : &from.fake_stack, to.stack, to.stack_size);
    __tsan_switch_to_fiber(to.of_threads, no_order);
    // swapcontext would call the system at each switch, which takes most of the time
    if (__builtin_setjmp(from.place) == 0) {
        if (to.started) __builtin_longjmp(to.place, 1);
        to.started = true;
        setcontext(&to.context);
    }
    const void* bottom = nullptr;
    size_t size = 0;
    __sanitizer_finish_switch_fiber(from.fake_stack, &bottom, &size);
}

// Let the next fiber run that is not done.
MB_SWITCHES inline void yield() {
    Pool& all = pool();
    const int64_t own = all.current;
    do all.current = all.current + 1 < all.count ? all.current + 1 : 0;
    while (all.fibers[all.current].done);
    if (all.current != own) switch_to(all.fibers[own], all.fibers[all.current]);
}

MB_SWITCHES inline void finish() {
    Pool& all = pool();
    Fiber& own = all.fibers[all.current];
    own.done = true, all.polls = 0;
    if (--all.left == 0) return switch_to(own, all.caller);
    yield();
}

MB_SWITCHES inline void run_one() {
    Pool& all = pool();
    const void* bottom = nullptr;
    size_t size = 0;
    __sanitizer_finish_switch_fiber(nullptr, &bottom, &size);
    if (!all.caller.stack) all.caller.stack = const_cast<void*>(bottom), all.caller.stack_size = size;
    __tsan_acquire(&all.begun);
    (*all.work)(all.current);
    __tsan_release(&all.ended);
    finish();
}

MB_SWITCHES inline void prepare(Fiber& fiber) {
    if (!fiber.stack) fiber.stack = std::malloc(stack_bytes), fiber.stack_size = stack_bytes;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack, fiber.context.uc_stack.ss_size = stack_bytes;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, run_one, 0);
    if (!fiber.of_threads) fiber.of_threads = __tsan_create_fiber(0);
    fiber.done = fiber.started = false;
}

// work(i) for each i < n, all at once.
MB_SWITCHES inline void run(int64_t n, const std::function<void(int64_t)>& work) {
    Pool& all = pool();
    if (n > most) std::abort();
    for (int64_t i = 0; i < n; ++i) prepare(all.fibers[i]);
    all.count = all.left = n, all.current = all.polls = 0, all.work = &work;
    all.caller = Fiber{};
    all.caller.started = true, all.caller.of_threads = __tsan_get_current_fiber();
    __tsan_release(&all.begun);
    switch_to(all.caller, all.fibers[0]);
    __tsan_acquire(&all.ended);
}

MB_SWITCHES inline int64_t this_one() { return pool().current; }

// `size` fibers wait here for each other.
struct Barrier {
    int64_t size = 0, waiting = 0;
    unsigned turn = 0;
    char place[2] = {};

    MB_SWITCHES void wait() {
        Pool& all = pool();
        const unsigned own = turn;
        // Of two places in turn: else who is at the next wait already would be ordered before those still at this one.
        __tsan_release(place + own % 2);
        if (++waiting == size) {
            waiting = all.polls = 0, ++turn;
        } else {
            while (turn == own) {
                if (++all.polls > 2 * all.count) {
                    std::fprintf(stderr, "a barrier or a shuffle that not all threads reach\n");
                    std::_Exit(67);
                }
                yield();
            }
        }
        __tsan_acquire(place + own % 2);
    }
};

}  // namespace mb::fibers
