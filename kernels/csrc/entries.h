// The entry points, named once for the processor and the GPU: host.cpp makes functions of them and device.cu kernels, both called mb_NAME.
// Each is what one block does for one item of work.
#pragma once

#include "lsh_ops.h"
#include "ops.h"
#include "products.h"
#include "sequence_back.h"

// ENTRY with a name and its items of work: one for each element of the batch, for each crew of them, or many for each that share its rows. In mb::entries as
// template <int known> void NAME(const Block&, const Arguments&, int64_t item); known: the word size if it is a common one, so that the compiler
// knows it, else 0.
#define MB_ENTRIES                            \
    ENTRY(scratch, a.batch)                   \
    ENTRY(input, a.batch)                     \
    ENTRY(forward, crews(a))                  \
    ENTRY(forward_step, a.batch)              \
    ENTRY(search_part, a.batch * a.parts)     \
    ENTRY(output, a.batch)                    \
    ENTRY(output_back, a.batch)               \
    ENTRY(backward, crews(a))                 \
    ENTRY(weight_gradients, a.batch)          \
    ENTRY(undo, a.batch)                      \
    ENTRY(redo, a.batch)                      \
    ENTRY(lsh_scratch, a.batch)               \
    ENTRY(lsh_hash, a.batch * a.parts)        \
    ENTRY(lsh_fill, a.batch * a.parts)        \
    ENTRY(lsh_update, a.batch)                \
    ENTRY(lsh_undo, a.batch)                  \
    ENTRY(lsh_redo, a.batch)                  \
    ENTRY(lsh_query, a.batch)                 \
    MB_OPS

namespace mb::entries {

MB_FN int64_t crews(const Arguments& a) { return Forward<0>::crews(a); }

// Numbers of scratch that a sequence needs for an element and for each of its parts, to `index`.
template <int known> MB_FN void scratch(const Block& block, const Arguments& a, int64_t) {
    block.one([&] { a.index[0] = Sequence<known>::scratch_size(a), a.index[1] = best_scratch(a.heads, a.reads); });
}

template <int known> MB_FN void forward(const Block& block, const Arguments& a, int64_t item) {
    Forward<known>(block, a, Forward<known>::first_of(a, item), Forward<known>::first_of(a, item + 1)).run();
}

// `forward` in pieces, so that many blocks may search the rows of one element: forward_step of steps 0..T, search_part of 0..T-1 in between.
template <int known> MB_FN void forward_step(const Block& block, const Arguments& a, int64_t item) {
    Forward<known> crew(block, a, item, item + 1);
    Sequence<known>& sequence = crew.members.at[0];
    sequence.clocks.start(block);
    if (a.step > 0) sequence.read(a.step - 1);
    else sequence.begin();
    if (a.step < a.steps) crew.controller(a.step), sequence.write(a.step);
    else sequence.end();
}
template <int known> MB_FN void search_part(const Block& block, const Arguments& a, int64_t item) {
    Sequence<known>(block, a, item / a.parts).search_part(a.step, item % a.parts);
}

template <int known> MB_FN void backward(const Block& block, const Arguments& a, int64_t item) {
    Backward<known>(block, a, Backward<known>::first_of(a, item), Backward<known>::first_of(a, item + 1)).run();
}
template <int known> MB_FN void input(const Block& block, const Arguments& a, int64_t item) { mb::input(block, a, item); }
template <int known> MB_FN void output(const Block& block, const Arguments& a, int64_t item) { mb::output(block, a, item); }
template <int known> MB_FN void output_back(const Block& block, const Arguments& a, int64_t item) { mb::output_back(block, a, item); }
template <int known> MB_FN void weight_gradients(const Block& block, const Arguments& a, int64_t item) { mb::weight_gradients(block, a, item); }
template <int known> MB_FN void undo(const Block& block, const Arguments& a, int64_t item) {
    Sequence<known> sequence(block, a, item);
    for (int64_t t = a.steps; t-- > 0;) sequence.swap_step(t, false);
}
template <int known> MB_FN void redo(const Block& block, const Arguments& a, int64_t item) {
    Sequence<known> sequence(block, a, item);
    for (int64_t t = 0; t < a.steps; ++t) sequence.swap_step(t, true);
}

}  // namespace mb::entries
