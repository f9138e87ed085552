// Whole passes of the models with a dense memory, as entry points of the host: each does its work for a batch tile.
// They read Sizes, Weights, PassStates, Tape without rows read or written, Scratch and DenseMemory; backward also
// Gradients.
#pragma once

#include "dense/dam.h"
#include "dense/dnc_backward.h"
#include "dense/ntm_backward.h"
#include "sequence/products.h"

// MB_ENTRY(name), as in entries.h; all have an item a batch tile.
// clang-format off
#define MB_DENSE_ENTRIES       \
    MB_ENTRY(ntm_scratch)      \
    MB_ENTRY(ntm_forward)      \
    MB_ENTRY(ntm_backward)     \
    MB_ENTRY(dam_scratch)      \
    MB_ENTRY(dam_forward)      \
    MB_ENTRY(dam_backward)     \
    MB_ENTRY(dnc_scratch)      \
    MB_ENTRY(dnc_forward)      \
    MB_ENTRY(dnc_backward)
// clang-format on

namespace mb {

template <class Element>
struct DenseBackward : ControllerTile<Element> {
    typedef ControllerTile<Element> Tile;
    using Tile::Tile, Tile::block, Tile::clocks, Tile::for_each_element, Tile::for_each_step_back,
        Tile::controller_backward;

    MB_FN void run() {
        clocks().start(block);
        for_each_element([](Element& element) { element.begin(); });
        for_each_step_back([&](int64_t t) {
            for_each_element([&](Element& element) { element.step(t); });
            controller_backward(t);
        });
        for_each_element([](Element& element) { element.end(); });
        clocks().end_of(block, Phase::rest);
    }
};

}  // namespace mb

namespace mb::entries {

template <class Element>
MB_FN int64_t scratch_of(const Block& block, const Arguments& a) {
    return Element(block, a, 0).scratch.used;
}

// To `index`: Reals of scratch that forward and backward need for an element. Reads Sizes.
MB_FN void ntm_scratch(const Block& block, const Arguments& a, int64_t) {
    block.on_leader(
        [&] { a.index[0] = scratch_of<NtmForward>(block, a), a.index[1] = scratch_of<NtmBackward>(block, a); });
}

MB_FN void ntm_forward(const Block& block, const Arguments& a, int64_t tile) {
    ForwardTile<NtmForward>(block, a, first_of_tile(a, tile), first_of_tile(a, tile + 1)).run();
}
MB_FN void ntm_backward(const Block& block, const Arguments& a, int64_t tile) {
    DenseBackward<NtmBackward>(block, a, first_of_tile(a, tile), first_of_tile(a, tile + 1)).run();
}

MB_FN void dam_scratch(const Block& block, const Arguments& a, int64_t) {
    block.on_leader(
        [&] { a.index[0] = scratch_of<DamForward>(block, a), a.index[1] = scratch_of<DamBackward>(block, a); });
}
MB_FN void dam_forward(const Block& block, const Arguments& a, int64_t tile) {
    ForwardTile<DamForward>(block, a, first_of_tile(a, tile), first_of_tile(a, tile + 1)).run();
}
MB_FN void dam_backward(const Block& block, const Arguments& a, int64_t tile) {
    DenseBackward<DamBackward>(block, a, first_of_tile(a, tile), first_of_tile(a, tile + 1)).run();
}

MB_FN void dnc_scratch(const Block& block, const Arguments& a, int64_t) {
    block.on_leader(
        [&] { a.index[0] = scratch_of<DncForward>(block, a), a.index[1] = scratch_of<DncBackward>(block, a); });
}
MB_FN void dnc_forward(const Block& block, const Arguments& a, int64_t tile) {
    ForwardTile<DncForward>(block, a, first_of_tile(a, tile), first_of_tile(a, tile + 1)).run();
}
MB_FN void dnc_backward(const Block& block, const Arguments& a, int64_t tile) {
    DenseBackward<DncBackward>(block, a, first_of_tile(a, tile), first_of_tile(a, tile + 1)).run();
}

}  // namespace mb::entries
