/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/tool/array.h"

#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/mem.h"

#define FILE_MAX ((size_t)4 << 30)

void sl_tool_array_deinit(struct sl_tool_array *x)
{
    if (x == NULL)
        return;
    sl_npy_deinit(&x->a);
    *x = (struct sl_tool_array){0};
}

enum sl_code sl_tool_array_load(const char *path, struct sl_tool_array *ret,
                                struct sl_err *err)
{
    uint8_t *bytes;
    size_t n;
    struct sl_npy a;
    enum sl_code rc = sl_file_read(path, FILE_MAX, &bytes, &n, err);
    if (rc != SL_OK)
        return rc;
    rc = sl_npy_parse(path, bytes, n, &a, err);
    if (rc == SL_OK) {
        /* the values go to the start of the block, where they are aligned */
        memmove(bytes, a.data, a.bytes);
        a.data = a.owned = bytes;
        *ret = (struct sl_tool_array){a};
        return SL_OK;
    }
    free(bytes);
    return rc;
}

enum sl_code sl_tool_array_demand(const char *path, const struct sl_tool_array *x,
                                  enum sl_npy_dtype dtype, struct sl_err *err)
{
    if (x->a.dtype == dtype)
        return SL_OK;
    return sl_err_set(err, SL_E_INPUT, "%s: dtype %s (%s wanted)", path,
                      sl_npy_descr(x->a.dtype), sl_npy_descr(dtype));
}

enum sl_code sl_tool_result_add(struct sl_tool_result *r, const char *name,
                                enum sl_npy_dtype dtype, unsigned n_dims,
                                const size_t *dim, const void *data, struct sl_err *err)
{
    if (r->n == SL_TOOL_FIELDS)
        return sl_err_set(err, SL_E_BUG, "more than %d fields", SL_TOOL_FIELDS);
    struct sl_npz_item *item = &r->item[r->n];
    enum sl_code rc = sl_npy_make(dtype, n_dims, dim, data, &item->array, err);
    if (rc == SL_OK) {
        item->name = name;
        r->n++;
    }
    return rc;
}

enum sl_code sl_tool_result_write(const struct sl_tool_result *r, const char *path,
                                  struct sl_err *err)
{
    uint8_t *bytes;
    size_t n;
    enum sl_code rc = sl_npz_encode(r->item, r->n, &bytes, &n, err);
    if (rc != SL_OK)
        return rc;
    rc = sl_file_write_atomic(path, bytes, n, false, err);
    free(bytes);
    return rc;
}

enum sl_code sl_tool_npy_write(const char *path, enum sl_npy_dtype dtype, unsigned n_dims,
                               const size_t *dim, const void *data, struct sl_err *err)
{
    struct sl_npy a;
    enum sl_code rc = sl_npy_make(dtype, n_dims, dim, data, &a, err);
    if (rc != SL_OK)
        return rc;
    size_t n = sl_npy_file_bytes(&a);
    uint8_t *bytes = malloc(n);
    if (bytes == NULL)
        return sl_err_set(err, SL_E_NOMEM, "%s: %zu bytes", path, n);
    sl_npy_encode(&a, bytes);
    rc = sl_file_write_atomic(path, bytes, n, false, err);
    free(bytes);
    return rc;
}

void *sl_tool_room(struct sl_tool_memory *m, size_t n, size_t size)
{
    if (m->n == SL_TOOL_BLOCKS)
        return NULL;
    void *p = n == SIZE_MAX ? NULL : sl_calloc(n + 1, size);
    m->block[m->n++] = p;
    return p;
}

enum sl_code sl_tool_memory_ok(const struct sl_tool_memory *m, struct sl_err *err)
{
    for (size_t i = 0; i < m->n; i++)
        if (m->block[i] == NULL)
            return sl_err_set(err, SL_E_NOMEM, "not enough memory for arrays this large");
    return SL_OK;
}

void sl_tool_memory_deinit(struct sl_tool_memory *m)
{
    while (m->n > 0)
        free(m->block[--m->n]);
}
