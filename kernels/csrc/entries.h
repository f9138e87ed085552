// The entry points, named once for the processor and the GPU: host.cpp makes functions of them and device.cu kernels, both called mb_NAME.
// Each is what one block does for one item of work.
#pragma once

#include "memory/lsh_ops.h"
#include "memory/ops.h"
#include "sequence/products.h"
#include "sequence/backward.h"

// MB_ENTRY(name, items): an entry point and how many items of work it has: one per batch element, one per batch tile, or
// `parts` per element. Each is a function template <int fixed_width> void name(const Block&, const Arguments&, int64_t item)
// in mb::entries; fixed_width is the word size if the compiler is to know it, else 0.
#define MB_ENTRIES                            \
    MB_ENTRY(scratch, a.batch)                \
    MB_ENTRY(input, a.batch)                  \
    MB_ENTRY(forward, num_batch_tiles(a))         \
    MB_ENTRY(forward_step, a.batch)           \
    MB_ENTRY(search_part, a.batch * a.parts)  \
    MB_ENTRY(output, a.batch)                 \
    MB_ENTRY(output_back, a.batch)            \
    MB_ENTRY(backward, num_batch_tiles(a))        \
    MB_ENTRY(weight_gradients, a.batch)       \
    MB_ENTRY(undo, a.batch)                   \
    MB_ENTRY(redo, a.batch)                   \
    MB_ENTRY(lsh_scratch, a.batch)            \
    MB_ENTRY(lsh_hash, a.batch * a.parts)     \
    MB_ENTRY(lsh_fill, a.batch * a.parts)     \
    MB_ENTRY(lsh_update, a.batch)             \
    MB_ENTRY(lsh_undo, a.batch)               \
    MB_ENTRY(lsh_redo, a.batch)               \
    MB_ENTRY(lsh_query, a.batch)              \
    MB_ENTRY(topk_part, a.batch * a.parts)    \
    MB_ENTRY(topk_merge, a.batch)             \
    MB_ENTRY(sparse_read, a.batch)            \
    MB_ENTRY(sparse_read_back, a.batch)       \
    MB_ENTRY(sparse_write, a.batch)           \
    MB_ENTRY(rollback, a.batch)               \
    MB_ENTRY(lru_touch, a.batch)              \
    MB_ENTRY(lru_pop, a.batch)                \
    MB_ENTRY(lru_undo, a.batch)               \
    MB_ENTRY(link_update, a.batch)            \
    MB_ENTRY(link_swap, a.batch)              \
    MB_ENTRY(link_read, a.batch)              \
    MB_ENTRY(link_steps, a.batch)

namespace mb::entries {

MB_FN int64_t num_batch_tiles(const Arguments& a) { return Forward<0>::num_tiles(a); }

// Numbers of scratch that a sequence needs for an element and for each of its parts, to `index`.
template <int fixed_width> MB_FN void scratch(const Block& block, const Arguments& a, int64_t) {
    block.on_leader([&] { a.index[0] = Sequence<fixed_width>::scratch_size(a), a.index[1] = topk_scratch(a.heads, a.reads); });
}

template <int fixed_width> MB_FN void forward(const Block& block, const Arguments& a, int64_t item) {
    Forward<fixed_width>(block, a, Forward<fixed_width>::first_of(a, item), Forward<fixed_width>::first_of(a, item + 1)).run();
}

// `forward` in pieces, so that many blocks may search the rows of one element: forward_step of steps 0..T, search_part of 0..T-1 in between.
template <int fixed_width> MB_FN void forward_step(const Block& block, const Arguments& a, int64_t item) {
    Forward<fixed_width> tile(block, a, item, item + 1);
    Sequence<fixed_width>& sequence = tile.elements.at[0];
    sequence.clocks.start(block);
    if (a.step > 0) sequence.read(a.step - 1);
    else sequence.begin();
    if (a.step < a.steps) tile.controller(a.step), sequence.write(a.step);
    else sequence.end();
}
template <int fixed_width> MB_FN void search_part(const Block& block, const Arguments& a, int64_t item) {
    Sequence<fixed_width>(block, a, item / a.parts).search_part(a.step, item % a.parts);
}

template <int fixed_width> MB_FN void backward(const Block& block, const Arguments& a, int64_t item) {
    Backward<fixed_width>(block, a, Backward<fixed_width>::first_of(a, item), Backward<fixed_width>::first_of(a, item + 1)).run();
}
template <int fixed_width> MB_FN void input(const Block& block, const Arguments& a, int64_t item) { mb::input(block, a, item); }
template <int fixed_width> MB_FN void output(const Block& block, const Arguments& a, int64_t item) { mb::output(block, a, item); }
template <int fixed_width> MB_FN void output_back(const Block& block, const Arguments& a, int64_t item) { mb::output_back(block, a, item); }
template <int fixed_width> MB_FN void weight_gradients(const Block& block, const Arguments& a, int64_t item) { mb::weight_gradients(block, a, item); }
template <int fixed_width> MB_FN void undo(const Block& block, const Arguments& a, int64_t item) {
    Sequence<fixed_width> sequence(block, a, item);
    for (int64_t t = a.steps; t-- > 0;) sequence.undo_or_redo_step(t, false);
}
template <int fixed_width> MB_FN void redo(const Block& block, const Arguments& a, int64_t item) {
    Sequence<fixed_width> sequence(block, a, item);
    for (int64_t t = 0; t < a.steps; ++t) sequence.undo_or_redo_step(t, true);
}

}  // namespace mb::entries
