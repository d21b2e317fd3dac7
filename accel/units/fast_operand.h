/* SPDX-License-Identifier: Apache-2.0 */
/* fast_operand.h - operands of the unit "fast" in packed form; for units/ only. Narrow
 * (groups of 16, up to 4 bits) where the options allow it, else wide
 * (kernels/bfp_ops.h). */
#ifndef SL_ACCEL_UNITS_FAST_OPERAND_H
#define SL_ACCEL_UNITS_FAST_OPERAND_H

#include "accel/kernels/kernels.h"
#include "accel/units/fast.h"

/* One call of the unit. */
struct sl_fast_call {
    struct sl_unit_ctx *ctx;
    struct sl_fast_options o;
    const struct sl_bfp_ops *ops;
    enum sl_pass pass;
    bool wide;
};

struct sl_fast_call sl_fast_call_of(struct sl_unit_ctx *ctx, enum sl_pass pass);
struct sl_fast_options sl_fast_options_of(const struct sl_unit_options *o);
bool sl_fast_is_wide(const struct sl_fast_options *o);
size_t sl_fast_groups(const struct sl_fast_options *o, size_t k); /* of k values */

/* Pieces of a block of memory, or only what they take. */
struct sl_fast_room {
    uint8_t *base; /* NULL: add up */
    size_t used;
};
void *sl_fast_take(struct sl_fast_room *r, size_t bytes);

struct sl_fast_rows {
    void *mantissa;
    float *scale;
};
struct sl_fast_columns {
    void *mantissa;
    float *scale;
    int32_t *start;
    size_t groups; /* of a line, or panel */
};

struct sl_fast_rows sl_fast_take_rows(struct sl_fast_room *r,
                                      const struct sl_fast_options *o, size_t groups);
struct sl_fast_columns sl_fast_take_columns(struct sl_fast_room *r,
                                            const struct sl_fast_options *o, size_t lines,
                                            size_t groups);

/* Groups first .. first + n - 1 become zeros. */
void sl_fast_clear_rows(const struct sl_fast_call *f, const struct sl_fast_rows *to,
                        size_t first, size_t n);
/* Group j of line i at first + i * step + j. */
void sl_fast_pack_rows(const struct sl_fast_call *f, const struct sl_bfp_source *s,
                       const struct sl_fast_rows *to, size_t first, size_t step);
/* Lines from 0; group j at first + j. */
void sl_fast_pack_columns(const struct sl_fast_call *f, const struct sl_bfp_source *s,
                          const struct sl_fast_columns *to, size_t first);

struct sl_fast_product {
    size_t m, n;
    const struct sl_bfp_tap *tap;
    size_t taps;
    size_t k; /* values of a tap */
    const uint32_t *row;
    size_t row_step;
    const struct sl_fast_rows *a;
    const struct sl_fast_columns *b;
    float alpha;
    bool accumulate, resume; /* kernels/bfp_ops.h */
    float *c;
    size_t ldc;
};
void sl_fast_multiply(const struct sl_fast_call *f, const struct sl_fast_product *p);

/* --- tensors
 * --------------------------------------------------------------------------------- */

/* What a conversion of a tensor needs. */
struct sl_fast_tensor {
    int32_t exponent_t;
    uint32_t m;
    enum sl_bfp_round round;
    uint64_t key;
    const uint8_t *noise; /* of the registers, by number */
};

/* E_T of rows x cols values, rows `ld` apart; false for a NaN. Counts infinities. */
bool sl_fast_measure(const struct sl_fast_call *f, const float *x, size_t rows,
                     size_t cols, size_t ld, int32_t *ret_exponent_t);

/* What is known of the widths of a layer's tensors; zero at first. */
struct sl_fast_width {
    const float *x;
    uint64_t version;
    uint32_t part, m;
};
/* Width of a tensor (SL_FAST_W, ...): fixed, or by r(X) over `lines`. known: the layer's
 * memory for it, or NULL. */
uint32_t sl_fast_width_of(const struct sl_fast_call *f, int tensor, const float *x,
                          const struct sl_bfp_lines *lines, int32_t exponent_t,
                          struct sl_fast_width *known);

/* Noise for a gradient of `lines` lines of k values. registers: room for their draws, a
 * byte a value (LFSR only). Moves the ctx's noise position on. */
void sl_fast_noise(const struct sl_fast_call *f, size_t lines, size_t k,
                   uint8_t *registers, struct sl_fast_tensor *t);
size_t sl_fast_noise_bytes(const struct sl_fast_options *o, size_t values);

/* A source with the tensor's settings; x, lines and steps are the caller's to set. */
struct sl_bfp_source sl_fast_source(const struct sl_fast_call *f,
                                    const struct sl_fast_tensor *t);

/* Adds a product [m, k] [k, n] with `groups` groups in the reduction: widths, values
 * converted for it, groups of both operands. */
struct sl_fast_count {
    uint64_t m, n, k, groups;
    uint32_t ma, mb;
    uint64_t converted;
    uint64_t groups_a, groups_b;
};
void sl_fast_add_count(const struct sl_fast_call *f, const struct sl_fast_count *c);

/* --- kept with a layer
 * ----------------------------------------------------------------------- */

/* Stands before the packed weights. */
struct sl_fast_kept {
    struct sl_fast_width width[SL_FAST_TENSORS];
    const float *w; /* of these packed weights */
    uint64_t version;
    bool usable;    /* no NaN */
    bool packed[2]; /* forward, data gradient */
    struct sl_fast_tensor tensor;
};

/* Convolutions (conv_fast.c), with the contract of units/matmul.h. */
void sl_fast_conv_bytes(const struct sl_unit_options *o, const struct sl_conv_geometry *g,
                        size_t n, struct sl_unit_bytes *ret);
void sl_fast_conv_forward(struct sl_unit_ctx *ctx, const struct sl_conv_geometry *g,
                          size_t n, const float *x, const float *w, float *y);
void sl_fast_conv_data(struct sl_unit_ctx *ctx, const struct sl_conv_geometry *g,
                       size_t n, const float *dy, const float *w, float *dx);
void sl_fast_conv_weights(struct sl_unit_ctx *ctx, const struct sl_conv_geometry *g,
                          size_t n, const float *x, const float *dy, bool accumulate,
                          float *dw);

#endif
