/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/check/case_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/mem.h"

enum sl_code sl_case_file_open(const char *dir, const char *name,
                               struct sl_case_file *ret, struct sl_err *err)
{
    char path[1024];
    struct sl_case_file f = {0};
    int len = snprintf(path, sizeof(path), "%s/%s", dir, name);
    if (len < 0 || (size_t)len >= sizeof(path))
        return sl_err_set(err, SL_E_LIMIT, "path of %s longer than %zu", name,
                          sizeof(path));
    enum sl_code rc = sl_file_read(path, SL_CASE_FILE_MAX, &f.bytes, &f.n, err);
    if (rc == SL_OK)
        rc = sl_npz_open(name, f.bytes, f.n, &f.npz, err);
    if (rc != SL_OK)
        sl_case_file_close(&f);
    else
        *ret = f;
    return rc;
}

void sl_case_file_close(struct sl_case_file *f)
{
    sl_npz_deinit(&f->npz);
    free(f->bytes);
    *f = (struct sl_case_file){0};
}

static bool is_as_said(const struct sl_npy *a, char dtype, const size_t *dim,
                       unsigned n_dims)
{
    enum sl_npy_dtype want = dtype == 'f'   ? SL_NPY_F4
                             : dtype == 'd' ? SL_NPY_F8
                                            : SL_NPY_I4;
    if (a->dtype != want || a->n_dims != n_dims)
        return false;
    for (unsigned d = 0; d < n_dims; d++)
        if (a->dim[d] != dim[d])
            return false;
    return true;
}

enum sl_code sl_case_file_read(const struct sl_case_file *f, const char *name, char dtype,
                               const size_t *dim, unsigned n_dims, void **ret_data,
                               struct sl_err *err)
{
    struct sl_npy a = {0};
    void *data = NULL;
    enum sl_code rc = sl_npz_get(&f->npz, name, &a, err);
    if (rc == SL_OK && !is_as_said(&a, dtype, dim, n_dims))
        rc = sl_err_set(err, SL_E_INPUT,
                        "array %s: another type or shape than the manifest says", name);
    if (rc == SL_OK && (data = sl_calloc(a.bytes, 1)) == NULL)
        rc = sl_err_set(err, SL_E_NOMEM, "array %s", name);
    if (rc == SL_OK) {
        memcpy(data, a.data, a.bytes);
        *ret_data = data;
    }
    sl_npy_deinit(&a);
    return rc;
}
