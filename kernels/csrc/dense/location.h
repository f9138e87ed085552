// The location addressing of some heads: interpolation with the weights before, shift and sharpening (Graves et al.
// 2014, eq 7-9), forward and backward, a chunk of rows at a time.
#pragma once

#include <vector>

#include "dense/vectors.h"

namespace mb {

// An address in the interface vector, activated: key, strength, gate, sharpening and 2 S + 1 shifts; or its gradient.
struct Address {
    Real* key;
    int64_t width;
    MB_FN Real& strength() const { return key[width]; }
    MB_FN Real& gate() const { return key[width + 1]; }
    MB_FN Real& sharpening() const { return key[width + 2]; }
    MB_FN Real* shifts() const { return key + width + 3; }
};

// Numbers of a chunk's rows and of `reach` rows on both sides of it, circularly, so that a shift is a load from another
// place.
class Window {
    Real few[Block::chunk_rows + 16];
    std::vector<Real> many;  // where the reach is long

  public:
    Real* const rows;  // rows[i] is of row first + i of the chunk, -reach <= i < size + reach

    // number_of(factor, row): the number of a row, with factor_of(number) of the chunk that it is in.
    template <class Factor, class F>
    MB_FN Window(const Chunk& chunk, int64_t slots, int64_t reach, Factor factor_of, F number_of)
        : many(reach > 8 ? Block::chunk_rows + 2 * reach : 0), rows((reach > 8 ? many.data() : few) + reach) {
        Real* const own = rows;
        const Real factor = factor_of(chunk.number);
        const int64_t n = chunk.size(), first = chunk.first;
        for_vector(n, [=](int64_t i) MB_INLINE { own[i] = number_of(factor, first + i); });
        const auto fill = [&](int64_t i) {
            const int64_t offset = (first + i) % slots, row = offset < 0 ? offset + slots : offset;
            own[i] = number_of(factor_of(row / Block::chunk_rows), row);
        };
        for (int64_t i = 1; i <= reach; ++i) fill(-i), fill(n - 1 + i);
    }
};

struct Location {
    int64_t slots, reach;  // N, S

    // out = exp(sharpening log(the shifted, interpolated weights) - its largest in the chunk), to be multiplied by the
    // factors of `softmax`. `scores`: content weights before theirs, `content`; `kept` (or null): content weights.
    MB_FN void forward(const Chunk& chunk, const Address& p, const Real* scores, const Softmax& content,
                       const Real* before, Real* kept, Real* out, const Softmax& softmax) const {
        const Real gate = p.gate(), sharpening = p.sharpening(), tiny = smallest_normal();
        const int64_t n = chunk.size();
        if (kept) {
            const Real factor = content.factors[chunk.number], *const from = scores + chunk.first;
            Real* const to = kept + chunk.first;
            for_vector(n, [=](int64_t i) MB_INLINE { to[i] = factor * from[i]; });
        }
        const Window gated(
            chunk, slots, reach, [=](int64_t number) { return gate * content.factors[number]; },
            [=](Real factor, int64_t row) MB_INLINE { return factor * scores[row] + (1 - gate) * before[row]; });
        Real* const own = out + chunk.first;
        shift<-1>(gated.rows, p.shifts(), n, own);
        for_vector(n, [=](int64_t i) MB_INLINE { own[i] = sharpening * logarithm(own[i] + tiny); });
        softmax.begin(chunk, out, chunk.end);
    }

    // From the gradient of the weights to that of the shifted ones, `grad_shifted`; `inner`: their product with the
    // weights. To `parts`: gradients of sharpening and shifts.
    MB_FN void sharpen_backward(const Chunk& chunk, const Address& p, const Real* content, const Real* before,
                                const Real* weights, const Real* grad_weights, Real inner, Real* grad_shifted,
                                Real* parts) const {
        const Real gate = p.gate(), sharpening = p.sharpening(), tiny = smallest_normal();
        const int64_t n = chunk.size();
        const Window gated(
            chunk, slots, reach, [](int64_t) { return Real(0); },
            [=](Real, int64_t row) MB_INLINE { return gate * content[row] + (1 - gate) * before[row]; });
        Real* const own = grad_shifted + chunk.first;
        shift<-1>(gated.rows, p.shifts(), n, own);
        Real products[Block::chunk_rows];
        Real* const product = products;
        const Real *const w = weights + chunk.first, *const grad_w = grad_weights + chunk.first;
        for_vector(n, [=](int64_t i) MB_INLINE {
            const Real shifted = own[i] + tiny, grad_power = w[i] * (grad_w[i] - inner);
            product[i] = grad_power * logarithm(shifted);
            own[i] = sharpening * grad_power / shifted;
        });
        parts[0] = Warp{}.sum(n, [=](int64_t i) MB_INLINE { return product[i]; });
        for (int64_t s = 0; s <= 2 * reach; ++s) {
            const Real* const moved = gated.rows + reach - s;
            parts[1 + s] = Warp{}.sum(n, [=](int64_t i) MB_INLINE { return own[i] * moved[i]; });
        }
    }

    // From the gradient of the shifted weights to that of the content weights, `grad_content`, and of the weights
    // before. To `parts`: gradient of the gate, and the product of the content weights with their gradient.
    MB_FN void interpolate_backward(const Chunk& chunk, const Address& p, const Real* content, const Real* before,
                                    const Real* grad_shifted, Real* grad_content, Real* grad_before,
                                    Real* parts) const {
        const Real gate = p.gate();
        const int64_t n = chunk.size();
        const Window grads(
            chunk, slots, reach, [](int64_t) { return Real(0); },
            [=](Real, int64_t row) MB_INLINE { return grad_shifted[row]; });
        Real *const grad = grad_content + chunk.first, *const grad_y = grad_before + chunk.first;
        shift<1>(grads.rows, p.shifts(), n, grad);
        const Real *const x = content + chunk.first, *const y = before + chunk.first;
        parts[0] = Warp{}.sum(n, [=](int64_t i) MB_INLINE { return grad[i] * (x[i] - y[i]); });
        parts[1] = gate * Warp{}.sum(n, [=](int64_t i) MB_INLINE { return grad[i] * x[i]; });
        for_vector(n, [=](int64_t i) MB_INLINE {
            grad_y[i] = (1 - gate) * grad[i];
            grad[i] = gate * grad[i];
        });
    }

  private:
    // out[i] = sum_s shifts[s] rows[i + direction (s - reach)]
    template <int direction>
    MB_FN void shift(const Real* rows, const Real* shifts, int64_t n, Real* out) const {
        const int64_t side = reach;
        for_each_columns(n, [=](auto zero, int64_t i) MB_INLINE {
            typedef decltype(zero) Vector;
            Vector sum = shifts[0] * load_columns<Vector>(rows + i - direction * side);
            for (int64_t s = 1; s <= 2 * side; ++s)
                sum += shifts[s] * load_columns<Vector>(rows + i + direction * (s - side));
            store_columns(out + i, sum);
        });
    }
};

}  // namespace mb
