// The location addressing of some heads: interpolation with the weights before, shift and sharpening (Graves et al.
// 2014, eq 7-9), forward and backward, a chunk of rows at a time.
#pragma once

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

struct Location {
    int64_t slots, reach;  // N, S

    // out = exp(sharpening log(the shifted, interpolated weights) - its largest in the chunk), to be multiplied by the
    // factors of `softmax`. `scores`: content weights before theirs, `content`; `kept` (or null): content weights.
    MB_FN void forward(const Chunk& chunk, const Address& p, const Real* scores, const Softmax& content,
                       const Real* before, Real* kept, Real* out, const Softmax& softmax) const {
        const Real gate = p.gate(), sharpening = p.sharpening(), *const shifts = p.shifts();
        if (kept) {
            const Real factor = content.factors[chunk.number];
            for_vector(chunk.size(),
                       [=](int64_t i) MB_INLINE { kept[chunk.first + i] = factor * scores[chunk.first + i]; });
        }
        for (int64_t move = -reach; move <= reach; ++move)
            for_each_run(chunk, slots, -move, [=](int64_t i, int64_t from, int64_t n) {
                const Real factor = shifts[move + reach] * gate * content.factors[from / Block::chunk_rows];
                const Real rest = shifts[move + reach] * (1 - gate);
                Real* const to = out + i;
                const Real *const x = scores + from, *const y = before + from;
                if (move == -reach)
                    for_vector(n, [=](int64_t k) MB_INLINE { to[k] = factor * x[k] + rest * y[k]; });
                else
                    for_vector(n, [=](int64_t k) MB_INLINE { to[k] += factor * x[k] + rest * y[k]; });
            });
        Real* const own = out + chunk.first;
        const Real tiny = smallest_normal();
        for_vector(chunk.size(), [=](int64_t i) MB_INLINE { own[i] = sharpening * logarithm(own[i] + tiny); });
        softmax.begin(chunk, out, chunk.end);
    }

    // From the gradient of the weights to that of the shifted ones, `grad_shifted`; `inner`: their product with the
    // weights. To `parts`: gradients of sharpening and shifts.
    MB_FN void sharpen_backward(const Chunk& chunk, const Address& p, const Real* content, const Real* before,
                                const Real* weights, const Real* grad_weights, Real inner, Real* grad_shifted,
                                Real* parts) const {
        const Real gate = p.gate(), sharpening = p.sharpening(), *const shifts = p.shifts(), tiny = smallest_normal();
        const auto each_shift = [&](auto f) {
            for (int64_t move = -reach; move <= reach; ++move)
                for_each_run(chunk, slots, -move,
                             [=](int64_t i, int64_t from, int64_t n) { f(move + reach, i, from, n); });
        };
        each_shift([=](int64_t shift, int64_t i, int64_t from, int64_t n) {
            const Real factor = shifts[shift] * gate, rest = shifts[shift] * (1 - gate);
            Real* const to = grad_shifted + i;
            const Real *const x = content + from, *const y = before + from;
            if (shift == 0)
                for_vector(n, [=](int64_t k) MB_INLINE { to[k] = factor * x[k] + rest * y[k]; });
            else
                for_vector(n, [=](int64_t k) MB_INLINE { to[k] += factor * x[k] + rest * y[k]; });
        });
        Real products[Block::chunk_rows];
        Real* const product = products;
        Real* const own = grad_shifted + chunk.first;
        const Real *const w = weights + chunk.first, *const grad_w = grad_weights + chunk.first;
        for_vector(chunk.size(), [=](int64_t i) MB_INLINE {
            const Real shifted = own[i] + tiny, grad_power = w[i] * (grad_w[i] - inner);
            product[i] = grad_power * logarithm(shifted);
            own[i] = sharpening * grad_power / shifted;
        });
        parts[0] = Warp{}.sum(chunk.size(), [=](int64_t i) MB_INLINE { return product[i]; });
        for (int64_t shift = 0; shift <= 2 * reach; ++shift) parts[1 + shift] = 0;
        each_shift([=](int64_t shift, int64_t i, int64_t from, int64_t n) {
            const Real *const x = content + from, *const y = before + from, *const grad = grad_shifted + i;
            parts[1 + shift] +=
                Warp{}.sum(n, [=](int64_t k) MB_INLINE { return grad[k] * (gate * x[k] + (1 - gate) * y[k]); });
        });
    }

    // From the gradient of the shifted weights to that of the content weights, `grad_content`, and of the weights
    // before. To `parts`: gradient of the gate, and the product of the content weights with their gradient.
    MB_FN void interpolate_backward(const Chunk& chunk, const Address& p, const Real* content, const Real* before,
                                    const Real* grad_shifted, Real* grad_content, Real* grad_before,
                                    Real* parts) const {
        const Real gate = p.gate(), *const shifts = p.shifts();
        for (int64_t move = -reach; move <= reach; ++move)
            for_each_run(chunk, slots, move, [=](int64_t i, int64_t from, int64_t n) {
                const Real factor = shifts[move + reach];
                Real* const to = grad_content + i;
                const Real* const grad = grad_shifted + from;
                if (move == -reach)
                    for_vector(n, [=](int64_t k) MB_INLINE { to[k] = factor * grad[k]; });
                else
                    for_vector(n, [=](int64_t k) MB_INLINE { to[k] += factor * grad[k]; });
            });
        Real* const grad = grad_content + chunk.first;
        const Real *const x = content + chunk.first, *const y = before + chunk.first;
        Real* const grad_y = grad_before + chunk.first;
        const int64_t n = chunk.size();
        parts[0] = Warp{}.sum(n, [=](int64_t i) MB_INLINE { return grad[i] * (x[i] - y[i]); });
        parts[1] = gate * Warp{}.sum(n, [=](int64_t i) MB_INLINE { return grad[i] * x[i]; });
        for_vector(n, [=](int64_t i) MB_INLINE {
            grad_y[i] = (1 - gate) * grad[i];
            grad[i] = gate * grad[i];
        });
    }
};

}  // namespace mb
