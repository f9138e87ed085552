// Where the time of a sequence goes: the ns of each phase, summed over all steps, as one thread of the block sees them pass from barrier to barrier.
// Only where there is a buffer for them.
#pragma once

#include "block/block.h"

namespace mb {

// As `models/phases.py` names them; `rest`: what a pass does once.
#define MB_PHASES \
    MB_PHASE(controller) \
    MB_PHASE(addressing) \
    MB_PHASE(search) \
    MB_PHASE(write) \
    MB_PHASE(link) \
    MB_PHASE(read) \
    MB_PHASE(rollback) \
    MB_PHASE(rest)

enum class Phase : int64_t {
#define MB_PHASE(name) name,
    MB_PHASES
#undef MB_PHASE
        count
};

struct Clocks {
    static constexpr int64_t size = static_cast<int64_t>(Phase::count) + 1;
    int64_t* ns;  // of each phase, then the time when the last one ended; null: none is kept

    MB_FN Clocks(int64_t* of_all, int64_t element) : ns(of_all ? of_all + element * size : nullptr) {}
    MB_FN void start(const Block& block) const {
        if (ns) block.on_leader([&] { ns[size - 1] = now_ns(); });
    }
    // What has passed belongs to this phase.
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
