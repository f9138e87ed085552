// The entry points, listed once for CPU and GPU: host.cpp makes a function of each, device.cu a kernel, both called
// mb_NAME. Each is what one block does for one item of work.
#pragma once

#include "memory/lsh_ops.h"
#include "memory/ops.h"
#include "sequence/backward.h"
#include "sequence/forward.h"
#include "sequence/products.h"
#include "slots/access.h"
#include "slots/delta.h"
#include "slots/product_keys.h"
#include "slots/recurrence.h"
#ifdef MB_CLUSTER
#include "sequence/cluster.h"
#endif

// MB_ENTRY(name, items): an entry point and how many items of work it has: one per batch element, one per batch tile,
// or `parts` per element. Each is a function template <int fixed_width> void name(const Block&, const Arguments&,
// int64_t item) in mb::entries; fixed_width is the word size if the compiler is to know it, else 0. A build for
// clusters has entry points of its own.
// clang-format off
#ifdef MB_CLUSTER
#define MB_ENTRIES MB_ENTRY(forward_cluster, a.batch) MB_ENTRY(backward_cluster, a.batch)
#else
#define MB_ENTRIES                          \
    MB_AROUND_ENTRIES                       \
    MB_ENTRY(scratch, a.batch)              \
    MB_ENTRY(forward, num_batch_tiles(a))   \
    MB_ENTRY(forward_step, a.batch)         \
    MB_ENTRY(search_part, a.batch * a.parts)\
    MB_ENTRY(backward, num_batch_tiles(a))  \
    MB_ENTRY(undo, a.batch)                 \
    MB_ENTRY(redo, a.batch)                 \
    MB_ENTRY(lsh_scratch, a.batch)          \
    MB_ENTRY(lsh_hash, a.batch * a.parts)   \
    MB_ENTRY(lsh_fill, a.batch * a.parts)   \
    MB_ENTRY(lsh_update, a.batch)           \
    MB_ENTRY(lsh_undo, a.batch)             \
    MB_ENTRY(lsh_redo, a.batch)             \
    MB_ENTRY(lsh_query, a.batch)            \
    MB_ENTRY(topk_part, a.batch * a.parts)  \
    MB_ENTRY(copy_to_bytes, a.batch * a.parts) \
    MB_ENTRY(topk_merge, a.batch)           \
    MB_ENTRY(sparse_read, a.batch)          \
    MB_ENTRY(sparse_read_back, a.batch)     \
    MB_ENTRY(sparse_write, a.batch)         \
    MB_ENTRY(rollback, a.batch)             \
    MB_ENTRY(lru_touch, a.batch)            \
    MB_ENTRY(lru_pop, a.batch)              \
    MB_ENTRY(lru_undo, a.batch)             \
    MB_ENTRY(link_update, a.batch)          \
    MB_ENTRY(link_swap, a.batch)            \
    MB_ENTRY(link_read, a.batch)            \
    MB_ENTRY(link_steps, a.batch)           \
    MB_ENTRY(product_keys, a.batch)         \
    MB_ENTRY(slot_access, a.steps * a.batch * a.heads)      \
    MB_ENTRY(slot_access_back, a.steps * a.batch)           \
    MB_ENTRY(slot_weights_back, a.heads)                    \
    MB_ENTRY(slots_forward, num_batch_tiles(a))  \
    MB_ENTRY(slots_backward, num_batch_tiles(a)) \
    MB_ENTRY(delta_forward, a.batch * a.heads)  \
    MB_ENTRY(delta_backward, a.batch * a.heads) \
    MB_ENTRY(delta_undo, a.batch * a.heads) \
    MB_ENTRY(delta_redo, a.batch * a.heads)
#endif
// clang-format on

namespace mb::entries {

// Whole passes read Sizes, Weights, PassStates, Tape, Memory, Ring, Scratch, and LshTables or LinkMatrices if they are
// used; backward also Gradients.

// To `index`: Reals of scratch that a pass needs for an element, and for each part. Reads Sizes.
template <int fixed_width>
MB_FN void scratch(const Block& block, const Arguments& a, int64_t) {
    block.on_leader(
        [&] { a.index[0] = Element::scratch_size(a), a.index[1] = search_scratch(a.heads, a.reads, a.width); });
}

template <int fixed_width>
MB_FN void forward(const Block& block, const Arguments& a, int64_t tile) {
    Forward<fixed_width>(block, a, first_of_tile(a, tile), first_of_tile(a, tile + 1)).run();
}

// `forward` in pieces, so that many blocks can search the rows of one element: forward_step of steps 0..T, with
// search_part of step t between those of t and t + 1.
template <int fixed_width>
MB_FN void forward_step(const Block& block, const Arguments& a, int64_t item) {
    Forward<fixed_width> tile(block, a, item, item + 1);
    ForwardElement<fixed_width>& element = tile.elements.at[0];
    const int64_t steps = element.steps();
    if (a.step > steps) return;
    element.clocks.start(block);
    if (a.step > 0)
        element.read(a.step - 1);
    else
        element.load_first_states();
    if (a.step < steps)
        tile.controller(a.step), element.write(a.step);
    else
        element.store_last_states();
}
template <int fixed_width>
MB_FN void search_part(const Block& block, const Arguments& a, int64_t item) {
    if (has_step(a, item / a.parts, a.step))
        ForwardElement<fixed_width>(block, a, item / a.parts).search_part(a.step, item % a.parts);
}

template <int fixed_width>
MB_FN void backward(const Block& block, const Arguments& a, int64_t tile) {
    Backward<fixed_width>(block, a, first_of_tile(a, tile), first_of_tile(a, tile + 1)).run();
}

// Undo or redo a whole pass. Reads Sizes, Tape, Memory, Ring, LshTables and LinkMatrices.
template <int fixed_width>
MB_FN void undo(const Block& block, const Arguments& a, int64_t item) {
    Element element(block, a, item, fixed_width ? fixed_width : a.width);
    for (int64_t t = element.steps(); t-- > 0;) element.undo_or_redo_step(t, false);
}
template <int fixed_width>
MB_FN void redo(const Block& block, const Arguments& a, int64_t item) {
    Element element(block, a, item, fixed_width ? fixed_width : a.width);
    for (int64_t t = 0; t < element.steps(); ++t) element.undo_or_redo_step(t, true);
}

}  // namespace mb::entries
