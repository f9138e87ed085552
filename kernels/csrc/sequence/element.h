// The state of one batch element during a pass: its buffers, tape and scratch, and what forward and backward share,
// with the undo of a step (Rae et al. 2016, section 3 and supplements A, D). Forward: forward.h, backward: backward.h.
#pragma once

#include "memory/bounded_topk.h"
#include "memory/links.h"
#include "memory/lru.h"
#include "memory/lsh_query.h"
#include "memory/lsh_update.h"
#include "memory/rounded_rows.h"
#include "memory/rows.h"
#include "sequence/controller.h"

namespace mb {

struct Element : ControllerElement {
    const Count K, V, S, E, F, M;  // as in arguments.h
    LruRing ring;
    Lsh lsh;
    Links links;
    Store* const memory;
    Real* const norms;
    const ByteRows copies;
    // offsets in the interface vector
    Count strengths, values, alphas, gammas, modes;
    // scratch; the gradients are backward's
    Real *support_weights, *query_norms, *workspace;
    int32_t* support_rows;
    Real *grad_read, *grad_content, *grad_support, *dots;

    MB_FN static Count ring_appends(const Arguments& a) {
        return a.write_heads * (support_size(a) + 2) + a.heads * a.reads;
    }
    MB_FN static int64_t scratch_size(const Arguments& a) {
        const int64_t support = a.write_heads * support_size(a), reads = a.heads * a.reads;
        int64_t search = search_scratch(a.heads, a.reads, a.width);
        if (a.tables)  // the blocks of a cluster have scratch of their own, for their shares of the heads
            search = lsh_scratch(a, written_size(a), a.heads, a.reads) +
                     most_cluster_blocks * lsh_query_scratch(a, 0, a.reads);
        const int64_t linking = a.links ? links_scratch(a) + a.links * 2 : 0;
        const int64_t backward = a.hidden + 3 * reads + support + written_size(a);
        return 2 * support + written_size(a) + a.heads + backward + (search > linking ? search : linking) + 64;
    }

    MB_FN Element(const Block& block, const Arguments& a, int64_t element, int64_t width)
        : ControllerElement(block, a, element, width),
          K(a.reads),
          V(a.write_heads),
          S(support_size(a)),
          E(written_size(a)),
          F(a.heads * a.reads),
          M(ring_appends(a)),
          ring(a, element, a.ring_tail, nullptr),
          lsh(a, element),
          links(a, element),
          memory(a.memory + element * a.slots * W),
          norms(a.norms + element * a.slots),
          copies(a, element) {
        strengths = R * W, values = strengths + (a.strength ? R : 0), alphas = values + V * W;
        gammas = alphas + V, modes = gammas + V;
        Real* next = a.scratch + element * a.scratch_stride;
        const auto take = [&](int64_t n) {
            Real* taken = next;
            next += n;
            return taken;
        };
        support_weights = take(V * S), query_norms = take(R);
        support_rows = reinterpret_cast<int32_t*>(take(V * S));
        grad_hidden = take(H), grad_read = take(F), grad_content = take(F);
        grad_support = take(V * S), dots = take(E + F);
        workspace = next;
    }

    // ---- tape ----

    MB_FN int32_t* read_index(int64_t t) const { return tape_at(a.read_index, t, F); }  // 0: before the first step
    MB_FN Real* read_weights(int64_t t) const { return tape_at(a.read_weights, t, F); }
    MB_FN int32_t* content_index(int64_t t) const {
        return a.links ? tape_at(a.content_index, t, F) : read_index(t + 1);
    }
    MB_FN Real* content_weights(int64_t t) const {
        return a.links ? tape_at(a.content_weights, t, F) : read_weights(t + 1);
    }
    MB_FN int32_t* written(int64_t t) const { return tape_at(a.written, t, E); }
    // Rows overwritten in step t, of passes that keep them rounded.
    MB_FN RoundedRows rounded(int64_t t) const {
        return RoundedRows{tape_at(a.rounded_rows, t, E * W * a.rounded_bytes), tape_at(a.rounded_largest, t, E), W,
                           a.rounded_bytes};
    }
    // Logs of step t, of passes with a tape.
    MB_FN LshLog lsh_log(int64_t t) const {
        const int64_t n = E * a.tables;
        return LshLog{tape_at(a.log_offsets, t, 2 * n), tape_at(a.log_entries, t, n), tape_at(a.log_sketches, t, n)};
    }
    MB_FN LinkLog link_log(int64_t t) const {
        const Count L = a.links;
        return LinkLog{tape_at(a.decayed_offsets, t, L * L), tape_at(a.decayed_values, t, L * L),
                       tape_at(a.old_columns, t, 2 * L * L), tape_at(a.old_values, t, 2 * L * L)};
    }

    // ---- the write of a step ----

    // Of interface vector p: the write weight of rows read before, and of the unused row.
    MB_FN Real to_read(const Real* p, Count v) const { return p[alphas + v] * p[gammas + v]; }
    MB_FN Real to_unused(const Real* p, Count v) const { return p[alphas + v] * (1 - p[gammas + v]); }
    MB_FN bool erases(const Real* p, Count v) const { return !a.gated || to_unused(p, v) > delta; }

    // Rows and weights [V, S] read in step t-1 that the write heads add to: each its own, or a single head the mean of
    // all.
    MB_FN void gather_support(int64_t t) {
        const int32_t* index = read_index(t);
        const Real* weights = read_weights(t);
        block.for_each(V * S, [&](Count i) {
            int32_t row = index[i];
            Real weight = weights[i];
            if (V < R) {
                weight = 0;
                MB_ROLLED
                for (Count j = 0; j < F; ++j) {
                    if (index[j] != index[i]) continue;
                    if (j < i) row = -1;
                    weight += weights[j] / static_cast<Real>(R);
                }
            }
            support_rows[i] = row;
            support_weights[i] = row < 0 ? 0 : weight;
        });
        block.sync();
    }

    // Write weight of entry e of head v: 0 is the unused row, which may also be one that was read.
    MB_FN Real entry_weight(const Real* p, const int32_t* rows, Count v, Count e) const {
        if (e > 0) return to_read(p, v) * support_weights[v * S + e - 1];
        Real weight = to_unused(p, v);
        for (Count s = 0; s < S; ++s)
            if (support_rows[v * S + s] == rows[v * (1 + S)]) weight += to_read(p, v) * support_weights[v * S + s];
        return weight;
    }

    MB_FN void compute_query_norms(const Real* p) {
        block.for_each_by_warp(R, [&](Count r, Warp warp) {
            const Real square = warp.sum(W, [&](int64_t w) { return p[r * W + w] * p[r * W + w]; });
            if (warp.is_leader()) query_norms[r] = square_root(square + epsilon);
        });
    }

    // The 8-bit copies of rows [E] follow what the rows now contain. Visible after the next sync.
    MB_FN void renew_copies(const int32_t* rows) {
        renew_byte_rows(block, copies, E, [&](Count entry) { return rows[entry]; }, memory, norms, W);
    }

    // ---- undo ----

    // Position the ring after `appended` appends of step t.
    MB_FN void seek(int64_t t, Count appended) {
        ring.tail = a.ring_tail + t * M + appended;
        ring.old_last = a.taped ? tape_at(a.old_last, t, M) + appended : nullptr;
    }

    // Undo step t, or redo it if `forward`. The caller restores the ring head (undo) or the whole ring (redo).
    MB_FN void undo_or_redo_step(int64_t t, bool forward) {
        int32_t* const rows = written(t);
        if (a.links && !forward) undo_or_redo_links(t, false);
        if (a.tables) LshUpdate<int32_t>(block, lsh, rows, E, lsh_log(t)).undo_or_redo(forward);
        if (RoundedRows::are_kept(a))
            exchange_rows(block, rows, E, forward, memory, norms, rounded(t));
        else
            swap_rows(block, rows, E, forward, memory, norms, W, tape_at(a.old_rows, t, E * W),
                      tape_at(a.old_norms, t, E));
        block.sync();
        if (ByteRows::may_be_kept && copies.blocks) {
            renew_copies(rows);
            block.sync();  // the next step's rows change
        }
        if (a.links && forward) undo_or_redo_links(t, true);
        if (forward) return;
        block.for_each_by_warp(1, [&](Count, Warp warp) {
            seek(t, M);
            ring.undo(warp, M, tape_at(a.old_last, t, M));
        });
    }

    MB_FN void undo_or_redo_links(int64_t t, bool forward) {
        const Count L = a.links;
        links.undo_or_redo(block, tape_at(a.linked_rows, t, L), tape_at(a.precedence_rows, t, L), link_log(t), forward);
    }
};

}  // namespace mb
