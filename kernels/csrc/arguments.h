// The sizes and buffers of a call. All entry points take the same structure; what one does not read is 0. Python builds
// its mirror from the lines `TYPE name;` below, in this order, so every field takes 64 bits and the sizes come first.
//
// Shapes: T steps, B batch, N slots, W width, R read heads, K rows read a head, V write heads, H hidden, X inputs,
// Y outputs, P interface size, L links a row, C = H + R W carry size, S rows a write head adds to (K, or R K if V is 1
// but R is not), E = V (1 + S) rows written a step, F = R K rows read a step, M = V (2 + S) + F ring appends a step.
#pragma once

#include "block/real.h"

namespace mb {

struct Sizes {
    int64_t steps;           // T
    int64_t batch;           // B
    int64_t hidden;          // H
    int64_t slots;           // N
    int64_t width;           // W
    int64_t heads;           // R
    int64_t reads;           // K
    int64_t write_heads;     // V: 1 or R
    int64_t modes;           // read modes a head: 3 for SDNC, else 0
    int64_t strength;        // 1: a head has a key strength
    int64_t gated;           // 1: erase the unused row only if it is written with more than delta
    int64_t scan_all;        // 1: score all N rows (exact), 0: only the candidates
    int64_t taped;           // 1: keep a tape for backward; 0: tapes hold two steps, used alternately
    int64_t rounded_bytes;   // of a number of a row kept for backward: 2 or 1; 0: rows are kept as they are
    int64_t threads;         // CPU threads over the batch
    int64_t num_candidates;  // candidate rows before the first step, the most of any element
    int64_t ring_tail;       // queue positions used before the first step
    int64_t queue_stride;    // queue entries allocated an element
    int64_t scratch_stride;  // Reals of scratch an element
    int64_t input_size;      // X
    int64_t output_size;     // Y
    int64_t interface_size;  // P
    int64_t parts;           // blocks that search the rows of one element; 0 or 1: only its own
    int64_t step;            // t, of entry points that run one step
    int64_t table_size;      // of slot_hash, a power of two
    int64_t touched_stride;  // rows of row_gradient an element
    int64_t continued;       // 1: slot_hash, touched_count and row_gradient hold what the pass after this one left
    int64_t tables;          // LSH: 0: no LSH
    int64_t bits;            // LSH: bits of a bucket number
    int64_t capacity;        // LSH: entries of a bucket, a multiple of 8
    int64_t probes;          // LSH: buckets probed a table
    int64_t rerank;          // LSH: candidates scored exactly
    int64_t updated;         // single LSH ops: rows of an update, [B, updated] in `rows`
    int64_t links;           // L, 0 for SAM
    int64_t shifts;          // NTM: reach of the location shift
    int64_t link_stride;     // DNC: steps from one link on the tape to the next
    int64_t first_gradient;  // dense models: 1: complete the gradient of the memory before the first step
    int64_t writes;          // Kw: rows of a bank of slots that a head writes
    int64_t weighted;        // 1: a row of a bank decays by its write weight too
    int64_t factors;         // F: of product keys
    int64_t candidates;      // of product keys: slots among which the best are
    int64_t unit_weights;    // 1: weights of slots found are their scores divided by their norm, 0: a softmax
    int64_t shared_bytes;    // of shared memory for each block of a cluster; 0: one block steps an element
};

struct Weights {
    Real* weight_ih;         // [4H, X + R W] LSTM weights of [x_t, r_{t-1}]
    Real* weight_hh;         // [4H, H]
    Real* bias_ih;           // [4H]
    Real* bias_hh;           // [4H]
    Real* interface_weight;  // [P, H]
    Real* interface_bias;    // [P]
    Real* output_weight;     // [Y, C]
    Real* output_bias;       // [Y]
    // Made of the above, in panels (block/panels.h); null: use the above.
    Real* carry_panels;           // [C, 4H] transposed LSTM weights of [h_{t-1}, r_{t-1}]
    Real* interface_panels;       // [H, P] interface_weight transposed
    Real* carry_back_panels;      // [4H, C] LSTM weights of [h_{t-1}, r_{t-1}]
    Real* interface_back_panels;  // [P, H] interface_weight
};

// Inputs and outputs of a pass, and the states before its first and after its last step.
struct PassStates {
    int64_t* lengths;                // [B] steps of each element, of T; null: all of them
    int64_t* order;                  // [B] elements, the longest first; null if lengths is
    int64_t* counts;                 // [B] candidate rows of each before its first step; null: num_candidates
    Real* x;                         // [T, B, X]
    Real* input;                     // [T, B, 4H] W_x x_t + biases; written by `input` if y is given
    Real* y;                         // [T, B, Y]; null: the caller applies the output layer
    Real* first_hidden;              // [B, H]
    Real* first_reads;               // [B, R W]
    Real* first_cell;                // [B, H]
    int64_t* first_read_index;       // [B, R, K]
    Real* first_read_weights;        // [B, R, K]
    int64_t* first_precedence_rows;  // SDNC: [B, L]
    Real* first_precedence;          // SDNC: [B, L]
    Real* last_hidden;
    Real* last_reads;
    Real* last_cell;
    int64_t* last_read_index;
    Real* last_read_weights;
    int64_t* last_precedence_rows;
    Real* last_precedence;
};

// What forward keeps for backward. Without a tape (taped = 0) all but the carry hold two steps.
struct Tape {
    Real* carry;          // [T + 1, B, C] h_t and r_t; 0: before the first step
    Real* cell;           // [T + 1, B, H]
    Real* gates;          // [T, B, 4H] activated: input, forget, cell, output
    Real* interface;      // [T, B, P] activated
    int32_t* read_index;  // [T + 1, B, R, K] rows read, -1: none; 0: before the first step
    Real* read_weights;   // [T + 1, B, R, K]
    Real* similarity;     // [T, B, R, K] cosines
    int32_t* written;     // [T, B, V, 1 + S] rows written, the unused one first, -1: none
    Store* old_rows;      // [T, B, V, 1 + S, W] their content before; undo exchanges it with the memory
    Real* old_norms;      // [T, B, V, 1 + S]
    int32_t* old_last;    // [T, B, M] entries of ring_last before
};

// In place of old_rows and old_norms, or of delta_old_rows, with `rounded_bytes` (memory/rounded_rows.h). E of banks:
// Kw.
struct RoundedTape {
    int8_t* rounded_rows;   // [T, B, E, W rounded_bytes], of banks [T, B, R, E, W rounded_bytes]
    Real* rounded_largest;  // [T, B, E] or [T, B, R, E] largest magnitude of the row; null with two bytes
};

struct Memory {
    Store* memory;       // [B, N, W]
    Real* norms;         // [B, N] sqrt(|row|^2 + epsilon)
    int32_t* byte_rows;  // [B, N / 8 up, W / 4 up + 1, 8] 8-bit copies of the rows (memory/byte_rows.h); null: none
};

struct Ring {
    int32_t* ring_last;        // [B, N] last queue position of each row
    int32_t* ring_queue;       // [B, queue_stride]
    int32_t* ring_start;       // [B, N] order before the queue; null: 0..N-1
    int64_t* first_ring_head;  // [B] next queue position to examine, before the first step
    int64_t* ring_head;        // [B] the same, now
};

// Scratch, and the results of blocks that share the search of one element's rows.
struct Scratch {
    Real* scratch;       // [B, scratch_stride]
    Real* part_scores;   // [B, parts, R, K] best of each part
    int32_t* part_rows;  // [B, parts, R, K]
    Real* part_scratch;  // [B, parts, search_scratch]
    int64_t* clocks;     // [B, phases + 1] ns, by the first element of a batch tile; null: not measured
};

// Gradients. The gradient of the memory is held for touched rows only (memory/touched_rows.h). Banks of slots have a
// table each: B is B R there, and there are no accesses before the first step.
struct Gradients {
    int32_t* touched_slot;   // [T + 1, B, accesses] slot in row_gradient of each access
    int32_t* slot_hash;      // [B, 2, table_size] hash table: row, slot
    int32_t* touched_count;  // [B] slots in use
    Real* row_gradient;      // [B, touched_stride, W] in: of the memory after the pass, if continued; out: before it
    Real* grad_features;     // [T, B, C] gradient of the carry from the output layer
    Real* grad_y;            // [T, B, Y]
    Real* grad_carry;        // [B, C] in: of the last carry; out: of the first
    Real* grad_cell;         // [B, H] in: of the last cell; out: of the first
    Real* grad_weights;      // [B, R, K] in: of the last read weights; out: of the first
    Real* grad_gates;        // [T, B, 4H] out, also the gradient of `input`
    Real* grad_interface;    // [T, B, P] out
    Real* cell_inputs;       // [T, B, X + R W] out: [x_t, r_{t-1}], right factor of the gradient of weight_ih
    Real* grad_weight_ih;    // from here: shaped as the weights; null, as grad_y: the caller computes them
    Real* grad_weight_hh;
    Real* grad_bias_ih;
    Real* grad_bias_hh;
    Real* grad_interface_weight;
    Real* grad_interface_bias;
    Real* grad_output_weight;
    Real* grad_output_bias;
};

// Inputs and outputs of single ops.
struct SingleOp {
    int64_t* index;   // rows [B, R, K] or [B, V, S], -1: none
    Real* queries;    // [B, R, W]
    Real* weights;    // [B, R, K], [B, V, S] or [B, L]
    Real* values;     // [B, R, W] or [B, V, W]
    int64_t* erased;  // [B, V], -1: none
    Real* out;        // the result
    int64_t* rows;    // [B, E] rows of a journal; [B, L] rows of a precedence; [2, B, R, K L] columns read
};

struct LshTables {
    Real* planes;           // [W, tables * bits + 32] hyperplanes of the tables, then of the sketch
    int32_t* probe_masks;   // [probes] which of the least certain bits a probe flips
    int64_t* buckets;       // [B, tables, 2^bits, capacity] row and sketch, -1: empty
    int32_t* codes;         // [B, N, tables] bucket of a row, -1: none
    int32_t* sketches;      // single ops: [B, N] while the tables are filled
    int32_t* log_offsets;   // [T, B, E, tables, 2] bucket entries emptied and filled; where none was emptied, -2 - code
    int64_t* log_entries;   // [T, B, E, tables] content before of those filled; undo exchanges it with the buckets
    int32_t* log_sketches;  // [T, B, E, tables] sketches in those emptied
};

// SDNC's link matrices, with L entries a row, and their tape.
struct LinkMatrices {
    int32_t* after_columns;    // [B, N, L] row i was written after which
    Real* after_values;        // [B, N, L]
    int32_t* before_columns;   // [B, N, L] row i was written before which
    Real* before_values;       // [B, N, L]
    int32_t* precedence_rows;  // [T + 1, B, L]
    Real* precedence;          // [T + 1, B, L]
    int32_t* linked_rows;      // [T, B, L] rows of the write, its L largest
    int32_t* decayed_offsets;  // [T, B, L L] entries of `before` that were decayed
    Real* decayed_values;      // [T, B, L L] their values before
    int32_t* old_columns;      // [T, B, 2 L, L] rows of `before`, then of `after`
    Real* old_values;          // [T, B, 2 L, L]
    int32_t* content_index;    // [T, B, R, K]
    Real* content_weights;     // [T, B, R, K]
    Real* mode_parts;          // [T, B, R, K, 2] backward and forward weight of each row read
};

// A dense memory: a new one every step, and weights over its N rows. What states before and after a pass hold is the
// caller's, [N, W]; a tape holds the T - 1 between, in blocks of columns (dense/rows.h). Without a tape, the memory
// after the pass is changed in place, and weights alternate between two places.
struct DenseMemory {
    Real* first_memory;         // [B, N, W]
    Real* memory_tape;          // [T - 1, B, N, W]; of one step, if backward needs it: the memory before
    Real* last_memory;          // [B, N, W]
    Real* row_norms;            // [T + 1, B, N] sqrt(|row|^2 + epsilon)
    Real* read_weights_tape;    // [T - 1, B, R, N]; first_read_weights and last_read_weights are [B, R, N]
    Real* first_write_weights;  // [B, V, N]
    Real* write_weights_tape;   // [T - 1, B, V, N]
    Real* last_write_weights;   // [B, V, N]
    Real* content_tape;         // [T, B, R + V, N] softmax of the content scores
    Real* first_usage;          // [B, N]
    Real* last_usage;           // [B, N]; DAM changes it in place
    Real* discount;             // [1] DAM: of the usage
    int32_t* unused_rows;       // [T, B, V] DAM: row that each write head wipes
    Real* usage_tape;           // DNC: [T - 1, B, N]
    Real* first_link;           // DNC: [B, N, N] row: written after, column: written before
    Real* link_tape;            // DNC: [(T - 1) / link_stride, B, N, N] after link_stride steps, and so on
    Real* last_link;            // DNC: [B, N, N]
    Real* precedence_tape;      // DNC: [T - 1, B, N]; first_precedence and last_precedence are [B, N]
    int32_t* usage_order;       // DNC: [T, B, N] rows from the least used on
    Real* direction_tape;       // DNC: [T, B, 2 R, N] backward, then forward weights of the heads
    Real* grad_memory;          // [B, N, W] in: of the last memory; out: of the first, if `first_gradient`
    Real* grad_read_weights;    // [B, R, N] in: of the last read weights; out: of the first
    Real* grad_write_weights;   // [B, V, N] in: of the last write weights; out: of the first
    Real* grad_usage;           // DNC: [B, N], and so on
    Real* grad_link;            // DNC: [B, N, N]
    Real* grad_precedence;      // DNC: [B, N]
};

// Banks of slots, one a head, whose rows are numbered through [B R N] (slots/delta.h), and their tape and gradients.
struct DeltaRule {
    int64_t* sides;            // [F] numbers of each factor of product keys
    Real* delta_interface;     // [T, B, P] interface_weight [P, X] x + interface_bias; behind an LSTM [B, P], of a step
    Real* score_scale;         // [1] of the scores before the softmax
    Real* log_decay;           // [R] log A, where a decay is -A softplus(its column + step_bias)
    Real* step_bias;           // [R]
    int64_t* delta_rows;       // [T, B, R, Kw] rows written, all different
    Real* delta_weights;       // [T, B, R, Kw] k
    Real* delta_values;        // [T, B, R, W] v
    Real* delta_decay;         // [T, B, R] g, the logarithm of what is kept
    Real* delta_strength;      // [T, B, R] beta
    int64_t* delta_reads;      // [T, B, R, K] rows read, all different
    Real* delta_read_weights;  // [T, B, R, K] q
    Real* score_norms;         // [T, B, R, 2] of the scores of the slots written and read; with unit_weights
    Store* delta_old_rows;     // [T, B, R, Kw, W] what the rows held before; undone: after
    Real* delta_out;           // [T, B, R, W] y
    Real* grad_delta_out;      // [T, B, R, W]
    Real* grad_delta_weights;  // out, as the last ones
    Real* grad_delta_values;
    Real* grad_delta_decay;
    Real* grad_delta_strength;
    Real* grad_delta_read_weights;
    Real* grad_gate_columns;  // [T, B, R, 2] of the columns that decay and strength are made of
    Real* grad_makers;        // [T, B, X] gradient of x; behind an LSTM [B, H], scratch
    Real* grad_log_decay;     // [R]; it and the next are added to, as grad_interface_weight and its bias
    Real* grad_step_bias;     // [R]
};

struct Arguments : Sizes,
                   Weights,
                   PassStates,
                   Tape,
                   RoundedTape,
                   Memory,
                   Ring,
                   Scratch,
                   Gradients,
                   SingleOp,
                   LshTables,
                   LinkMatrices,
                   DenseMemory,
                   DeltaRule {};

}  // namespace mb
