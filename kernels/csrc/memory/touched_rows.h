// The gradient of a memory is held for the rows that a chain of passes touches, each in a slot found by hashing, so
// that nothing of size N is needed. A pass that continues a chain keeps the slots and gradients of the passes after it,
// and adds its own.
#pragma once

#include "block/block.h"

namespace mb {

struct TouchedRows {
    int32_t* hash;       // [2, table_size] rows, then their slots
    int64_t table_size;  // a power of two
    int32_t* count;      // slots in use
    bool continued;
    Real* gradient;  // [slots, W]
    int64_t W;

    // Assign a slot to each of the rows row_of(i), i < n, that is not negative: assign(i, slot), or -1. The gradients
    // of new ones are zeros. Visible after the next sync.
    template <class RowOf, class Assign>
    MB_FN void assign_slots(const Block& block, int64_t n, RowOf row_of, Assign assign) const {
        int32_t *const keys = hash, *const slots = hash + table_size;
        const int32_t kept = continued ? *count : 0;
        if (!continued) {
            block.for_each(table_size, [=](int64_t place) { keys[place] = slots[place] = -1; });
            block.on_leader([&] { *count = 0; });
            block.sync();
        }
        const auto find_place = [&](int32_t row) {
            int64_t place = (static_cast<uint32_t>(row) * 2654435769u) & (table_size - 1);
            while (!try_insert(keys + place, -1, row)) place = (place + 1) & (table_size - 1);
            return place;
        };
        block.for_each(n, [&](int64_t i) {
            const int32_t row = row_of(i);
            if (row >= 0) find_place(row);
        });
        block.sync();
        block.for_each(table_size, [&](int64_t place) {
            if (keys[place] >= 0 && slots[place] < 0) slots[place] = fetch_add(count);
        });
        block.sync();
        block.for_each(n, [&](int64_t i) {
            const int32_t row = row_of(i);
            assign(i, row < 0 ? -1 : slots[find_place(row)]);
        });
        block.for_each((*count - kept) * W, [&](int64_t i) { gradient[kept * W + i] = 0; });
    }
};

}  // namespace mb
