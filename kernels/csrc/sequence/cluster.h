// The recurrence by a cluster of blocks. For the whole pass, each block holds its share of the controller's weights in
// its shared memory, and computes that share of each product. Vectors go through global memory: what one block writes,
// the others may read only after `cluster_sync`. The hash index is queried by all blocks, each for its share of the
// heads. The first block leads: it does all the rest of a step. Only in builds with MB_CLUSTER.
#pragma once

#include "sequence/backward.h"
#include "sequence/forward.h"

namespace mb {

// Rows in shared memory. Each begins at a multiple of 16 bytes, and ends in zeros up to the next.
struct SharedRows {
    Real* first = nullptr;
    Count count = 0, stride = 0;
};

MB_FN Count padded(Count n) {
    constexpr Count aligned = 16 / sizeof(Real);
    return (n + aligned - 1) / aligned * aligned;
}

// One batch element. The shared memory of a block has the right factor of a product, then rows of two matrices; what it
// takes is said again in kernels/sequence/cluster.py.
template <class Element>
struct ClusterPass {
    const Block& block;
    const Arguments& a;
    Element element;
    const bool leads;
    const Count H, C, P, X;
    const Share units;   // of the H hidden units
    Real* const vector;  // the right factor
    Real* next;          // shared memory not yet taken

    // longest: the most numbers of a right factor.
    MB_FN ClusterPass(const Block& block, const Arguments& a, int64_t item, Count longest)
        : block(block),
          a(a),
          element(block, a, item),
          leads(block.cluster_rank() == 0),
          H(element.H),
          C(element.C),
          P(element.P),
          X(a.input_size),
          units(block.share(H)),
          vector(block.shared_memory()),
          next(vector + padded(longest)) {}

    // Weight of [h_{t-1}, r_{t-1}] component k for gate j, of [4H, C].
    MB_FN Real carry_weight(int64_t j, Count k) const {
        return k < H ? a.weight_hh[j * H + k] : a.weight_ih[j * (X + C - H) + X + k - H];
    }

    // Copy rows of a matrix to shared memory, weight(i, k) being number k of row i; used after the next sync. Adjacent
    // threads load what is adjacent: numbers of a row, or with `by_column` of a column.
    template <class F>
    MB_FN SharedRows keep_rows(Count count, Count columns, bool by_column, F weight) {
        const SharedRows rows{next, count, padded(columns)};
        block.for_each(count * rows.stride, [&](Count n) {
            const Count i = by_column ? n % count : n / rows.stride, k = by_column ? n / count : n % rows.stride;
            rows.first[i * rows.stride + k] = k < columns ? weight(i, k) : Real(0);
        });
        next += count * rows.stride;
        return rows;
    }

    // save(i, start(i) + row i . v) for all rows; v [columns] is in global memory.
    template <class Start, class Save>
    MB_FN void multiply(const SharedRows& rows, const Real* v, Count columns, Start start, Save save) const {
        block.for_each(rows.stride, [&](Count k) { vector[k] = k < columns ? v[k] : Real(0); });
        block.sync();
        constexpr Count at_once = Warp::rows_per_warp;
        block.for_each_by_warp((rows.count + at_once - 1) / at_once, [&](Count unit, Warp warp) {
            const Count first = unit * at_once, rest = rows.count - first;
            warp.multiply_aligned(
                rows.first + first * rows.stride, rows.stride, vector, rest < at_once ? rest : at_once,
                [&](Count q) { return start(first + q); }, [&](Count q, Real sum) { save(first + q, sum); });
        });
    }
};

template <int fixed_width>
struct ClusterForward : ClusterPass<ForwardElement<fixed_width>> {
    typedef ClusterPass<ForwardElement<fixed_width>> Pass;
    using Pass::block, Pass::a, Pass::element, Pass::leads, Pass::H, Pass::C, Pass::P, Pass::units;

    SharedRows carry_rows, interface_rows;
    const Share outputs;  // of the interface

    MB_FN ClusterForward(const Block& block, const Arguments& a, int64_t item)
        : Pass(block, a, item, static_cast<Count>(a.hidden + a.heads * a.width)), outputs(block.share(P)) {
        carry_rows = this->keep_rows(4 * units.count, C, false,
                                     [&](Count i, Count k) { return this->carry_weight(gate(i), k); });
        interface_rows = this->keep_rows(outputs.count, H, false, [&](int64_t i, Count k) {
            return this->a.interface_weight[(outputs.first + i) * H + k];
        });
    }

    // The gate that row i of carry_rows computes: all four of this block's units.
    MB_FN Count gate(Count i) const { return i / units.count * H + units.first + i % units.count; }

    MB_FN void run() {
        if (leads) {
            element.clocks.start(block);
            element.load_first_states();
            element.clocks.end_of(block, Phase::rest);
        }
        for (int64_t t = 0; t < element.steps(); ++t) {
            block.cluster_sync();  // the reads of step t - 1, and before the first step the weights
            controller(t);
            if (leads) {
                element.activate_interface(t);
                element.clocks.end_of(block, Phase::controller);
                element.write(t);
            }
            if (a.tables)
                query_index(t);
            else if (leads)
                element.search(t);
            if (leads) element.read_found(t);
        }
        if (leads) element.store_last_states();
    }

    MB_FN void query_index(int64_t t) {
        const Share heads = block.share(element.R);
        block.cluster_sync();  // the rows and tables as this step's write leaves them
        const int64_t before =
            lsh_query_scratch(a, heads.first, element.K) + block.cluster_rank() * lsh_query_scratch(a, 0, element.K);
        element.query_index(t, heads, element.workspace + before);
        block.cluster_sync();  // the rows found
    }

    MB_FN void controller(int64_t t) {
        const Real* const input = a.input + (t * a.batch + element.b) * 4 * H;
        Real *const gates = element.gates(t), *const p = element.interface(t);
        this->multiply(
            carry_rows, element.carry(t), C, [&](Count i) { return input[gate(i)]; },
            [&](Count i, Real sum) { gates[gate(i)] = sum; });
        block.sync();
        element.lstm(t);
        block.cluster_sync();  // h_t
        this->multiply(
            interface_rows, element.carry(t + 1), H, [&](Count i) { return a.interface_bias[outputs.first + i]; },
            [&](Count i, Real sum) { p[outputs.first + i] = sum; });
        block.cluster_sync();  // the interface
    }
};

template <int fixed_width>
struct ClusterBackward : ClusterPass<BackwardElement<fixed_width>> {
    typedef ClusterPass<BackwardElement<fixed_width>> Pass;
    using Pass::block, Pass::a, Pass::element, Pass::leads, Pass::H, Pass::C, Pass::P, Pass::units;

    SharedRows interface_columns, carry_columns;
    const Share inputs;  // of the carry

    MB_FN ClusterBackward(const Block& block, const Arguments& a, int64_t item)
        : Pass(block, a, item, longest(a)), inputs(block.share(C)) {
        interface_columns = this->keep_rows(units.count, P, true, [&](Count i, int64_t k) {
            return this->a.interface_weight[k * H + units.first + i];
        });
        carry_columns = this->keep_rows(inputs.count, 4 * H, true,
                                        [&](Count i, Count k) { return this->carry_weight(k, inputs.first + i); });
    }
    MB_FN static Count longest(const Arguments& a) {
        const int64_t gates = 4 * a.hidden, interface = a.interface_size;
        return static_cast<Count>(gates > interface ? gates : interface);
    }

    MB_FN void run() {
        if (leads) {
            element.clocks.start(block);
            element.assign_touched_slots();
            element.clocks.end_of(block, Phase::rest);
        }
        for (int64_t t = element.steps(); t-- > 0;) {
            if (leads) element.memory_backward(t);
            block.cluster_sync();  // gradients of the interface and of the carry; before the first step, the weights
            controller_backward(t);
            block.cluster_sync();  // the gradient of the carry of t - 1
            if (leads) element.clocks.end_of(block, Phase::controller);
        }
    }

    MB_FN void controller_backward(int64_t t) {
        Real *const grad_hidden = element.grad_hidden + units.first, *const grad_carry = element.grad_carry;
        this->multiply(
            interface_columns, element.interface_gradient(t), P, [&](Count i) { return grad_carry[units.first + i]; },
            [&](Count i, Real sum) { grad_hidden[i] = sum; });
        block.sync();
        element.lstm_backward(t);
        block.cluster_sync();  // the gradient of the gates
        this->multiply(
            carry_columns, element.gates_gradient(t), 4 * H, [](Count) { return Real(0); },
            [&](Count i, Real sum) { grad_carry[inputs.first + i] = sum; });
    }
};

namespace entries {

// As `forward` and `backward`, an item being one batch element: called by all blocks of a cluster. They have
// `shared_bytes` of shared memory each.
template <int fixed_width>
MB_FN void forward_cluster(const Block& block, const Arguments& a, int64_t item) {
    ClusterForward<fixed_width>(block, a, item).run();
}
template <int fixed_width>
MB_FN void backward_cluster(const Block& block, const Arguments& a, int64_t item) {
    ClusterBackward<fixed_width>(block, a, item).run();
}

}  // namespace entries
}  // namespace mb
