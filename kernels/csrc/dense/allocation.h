// The allocation weights of the DNC over free rows, the least used first (Graves et al. 2016, Methods). The order is a
// constant for the gradient.
#pragma once

#include <algorithm>

#include "dense/vectors.h"

namespace mb {

struct Allocation {
    int64_t slots;
    int32_t* order;  // [N] rows from the least used on; NaN comes last, of equal ones the lower row first

    // Usage within [epsilon, 1], which keeps the gradient of the product finite.
    MB_FN static Real squeezed(Real usage) { return epsilon + (1 - epsilon) * usage; }

    MB_FN void sort(const Real* usage) const {
        for (int64_t i = 0; i < slots; ++i) order[i] = static_cast<int32_t>(i);
        std::stable_sort(order, order + slots, [=](int32_t a, int32_t b) {
            const Real x = squeezed(usage[a]), y = squeezed(usage[b]);
            return x == x && (x < y || y != y);
        });
    }
    MB_FN void run(const Real* usage, Real* allocation) const {
        double product = 1;
        for (int64_t k = 0; k < slots; ++k) {
            const Real own = squeezed(usage[order[k]]);
            allocation[order[k]] = (1 - own) * static_cast<Real>(product);
            product *= own;
        }
    }
    // Adds to the gradient of the usage. `products` [N] is scratch.
    MB_FN void run_backward(const Real* usage, const Real* grad_allocation, Real* grad_usage, Real* products) const {
        double product = 1;
        for (int64_t k = 0; k < slots; ++k) {
            products[k] = static_cast<Real>(product);
            product *= squeezed(usage[order[k]]);
        }
        double later = 0;  // sum over later rows of their gradient times their weight
        for (int64_t k = slots; k-- > 0;) {
            const int64_t row = order[k];
            const Real own = squeezed(usage[row]), grad = grad_allocation[row];
            grad_usage[row] += (1 - epsilon) * (static_cast<Real>(later / own) - grad * products[k]);
            later += static_cast<double>(grad) * ((1 - own) * products[k]);
        }
    }
};

}  // namespace mb
