// The allocation weights of the DNC over free rows, the least used first (Graves et al. 2016, Methods). The order is a
// constant for the gradient.
#pragma once

#include <type_traits>
#include <utility>

#include "dense/vectors.h"

namespace mb {

struct Allocation {
    int64_t slots;
    int32_t* order;  // [N] rows from the least used on; NaN comes last, of equal ones the lower row first

    // Usage within [epsilon, 1], which keeps the gradient of the product finite.
    MB_FN static Real squeezed(Real usage) { return epsilon + (1 - epsilon) * usage; }

    // By radix, a byte of the keys at a time from the lowest: each pass keeps the order of equal bytes. `workspace`: of
    // 3 N Reals.
    MB_FN void sort(const Real* usage, Real* workspace) const {
        Key *keys = reinterpret_cast<Key*>(workspace), *other_keys = keys + slots;
        int32_t *rows = order, *other_rows = reinterpret_cast<int32_t*>(other_keys + slots);
        int32_t place[sizeof(Key)][256] = {};  // how many keys have a byte, then where the next of them goes
        for (int64_t i = 0; i < slots; ++i) {
            const Key key = key_of(squeezed(usage[i]));
            keys[i] = key, rows[i] = static_cast<int32_t>(i);
            for (size_t b = 0; b < sizeof(Key); ++b) ++place[b][key >> 8 * b & 255];
        }
        for (size_t b = 0; b < sizeof(Key); ++b) {
            int32_t before = 0;
            for (int32_t& count : place[b]) {
                const int32_t own = count;
                count = before, before += own;
            }
            for (int64_t i = 0; i < slots; ++i) {
                const int32_t to = place[b][keys[i] >> 8 * b & 255]++;
                other_keys[to] = keys[i], other_rows[to] = rows[i];
            }
            std::swap(keys, other_keys), std::swap(rows, other_rows);  // an even number of times
        }
    }
    typedef std::conditional_t<sizeof(Real) == 4, uint32_t, uint64_t> Key;
    // Keys are ordered as the numbers are; NaN comes last.
    MB_FN static Key key_of(Real x) {
        constexpr Key sign = Key(1) << (8 * sizeof(Key) - 1);
        if (x != x) return ~Key(0);
        x += Real(0);  // -0 becomes 0
        Key bits;
        __builtin_memcpy(&bits, &x, sizeof bits);
        return bits & sign ? ~bits : bits | sign;
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
