// Entry points of the cpu and emu builds: a plain C interface over raw pointers, items divided among threads. Those of
// models with a dense memory are a build of their own (MB_DENSE), because they take long to compile.
#include "block/threads.h"
#include "tensors.h"
#ifdef MB_DENSE
#include "dense/entries.h"
#else
#include "entries.h"
#endif

namespace mb {

template <class F>
void in_block([[maybe_unused]] int64_t chunk_threads, F work) {
#ifdef MB_EMULATE
    in_emulated_blocks(work);
#else
    work(Block{chunk_threads});
#endif
}

// work(block, item) for every item, a block each. With `chunk_threads`, the items come one after the other, and that
// many threads share the chunks of each.
template <class F>
void for_items(int64_t items, int64_t threads, int64_t chunk_threads, F work) {
    divide(items, threads,
           [&](int64_t item) { in_block(chunk_threads, [&](const Block& block) { work(block, item); }); });
}

// Whether rows of 32 numbers have code of their own. Not in double precision, which is for exact tests: to compile it
// would take half as long again.
constexpr bool knows_width = sizeof(Real) == 4;

}  // namespace mb

using namespace mb;

#pragma GCC visibility push(default)
extern "C" {

int64_t mb_arguments_bytes() { return sizeof(Arguments); }
void mb_share_team(Parallel parallel) { shared_team = parallel; }

// 1: all tensors fit.
int64_t mb_take_tensors(const Python* python, void* list, const int64_t* layout, int64_t* places) {
    return take_tensors(*python, list, layout, places);
}
// The same, and then entry points one after the other, which find in the places what they work on.
int64_t mb_take_and_run(const Python* python, void* list, const int64_t* layout, int64_t* places,
                        void (*const* entries)(const Arguments*), int64_t count) {
    if (!take_tensors(*python, list, layout, places)) return 0;
    void* const left = python->leave();
    for (int64_t i = 0; i < count; ++i) entries[i](reinterpret_cast<const Arguments*>(places));
    python->come_back(left);
    return 1;
}

// The first position whose row number is not in [low, high), or -1.
int64_t mb_first_bad_row(const int64_t* rows, int64_t count, int64_t low, int64_t high) {
    for (int64_t i = 0; i < count; ++i)
        if (rows[i] < low || rows[i] >= high) return i;
    return -1;
}

#define MB_ENTRY(name, items)                                                  \
    void mb_##name(const Arguments* arguments) {                               \
        const Arguments& a = *arguments;                                       \
        for_items(items, a.threads, 1, [&](const Block& block, int64_t item) { \
            if constexpr (knows_width) {                                       \
                if (a.width == 32) return entries::name<32>(block, a, item);   \
            }                                                                  \
            entries::name<0>(block, a, item);                                  \
        });                                                                    \
    }
#ifdef MB_DENSE
MB_AROUND_ENTRIES
#else
MB_ENTRIES
#endif
#undef MB_ENTRY

#ifdef MB_DENSE
#define MB_ENTRY(name)                                                                       \
    void mb_##name(const Arguments* arguments) {                                             \
        const Arguments& a = *arguments;                                                     \
        const bool by_rows = shares_rows(a);                                                 \
        for_items(num_batch_tiles(a), by_rows ? 1 : a.threads, by_rows ? a.threads : 1,      \
                  [&](const Block& block, int64_t item) { entries::name(block, a, item); }); \
    }
MB_DENSE_ENTRIES
#undef MB_ENTRY
#endif
}
