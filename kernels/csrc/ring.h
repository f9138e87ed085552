// Order of last access in O(1) (Rae et al. 2016, A.3) as a lazy queue; twin of kernels/reference/lru_ring.py. One thread works on it.
#pragma once

#include "arguments.h"
#include "block.h"

namespace mb {

struct Ring {
    int32_t* last;         // [N]
    int32_t* queue;        // appended rows, -1: no access
    const int32_t* start;  // [N] or null
    int64_t* head;
    int64_t slots, tail;
    int32_t* old_last;  // log of overwritten positions, one an append; null: none is kept

    MB_FN Ring(const Arguments& a, int64_t element, int64_t tail, int32_t* old_last)
        : last(a.ring_last + element * a.slots), queue(a.ring_queue + element * a.queue_stride),
          start(a.ring_start ? a.ring_start + element * a.slots : nullptr), head(a.ring_head + element), slots(a.slots), tail(tail),
          old_last(old_last) {}

    MB_FN int32_t row_at(int64_t position) const {
        if (position >= slots) return queue[position - slots];
        return start ? start[position] : static_cast<int32_t>(position);
    }

    // Access a row, or append a place that is none (-1).
    MB_FN void append(int32_t row) {
        queue[tail - slots] = row;
        if (old_last) *old_last++ = row >= 0 ? last[row] : 0;
        if (row >= 0) last[row] = static_cast<int32_t>(tail);
        ++tail;
    }

    // The least recently used row; it becomes the most recent. Each row has one valid place in the queue: -1 only if the ring is broken.
    MB_FN int32_t pop() {
        while (*head < tail) {
            const int64_t position = (*head)++;
            const int32_t row = row_at(position);
            if (row >= 0 && last[row] == position) {
                append(row);
                return row;
            }
        }
        return -1;
    }

    // Take back the last `count` appends; `log` holds what they overwrote.
    MB_FN void undo(int64_t count, const int32_t* log) {
        for (int64_t i = count; i-- > 0;) {
            const int32_t row = queue[--tail - slots];
            if (row >= 0) last[row] = log[i];
        }
    }
};

}  // namespace mb
