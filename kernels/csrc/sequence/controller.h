// The LSTM controller, forward and backward: what all models have in common (Rae et al. 2016, supplement A).
#pragma once

#include "block/matvec.h"
#include "sequence/batch_tile.h"

namespace mb {

// One batch element: its controller's part of the tape, and the steps that need no weights.
struct ControllerElement {
    const Block& block;
    const Arguments& a;
    const int64_t b, W;  // b: the element; else as in arguments.h
    const Count H, R, P, C;
    Clocks clocks;
    Real *grad_carry, *grad_hidden;  // backward's; grad_hidden [H] is scratch

    // width: that of the arguments, or the same number as a constant known to the compiler.
    MB_FN ControllerElement(const Block& block, const Arguments& a, int64_t element, int64_t width)
        : block(block),
          a(a),
          b(element),
          W(width),
          H(a.hidden),
          R(a.heads),
          P(a.interface_size),
          C(a.hidden + a.heads * a.width),
          clocks(a.clocks, element) {
        grad_carry = a.grad_carry + b * C;
    }

    MB_FN int64_t steps() const { return steps_of(a, b); }
    // Where step t of a tape [T, B, n] is kept: without a tape, steps alternate between two places.
    template <class T>
    MB_FN T* tape_at(T* tape, int64_t t, Count n) const {
        return tape + ((a.taped ? t : t % 2) * a.batch + b) * n;
    }
    MB_FN Real* carry(int64_t t) const { return a.carry + (t * a.batch + b) * C; }
    MB_FN Real* cell(int64_t t) const { return tape_at(a.cell, t, H); }
    MB_FN Real* gates(int64_t t) const { return tape_at(a.gates, t, 4 * H); }
    MB_FN Real* interface(int64_t t) const { return tape_at(a.interface, t, P); }
    MB_FN Real* interface_gradient(int64_t t) const { return a.grad_interface + (t * a.batch + b) * P; }
    MB_FN Real* gates_gradient(int64_t t) const { return a.grad_gates + (t * a.batch + b) * 4 * H; }

    // Visible after the next sync.
    MB_FN void load_first_controller() {
        block.for_each(H,
                       [&](Count j) { carry(0)[j] = a.first_hidden[b * H + j], cell(0)[j] = a.first_cell[b * H + j]; });
        block.for_each(R * W, [&](Count j) { carry(0)[H + j] = a.first_reads[b * R * W + j]; });
    }
    MB_FN void store_last_controller() {
        const int64_t T = steps();
        block.for_each(H,
                       [&](Count j) { a.last_hidden[b * H + j] = carry(T)[j], a.last_cell[b * H + j] = cell(T)[j]; });
        block.for_each(R * W, [&](Count j) { a.last_reads[b * R * W + j] = carry(T)[H + j]; });
    }

    // The LSTM cell of step t: gates are activated in place. A cluster's block does its own units.
    MB_FN void lstm(int64_t t) {
        Real *const g = gates(t), *const hidden = carry(t + 1);
        const Real* before = cell(t);
        Real* const after = cell(t + 1);
        Real *const g_f = g + H, *const g_c = g + 2 * H, *const g_o = g + 3 * H;
        // by value, so that the compiler knows that no store changes these pointers
        block.for_each_in_share(H, [=](Count j) MB_INLINE {
            const Real i = sigmoid(g[j]), f = sigmoid(g_f[j]), c = hyperbolic_tangent(g_c[j]), o = sigmoid(g_o[j]);
            const Real next = f * before[j] + i * c;
            g[j] = i, g_f[j] = f, g_c[j] = c, g_o[j] = o;
            after[j] = next;
            hidden[j] = o * hyperbolic_tangent(next);
        });
    }

    MB_FN void lstm_backward(int64_t t) {
        const Real *const g = gates(t), *const before = cell(t), *const after = cell(t + 1);
        Real *const grad_g = gates_gradient(t), *const grad_cell = a.grad_cell + b * H, *const grad_h = grad_hidden;
        const Count n = H;
        block.for_each_in_share(n, [=](Count j) MB_INLINE {  // by value, as above
            const Real i = g[j], f = g[n + j], c = g[2 * n + j], o = g[3 * n + j],
                       squashed = hyperbolic_tangent(after[j]);
            const Real grad = grad_cell[j] + grad_h[j] * o * (1 - squashed * squashed);
            grad_g[j] = grad * c * i * (1 - i);
            grad_g[n + j] = grad * before[j] * f * (1 - f);
            grad_g[2 * n + j] = grad * i * (1 - c * c);
            grad_g[3 * n + j] = grad_h[j] * squashed * o * (1 - o);
            grad_cell[j] = grad * f;
        });
    }

    // Add the gradient from the output layer to that of the carry; visible after the next sync.
    MB_FN void add_output_gradient(int64_t t) {
        const Real* from_output = a.grad_features + (t * a.batch + b) * C;
        block.for_each(C, [&](Count j) { grad_carry[j] += from_output[j]; });
    }

    // [x_t, r_{t-1}]: the right factor of the gradient of weight_ih.
    MB_FN void store_cell_inputs(int64_t t) {
        const Count X = a.input_size;
        Real* const out = a.cell_inputs + (t * a.batch + b) * (X + R * W);
        const Real* const x = a.x + (t * a.batch + b) * X;
        block.for_each(X, [&](Count j) { out[j] = x[j]; });
        block.for_each(R * W, [&](Count j) { out[X + j] = carry(t)[H + j]; });
    }
};

// The products with the controller's weights, of all elements of a tile. Element: a ControllerElement that has
// `activate_interface`.
template <class Element>
struct ControllerTile : BatchTile<Element> {
    typedef BatchTile<Element> Tile;
    using Tile::Tile, Tile::block, Tile::a, Tile::clocks, Tile::for_each_element, Tile::rhs_of_all;

    // The interface is visible after the next sync.
    MB_FN void controller(int64_t t) {
        const int64_t H = a.hidden, RW = a.heads * a.width, P = a.interface_size;
        const RhsBatch hidden = rhs_of_all(
            [&](RhsBatch& x, Element& e) { x.add(e.gates(t), a.input + (t * a.batch + e.b) * 4 * H, e.carry(t)); });
        if (Block::multiplies_panels && a.carry_panels) {
            matvec_panels(block, hidden, a.carry_panels, H + RW, 4 * H);
        } else {
            matvec(block, hidden, a.weight_hh, H, 4 * H, H);
            // No sync: the same thread owns a row here and in the product above.
            const RhsBatch reads =
                rhs_of_all([&](RhsBatch& x, Element& e) { x.add(e.gates(t), e.gates(t), e.carry(t) + H); });
            matvec(block, reads, a.weight_ih + a.input_size, a.input_size + RW, 4 * H, RW);
        }
        block.sync();
        for_each_element([&](Element& e) { e.lstm(t); });
        block.sync();
        const RhsBatch interface =
            rhs_of_all([&](RhsBatch& x, Element& e) { x.add(e.interface(t), a.interface_bias, e.carry(t + 1)); });
        if (Block::multiplies_panels && a.interface_panels)
            matvec_panels(block, interface, a.interface_panels, H, P);
        else
            matvec(block, interface, a.interface_weight, H, P, H);
        block.sync();
        for_each_element([&](Element& e) { e.activate_interface(t); });
        clocks().end_of(block, Phase::controller);
    }

    MB_FN void controller_backward(int64_t t) {
        const int64_t H = a.hidden;
        const RhsBatch hidden =
            rhs_of_all([&](RhsBatch& x, Element& e) { x.add(e.grad_hidden, e.grad_carry, e.interface_gradient(t)); });
        if (Block::multiplies_panels && a.interface_back_panels)
            matvec_panels(block, hidden, a.interface_back_panels, a.interface_size, H);
        else
            matvec_transposed(block, hidden, a.interface_weight, H, a.interface_size, H);
        block.sync();
        cell_backward(t);
    }
    // From the gradients of hidden state (`grad_hidden`) and cell to those of the carry and the cell before.
    MB_FN void cell_backward(int64_t t) {
        const int64_t H = a.hidden, RW = a.heads * a.width;
        for_each_element([&](Element& e) { e.lstm_backward(t); });
        block.sync();
        const RhsBatch before =
            rhs_of_all([&](RhsBatch& x, Element& e) { x.add(e.grad_carry, nullptr, e.gates_gradient(t)); });
        if (Block::multiplies_panels && a.carry_back_panels) {
            matvec_panels(block, before, a.carry_back_panels, 4 * H, H + RW);
        } else {
            matvec_transposed(block, before, a.weight_hh, H, 4 * H, H);
            const RhsBatch reads =
                rhs_of_all([&](RhsBatch& x, Element& e) { x.add(e.grad_carry + H, nullptr, e.gates_gradient(t)); });
            matvec_transposed(block, reads, a.weight_ih + a.input_size, a.input_size + RW, 4 * H, RW);
        }
        block.sync();
        clocks().end_of(block, Phase::controller);
    }
};

// Forward of all models. Element: as for ControllerTile, with `load_first_states`, `step` and `store_last_states`.
template <class Element>
struct ForwardTile : ControllerTile<Element> {
    typedef ControllerTile<Element> Tile;
    using Tile::Tile, Tile::block, Tile::clocks, Tile::for_each_element, Tile::for_each_step, Tile::controller;

    MB_FN void run() {
        clocks().start(block);
        for_each_element([](Element& element) { element.load_first_states(); });
        clocks().end_of(block, Phase::rest);
        for_each_step([&](int64_t t) {
            controller(t);
            for_each_element([&](Element& element) { element.step(t); });
        });
        for_each_element([](Element& element) { element.store_last_states(); });
    }
};

}  // namespace mb
