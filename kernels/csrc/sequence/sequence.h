// The whole recurrence of SAM and SDNC over T steps for one batch element, the LSTM inside, and its rollback (Rae et al. 2016, section 3 and
// supplement A, D). Order of a step: controller, write, link, read. Backward: sequence_back.h.
#pragma once

#include "sequence/clocks.h"
#include "block/matvec.h"
#include "memory/links.h"
#include "memory/lsh.h"
#include "memory/lru.h"
#include "memory/rows.h"

namespace mb {

// known: the word size if the compiler is to know it, 0 for any.
template <int fixed_width> struct Sequence {
    const Block& block;
    const Arguments& a;
    const int64_t b, H, W, R, K, V, S, P, C, E, F, M;  // C: carry, E: written rows, F: read rows, M: ring appends a step
    Clocks clocks;
    LruRing ring;
    Lsh lsh;
    Links links;
    Store* const memory;
    Real* const norms;
    // places in the interface vector, and scratch
    int64_t strengths, values, alphas, gammas, modes;
    Real *support_weights, *query_norms, *workspace;
    int32_t* support_rows;
    // backward only
    Real *grad_carry, *grad_hidden, *grad_read, *grad_content, *grad_support, *dots;

    MB_FN static int64_t interface_size(const Arguments& a) { return a.heads * (a.width + a.strength + a.modes) + a.write_heads * (a.width + 2); }
    MB_FN static int64_t appends(const Arguments& a) { return a.write_heads * (support_size(a) + 2) + a.heads * a.reads; }
    MB_FN static int64_t scratch_size(const Arguments& a) {
        const int64_t support = a.write_heads * support_size(a), reads = a.heads * a.reads;
        int64_t search = topk_scratch(a.heads, a.reads);
        if (a.tables) search = lsh_scratch(a, written_size(a), a.heads, a.reads);
        const int64_t linking = a.links ? links_scratch(a) + a.links * 2 : 0;
        const int64_t back = a.hidden + 3 * reads + support + written_size(a);
        return 2 * support + written_size(a) + a.heads + back + (search > linking ? search : linking) + 64;
    }

    MB_FN Sequence(const Block& block, const Arguments& a, int64_t element)
        : block(block), a(a), b(element), H(a.hidden), W(fixed_width ? fixed_width : a.width), R(a.heads), K(a.reads), V(a.write_heads), S(support_size(a)), P(interface_size(a)),
          C(a.hidden + a.heads * a.width), E(written_size(a)), F(a.heads * a.reads), M(appends(a)), clocks(a.clocks, element),
          ring(a, element, a.ring_tail, nullptr), lsh(a, element),
          links(a, element), memory(a.memory + element * a.slots * W), norms(a.norms + element * a.slots) {
        strengths = R * W, values = strengths + (a.strength ? R : 0), alphas = values + V * W, gammas = alphas + V, modes = gammas + V;
        Real* next = a.scratch + element * a.scratch_stride;
        const auto take = [&](int64_t n) {
            Real* taken = next;
            next += n;
            return taken;
        };
        support_weights = take(V * S), query_norms = take(R);
        support_rows = reinterpret_cast<int32_t*>(take(V * S));
        grad_carry = a.grad_carry + b * C, grad_hidden = take(H), grad_read = take(F), grad_content = take(F), grad_support = take(V * S), dots = take(E + F);
        workspace = next;
    }

    // A tape's place for step t: [T, B, n], or two places in turn when nothing is kept.
    template <class T> MB_FN T* at(T* tape, int64_t t, int64_t n) const { return tape + ((a.taped ? t : t % 2) * a.batch + b) * n; }
    MB_FN Real* carry(int64_t t) const { return a.carry + (t * a.batch + b) * C; }
    MB_FN Real* cell(int64_t t) const { return at(a.cell, t, H); }
    MB_FN Real* gates(int64_t t) const { return at(a.gates, t, 4 * H); }
    MB_FN Real* interface(int64_t t) const { return at(a.interface, t, P); }
    MB_FN int32_t* read_index(int64_t t) const { return at(a.read_index, t, F); }  // 0: before the first step
    MB_FN Real* read_weights(int64_t t) const { return at(a.read_weights, t, F); }
    MB_FN int32_t* content_index(int64_t t) const { return a.links ? at(a.content_index, t, F) : read_index(t + 1); }
    MB_FN Real* content_weights(int64_t t) const { return a.links ? at(a.content_weights, t, F) : read_weights(t + 1); }
    MB_FN int32_t* written(int64_t t) const { return at(a.written, t, E); }
    MB_FN Real to_read(const Real* p, int64_t v) const { return p[alphas + v] * p[gammas + v]; }
    MB_FN Real to_unused(const Real* p, int64_t v) const { return p[alphas + v] * (1 - p[gammas + v]); }
    MB_FN bool wipes(const Real* p, int64_t v) const { return !a.gated || to_unused(p, v) > delta; }
    template <class T> MB_FN T* if_taped(T* tape) const { return a.taped ? tape : nullptr; }

    // ---- forward ----

    // The caller's states before the first step, and for it those after the last.
    MB_FN void begin() {
        block.for_each(H, [&](int64_t j) { carry(0)[j] = a.first_hidden[b * H + j], cell(0)[j] = a.first_cell[b * H + j]; });
        block.for_each(R * W, [&](int64_t j) { carry(0)[H + j] = a.first_reads[b * R * W + j]; });
        block.for_each(F, [&](int64_t i) {
            read_index(0)[i] = static_cast<int32_t>(a.first_read_index[b * F + i]);
            read_weights(0)[i] = a.first_read_weights[b * F + i];
        });
        const int64_t L = a.links;
        block.for_each(L, [&](int64_t i) {
            at(a.precedence_rows, 0, L)[i] = static_cast<int32_t>(a.first_precedence_rows[b * L + i]);
            at(a.precedence, 0, L)[i] = a.first_precedence[b * L + i];
        });
        block.for_each(1, [&](int64_t) { a.ring_head[b] = a.first_ring_head[b]; });
        block.sync();
    }
    MB_FN void end() {
        const int64_t T = a.steps, L = a.links;
        block.for_each(H, [&](int64_t j) { a.last_hidden[b * H + j] = carry(T)[j], a.last_cell[b * H + j] = cell(T)[j]; });
        block.for_each(R * W, [&](int64_t j) { a.last_reads[b * R * W + j] = carry(T)[H + j]; });
        block.for_each(F, [&](int64_t i) { a.last_read_index[b * F + i] = read_index(T)[i], a.last_read_weights[b * F + i] = read_weights(T)[i]; });
        block.for_each(L, [&](int64_t i) {
            a.last_precedence_rows[b * L + i] = at(a.precedence_rows, T, L)[i];
            a.last_precedence[b * L + i] = at(a.precedence, T, L)[i];
        });
    }

    // The LSTM cell of step t (Rae et al. 2016, supplement A): gates activated in place.
    MB_FN void lstm(int64_t t) {
        Real *const g = gates(t), *const hidden = carry(t + 1);
        const Real* before = cell(t);
        Real* const after = cell(t + 1);
        Real *const g_f = g + H, *const g_c = g + 2 * H, *const g_o = g + 3 * H;
        block.for_each(H, [=](int64_t j) MB_INLINE {  // by value: the compiler then knows that no store moves these pointers
            const Real i = sigmoid(g[j]), f = sigmoid(g_f[j]), c = hyperbolic_tangent(g_c[j]), o = sigmoid(g_o[j]), next = f * before[j] + i * c;
            g[j] = i, g_f[j] = f, g_c[j] = c, g_o[j] = o;
            after[j] = next;
            hidden[j] = o * hyperbolic_tangent(next);
        });
    }

    // Ready after the next sync.
    MB_FN void activate_interface(int64_t t) {
        Real* const p = interface(t);
        block.for_each(values - strengths, [&](int64_t r) { p[strengths + r] = 1 + softplus(p[strengths + r]); });
        block.for_each(2 * V, [&](int64_t v) { p[alphas + v] = sigmoid(p[alphas + v]); });
        block.for_each(a.modes ? R : 0, [&](int64_t r) {
            Real* m = p + modes + 3 * r;
            const Real top = m[0] > m[1] ? (m[0] > m[2] ? m[0] : m[2]) : (m[1] > m[2] ? m[1] : m[2]);
            Real total = 0;
            for (int64_t i = 0; i < 3; ++i) total += m[i] = exponential(m[i] - top);
            for (int64_t i = 0; i < 3; ++i) m[i] /= total;
        });
    }

    // Rows and weights [V, S] that the writers take over from step t-1: each its own, or one the mean of all heads.
    MB_FN void support(int64_t t) {
        const int32_t* index = read_index(t);
        const Real* weights = read_weights(t);
        block.for_each(V * S, [&](int64_t i) {
            int32_t row = index[i];
            Real weight = weights[i];
            if (V < R) {
                weight = 0;
                for (int64_t j = 0; j < F; ++j) {
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

    MB_FN void write(int64_t t) {
        support(t);
        const Real* p = interface(t);
        int32_t* const rows = written(t);
        block.for_each_by_warp(1, [&](int64_t, Warp warp) {
            seek(t, 0);
            for (int64_t v = 0; v < V; ++v) {
                const int32_t unused = ring.pop(warp);
                if (warp.is_leader()) rows[v * (1 + S)] = unused;
                ring.append(warp, 2 + S, [&](int64_t i) {
                    if (i == 0) return unused;
                    if (i > S) return to_unused(p, v) > delta ? unused : -1;
                    const int64_t s = v * S + i - 1;
                    return to_read(p, v) * support_weights[s] > delta ? support_rows[s] : -1;
                });
            }
            warp.for_each(V, [&](int64_t v) { prefetch_row(ring.peek(v)); });  // what the next step will wipe
        });
        block.sync();
        block.for_each(V * S, [&](int64_t i) {  // the unused row is written once, with both its weights
            const int64_t head = i / S * (1 + S);
            rows[head + 1 + i % S] = support_rows[i] == rows[head] ? -1 : support_rows[i];
        });
        block.sync();
        for_each_distinct_row(block, E, [&](int64_t entry) { return rows[entry]; }, [&](Warp warp, int64_t entry) {
            const int64_t row = rows[entry], v = entry / (1 + S), e = entry % (1 + S);
            Store* old_row = a.taped ? at(a.old_rows, t, E * W) + entry * W : nullptr;
            Real* old_norm = a.taped ? at(a.old_norms, t, E) + entry : nullptr;
            write_row(warp, memory + row * W, norms + row, W, entry_weight(p, rows, v, e), p + values + v * W, e == 0 && wipes(p, v), old_row, old_norm);
        });
        block.sync();
        clocks.end_of(block, Phase::write);
        if (a.tables) {
            lsh.update(block, rows, E, memory, workspace, a.taped ? at(a.log_offsets, t, E * a.tables * 2) : nullptr, a.taped ? at(a.log_entries, t, E * a.tables * 2) : nullptr,
                       a.taped ? at(a.log_codes, t, E * a.tables) : nullptr);
            block.sync();
            clocks.end_of(block, Phase::search);
        }
        if (a.links) link(t), clocks.end_of(block, Phase::link);
    }

    // A row not used for long is far away: have it, and its norm, fetched in time.
    MB_FN void prefetch_row(int64_t row) {
        if (row < 0) return;
        prefetch(norms + row);
        for (int64_t w = 0; w < W; w += 32 / static_cast<int64_t>(sizeof(Store))) prefetch(memory + row * W + w);
    }

    // Weight of entry e of writer v; the unused row may also be one that was read.
    MB_FN Real entry_weight(const Real* p, const int32_t* rows, int64_t v, int64_t e) const {
        if (e > 0) return to_read(p, v) * support_weights[v * S + e - 1];
        Real weight = to_unused(p, v);
        for (int64_t s = 0; s < S; ++s)
            if (support_rows[v * S + s] == rows[v * (1 + S)]) weight += to_read(p, v) * support_weights[v * S + s];
        return weight;
    }

    MB_FN void link(int64_t t) {
        const int64_t L = a.links;
        const Real* p = interface(t);
        Real* const weights = dots;
        block.for_each(E, [&](int64_t e) { weights[e] = entry_weight(p, written(t), 0, e); });
        block.sync();
        links.update(block, written(t), weights, E, at(a.precedence_rows, t, L), at(a.precedence, t, L), at(a.precedence_rows, t + 1, L), at(a.precedence, t + 1, L),
                     at(a.linked_rows, t, L), if_taped(at(a.decayed_offsets, t, L * L)), if_taped(at(a.decayed_values, t, L * L)), if_taped(at(a.old_columns, t, 2 * L * L)),
                     if_taped(at(a.old_values, t, 2 * L * L)), workspace);
        block.sync();
    }

    MB_FN void read(int64_t t) {
        const Real* p = interface(t);
        int32_t* const rows = content_index(t);
        Real* const weights = content_weights(t);
        Real* const cosines = at(a.similarity, t, F);
        if (a.tables) lsh.template query<fixed_width>(block, memory, p, R, K, rows, workspace);
        else if (a.parts > 1) merge_topk(block, a.part_scores + b * a.parts * F, a.part_rows + b * a.parts * F, a.parts, R, K, rows, nullptr);
        else scan_topk<fixed_width>(block, memory, norms, 0, num_scored_after(t), num_candidates_after(t), p, R, K, W, rows, nullptr, workspace);
        norms_of_queries(p);
        block.sync();
        clocks.end_of(block, Phase::search);
        block.for_each_by_warp(F, [&](int64_t i, Warp warp) {
            if (rows[i] < 0) return;
            const Store* row = memory + rows[i] * W;
            const Real* query = p + i / K * W;
            const Real dot = warp.sum(W, [&](int64_t w) { return static_cast<Real>(row[w]) * query[w]; });
            if (warp.is_leader()) cosines[i] = dot / (norms[rows[i]] * query_norms[i / K]);
        });
        block.sync();
        block.for_each(R, [&](int64_t r) {
            const Real beta = a.strength ? p[strengths + r] : 1;
            Real top = lowest, total = 0;
            for (int64_t i = r * K; i < (r + 1) * K; ++i) {
                if (rows[i] < 0) cosines[i] = 0;
                else if (beta * cosines[i] > top) top = beta * cosines[i];
            }
            for (int64_t i = r * K; i < (r + 1) * K; ++i) total += weights[i] = rows[i] < 0 ? Real(0) : exponential(beta * cosines[i] - top);
            for (int64_t i = r * K; i < (r + 1) * K; ++i) weights[i] = rows[i] < 0 ? Real(0) : weights[i] / total;
        });
        block.sync();
        clocks.end_of(block, Phase::addressing);
        if (a.links) {
            links.mix_reads(block, read_index(t), read_weights(t), rows, weights, p + modes, read_index(t + 1), read_weights(t + 1), if_taped(at(a.mode_parts, t, 2 * F)), workspace);
            block.sync();
            clocks.end_of(block, Phase::link);
        }
        const int32_t* index = read_index(t + 1);
        const Real* read = read_weights(t + 1);
        Real* const reads = carry(t + 1) + H;
        block.for_each_by_warp(R + 1, [&](int64_t r, Warp warp) {
            if (r < R) read_rows(warp, memory, index + r * K, read + r * K, K, W, reads + r * W);
            else seek(t, M - F), ring.append(warp, F, [&](int64_t i) { return read[i] > delta ? index[i] : -1; });
        });
        block.sync();
        clocks.end_of(block, Phase::read);
    }

    // The ring after so many of the appends of step t.
    MB_FN void seek(int64_t t, int64_t appended) { ring.tail = a.ring_tail + t * M + appended, ring.old_last = a.taped ? at(a.old_last, t, M) + appended : nullptr; }

    // Rows that are candidates of the read of step t, and rows that are scored.
    MB_FN int64_t num_candidates_after(int64_t t) const { return a.num_candidates + (t + 1) * V < a.slots ? a.num_candidates + (t + 1) * V : a.slots; }
    MB_FN int64_t num_scored_after(int64_t t) const { return a.scan_all ? a.slots : num_candidates_after(t); }

    // One share of the search of step t, for as many blocks as there are parts; `read` merges what they found.
    MB_FN void search_part(int64_t t, int64_t part) {
        const int64_t rows = num_scored_after(t), share = (rows + a.parts - 1) / a.parts, first = part * share, place = (b * a.parts + part) * F;
        const int64_t end = first + share < rows ? first + share : rows;
        scan_topk<fixed_width>(block, memory, norms, first, end, num_candidates_after(t), interface(t), R, K, W, a.part_rows + place, a.part_scores + place, a.part_scratch + (b * a.parts + part) * topk_scratch(R, K));
    }

    MB_FN void norms_of_queries(const Real* p) {
        block.for_each_by_warp(R, [&](int64_t r, Warp warp) {
            const Real square = warp.sum(W, [&](int64_t w) { return p[r * W + w] * p[r * W + w]; });
            if (warp.is_leader()) query_norms[r] = square_root(square + epsilon);
        });
    }

    // ---- rollback ----

    // Undo one step of a pass; the ring's head is the caller's. With `forward`, make it again; the ring is the caller's.
    MB_FN void undo_or_redo_step(int64_t t, bool forward) {
        int32_t* const rows = written(t);
        if (a.links && !forward) swap_links(t, false);
        if (a.tables) lsh.swap(block, rows, E, at(a.log_offsets, t, E * a.tables * 2), at(a.log_entries, t, E * a.tables * 2), at(a.log_codes, t, E * a.tables), forward);
        swap_rows(block, rows, E, forward, memory, norms, W, at(a.old_rows, t, E * W), at(a.old_norms, t, E));
        block.sync();
        if (a.links && forward) swap_links(t, true);
        if (forward) return;
        block.for_each_by_warp(1, [&](int64_t, Warp warp) {
            seek(t, M);
            ring.undo(warp, M, at(a.old_last, t, M));
        });
    }

    MB_FN void swap_links(int64_t t, bool forward) {
        const int64_t L = a.links;
        links.swap(block, at(a.linked_rows, t, L), at(a.precedence_rows, t, L), at(a.decayed_offsets, t, L * L), at(a.decayed_values, t, L * L), at(a.old_columns, t, 2 * L * L),
                   at(a.old_values, t, 2 * L * L), forward);
    }
};

// As many as a block takes; fewer are the first ones again.
template <class Element, int64_t most> struct Elements {
    static_assert(most == 4, "");
    Element at[4];
    MB_FN Elements(const Block& block, const Arguments& a, int64_t first, int64_t count)
        : at{Element(block, a, first), Element(block, a, first + (count > 1)), Element(block, a, first + (count > 2 ? 2 : 0)), Element(block, a, first + (count > 3 ? 3 : 0))} {}
};
template <class Element> struct Elements<Element, 1> {
    Element at[1];
    MB_FN Elements(const Block& block, const Arguments& a, int64_t first, int64_t) : at{Element(block, a, first)} {}
};

// The elements that a block takes through the steps together, so that each weight is read once for all of them. One on a GPU, whose blocks share
// a cache.
template <class Element> struct BatchTile {
    const Block& block;
    const Arguments& a;
    const int64_t first, count;
    Elements<Element, Block::tile_size> elements;

    // Crews of a batch: as few as its size allows, as many as there are threads.
    MB_FN static int64_t num_tiles(const Arguments& a) {
        const int64_t threads = a.threads < 1 ? 1 : a.threads, fewest = (a.batch + Block::tile_size - 1) / Block::tile_size;
        const int64_t even = (fewest + threads - 1) / threads * threads;
        return even < a.batch ? even : a.batch;
    }

    MB_FN static int64_t first_of(const Arguments& a, int64_t tile) { return tile * a.batch / num_tiles(a); }

    // Of the elements first..end - 1.
    MB_FN BatchTile(const Block& block, const Arguments& a, int64_t first, int64_t end)
        : block(block), a(a), first(first), count(Block::tile_size == 1 ? 1 : end - first), elements(block, a, first, count) {
        for_each_element([&](Element& m) { m.clocks = elements.at[0].clocks; });
    }

    template <class F> MB_FN void for_each_element(F f) {
        if constexpr (Block::tile_size == 1) {
            f(elements.at[0]);  // the compiler knows which, so that it can live in registers
        } else {
            for (int64_t i = 0; i < count; ++i) f(elements.at[i]);
        }
    }
    // The vectors of a product: what add(vectors, member) names.
    template <class F> MB_FN RhsBatch all(F add) {
        RhsBatch x;
        for_each_element([&](Element& member) { add(x, member); });
        return x;
    }
};

template <int fixed_width> struct Forward : BatchTile<Sequence<fixed_width>> {
    typedef Sequence<fixed_width> Element;
    using BatchTile<Element>::BatchTile;
    using BatchTile<Element>::block, BatchTile<Element>::a, BatchTile<Element>::for_each_element, BatchTile<Element>::all, BatchTile<Element>::elements;

    MB_FN void run() {
        elements.at[0].clocks.start(block);
        for_each_element([](Element& m) { m.begin(); });
        elements.at[0].clocks.end_of(block, Phase::rest);
        for (int64_t t = 0; t < a.steps; ++t) {
            controller(t);
            for_each_element([&](Element& m) { m.write(t), m.read(t); });
        }
        for_each_element([](Element& m) { m.end(); });
    }

    // The interface is ready after the next sync.
    MB_FN void controller(int64_t t) {
        const int64_t H = a.hidden, RW = a.heads * a.width;
        const RhsBatch hidden = all([&](RhsBatch& x, Element& m) { x.add(m.gates(t), a.input + (t * a.batch + m.b) * 4 * H, m.carry(t)); });
        if (a.carry_columns) {
            matvec_transposed(block, hidden, a.carry_columns, 4 * H, H + RW, 4 * H);
        } else {
            matvec(block, hidden, a.weight_hh, H, 4 * H, H);
            // each row's by the thread that has begun it
            const RhsBatch reads = all([&](RhsBatch& x, Element& m) { x.add(m.gates(t), m.gates(t), m.carry(t) + H); });
            matvec(block, reads, a.weight_ih + a.input_size, a.input_size + RW, 4 * H, RW);
        }
        block.sync();
        for_each_element([&](Element& m) { m.lstm(t); });
        block.sync();
        const RhsBatch interface = all([&](RhsBatch& x, Element& m) { x.add(m.interface(t), a.interface_bias, m.carry(t + 1)); });
        if (a.carry_columns) matvec_transposed(block, interface, a.interface_columns, Element::interface_size(a), H, Element::interface_size(a));
        else matvec(block, interface, a.interface_weight, H, Element::interface_size(a), H);
        block.sync();
        for_each_element([&](Element& m) { m.activate_interface(t); });
        elements.at[0].clocks.end_of(block, Phase::controller);
    }
};

}  // namespace mb
