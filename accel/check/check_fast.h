/* SPDX-License-Identifier: Apache-2.0 */
/* check_fast.h - what the two files of FAST's golden vectors share; for accel/check only.
 * Thread: any. */
#ifndef SL_ACCEL_CHECK_CHECK_FAST_H
#define SL_ACCEL_CHECK_CHECK_FAST_H

#include "accel/check/vector.h"
#include "accel/units/bfp.h"

/* Zeroed room for n values of `size` bytes, at least one; NULL is noted as the case's
 * failure. The caller frees it. */
void *sl_check_fast_room(struct sl_vector *v, size_t n, size_t size);
/* Notes err as the case's failure. */
void sl_check_fast_error(struct sl_vector *v, const char *field,
                         const struct sl_err *err);
const float *sl_check_fast_floats(const struct sl_npy *a); /* NULL for NULL */

/* A matrix and how it enters a product: lines along its rows, or down its columns. */
struct sl_check_fast_side {
    const float *x;
    size_t rows, cols;
    bool down;
    struct sl_bfp_options o;
};

/* By the scalar definition; ret [lines of a][lines of b]. bias may be NULL. */
void sl_check_fast_multiply(struct sl_vector *v, const struct sl_check_fast_side *a,
                            const struct sl_check_fast_side *b, const float *bias,
                            bool exact, float *ret);

/* Kinds fast_layer and fast_conv. */
void sl_check_fast_layer(struct sl_vector *v);
void sl_check_fast_conv(struct sl_vector *v);

#endif
