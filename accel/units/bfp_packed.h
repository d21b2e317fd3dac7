/* SPDX-License-Identifier: Apache-2.0 */
/* bfp_packed.h - a whole tensor, converted by the kernels to the forms that products read
 * (kernels/bfp_ops.h): the numbers that units/bfp.h defines. For tools and checks; the
 * unit "fast" packs into the memory of its context instead.
 * Owns its memory. Thread: any. */
#ifndef SL_ACCEL_UNITS_BFP_PACKED_H
#define SL_ACCEL_UNITS_BFP_PACKED_H

#include <stdbool.h>
#include <stdint.h>

#include "accel/kernels/bfp_ops.h"
#include "accel/units/bfp.h"
#include "common/error.h"

struct sl_bfp_packed {
    struct sl_bfp_options o;
    struct sl_bfp_lines l;
    size_t lines, groups; /* groups of a line */
    int32_t exponent_t;
    struct sl_bfp_wide wide; /* group j of line i at i * groups + j */
    /* Narrow forms, where the options allow them; columns only of tensors whose lines lie
     * one step apart (n0 = 1). NULL mantissas otherwise. */
    struct sl_bfp_rows rows;
    struct sl_bfp_columns columns;
};

/* Groups of 16, up to 4 bits. */
bool sl_bfp_is_narrow(const struct sl_bfp_options *o);

/* Converts x. Borrows nothing afterwards. SL_E_RANGE as sl_bfp_check, SL_E_INPUT for a
 * NaN, SL_E_NOMEM. */
enum sl_code sl_bfp_pack(const struct sl_bfp_ops *ops, const struct sl_bfp_options *o,
                         const struct sl_bfp_lines *l, const float *x,
                         struct sl_bfp_packed *ret, struct sl_err *err);
void sl_bfp_packed_deinit(struct sl_bfp_packed *p); /* NULL and {0} allowed */

/* ret[lines of a][lines of b]: as sl_bfp_gemm without bias. Both have equal g and k; b has
 * n0 = 1. wide: by the wide form even where the narrow one is there. SL_E_RANGE for
 * widths whose products are not exact. */
enum sl_code sl_bfp_packed_product(const struct sl_bfp_ops *ops,
                                   const struct sl_bfp_packed *a,
                                   const struct sl_bfp_packed *b, bool wide, float *ret,
                                   struct sl_err *err);

#endif
