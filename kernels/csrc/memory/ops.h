// Single ops on one batch element; twins: the functions of the same names in kernels/reference. The caller has checked
// that row numbers are below N. They read Sizes, Memory and SingleOp; the ring ops also Ring, the link ops also
// LinkMatrices.
#pragma once

#include "memory/bounded_topk.h"
#include "memory/links.h"
#include "memory/lru.h"
#include "memory/rows.h"
#include "memory/topk.h"

namespace mb::entries {

// Row lists may repeat a row: only its first entry is processed, so that no two threads work on one row.
MB_FN int64_t first_entry(const int64_t* rows, int64_t entry) {
    int64_t first = 0;
    while (rows[first] != rows[entry]) ++first;
    return first;
}
MB_FN Real weight_of_row(const int64_t* rows, const Real* weights, int64_t entries, int64_t row) {
    Real total = 0;
    for (int64_t i = 0; i < entries; ++i)
        if (rows[i] == row) total += weights[i];
    return total;
}

// The K best of one part of the rows, for each head.
template <int fixed_width>
MB_FN void topk_part(const Block& block, const Arguments& a, int64_t item) {
    const int64_t W = fixed_width ? fixed_width : a.width, R = a.heads, K = a.reads, b = item / a.parts;
    const RowsOfPart rows(a.scan_all ? a.slots : a.num_candidates, a.parts, item % a.parts);
    search_rows<fixed_width>(block, a.memory + b * a.slots * W, a.norms + b * a.slots, ByteRows(a, b), rows.first,
                             rows.end, a.num_candidates, a.queries + b * R * W, R, K, W, a.part_rows + item * R * K,
                             a.part_scores + item * R * K, a.part_scratch + item * search_scratch(R, K, W));
}

// Copies to bytes: of rows [B, updated], -1: none, or if that is null a part of all rows. Places of the last block that
// are beyond the rows stay as they are.
template <int fixed_width>
MB_FN void copy_to_bytes(const Block& block, const Arguments& a, int64_t item) {
    const int64_t W = fixed_width ? fixed_width : a.width, b = item / a.parts;
    const Store* const memory = a.memory + b * a.slots * W;
    const Real* const norms = a.norms + b * a.slots;
    const ByteRows copies(a, b);
    if (a.rows) {
        const int64_t* const rows = a.rows + b * a.updated;
        if (item % a.parts == 0)
            renew_byte_rows(block, copies, a.updated, [&](int64_t i) { return rows[i]; }, memory, norms, W);
        return;
    }
    const RowsOfPart part(a.slots, a.parts, item % a.parts);
    block.for_each_by_warp(part.end - part.first, [&](int64_t i, Warp warp) {
        const int64_t row = part.first + i;
        copies.renew(warp, row, memory + row * W, norms[row]);
    });
}

// index [B, R, K] out: the K best of all parts. Scratch [B, R K].
template <int fixed_width>
MB_FN void topk_merge(const Block& block, const Arguments& a, int64_t b) {
    const int64_t found = a.heads * a.reads;
    int32_t* const best = reinterpret_cast<int32_t*>(a.scratch + b * found);
    merge_topk(block, a.part_scores + b * a.parts * found, a.part_rows + b * a.parts * found, a.parts, a.heads, a.reads,
               best, static_cast<Real*>(nullptr));
    block.sync();
    block.for_each(found, [&](int64_t i) { a.index[b * found + i] = best[i]; });
}

template <int fixed_width>
MB_FN void sparse_read(const Block& block, const Arguments& a, int64_t b) {
    const int64_t W = fixed_width ? fixed_width : a.width, R = a.heads, K = a.reads;
    block.for_each_by_warp(R, [&](int64_t r, Warp warp) {
        const int64_t head = b * R + r;
        read_rows(warp, a.memory + b * a.slots * W, a.index + head * K, a.weights + head * K, K, W, a.out + head * W);
    });
}

// values [B, R, W]: gradient of the read; out [B, R, K]: gradient of the weights; row_gradient [B, N, W], unless null:
// gradient of the memory.
template <int fixed_width>
MB_FN void sparse_read_back(const Block& block, const Arguments& a, int64_t b) {
    const int64_t W = fixed_width ? fixed_width : a.width, R = a.heads, K = a.reads, N = a.slots;
    const int64_t* const index = a.index + b * R * K;
    const Real* const grads = a.values + b * R * W;
    block.for_each_by_warp(R * K, [&](int64_t i, Warp warp) {
        const Store* row = a.memory + (b * N + (index[i] < 0 ? 0 : index[i])) * W;
        const Real* grad = grads + i / K * W;
        const Real dot =
            index[i] < 0 ? Real(0) : warp.sum(W, [&](int64_t w) { return static_cast<Real>(row[w]) * grad[w]; });
        if (warp.is_leader()) a.out[b * R * K + i] = dot;
    });
    if (!a.row_gradient) return;
    for (int64_t r = 0; r < R; ++r) {  // heads serially: two may have read the same row
        block.for_each_by_warp(K, [&](int64_t k, Warp warp) {
            const int64_t row = index[r * K + k];
            if (row < 0 || first_entry(index + r * K, k) < k) return;
            const Real weight = weight_of_row(index + r * K, a.weights + (b * R + r) * K, K, row);
            Real* const gradient = a.row_gradient + (b * N + row) * W;
            warp.for_each(W, [&](int64_t w) { gradient[w] += weight * grads[r * W + w]; });
        });
        block.sync();
    }
}

// Journal rows [B, V S + V]: the rows added to, then the row each head erases (or, if none, its first row again).
template <int fixed_width>
MB_FN void sparse_write(const Block& block, const Arguments& a, int64_t b) {
    const int64_t W = fixed_width ? fixed_width : a.width, V = a.write_heads, S = a.reads, E = V * (S + 1);
    const int64_t *const index = a.index + b * V * S, *const erased = a.erased + b * V;
    Store* const memory = a.memory + b * a.slots * W;
    Real* const norms = a.norms + b * a.slots;
    block.for_each_by_warp(E, [&](int64_t e, Warp warp) {
        const int64_t v = e - V * S, row = v < 0 ? index[e] : erased[v] < 0 ? index[v * S] : erased[v];
        Store* const old_row = a.old_rows + (b * E + e) * W;
        warp.for_each(W, [&](int64_t w) { old_row[w] = memory[row * W + w]; });
        if (warp.is_leader()) a.rows[b * E + e] = row, a.old_norms[b * E + e] = norms[row];
    });
    block.sync();
    for (int64_t v = 0; v < V; ++v) {
        block.for_each_by_warp(1 + S, [&](int64_t e, Warp warp) {
            const bool erase = e == 0;
            const int64_t row = erase ? erased[v] : index[v * S + e - 1];
            if (row < 0 || (!erase && (row == erased[v] || first_entry(index + v * S, e - 1) < e - 1))) return;
            const Real weight = weight_of_row(index + v * S, a.weights + (b * V + v) * S, S, row);
            write_row(warp, memory + row * W, norms + row, W, weight, a.values + (b * V + v) * W, erase,
                      static_cast<Store*>(nullptr), static_cast<Real*>(nullptr));
        });
        block.sync();
    }
}

// Exchanges rows [B, K] and norms with the journal.
template <int fixed_width>
MB_FN void rollback(const Block& block, const Arguments& a, int64_t b) {
    const int64_t W = fixed_width ? fixed_width : a.width, E = a.reads;
    const int64_t* const rows = a.rows + b * E;
    Store *const memory = a.memory + b * a.slots * W, *const old_rows = a.old_rows + b * E * W;
    Real *const norms = a.norms + b * a.slots, *const old_norms = a.old_norms + b * E;
    block.for_each_by_warp(E, [&](int64_t e, Warp warp) {
        if (first_entry(rows, e) < e) return;
        warp.for_each(W, [&](int64_t w) { swap_values(memory[rows[e] * W + w], old_rows[e * W + w]); });
        if (warp.is_leader()) swap_values(norms[rows[e]], old_norms[e]);
    });
    block.sync();
    block.for_each_by_warp(E, [&](int64_t e, Warp warp) {  // repeated rows have the same content
        const int64_t first = first_entry(rows, e);
        if (first == e) return;
        warp.for_each(W, [&](int64_t w) { old_rows[e * W + w] = old_rows[first * W + w]; });
        if (warp.is_leader()) old_norms[e] = old_norms[first];
    });
}

// index [B, K] rows accessed, -1: none.
template <int fixed_width>
MB_FN void lru_touch(const Block& block, const Arguments& a, int64_t b) {
    block.for_each_by_warp(1, [&](int64_t, Warp warp) {
        LruRing ring(a, b, a.ring_tail, a.old_last + b * a.reads);
        ring.append(warp, a.reads, [&](int64_t i) { return static_cast<int32_t>(a.index[b * a.reads + i]); });
    });
}

// index [B] out: the row popped, -1: the ring is corrupt.
template <int fixed_width>
MB_FN void lru_pop(const Block& block, const Arguments& a, int64_t b) {
    block.for_each_by_warp(1, [&](int64_t, Warp warp) {
        LruRing ring(a, b, a.ring_tail, a.old_last + b);
        const int32_t row = ring.pop(warp);
        ring.append(warp, 1, [&](int64_t) { return row; });
        if (warp.is_leader()) a.index[b] = row;
    });
}

// Undoes the last `reads` appends.
template <int fixed_width>
MB_FN void lru_undo(const Block& block, const Arguments& a, int64_t b) {
    block.for_each_by_warp(1, [&](int64_t, Warp warp) {
        LruRing(a, b, a.ring_tail, nullptr).undo(warp, a.reads, a.old_last + b * a.reads);
    });
}

MB_FN LinkLog link_log(const Arguments& a, int64_t b) {
    const int64_t L = a.links;
    return LinkLog{a.decayed_offsets + b * L * L, a.decayed_values + b * L * L, a.old_columns + b * 2 * L * L,
                   a.old_values + b * 2 * L * L};
}

// index and weights [B, L]: the write; rows and values [B, L]: the precedence before it. Copies of both row lists go to
// linked_rows and precedence_rows.
template <int fixed_width>
MB_FN void link_update(const Block& block, const Arguments& a, int64_t b) {
    const int64_t L = a.links;
    int32_t *const linked = a.linked_rows + b * L, *const previous = a.precedence_rows + b * L;
    block.for_each(L, [&](int64_t i) {
        linked[i] = static_cast<int32_t>(a.index[b * L + i]);
        previous[i] = static_cast<int32_t>(a.rows[b * L + i]);
    });
    block.sync();
    Links(a, b).update_matrices(block, linked, a.weights + b * L, Precedence{previous, a.values + b * L},
                                link_log(a, b), a.scratch + b * a.scratch_stride);
}

// `taped`: 0 undoes an update, 1 makes it again.
template <int fixed_width>
MB_FN void link_swap(const Block& block, const Arguments& a, int64_t b) {
    Links(a, b).undo_or_redo(block, a.linked_rows + b * a.links, a.precedence_rows + b * a.links, link_log(a, b),
                             a.taped);
}

// rows and out [2, B, R, K L]: forward, then backward.
template <int fixed_width>
MB_FN void link_read(const Block& block, const Arguments& a, int64_t b) {
    const int64_t F = a.heads * a.reads, forward = b * F * a.links, backward = a.batch * F * a.links + forward;
    Links(a, b).read(block, a.index + b * F, a.weights + b * F, a.heads, a.reads, a.rows + forward, a.out + forward,
                     a.rows + backward, a.out + backward);
}

// The link work of T steps. written [T, B, 1 + R K] and weights: the write of each step; read_index and read_weights
// [T, B, R, K]: what it reads from; precedence_rows and precedence [B, 2, L]: before and after a step, alternating,
// starting with the first; rows and out [T, 2, B, R, K L]: forward, backward. Only the log of the last step is kept.
template <int fixed_width>
MB_FN void link_steps(const Block& block, const Arguments& a, int64_t b) {
    const int64_t L = a.links, F = a.heads * a.reads, E = 1 + F;
    const Links links(a, b);
    const auto precedence = [&](int64_t t) {
        const int64_t offset = (b * 2 + t % 2) * L;
        return Precedence{a.precedence_rows + offset, a.precedence + offset};
    };
    for (int64_t t = 0; t < a.steps; ++t) {
        const int64_t step = t * a.batch + b;
        links.update(block, a.written + step * E, a.weights + step * E, E, precedence(t), precedence(t + 1),
                     a.linked_rows + b * L, link_log(a, b), a.scratch + b * a.scratch_stride);
        block.sync();
        const int64_t forward = (2 * t * a.batch + b) * F * L, backward = forward + a.batch * F * L;
        links.read(block, a.read_index + step * F, a.read_weights + step * F, a.heads, a.reads, a.rows + forward,
                   a.out + forward, a.rows + backward, a.out + backward);
        block.sync();
    }
}

}  // namespace mb::entries
