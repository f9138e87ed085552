// The sizes and buffers of a call, for every entry point alike; unused ones are 0. Python reads what stands below as KIND-of-name to build the
// same structure, so they are said here once: sizes first. Shapes in the project's letters; E = V (1 + S) written rows a step, F = R K read rows.
#pragma once

#include "real.h"

#define MB_ARGUMENTS                                                                                                                   \
    SIZE(steps)            /* T */                                                                                                     \
    SIZE(batch)            /* B */                                                                                                     \
    SIZE(hidden)           /* H */                                                                                                     \
    SIZE(slots)            /* N */                                                                                                     \
    SIZE(width)            /* W */                                                                                                     \
    SIZE(heads)            /* R */                                                                                                     \
    SIZE(reads)            /* K */                                                                                                     \
    SIZE(writers)          /* V: write heads, 1 or R */                                                                                \
    SIZE(modes)            /* read modes a head: 3 for SDNC, else 0 */                                                                 \
    SIZE(strength)         /* 1: a head has a key strength */                                                                          \
    SIZE(gated)            /* 1: the unused row is wiped only if written with more than delta */                                       \
    SIZE(scan_all)         /* 1: score all N rows (exact), 0: the live ones */                                                         \
    SIZE(taped)            /* 1: keep what backward needs; 0: tapes have two places, used in turn */                                   \
    SIZE(threads)          /* CPU threads over the batch */                                                                            \
    SIZE(live)             /* candidate rows before the first step */                                                                  \
    SIZE(ring_tail)        /* queue positions used before the first step */                                                            \
    SIZE(queue_stride)     /* places of a queue */                                                                                     \
    SIZE(scratch_stride)   /* numbers of scratch an element has */                                                                     \
    SIZE(input_size)       /* X */                                                                                                     \
    SIZE(output_size)      /* Y */                                                                                                     \
    SIZE(parts)            /* blocks that search the rows of one element, 0 or 1: its own */                                           \
    SIZE(step)             /* t, of entry points that are called for one step */                                                       \
    SIZE(table_size)       /* a power of two */                                                                                        \
    SIZE(line_stride)      /* lines an element has room for */                                                                         \
    SIZE(tables) SIZE(bits) SIZE(capacity) SIZE(probes) SIZE(rerank) /* lsh; capacity: a multiple of 8 */                              \
    SIZE(updated)          /* lsh alone: rows of an update, [B, updated] in `rows` */                                                  \
    SIZE(links)            /* sdnc: K_L, 0 for SAM */                                                                                  \
    REAL(input)            /* [T, B, 4H] W_x x_t + biases; of a pass with `y` out */                                                   \
    REAL(weight_ih)        /* [4H, X + RW] LSTM weights of [x_t, r_{t-1}] */                                                           \
    REAL(weight_hh)        /* [4H, H] */                                                                                               \
    REAL(bias_ih) REAL(bias_hh) /* [4H]; for `input` */                                                                                \
    REAL(interface_weight) /* [P, H] */                                                                                                \
    REAL(carry_columns)    /* [H + RW, 4H] both LSTM weights of [h_{t-1}, r_{t-1}] transposed; null: they are read as they are */      \
    REAL(interface_columns) /* [H, P] the interface's, too */                                                                          \
    REAL(interface_bias)   /* [P] */                                                                                                   \
    REAL(output_weight)    /* [Y, H + RW] */                                                                                           \
    REAL(output_bias)      /* [Y] */                                                                                                   \
    REAL(y)                /* [T, B, Y]; null: the caller's work */                                                                    \
    REAL(x)                /* [T, B, X] */                                                                                             \
    REAL(first_hidden) REAL(first_reads)      /* [B, H], [B, RW]: states before the first step, given by the caller */                 \
    REAL(first_cell)       /* [B, H] */                                                                                                \
    INT64(first_read_index) REAL(first_read_weights) /* [B, R, K] */                                                                   \
    INT64(first_precedence_rows) REAL(first_precedence) /* sdnc: [B, L] */                                                             \
    REAL(last_hidden) REAL(last_reads) REAL(last_cell) /* the same after the last step, for the caller */                              \
    INT64(last_read_index) REAL(last_read_weights)                                                                                     \
    INT64(last_precedence_rows) REAL(last_precedence)                                                                                  \
    REAL(carry)            /* [T + 1, B, H + RW] h_t and r_t; 0: the start */                                                          \
    REAL(cell)             /* [T + 1, B, H] */                                                                                         \
    REAL(gates)            /* [T, B, 4H] activated: input, forget, cell, output */                                                     \
    REAL(interface)        /* [T, B, P] activated */                                                                                   \
    INT32(read_index)      /* [T + 1, B, R, K] rows read, -1: none; 0: before the first step */                                        \
    REAL(read_weights)     /* [T + 1, B, R, K] */                                                                                      \
    REAL(similarity)       /* [T, B, R, K] cosines */                                                                                  \
    INT32(written)         /* [T, B, V, 1 + S] rows written, the unused one first, -1: none */                                         \
    STORE(old_rows)        /* [T, B, V, 1 + S, W] what they held: swapped by rollback */                                               \
    REAL(old_norms)        /* [T, B, V, 1 + S] */                                                                                      \
    INT32(old_last)        /* [T, B, M] ring positions overwritten */                                                                  \
    STORE(memory)          /* [B, N, W] */                                                                                             \
    REAL(norms)            /* [B, N] sqrt(|row|^2 + eps) */                                                                            \
    INT32(ring_last)       /* [B, N] last queue position of each row */                                                                \
    INT32(ring_queue)      /* [B, stride] */                                                                                           \
    INT32(ring_start)      /* [B, N] order before the queue; null: 0..N-1 */                                                           \
    INT64(first_ring_head) INT64(ring_head) /* [B] next queue position to examine, as it was before the first step and as it is */     \
    REAL(scratch)          /* [B, scratch_stride] */                                                                                   \
    REAL(part_scores)      /* [B, parts, R, K] the best of each part */                                                                \
    INT32(part_rows)       /* [B, parts, R, K] */                                                                                      \
    REAL(part_scratch)     /* [B, parts, lists of a block, 2 R K] */                                                                   \
    INT32(lines)           /* [T + 1, B, E + F] line of the memory gradient of each access */                                          \
    INT32(line_keys)       /* [B, 2, table_size] hash table: row, line */                                                              \
    INT32(line_count)      /* [B] lines taken */                                                                                       \
    REAL(row_gradient)     /* [B, line_stride, W] gradient of the memory over touched rows */                                          \
    REAL(grad_features)    /* [T, B, H + RW] gradient of the carry of each step by the output */                                       \
    REAL(grad_y)           /* [T, B, Y] */                                                                                             \
    REAL(grad_carry)       /* [B, H + RW] of the last carry; at return of the first */                                                 \
    REAL(grad_cell)        /* [B, H] of the last cell; at return of the first */                                                       \
    REAL(grad_weights)     /* [B, R, K] of the last read weights; at return of those before the first step */                          \
    REAL(grad_gates)       /* [T, B, 4H] out, = grad of input */                                                                       \
    REAL(grad_interface)   /* [T, B, P] out */                                                                                         \
    REAL(cell_inputs)      /* [T, B, X + RW] out: [x_t, r_{t-1}], what the gradient of weight_ih is a product with */                  \
    REAL(grad_weight_ih) REAL(grad_weight_hh) /* as the weights, like those below; null, as grad_y then: the caller's work */          \
    REAL(grad_bias_ih) REAL(grad_bias_hh)                                                                                              \
    REAL(grad_interface_weight) REAL(grad_interface_bias)                                                                              \
    REAL(grad_output_weight) REAL(grad_output_bias)                                                                                    \
    INT64(index)           /* single ops: rows [B, R, K] or [B, V, S], -1: none */                                                     \
    REAL(queries)          /* single ops: [B, R, W] */                                                                                 \
    REAL(weights)          /* single ops: [B, R, K], [B, V, S] or [B, L] */                                                            \
    REAL(values)           /* single ops: [B, R, W] or [B, V, W] */                                                                    \
    INT64(erased)          /* single ops: [B, V], -1: none */                                                                          \
    REAL(out)              /* single ops: the result */                                                                                \
    INT64(rows)            /* single ops: [B, E] rows of a journal; [B, L] rows of a precedence; [2, B, R, K L] columns read */        \
    REAL(planes)           /* lsh: [W, tables * bits + 32] hyperplanes of the tables, then of the sketch */                            \
    INT32(probe_masks)     /* lsh: [probes] which of the least certain bits a probe flips */                                           \
    INT64(buckets)         /* lsh: [B, tables, 2^bits, capacity] row and sketch, -1: empty */                                          \
    INT32(codes)           /* lsh: [B, N, tables] bucket of a row, -1: none */                                                         \
    INT32(sketches)        /* lsh alone: [B, N] while the tables are filled */                                                         \
    INT32(log_places)      /* lsh: [T, B, E, tables, 2] bucket entries overwritten, -1: none */                                        \
    INT64(log_entries)     /* lsh: [T, B, E, tables, 2] what they held: swapped by rollback */                                         \
    INT32(log_codes)       /* lsh: [T, B, E, tables] codes overwritten */                                                              \
    INT32(after_columns) REAL(after_values)   /* sdnc: [B, N, L] row i was written after which */                                      \
    INT32(before_columns) REAL(before_values) /* sdnc: [B, N, L] row i was written before which */                                     \
    INT32(precedence_rows) REAL(precedence)   /* sdnc: [T + 1, B, L] */                                                                \
    INT32(linked_rows)     /* sdnc: [T, B, L] rows of the write, its L largest */                                                      \
    INT32(decayed_places) REAL(decayed_values)   /* sdnc: [T, B, L L] entries of before */                                             \
    INT32(old_columns) REAL(old_values)          /* sdnc: [T, B, 2 L, L] rows of before, then of after */                              \
    INT32(content_index) REAL(content_weights)   /* sdnc: [T, B, R, K] */                                                              \
    REAL(mode_parts)       /* sdnc: [T, B, R, K, 2] backward and forward weight of each row read */                                    \
    INT64(clocks)          /* [B, phases + 1] clocks.h, by the first element of a crew; null: none is kept */

namespace mb {

struct Arguments {
#define SIZE(name) int64_t name;
#define REAL(name) Real* name;
#define STORE(name) Store* name;
#define INT32(name) int32_t* name;
#define INT64(name) int64_t* name;
    MB_ARGUMENTS
#undef SIZE
#undef REAL
#undef STORE
#undef INT32
#undef INT64
};

}  // namespace mb
