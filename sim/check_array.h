/* SPDX-License-Identifier: Apache-2.0 */
/* check_array.h - stored arrays of conformance cases, and how far two vectors are apart.
 * Owns: what it loads. Thread: any. */
#ifndef SL_SIM_CHECK_ARRAY_H
#define SL_SIM_CHECK_ARRAY_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

/* A .npy file of one or two dimensions as floats (indices: as integers that fit them). */
struct sl_check_array {
    float *f32;           /* descr <f4, owned */
    double *f64;          /* descr <f8, owned */
    int32_t *i32;         /* descr <i4, owned */
    size_t rows, columns; /* one dimension: one row */
};

/* SL_E_INPUT for another type or more dimensions. */
enum sl_code sl_check_array_load(const char *dir, const char *file,
                                 struct sl_check_array *ret, struct sl_err *err);
void sl_check_array_deinit(struct sl_check_array *a); /* NULL and {0} allowed */

/* ||a - b|| / ||b - origin||, in double; 0 when both are 0. */
double sl_check_rel_l2(const float *a, const float *b, const float *origin, size_t n);
/* max |a - b|, infinite when a value is not finite; *ret_at is where. */
double sl_check_max_abs(const float *a, const float *b, size_t n, size_t *ret_at);

#endif
