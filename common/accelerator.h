/* SPDX-License-Identifier: Apache-2.0 */
/* accelerator.h - which emulated hardware multiplies, as a plan (`accelerator:`) or a client's
 * config (`hardware:`) describes it: plain data, and the rows of both tables.
 * accel/units/setup.h makes a unit of it. Thread: any; owns nothing. */
#ifndef SL_COMMON_ACCELERATOR_H
#define SL_COMMON_ACCELERATOR_H

#include <stdint.h>

enum sl_matmul_kind { SL_MATMUL_FP32, SL_MATMUL_FAST, SL_MATMUL_TR, SL_MATMUL_RTN };

/* Values of the keys, in the order of their names below. */
enum sl_accel_precision { SL_PRECISION_ADAPTIVE, SL_PRECISION_LOW, SL_PRECISION_HIGH, SL_PRECISION_1 };
enum sl_accel_exponent { SL_EXPONENT_4, SL_EXPONENT_3, SL_EXPONENT_8, SL_EXPONENT_UNLIMITED };
enum sl_accel_round { SL_ACCEL_TRUNCATE, SL_ACCEL_NEAREST };
enum sl_accel_noise { SL_NOISE_CTR, SL_NOISE_LFSR, SL_NOISE_TRUNCATE, SL_NOISE_NEAREST };
enum sl_accel_encoder { SL_ENCODER_NAF, SL_ENCODER_WINDOW, SL_ENCODER_BINARY };

struct sl_accelerator {
    enum sl_matmul_kind matmul;
    /* fast (papers: FAST, 2021) */
    uint32_t precision; /* adaptive, low, high; SL_PRECISION_1 + n - 1: n bits everywhere */
    enum sl_accel_exponent e;
    enum sl_accel_round round;          /* weights and activations */
    enum sl_accel_noise round_gradient; /* counter noise, shift registers, or none */
    double alpha, beta;
    uint32_t refresh; /* steps between two looks at the improvement r(X) */
    /* fast: values of a group (0 = 16); tr: values of a group (0 = 8) */
    uint32_t g;
    /* tr (Term Revealing) */
    uint32_t bits_w, bits_x, k, s;
    enum sl_accel_encoder enc;
    /* Cost model. fast, tr: the array (0 = 256 x 64, 64 x 128 cells) and energy of a bit
     * moved; fast: of a pass of 16 elements; tr: of a term pair; rtn: bits of a word, how
     * many words a cycle, energy of a multiply-add of ternary values and of floats; all:
     * the clock (0 = 500, 170, 200). */
    uint32_t rows, cols, word_bits, lanes;
    double mhz, e_bit, e_pass, e_pair, e_ternary, e_fp32;
};

#define SL_ACCELERATOR_DEFAULTS                                                          \
    {.alpha = 0.6, .beta = 0.3, .refresh = 1, .bits_w = 8, .bits_x = 8, .k = 12, .s = 3, \
     .word_bits = 64, .lanes = 64, .e_bit = 0.01, .e_pass = 1, .e_pair = 1,              \
     .e_ternary = 1 / 46.46, .e_fp32 = 1}

/* What a task cost on the emulated hardware: multiply-accumulates asked for; work in the
 * hardware's own measure (FAST: passes of a multiplier, Term Revealing: term pairs, RTN:
 * words); cycles of its array; values converted; bits moved; energy in the units of the
 * options. All but macs are 0 on fp32, which emulates nothing. */
struct sl_task_cost {
    uint64_t macs, work, cycles, conversions, bits;
    double energy;
};

/* --- rows of a schema
 * ---------------------------------------------------------------------------- */

#define SL_PRECISION_NAMES                                                               \
    "adaptive", "low", "high", "1", "2", "3", "4", "5", "6", "7", "8"
#define SL_EXPONENT_NAMES "4", "3", "8", "unlimited"
#define SL_ROUND_NAMES "truncate", "nearest"
#define SL_NOISE_NAMES "ctr", "lfsr", "truncate", "nearest"
#define SL_ENCODER_NAMES "naf", "window", "binary"

/* Everything but `matmul`. prefix: "accelerator."; PLACE(f): where field f of the struct
 * lies; fast, tr, rtn: bits of the names of "<prefix>matmul" that bring the keys. The name
 * lists sl_precisions, ... stand before the table. */
#define SL_ACCELERATOR_ROWS(prefix, PLACE, fast, tr, rtn)                                \
    {.path = prefix "precision", .type = SL_FIELD_ENUM, PLACE(precision),                \
     .names = sl_precisions, .selector = prefix "matmul", .selected = (fast)},           \
    {.path = prefix "g", .type = SL_FIELD_WHOLE, PLACE(g), .lo = 0, .hi = 4096,          \
     .selector = prefix "matmul", .selected = (fast) | (tr)},                            \
    {.path = prefix "e", .type = SL_FIELD_ENUM, PLACE(e), .names = sl_exponents,         \
     .selector = prefix "matmul", .selected = (fast)},                                   \
    {.path = prefix "round", .type = SL_FIELD_ENUM, PLACE(round), .names = sl_rounds,    \
     .selector = prefix "matmul", .selected = (fast)},                                   \
    {.path = prefix "round_gradient", .type = SL_FIELD_ENUM, PLACE(round_gradient),      \
     .names = sl_noises, .selector = prefix "matmul", .selected = (fast)},               \
    {.path = prefix "alpha", .type = SL_FIELD_REAL, PLACE(alpha), .min = -1e6,           \
     .max = 1e6, .selector = prefix "matmul", .selected = (fast)},                       \
    {.path = prefix "beta", .type = SL_FIELD_REAL, PLACE(beta), .min = 0, .max = 1e6,    \
     .selector = prefix "matmul", .selected = (fast)},                                   \
    {.path = prefix "refresh", .type = SL_FIELD_WHOLE, PLACE(refresh), .lo = 1,          \
     .hi = 1000000, .unit = "steps", .selector = prefix "matmul", .selected = (fast)},   \
    {.path = prefix "bits_w", .type = SL_FIELD_WHOLE, PLACE(bits_w), .lo = 2, .hi = 15,  \
     .selector = prefix "matmul", .selected = (tr)},                                     \
    {.path = prefix "bits_x", .type = SL_FIELD_WHOLE, PLACE(bits_x), .lo = 2, .hi = 15,  \
     .selector = prefix "matmul", .selected = (tr)},                                     \
    {.path = prefix "k", .type = SL_FIELD_WHOLE, PLACE(k), .lo = 1, .hi = 65536,         \
     .selector = prefix "matmul", .selected = (tr)},                                     \
    {.path = prefix "s", .type = SL_FIELD_WHOLE, PLACE(s), .lo = 1, .hi = 16,            \
     .selector = prefix "matmul", .selected = (tr)},                                     \
    {.path = prefix "enc", .type = SL_FIELD_ENUM, PLACE(enc), .names = sl_encoders,      \
     .selector = prefix "matmul", .selected = (tr)},                                     \
    {.path = prefix "rows", .type = SL_FIELD_WHOLE, PLACE(rows), .lo = 0, .hi = 65536,   \
     .selector = prefix "matmul", .selected = (fast) | (tr)},                            \
    {.path = prefix "cols", .type = SL_FIELD_WHOLE, PLACE(cols), .lo = 0, .hi = 65536,   \
     .selector = prefix "matmul", .selected = (fast) | (tr)},                            \
    {.path = prefix "word_bits", .type = SL_FIELD_WHOLE, PLACE(word_bits), .lo = 1,      \
     .hi = 4096, .selector = prefix "matmul", .selected = (rtn)},                        \
    {.path = prefix "lanes", .type = SL_FIELD_WHOLE, PLACE(lanes), .lo = 1, .hi = 65536, \
     .selector = prefix "matmul", .selected = (rtn)},                                    \
    {.path = prefix "mhz", .type = SL_FIELD_REAL, PLACE(mhz), .min = 0, .max = 1e6,      \
     .selector = prefix "matmul", .selected = (fast) | (tr) | (rtn)},                    \
    {.path = prefix "e_bit", .type = SL_FIELD_REAL, PLACE(e_bit), .min = 0, .max = 1e9,  \
     .selector = prefix "matmul", .selected = (fast) | (tr)},                            \
    {.path = prefix "e_pass", .type = SL_FIELD_REAL, PLACE(e_pass), .min = 0,            \
     .max = 1e9, .selector = prefix "matmul", .selected = (fast)},                       \
    {.path = prefix "e_pair", .type = SL_FIELD_REAL, PLACE(e_pair), .min = 0,            \
     .max = 1e9, .selector = prefix "matmul", .selected = (tr)},                         \
    {.path = prefix "e_ternary", .type = SL_FIELD_REAL, PLACE(e_ternary), .min = 0,      \
     .max = 1e9, .selector = prefix "matmul", .selected = (rtn)},                        \
    {.path = prefix "e_fp32", .type = SL_FIELD_REAL, PLACE(e_fp32), .min = 0,            \
     .max = 1e9, .selector = prefix "matmul", .selected = (rtn)}

/* The name lists that a table with these rows needs. */
#define SL_ACCELERATOR_NAMES                                                             \
    static const char *const sl_precisions[] = {SL_PRECISION_NAMES, NULL};               \
    static const char *const sl_exponents[] = {SL_EXPONENT_NAMES, NULL};                 \
    static const char *const sl_rounds[] = {SL_ROUND_NAMES, NULL};                       \
    static const char *const sl_noises[] = {SL_NOISE_NAMES, NULL};                       \
    static const char *const sl_encoders[] = {SL_ENCODER_NAMES, NULL}

#endif
