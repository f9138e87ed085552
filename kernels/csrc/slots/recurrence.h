// The recurrence of SDM behind an LSTM over T steps (Cabannes et al. 2026). Order of a step: controller, access, write,
// read. The interface vector of a step is not kept: it grows with N.
#pragma once

#include "sequence/controller.h"
#include "slots/access.h"
#include "slots/delta.h"

namespace mb {

struct SlotsElement : ControllerElement {
    MB_FN SlotsElement(const Block& block, const Arguments& a, int64_t element, int64_t width)
        : ControllerElement(block, a, element, width) {
        grad_hidden = a.grad_makers + b * H;
    }

    MB_FN int64_t bank(Count r) const { return b * R + r; }
    MB_FN int64_t place(int64_t t, Count r) const { return t * a.batch * R + bank(r); }
    MB_FN SlotAccess access(int64_t t, Count r) const { return SlotAccess(block, a, place(t, r), W); }
    MB_FN DeltaSequence delta(Count r) const { return DeltaSequence(block, a, bank(r), W); }
};

template <int fixed_width>
struct SlotsForward : SlotsElement {
    MB_FN SlotsForward(const Block& block, const Arguments& a, int64_t element)
        : SlotsElement(block, a, element, fixed_width ? fixed_width : a.width) {}

    MB_FN Real* interface(int64_t) const { return a.delta_interface + b * P; }
    MB_FN void activate_interface(int64_t) {}
    MB_FN void load_first_states() {
        load_first_controller();
        block.sync();
    }
    MB_FN void store_last_states() { store_last_controller(); }

    MB_FN void step(int64_t t) {
        for (Count r = 0; r < R; ++r) {
            access(t, r).run(interface(t), a.scratch + bank(r) * a.scratch_stride);
            block.sync();
            clocks.end_of(block, Phase::search);
            delta(r).step(t);
            const Real* const from = a.delta_out + place(t, r) * W;
            Real* const to = carry(t + 1) + H + r * W;
            block.for_each(W, [=](int64_t w) MB_INLINE { to[w] = from[w]; });
            clocks.end_of(block, Phase::write);
        }
        block.sync();
    }
};

template <int fixed_width>
struct SlotsBackward : SlotsElement {
    MB_FN SlotsBackward(const Block& block, const Arguments& a, int64_t element)
        : SlotsElement(block, a, element, fixed_width ? fixed_width : a.width) {}

    MB_FN void assign_touched_slots() {
        for (Count r = 0; r < R; ++r) delta(r).assign_touched_slots();
    }

    // Up to the gradient of the hidden state.
    MB_FN void step(int64_t t) {
        add_output_gradient(t);
        block.sync();
        store_cell_inputs(t);
        for (Count r = 0; r < R; ++r) {
            const Real* const from = grad_carry + H + r * W;
            Real* const to = a.grad_delta_out + place(t, r) * W;
            block.for_each(W, [=](int64_t w) MB_INLINE { to[w] = from[w]; });
            delta(r).step_back(t);
            access(t, r).run_back();
        }
        block.sync();
        Real* const grad = grad_hidden;
        const Real* const direct = grad_carry;
        block.for_each(H, [=](Count j) MB_INLINE { grad[j] = direct[j]; });
        for (Count r = 0; r < R; ++r) add_gradient_of_makers(access(t, r), grad);
    }
};

template <int fixed_width>
struct SlotsBackwardTile : ControllerTile<SlotsBackward<fixed_width>> {
    typedef ControllerTile<SlotsBackward<fixed_width>> Tile;
    using Tile::Tile, Tile::block, Tile::clocks, Tile::for_each_element, Tile::for_each_step_back, Tile::cell_backward;

    MB_FN void run() {
        clocks().start(block);
        for_each_element([](SlotsBackward<fixed_width>& element) { element.assign_touched_slots(); });
        clocks().end_of(block, Phase::rest);
        for_each_step_back([&](int64_t t) {
            for_each_element([&](SlotsBackward<fixed_width>& element) { element.step(t); });
            clocks().end_of(block, Phase::write);
            cell_backward(t);
        });
    }
};

namespace entries {

// Reads Sizes, Weights, PassStates, cell and gates of Tape, and DeltaRule.
template <int fixed_width>
MB_FN void slots_forward(const Block& block, const Arguments& a, int64_t tile) {
    ForwardTile<SlotsForward<fixed_width>>(block, a, first_of_tile(a, tile), first_of_tile(a, tile + 1)).run();
}

// Also Gradients, but of the weights.
template <int fixed_width>
MB_FN void slots_backward(const Block& block, const Arguments& a, int64_t tile) {
    SlotsBackwardTile<fixed_width>(block, a, first_of_tile(a, tile), first_of_tile(a, tile + 1)).run();
}

}  // namespace entries

}  // namespace mb
