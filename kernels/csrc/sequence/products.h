// Products before and after the recurrence: inputs, output layer, and the sums over all steps that are the gradients of
// the weights. Only for short passes, where they take less time than separate calls of a library. An item takes a share
// of the rows; there are as many items as elements. They read Sizes, Weights, PassStates, the carry, and Gradients.
#pragma once

#include "arguments.h"
#include "block/matvec.h"

// Entry points as in entries.h.
#define MB_AROUND_ENTRIES          \
    MB_ENTRY(panels, a.batch)      \
    MB_ENTRY(input, a.batch)       \
    MB_ENTRY(output, a.batch)      \
    MB_ENTRY(output_back, a.batch) \
    MB_ENTRY(weight_gradients, a.batch)

namespace mb::entries {

// f(first, count) for the item's share of n rows, in batches that share one read of a matrix.
template <class F>
MB_FN void for_row_batches(const Arguments& a, int64_t item, int64_t n, F f) {
    const int64_t end = (item + 1) * n / a.batch;
    for (int64_t first = item * n / a.batch; first < end; first += Block::tile_size)
        f(first, end - first < Block::tile_size ? end - first : Block::tile_size);
}

// out [rows, columns] = left^T right, over the n rows of both.
MB_FN void sum_outer_products(const Block& block, const Arguments& a, int64_t item, Real* out, int64_t rows,
                              int64_t columns, const Real* left, int64_t left_stride, const Real* right,
                              int64_t right_stride, int64_t n) {
    for_row_batches(a, item, rows, [&](int64_t first, int64_t count) {
        if (n == 1) {  // nothing to sum
            for (int64_t i = first; i < first + count; ++i)
                block.for_each(columns, [&](int64_t j) { out[i * columns + j] = left[i] * right[j]; });
            return;
        }
        RhsBatch x;
        x.step = left_stride;
        for (int64_t i = first; i < first + count; ++i) x.add(out + i * columns, nullptr, left + i);
        matvec_transposed(block, x, right, right_stride, n, columns);
    });
}

// out [columns] = the sum of n rows; computed by the first item.
MB_FN void sum_over_rows(const Block& block, int64_t item, Real* out, const Real* rows, int64_t n, int64_t columns) {
    const Real one = 1;
    RhsBatch x;
    x.step = 0;
    x.add(out, nullptr, &one);
    if (item == 0) matvec_transposed(block, x, rows, columns, n, columns);
}

// out: the matrix at(k, j) [rows, columns] in panels (block/panels.h). An item takes a share of them.
template <class At>
MB_FN void put_in_panels(const Block& block, const Arguments& a, int64_t item, Real* out, int64_t rows, int64_t columns,
                         At at) {
    const int64_t panels = (columns + panel_columns - 1) / panel_columns;
    for (int64_t panel = item * panels / a.batch; panel < (item + 1) * panels / a.batch; ++panel) {
        const int64_t first = panel * panel_columns;
        block.for_each(rows, [&](int64_t k) {
            Real* const row = out + (panel * rows + k) * panel_columns;
            if (first + panel_columns <= columns)
                for (int64_t j = 0; j < panel_columns; ++j) row[j] = at(k, first + j);
            else
                for (int64_t j = 0; j < panel_columns; ++j) row[j] = first + j < columns ? at(k, first + j) : Real(0);
        });
    }
}

// The matrices of a step in panels, those of forward or of backward, as given.
template <int>
MB_FN void panels(const Block& block, const Arguments& a, int64_t item) {
    const int64_t H = a.hidden, C = H + a.heads * a.width, P = a.interface_size, stride = a.input_size + C - H;
    const Real *const hh = a.weight_hh, *const reads = a.weight_ih + a.input_size,
                      *const interface = a.interface_weight;
    const auto weight = [=](int64_t gate, int64_t from)
                            MB_INLINE { return from < H ? hh[gate * H + from] : reads[gate * stride + from - H]; };
    if (a.carry_panels)
        put_in_panels(block, a, item, a.carry_panels, C, 4 * H, [=](int64_t k, int64_t j) { return weight(j, k); });
    if (a.interface_panels)
        put_in_panels(block, a, item, a.interface_panels, H, P,
                      [=](int64_t k, int64_t j) { return interface[j * H + k]; });
    if (a.carry_back_panels) put_in_panels(block, a, item, a.carry_back_panels, 4 * H, C, weight);
    if (a.interface_back_panels)
        put_in_panels(block, a, item, a.interface_back_panels, P, H,
                      [=](int64_t k, int64_t j) { return interface[k * H + j]; });
}

// input [T, B, 4H]: the gates' share from x. X is small: tiles of the matrix are transposed once for all steps.
template <int>
MB_FN void input(const Block& block, const Arguments& a, int64_t item) {
    constexpr int64_t tile_rows = 32, tile_columns = 16;
    const int64_t G = 4 * a.hidden, X = a.input_size, stride = X + a.heads * a.width,
                  tiles = (G + tile_rows - 1) / tile_rows, n = a.steps * a.batch;
    const int64_t first_tile = item * tiles / a.batch, end = (item + 1) * tiles / a.batch;
    block.for_each_by_warp(end - first_tile, [&](int64_t unit, Warp warp) {
        Real tile[tile_columns * tile_rows], start[tile_rows];
        const int64_t first = (first_tile + unit) * tile_rows, rows = G - first < tile_rows ? G - first : tile_rows;
        for (int64_t r = 0; r < rows; ++r) start[r] = a.bias_ih[first + r] + a.bias_hh[first + r];
        for (int64_t begin = 0; begin < X; begin += tile_columns) {
            const int64_t columns = X - begin < tile_columns ? X - begin : tile_columns;
            for (int64_t r = 0; r < rows; ++r)
                for (int64_t k = 0; k < columns; ++k)
                    tile[k * tile_rows + r] = a.weight_ih[(first + r) * stride + begin + k];
            for (int64_t s = 0; s < n; s += Block::tile_size) {
                RhsBatch x;
                for (int64_t i = s; i < n && i < s + Block::tile_size; ++i) {
                    Real* const out = a.input + i * G + first;
                    x.add(out, begin == 0 ? start : out, a.x + i * X + begin);
                }
                warp.matvec_transposed(x, 0, tile, tile_rows, columns, rows);
            }
        }
    });
}

// y [T, B, Y] from the carry.
template <int>
MB_FN void output(const Block& block, const Arguments& a, int64_t item) {
    const int64_t C = a.hidden + a.heads * a.width, Y = a.output_size;
    for_row_batches(a, item, a.steps * a.batch, [&](int64_t first, int64_t count) {
        RhsBatch x;
        for (int64_t s = first; s < first + count; ++s) x.add(a.y + s * Y, a.output_bias, a.carry + (a.batch + s) * C);
        matvec(block, x, a.output_weight, C, Y, C);
    });
}

// grad_features [T, B, C] from grad_y.
template <int>
MB_FN void output_back(const Block& block, const Arguments& a, int64_t item) {
    const int64_t C = a.hidden + a.heads * a.width, Y = a.output_size;
    for_row_batches(a, item, a.steps * a.batch, [&](int64_t first, int64_t count) {
        RhsBatch x;
        for (int64_t s = first; s < first + count; ++s) x.add(a.grad_features + s * C, nullptr, a.grad_y + s * Y);
        matvec_transposed(block, x, a.output_weight, C, Y, C);
    });
}

// Gradients of the weights of controller, interface and output layer.
template <int>
MB_FN void weight_gradients(const Block& block, const Arguments& a, int64_t item) {
    const int64_t H = a.hidden, C = H + a.heads * a.width, XR = C - H + a.input_size, P = a.interface_size,
                  Y = a.output_size, n = a.steps * a.batch;
    const Real* const after = a.carry + a.batch * C;
    sum_outer_products(block, a, item, a.grad_weight_ih, 4 * H, XR, a.grad_gates, 4 * H, a.cell_inputs, XR, n);
    sum_outer_products(block, a, item, a.grad_weight_hh, 4 * H, H, a.grad_gates, 4 * H, a.carry, C, n);
    sum_outer_products(block, a, item, a.grad_interface_weight, P, H, a.grad_interface, P, after, C, n);
    sum_outer_products(block, a, item, a.grad_output_weight, Y, C, a.grad_y, Y, after, C, n);
    sum_over_rows(block, item, a.grad_bias_ih, a.grad_gates, n, 4 * H);
    sum_over_rows(block, item, a.grad_interface_bias, a.grad_interface, n, P);
    sum_over_rows(block, item, a.grad_output_bias, a.grad_y, n, Y);
    if (item > 0) return;
    block.sync();
    block.for_each(4 * H,
                   [&](int64_t j) { a.grad_bias_hh[j] = a.grad_bias_ih[j]; });  // both biases add to the same gates
}

}  // namespace mb::entries
