/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/check_array.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/mem.h"
#include "common/npy.h"

#define FILE_MAX ((size_t)64 << 20)

static enum sl_code take_values(const char *file, const struct sl_npy *a,
                                struct sl_check_array *ret, struct sl_err *err)
{
    bool known = a->dtype == SL_NPY_I4 || a->dtype == SL_NPY_F4 || a->dtype == SL_NPY_F8;
    if (!known || a->n_dims < 1 || a->n_dims > 2 || a->n == 0)
        return sl_err_set(err, SL_E_INPUT, "%s: not <f4, <f8 or <i4 of 1 or 2 dimensions",
                          file);
    void *data = sl_calloc(a->n, sl_npy_value_bytes(a->dtype));
    if (data == NULL)
        return sl_err_set(err, SL_E_NOMEM, "%s: %zu values", file, a->n);
    memcpy(data, a->data, a->bytes);
    *ret = (struct sl_check_array){.rows = a->n_dims == 2 ? a->dim[0] : 1,
                                   .columns = a->dim[a->n_dims - 1]};
    if (a->dtype == SL_NPY_I4)
        ret->i32 = data;
    else if (a->dtype == SL_NPY_F8)
        ret->f64 = data;
    else
        ret->f32 = data;
    return SL_OK;
}

enum sl_code sl_check_array_load(const char *dir, const char *file,
                                 struct sl_check_array *ret, struct sl_err *err)
{
    char path[4096];
    if (snprintf(path, sizeof(path), "%s/%s", dir, file) >= (int)sizeof(path))
        return sl_err_set(err, SL_E_INPUT, "%.60s: path too long", file);
    uint8_t *bytes = NULL;
    size_t n = 0;
    struct sl_npy a = {0};
    enum sl_code rc = sl_file_read(path, FILE_MAX, &bytes, &n, err);
    if (rc == SL_OK)
        rc = sl_npy_parse(file, bytes, n, &a, err);
    if (rc == SL_OK)
        rc = take_values(file, &a, ret, err);
    sl_npy_deinit(&a);
    free(bytes);
    return rc;
}

void sl_check_array_deinit(struct sl_check_array *a)
{
    if (a == NULL)
        return;
    free(a->f32);
    free(a->f64);
    free(a->i32);
    *a = (struct sl_check_array){0};
}

double sl_check_rel_l2(const float *a, const float *b, const float *origin, size_t n)
{
    double apart = 0, length = 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)a[i] - (double)b[i], l = (double)b[i] - (double)origin[i];
        apart += d * d;
        length += l * l;
    }
    if (length == 0)
        return apart == 0 ? 0 : (double)INFINITY;
    return sqrt(apart / length);
}

double sl_check_max_abs(const float *a, const float *b, size_t n, size_t *ret_at)
{
    double max = -1;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - (double)b[i]);
        if (isnan(d))
            d = (double)INFINITY;
        if (d > max) {
            max = d;
            *ret_at = i;
        }
    }
    return max;
}
