/* SPDX-License-Identifier: Apache-2.0 */
#include "common/model_file.h"

#include <assert.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/mem.h"
#include "common/npz.h"
#include "common/safetensors.h"

#define FILE_BYTES_MAX ((size_t)4 << 30) /* SL_VALUES_MAX doubles and their headers */
#define SHAPE_CHARS 128

static_assert((size_t)SL_TENSOR_NAME <= SL_NPZ_NAME,
              "a tensor's name is an array's name");
static_assert((size_t)SL_TENSOR_NAME <= SL_SAFETENSORS_NAME, "also in safetensors");
static_assert(SL_TENSOR_DIMS <= SL_NPY_DIMS && SL_TENSOR_DIMS <= SL_SAFETENSORS_DIMS,
              "shapes fit");
static_assert(SL_TENSORS_MAX <= SL_NPZ_ENTRIES_MAX, "models fit");
static_assert(SL_TENSORS_MAX <= SL_SAFETENSORS_TENSORS_MAX, "models fit");

enum kind { KIND_NONE, KIND_NPZ, KIND_SAFETENSORS };

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n > m && strcmp(text + n - m, end) == 0;
}

static enum kind kind_of(const char *path)
{
    return ends_with(path, ".npz")           ? KIND_NPZ
           : ends_with(path, ".safetensors") ? KIND_SAFETENSORS
                                             : KIND_NONE;
}

enum sl_code sl_model_file_check(const char *path, struct sl_err *err)
{
    if (kind_of(path) != KIND_NONE)
        return SL_OK;
    return sl_err_set(err, SL_E_USAGE, "%s: model files end in .npz or .safetensors",
                      path);
}

/* --- saving ----------------------------------------------------------------------- */

static enum sl_code encode_npz(const struct sl_layout *l, const float *values,
                               uint8_t **ret, size_t *ret_n, struct sl_err *err)
{
    struct sl_npz_item *items = sl_calloc(l->n_tensors + 1, sizeof(*items));
    if (items == NULL)
        return sl_err_set(err, SL_E_NOMEM, "%zu tensors", l->n_tensors);
    enum sl_code rc = SL_OK;
    for (size_t i = 0; rc == SL_OK && i < l->n_tensors; i++) {
        const struct sl_tensor *t = &l->tensors[i];
        size_t dim[SL_TENSOR_DIMS];
        for (unsigned d = 0; d < t->n_dims; d++)
            dim[d] = t->dim[d];
        items[i].name = t->name;
        rc = sl_npy_make(SL_NPY_F4, t->n_dims, dim, values + t->offset, &items[i].array,
                         err);
    }
    if (rc == SL_OK)
        rc = sl_npz_encode(items, l->n_tensors, ret, ret_n, err);
    free(items);
    return rc;
}

static enum sl_code encode_safetensors(const struct sl_layout *l, const float *values,
                                       uint8_t **ret, size_t *ret_n, struct sl_err *err)
{
    struct sl_safetensors_item *items = sl_calloc(l->n_tensors + 1, sizeof(*items));
    if (items == NULL)
        return sl_err_set(err, SL_E_NOMEM, "%zu tensors", l->n_tensors);
    for (size_t i = 0; i < l->n_tensors; i++) {
        const struct sl_tensor *t = &l->tensors[i];
        items[i].name = t->name;
        items[i].n_dims = t->n_dims;
        items[i].values = values + t->offset;
        for (unsigned d = 0; d < t->n_dims; d++)
            items[i].dim[d] = t->dim[d];
    }
    enum sl_code rc = sl_safetensors_encode(items, l->n_tensors, ret, ret_n, err);
    free(items);
    return rc;
}

enum sl_code sl_model_file_save(const char *path, const struct sl_layout *layout,
                                const float *values, struct sl_err *err)
{
    enum sl_code rc = sl_model_file_check(path, err);
    if (rc != SL_OK)
        return rc;
    uint8_t *bytes = NULL;
    size_t n = 0;
    rc = kind_of(path) == KIND_NPZ ? encode_npz(layout, values, &bytes, &n, err)
                                   : encode_safetensors(layout, values, &bytes, &n, err);
    if (rc != SL_OK)
        return sl_err_wrap(err, rc, "%s", path);
    rc = sl_file_write_atomic(path, bytes, n, true, err);
    free(bytes);
    return rc;
}

/* --- loading ---------------------------------------------------------------------- */

struct shape {
    unsigned n_dims;
    const size_t *dim;
};

static void print_shape(const struct shape *s, char text[SHAPE_CHARS])
{
    size_t n = (size_t)snprintf(text, SHAPE_CHARS, "[");
    for (unsigned i = 0; i < s->n_dims && n < SHAPE_CHARS; i++)
        n += (size_t)snprintf(text + n, SHAPE_CHARS - n, i == 0 ? "%zu" : ", %zu",
                              s->dim[i]);
    if (n < SHAPE_CHARS)
        snprintf(text + n, SHAPE_CHARS - n, "]");
}

static enum sl_code check_shape(const char *path, const struct sl_tensor *want,
                                const struct shape *got, struct sl_err *err)
{
    size_t dim[SL_TENSOR_DIMS] = {0};
    for (unsigned d = 0; d < want->n_dims; d++)
        dim[d] = want->dim[d];
    if (got->n_dims == want->n_dims &&
        (got->n_dims == 0 || memcmp(got->dim, dim, got->n_dims * sizeof(dim[0])) == 0))
        return SL_OK;
    const struct shape wanted = {want->n_dims, dim};
    char is[SHAPE_CHARS], must[SHAPE_CHARS];
    print_shape(got, is);
    print_shape(&wanted, must);
    return sl_err_set(err, SL_E_INPUT, "%s: tensor \"%s\" is %s, the model's is %s", path,
                      want->name, is, must);
}

static enum sl_code missing(const char *path, const char *name, struct sl_err *err)
{
    return sl_err_set(err, SL_E_INPUT, "%s: no tensor \"%s\"", path, name);
}

static enum sl_code surplus(const char *path, const char *name, struct sl_err *err)
{
    return sl_err_set(err, SL_E_INPUT, "%s: tensor \"%s\" is none of the model's", path,
                      name);
}

static enum sl_code take_array(const char *path, const struct sl_npz *z,
                               const struct sl_tensor *want, struct sl_npy *ret,
                               struct sl_err *err)
{
    if (sl_npz_find(z, want->name) == NULL)
        return missing(path, want->name, err);
    struct sl_npy a;
    enum sl_code rc = sl_npz_get(z, want->name, &a, err);
    if (rc != SL_OK)
        return rc;
    const struct shape got = {a.n_dims, a.dim};
    rc = check_shape(path, want, &got, err);
    if (rc == SL_OK && a.dtype != SL_NPY_F4 && a.dtype != SL_NPY_F8)
        rc = sl_err_set(err, SL_E_INPUT,
                        "%s: tensor \"%s\" of type %s (f4 and f8 allowed)", path,
                        want->name, sl_npy_descr(a.dtype));
    if (rc != SL_OK) {
        sl_npy_deinit(&a);
        return rc;
    }
    *ret = a;
    return SL_OK;
}

/* All arrays are taken before the first value is written: a failure leaves ret_values
 * alone. */
static enum sl_code read_arrays(const char *path, const struct sl_npz *z,
                                const struct sl_layout *l, float *ret_values,
                                struct sl_err *err)
{
    for (size_t i = 0; i < z->n_entries; i++)
        if (sl_layout_find(l, z->entry[i].name) == NULL)
            return surplus(path, z->entry[i].name, err);
    struct sl_npy *arrays = sl_calloc(l->n_tensors + 1, sizeof(*arrays));
    if (arrays == NULL)
        return sl_err_set(err, SL_E_NOMEM, "%s: %zu tensors", path, l->n_tensors);
    enum sl_code rc = SL_OK;
    for (size_t i = 0; rc == SL_OK && i < l->n_tensors; i++)
        rc = take_array(path, z, &l->tensors[i], &arrays[i], err);
    for (size_t i = 0; i < l->n_tensors; i++) {
        if (rc == SL_OK)
            sl_npy_floats(&arrays[i], ret_values + l->tensors[i].offset);
        sl_npy_deinit(&arrays[i]);
    }
    free(arrays);
    return rc;
}

static enum sl_code load_npz(const char *path, const uint8_t *bytes, size_t n,
                             const struct sl_layout *l, float *ret_values,
                             struct sl_err *err)
{
    struct sl_npz z = {0};
    enum sl_code rc = sl_npz_open(path, bytes, n, &z, err);
    if (rc == SL_OK)
        rc = read_arrays(path, &z, l, ret_values, err);
    sl_npz_deinit(&z);
    return rc;
}

static enum sl_code check_tensors(const char *path, const struct sl_safetensors *s,
                                  const struct sl_layout *l, struct sl_err *err)
{
    for (size_t i = 0; i < s->n_tensors; i++)
        if (sl_layout_find(l, s->tensors[i].name) == NULL)
            return surplus(path, s->tensors[i].name, err);
    for (size_t i = 0; i < l->n_tensors; i++) {
        const struct sl_safetensor *t = sl_safetensors_find(s, l->tensors[i].name);
        if (t == NULL)
            return missing(path, l->tensors[i].name, err);
        const struct shape got = {t->n_dims, t->dim};
        enum sl_code rc = check_shape(path, &l->tensors[i], &got, err);
        if (rc != SL_OK)
            return rc;
    }
    return SL_OK;
}

static enum sl_code load_safetensors(const char *path, const uint8_t *bytes, size_t n,
                                     const struct sl_layout *l, float *ret_values,
                                     struct sl_err *err)
{
    struct sl_safetensors s = {0};
    enum sl_code rc = sl_safetensors_open(path, bytes, n, &s, err);
    if (rc == SL_OK)
        rc = check_tensors(path, &s, l, err);
    for (size_t i = 0; rc == SL_OK && i < l->n_tensors; i++)
        sl_safetensors_floats(sl_safetensors_find(&s, l->tensors[i].name),
                              ret_values + l->tensors[i].offset);
    sl_safetensors_deinit(&s);
    return rc;
}

enum sl_code sl_model_file_load(const char *path, const struct sl_layout *layout,
                                float *ret_values, struct sl_err *err)
{
    enum sl_code rc = sl_model_file_check(path, err);
    if (rc != SL_OK)
        return rc;
    uint8_t *bytes = NULL;
    size_t n = 0;
    rc = sl_file_read(path, FILE_BYTES_MAX, &bytes, &n, err);
    if (rc == SL_OK)
        rc = kind_of(path) == KIND_NPZ
                 ? load_npz(path, bytes, n, layout, ret_values, err)
                 : load_safetensors(path, bytes, n, layout, ret_values, err);
    free(bytes);
    return rc;
}
