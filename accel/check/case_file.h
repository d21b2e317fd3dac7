/* SPDX-License-Identifier: Apache-2.0 */
/* case_file.h - arrays of a vector's .npz file, checked against what its manifest says.
 * For the checks only. */
#ifndef SL_ACCEL_CHECK_CASE_FILE_H
#define SL_ACCEL_CHECK_CASE_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/npz.h"

#define SL_CASE_FILE_MAX ((size_t)64 << 20)

struct sl_case_file {
    uint8_t *bytes; /* owned; what npz borrows */
    size_t n;
    struct sl_npz npz;
};

/* dir/name as a whole; `name` stays borrowed. SL_E_NOTFOUND, SL_E_IO, SL_E_LIMIT,
 * SL_E_NOMEM, SL_E_INPUT. */
enum sl_code sl_case_file_open(const char *dir, const char *name,
                               struct sl_case_file *ret, struct sl_err *err);
void sl_case_file_close(struct sl_case_file *f);

/* Array `name` of type 'f', 'd' or 'i' (float32, float64, int32) and shape dim, in C
 * order; *ret_data is the caller's to free(). SL_E_NOTFOUND, SL_E_INPUT, SL_E_NOMEM. */
enum sl_code sl_case_file_read(const struct sl_case_file *f, const char *name, char dtype,
                               const size_t *dim, unsigned n_dims, void **ret_data,
                               struct sl_err *err);

#endif
