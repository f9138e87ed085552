// Least recently used order in O(1) (Rae et al. 2016, A.3): a queue of accesses in which only the last entry of each
// row is valid. Twin: kernels/reference/lru_ring.py. Each method is executed by one whole warp, a lane an access.
#pragma once

#include "arguments.h"
#include "block/block.h"

namespace mb {

struct LruRing {
    int32_t* last;         // [N]
    int32_t* queue;        // appended rows, -1: no access
    const int32_t* start;  // [N] or null
    int64_t* head;
    int64_t slots, tail;
    int32_t* old_last;  // log of the positions overwritten, one an append; null: none

    MB_FN LruRing(const Arguments& a, int64_t element, int64_t tail, int32_t* old_last)
        : last(a.ring_last + element * a.slots),
          queue(a.ring_queue + element * a.queue_stride),
          start(a.ring_start ? a.ring_start + element * a.slots : nullptr),
          head(a.ring_head + element),
          slots(a.slots),
          tail(tail),
          old_last(old_last) {}

    MB_FN int32_t row_at(int64_t position) const {
        if (position >= slots) return queue[position - slots];
        return start ? start[position] : static_cast<int32_t>(position);
    }

    // Access rows row(0) .. row(n - 1) in order; -1 appends an invalid entry.
    template <class Row>
    MB_FN void append(const Warp& warp, Count n, Row row) {
        for (Count first = 0; first < n; first += Warp::lanes) {
            const Count own = first + warp.lane(), count = n - first < Warp::lanes ? n - first : Warp::lanes;
            const int32_t accessed = own < n ? row(own) : -1;
            // Of lanes with the same row, the first sees the old position and the last stores the new one.
            const auto same = warp.match_any(accessed);
            if (own < n) {
                queue[tail - slots + warp.lane()] = accessed;
                const Count before = same.previous();
                const int64_t position = before < 0 ? -1 : tail + before;
                if (old_last)
                    old_last[warp.lane()] = accessed < 0 ? 0
                                            : before < 0 ? last[accessed]
                                                         : static_cast<int32_t>(position);
                if (accessed >= 0 && before < 0) last[accessed] = static_cast<int32_t>(tail + same.last());
            }
            warp.sync();
            tail += count;
            if (old_last) old_last += count;
        }
    }

    // Remove the least recently used row; the caller appends it. Every row has one valid entry: -1 only if the ring is
    // corrupt.
    MB_FN int32_t pop(const Warp& warp) {
        const int64_t start = *head;
        const auto valid = [&](int64_t i) {
            const int32_t row = row_at(start + i);
            return row >= 0 && last[row] == start + i;
        };
        const int64_t skipped = warp.find_first(tail - start, valid);
        const int32_t row = start + skipped < tail ? row_at(start + skipped) : -1;
        warp.sync();
        if (warp.is_leader()) *head = row < 0 ? tail : start + skipped + 1;
        warp.sync();
        return row;
    }

    // `count` pops at once, to popped[0], popped[step], ...; what is accessed between them the caller appends
    // afterwards: was_accessed(v, row) says whether a row is before pop v. False, and nothing is popped, if the entries
    // that a warp looks at together do not suffice.
    template <class F>
    MB_FN bool pop_together(const Warp& warp, Count count, F was_accessed, int32_t* popped, Count step) {
        const int64_t start = *head;
        const uint32_t valid = warp.ballot([&](Count lane) {
            const int64_t position = start + lane;
            const int32_t row = position < tail ? row_at(position) : -1;
            return row >= 0 && last[row] == position;
        });
        Count v = 0, place = 0;
        MB_ROLLED
        for (; v < count && place < Warp::lanes; ++place) {
            const int32_t row = valid >> place & 1 ? row_at(start + place) : -1;
            if (row < 0 || was_accessed(v, row)) continue;
            if (warp.is_leader()) popped[v * step] = row;
            ++v;
        }
        if (v < count) return false;
        warp.sync();
        if (warp.is_leader()) *head = start + place;
        warp.sync();
        return true;
    }

    // The row `distance` entries from the head, which may be popped soon, or -1.
    MB_FN int32_t peek(Count distance) const { return *head + distance < tail ? row_at(*head + distance) : -1; }

    // Undo the last `count` appends; `log` holds the positions they overwrote.
    MB_FN void undo(const Warp& warp, Count count, const int32_t* log) {
        for (Count end = count; end > 0; end -= Warp::lanes) {
            const Count first = end < Warp::lanes ? 0 : end - Warp::lanes, own = first + warp.lane();
            const int32_t row = own < end ? queue[tail - slots - count + own] : -1;
            if (warp.match_any(row).previous() < 0 && row >= 0) last[row] = log[own];
            warp.sync();
        }
        tail -= count;
    }
};

}  // namespace mb
