// The recurrence of SAM and SDNC over T steps, the LSTM controller inside (Rae et al. 2016, section 3 and supplements
// A, D). Order of a step: controller, write, link, read.
#pragma once

#include "sequence/element.h"

namespace mb {

// fixed_width: the word size if the compiler is to know it, else 0.
template <int fixed_width>
struct ForwardElement : Element {
    MB_FN ForwardElement(const Block& block, const Arguments& a, int64_t element)
        : Element(block, a, element, fixed_width ? fixed_width : a.width) {}

    // A row that a state names. One that the memory does not have is none: a state can come from anywhere.
    MB_FN int32_t row_of_state(int64_t row) const { return row >= 0 && row < a.slots ? static_cast<int32_t>(row) : -1; }
    MB_FN void load_first_states() {
        load_first_controller();
        block.for_each(F, [&](Count i) {
            read_index(0)[i] = row_of_state(a.first_read_index[b * F + i]);
            read_weights(0)[i] = a.first_read_weights[b * F + i];
        });
        const Count L = a.links;
        block.for_each(L, [&](Count i) {
            tape_at(a.precedence_rows, 0, L)[i] = row_of_state(a.first_precedence_rows[b * L + i]);
            tape_at(a.precedence, 0, L)[i] = a.first_precedence[b * L + i];
        });
        block.for_each(1, [&](Count) { a.ring_head[b] = a.first_ring_head[b]; });
        block.sync();
    }
    MB_FN void store_last_states() {
        const int64_t T = steps();
        const Count L = a.links;
        store_last_controller();
        block.for_each(F, [&](Count i) {
            a.last_read_index[b * F + i] = read_index(T)[i], a.last_read_weights[b * F + i] = read_weights(T)[i];
        });
        block.for_each(L, [&](Count i) {
            a.last_precedence_rows[b * L + i] = tape_at(a.precedence_rows, T, L)[i];
            a.last_precedence[b * L + i] = tape_at(a.precedence, T, L)[i];
        });
    }

    // Visible after the next sync.
    MB_FN void activate_interface(int64_t t) {
        Real* const p = interface(t);
        block.for_each(values - strengths, [&](Count r) { p[strengths + r] = 1 + softplus(p[strengths + r]); });
        block.for_each(2 * V, [&](Count v) { p[alphas + v] = sigmoid(p[alphas + v]); });
        block.for_each(a.modes ? R : 0, [&](Count r) {
            Real* m = p + modes + 3 * r;
            const Real top = m[0] > m[1] ? (m[0] > m[2] ? m[0] : m[2]) : (m[1] > m[2] ? m[1] : m[2]);
            Real total = 0;
            for (Count i = 0; i < 3; ++i) total += m[i] = exponential(m[i] - top);
            for (Count i = 0; i < 3; ++i) m[i] /= total;
        });
    }

    // The step after its controller.
    MB_FN void step(int64_t t) { write(t), read(t); }

    MB_FN void write(int64_t t) {
        gather_support(t);
        const Real* p = interface(t);
        int32_t* const rows = written(t);
        block.for_each_by_warp(1, [&](Count, Warp warp) {
            seek(t, 0);
            if (!access_together(warp, p, rows))
                for (Count v = 0; v < V; ++v) {
                    const int32_t unused = ring.pop(warp);
                    if (warp.is_leader()) rows[v * (1 + S)] = unused;
                    ring.append(warp, 2 + S, [&](Count i) {
                        if (i == 0) return unused;
                        if (i > S) return to_unused(p, v) > delta ? unused : -1;
                        const Count s = v * S + i - 1;
                        return to_read(p, v) * support_weights[s] > delta ? support_rows[s] : -1;
                    });
                }
            warp.for_each(V, [&](Count v) { prefetch_row(ring.peek(v)); });  // the next step's unused rows
        });
        block.sync();
        block.for_each(V * S, [&](Count i) {  // an unused row that was also read is written once, with both weights
            const Count head = i / S * (1 + S);
            rows[head + 1 + i % S] = support_rows[i] == rows[head] ? -1 : support_rows[i];
        });
        block.sync();
        for_each_distinct_row(
            block, E, [&](Count entry) { return rows[entry]; },
            [&](Warp warp, Count entry) {
                const int64_t row = rows[entry];
                const Count v = entry / (1 + S), e = entry % (1 + S);
                const bool rounds = RoundedRows::are_kept(a), copies_row = a.taped && !rounds;
                if (rounds) rounded(t).keep(warp, entry, memory + row * W);
                Store* old_row = copies_row ? tape_at(a.old_rows, t, E * W) + entry * W : nullptr;
                Real* old_norm = copies_row ? tape_at(a.old_norms, t, E) + entry : nullptr;
                write_row(warp, memory + row * W, norms + row, W, entry_weight(p, rows, v, e), p + values + v * W,
                          e == 0 && erases(p, v), old_row, old_norm);
            });
        block.sync();
        clocks.end_of(block, Phase::write);
        if (ByteRows::may_be_kept && copies.blocks) {
            renew_copies(rows);  // read after the first barrier of the search
            clocks.end_of(block, Phase::search);
        }
        if (a.tables) {
            LshUpdate<int32_t>(block, lsh, rows, E, a.taped ? lsh_log(t) : LshLog{}).run(memory, workspace);
            block.sync();
            clocks.end_of(block, Phase::search);
        }
        if (a.links) link(t), clocks.end_of(block, Phase::link);
    }

    // The pops and appends of all write heads together, where a warp has many lanes and these suffice: a head alone
    // waits for three loads, one after the other. False: nothing was done.
    MB_FN bool access_together(const Warp& warp, const Real* p, int32_t* rows) {
        if (Warp::lanes == 1 || V * S > Warp::lanes) return false;
        const auto support_row = [&](Count i) {
            return to_read(p, i / S) * support_weights[i] > delta ? support_rows[i] : -1;
        };
        const auto was_accessed = [&](Count v, int32_t row) {
            return warp.ballot([&](Count i) { return i < v * S && support_row(i) == row; }) != 0;
        };
        if (!ring.pop_together(warp, V, was_accessed, rows, 1 + S)) return false;
        ring.append(warp, V * (2 + S), [&](Count i) {
            const Count v = i / (2 + S), e = i % (2 + S);
            if (e > 0 && e <= S) return support_row(v * S + e - 1);
            return e == 0 || to_unused(p, v) > delta ? rows[v * (1 + S)] : -1;
        });
        return true;
    }

    // Prefetch a row and its norm: a least recently used row is unlikely to be cached.
    MB_FN void prefetch_row(int64_t row) {
        if (row < 0) return;
        prefetch(norms + row);
        for (Count w = 0; w < W; w += 32 / static_cast<int64_t>(sizeof(Store))) prefetch(memory + row * W + w);
    }

    MB_FN void link(int64_t t) {
        const Count L = a.links;
        const Real* p = interface(t);
        Real* const weights = dots;
        block.for_each(E, [&](Count e) { weights[e] = entry_weight(p, written(t), 0, e); });
        block.sync();
        const Precedence before{tape_at(a.precedence_rows, t, L), tape_at(a.precedence, t, L)};
        const Precedence after{tape_at(a.precedence_rows, t + 1, L), tape_at(a.precedence, t + 1, L)};
        links.update(block, written(t), weights, E, before, after, tape_at(a.linked_rows, t, L),
                     a.taped ? link_log(t) : LinkLog{}, workspace);
        block.sync();
    }

    MB_FN void read(int64_t t) { search(t), read_found(t); }

    // The K rows nearest to each query.
    MB_FN void search(int64_t t) {
        const Real* p = interface(t);
        int32_t* const rows = content_index(t);
        if (a.tables)
            query_index(t, Share{0, R}, workspace);
        else if (a.parts > 1)
            merge_topk(block, a.part_scores + b * a.parts * F, a.part_rows + b * a.parts * F, a.parts, R, K, rows,
                       nullptr);
        else
            search_rows<fixed_width>(block, memory, norms, copies, 0, num_scored(t), num_candidates(t), p, R, K, W,
                                     rows, nullptr, workspace);
    }
    // The same for some heads, by the hash index.
    MB_FN void query_index(int64_t t, Share heads, Real* scratch) {
        LshQuery<fixed_width>(block, lsh, memory, interface(t) + heads.first * W, heads.count, K, scratch)
            .run(content_index(t) + heads.first * K);
    }

    // Weight and read the rows found, and note the access.
    MB_FN void read_found(int64_t t) {
        weight_found(t);
        if (a.links) {
            links.mix(block, read_index(t), read_weights(t), content_index(t), content_weights(t), interface(t) + modes,
                      read_index(t + 1), read_weights(t + 1), a.taped ? tape_at(a.mode_parts, t, 2 * F) : nullptr,
                      workspace);
            block.sync();
            clocks.end_of(block, Phase::link);
        }
        const int32_t* index = read_index(t + 1);
        const Real* weights = read_weights(t + 1);
        Real* const reads = carry(t + 1) + H;
        block.for_each_by_warp(R + 1, [&](Count r, Warp warp) {
            if (r < R) {
                read_rows(warp, memory, index + r * K, weights + r * K, K, W, reads + r * W);
            } else {
                seek(t, M - F);
                ring.append(warp, F, [&](Count i) { return weights[i] > delta ? index[i] : -1; });
            }
        });
        block.sync();
        clocks.end_of(block, Phase::read);
    }

    // The cosines of the rows found, and the softmax of those.
    MB_FN void weight_found(int64_t t) {
        const Real* p = interface(t);
        const int32_t* const rows = content_index(t);
        Real* const weights = content_weights(t);
        Real* const cosines = tape_at(a.similarity, t, F);
        compute_query_norms(p);
        block.sync();
        clocks.end_of(block, Phase::search);
        block.for_each_by_warp(F, [&](Count i, Warp warp) {
            if (rows[i] < 0) return;
            const Store* row = memory + rows[i] * W;
            const Real* query = p + i / K * W;
            const Real dot = warp.sum(W, [&](int64_t w) { return static_cast<Real>(row[w]) * query[w]; });
            if (warp.is_leader()) cosines[i] = dot / (norms[rows[i]] * query_norms[i / K]);
        });
        block.sync();
        block.for_each(R, [&](Count r) {
            const Real beta = a.strength ? p[strengths + r] : 1;
            const Count first = r * K, end = first + K;
            Real top = -infinity(), total = 0;
            // Each product is stored, and so rounded once: were it fused with the subtraction of the largest, also for
            // the largest itself a rest would remain, which a huge strength makes huge.
            for (Count i = first; i < end; ++i) {
                if (rows[i] < 0) cosines[i] = 0;
                weights[i] = beta * cosines[i];
            }
            for (Count i = first; i < end; ++i)
                if (rows[i] >= 0 && weights[i] > top) top = weights[i];
            MB_ROLLED
            for (Count i = first; i < end; ++i)
                total += weights[i] = rows[i] < 0 ? Real(0) : exponential(weights[i] - top);
            MB_ROLLED
            for (Count i = first; i < end; ++i) weights[i] = rows[i] < 0 ? Real(0) : weights[i] / total;
        });
        block.sync();
        clocks.end_of(block, Phase::addressing);
    }

    // Candidate rows of the read of step t, and rows that are scored for it.
    MB_FN int64_t num_candidates(int64_t t) const {
        const int64_t written_to = first_candidates_of(a, b) + (t + 1) * V;
        return written_to < a.slots ? written_to : a.slots;
    }
    MB_FN int64_t num_scored(int64_t t) const { return a.scan_all ? a.slots : num_candidates(t); }

    // One block's share of the search of step t; `search` merges the results of all parts.
    MB_FN void search_part(int64_t t, int64_t part) {
        const RowsOfPart rows(num_scored(t), a.parts, part);
        const int64_t offset = (b * a.parts + part) * F;
        search_rows<fixed_width>(block, memory, norms, copies, rows.first, rows.end, num_candidates(t), interface(t), R,
                                 K, W, a.part_rows + offset, a.part_scores + offset,
                                 a.part_scratch + (b * a.parts + part) * search_scratch(R, K, W));
    }
};

template <int fixed_width>
using Forward = ForwardTile<ForwardElement<fixed_width>>;

}  // namespace mb
