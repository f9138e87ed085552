// A write of one head that keeps or wipes rows and adds to them (Rae et al. 2016, section 3.2), forward and backward.
#pragma once

#include "dense/rows.h"

namespace mb {

// The write of one head, as what is done to vectors of rows (dense/row_writes.h, dense/row_gradients.h): rows are kept
// or wiped, and the head adds to them.
struct KeepAndAdd {
    const Real *keep, *added, *value;  // over the rows of the block; [W]

    template <class Vector, int at_once>
    struct Of {
        const Real* value;
        Vector keep[at_once], added[at_once];
        MB_FN Vector after(int j, int64_t w, Vector row) const { return keep[j] * row + value[w] * added[j]; }
    };
    template <class Vector, int at_once>
    MB_FN Of<Vector, at_once> of(int64_t i) const {
        Of<Vector, at_once> own{value, {}, {}};
        for (int j = 0; j < at_once; ++j) {
            own.keep[j] = load_columns<Vector>(keep + i + j * lanes_of<Vector>);
            own.added[j] = load_columns<Vector>(added + i + j * lanes_of<Vector>);
        }
        return own;
    }
};

// The same backwards, from the rows after the write: the gradients of `added`, and of the value [W], in lanes.
struct KeepAndAddBackward {
    KeepAndAdd write;
    Real *grad_added, *of_value;

    template <class Vector, int at_once>
    struct Of : KeepAndAdd::Of<Vector, at_once> {
        Real *of_value, *grad_added;
        Vector grad[at_once];
        MB_FN Vector after(int, int64_t, Vector row) const { return row; }
        MB_FN void undo(int64_t w, const Vector (&)[at_once], Vector (&grads)[at_once]) {
            Vector to_value = {};
            for (int j = 0; j < at_once; ++j) {
                grad[j] += this->value[w] * grads[j];
                to_value += this->added[j] * grads[j];
                grads[j] *= this->keep[j];  // NaN stays
            }
            add_to_lanes(of_value + w * sum_lanes, to_value);
        }
        MB_FN void end() const {
            for (int j = 0; j < at_once; ++j) store_columns(grad_added + j * lanes_of<Vector>, grad[j]);
        }
    };
    template <class Vector, int at_once>
    MB_FN Of<Vector, at_once> of(int64_t i) const {
        return {write.of<Vector, at_once>(i), of_value, grad_added + i, {}};
    }
};

}  // namespace mb
