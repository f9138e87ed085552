// Time of each phase of a sequence in ns, summed over all steps, measured between barriers by one thread of the block.
// Only if there is a buffer for it.
#pragma once

#include "block/block.h"

namespace mb {

// The phases of `models/phases.py`; `rest`: work done once a pass.
#define MB_PHASES        \
    MB_PHASE(controller) \
    MB_PHASE(addressing) \
    MB_PHASE(search)     \
    MB_PHASE(write)      \
    MB_PHASE(link)       \
    MB_PHASE(read)       \
    MB_PHASE(rollback)   \
    MB_PHASE(rest)

enum class Phase : int64_t {
#define MB_PHASE(name) name,
    MB_PHASES
#undef MB_PHASE
        count
};

struct Clocks {
    static constexpr int64_t size = static_cast<int64_t>(Phase::count) + 1;
    int64_t* ns;  // of each phase, then the time the last one ended; null: not measured

    MB_FN Clocks(int64_t* all, int64_t element) : ns(all ? all + element * size : nullptr) {}
    MB_FN void start(const Block& block) const {
        if (ns) block.on_leader([&] { ns[size - 1] = now_ns(); });
    }
    // Count the time since the last call as this phase's.
    MB_FN void end_of(const Block& block, Phase phase) const {
        if (!ns) return;
        block.on_leader([&] {
            const int64_t now = now_ns();
            ns[static_cast<int64_t>(phase)] += now - ns[size - 1];
            ns[size - 1] = now;
        });
    }
};

}  // namespace mb
