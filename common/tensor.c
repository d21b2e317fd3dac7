/* SPDX-License-Identifier: Apache-2.0 */
#include "common/tensor.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"

void sl_layout_deinit(struct sl_layout *l)
{
    if (l == NULL)
        return;
    free(l->tensors);
    *l = (struct sl_layout){0};
}

static enum sl_code check_name(const struct sl_layout *l, const char *name,
                               struct sl_err *err)
{
    size_t n = strnlen(name, SL_TENSOR_NAME);
    if (n == 0 || n == SL_TENSOR_NAME)
        return sl_err_set(err, SL_E_INPUT, "tensor name of %zu bytes (1 to %d allowed)", n,
                          SL_TENSOR_NAME - 1);
    for (size_t i = 0; i < n; i++)
        if (name[i] <= ' ' || name[i] > '~')
            return sl_err_set(err, SL_E_INPUT,
                              "tensor name with byte 0x%02x (printable ASCII allowed)",
                              (unsigned char)name[i]);
    if (sl_layout_find(l, name) != NULL)
        return sl_err_set(err, SL_E_INPUT, "tensor name \"%s\" twice", name);
    return SL_OK;
}

enum sl_code sl_layout_add(struct sl_layout *l, const char *name, enum sl_tensor_role role,
                           unsigned n_dims, const uint32_t *dim, struct sl_err *err)
{
    if (l->n_tensors >= SL_TENSORS_MAX)
        return sl_err_set(err, SL_E_LIMIT, "more than %d tensors", SL_TENSORS_MAX);
    if (n_dims > SL_TENSOR_DIMS)
        return sl_err_set(err, SL_E_LIMIT, "tensor of %u dimensions (at most %d)", n_dims,
                          SL_TENSOR_DIMS);
    enum sl_code rc = check_name(l, name, err);
    if (rc != SL_OK)
        return rc;
    struct sl_tensor t = {.role = role, .n_dims = n_dims, .offset = l->n_values, .size = 1};
    strcpy(t.name, name);
    for (unsigned d = 0; d < n_dims; d++) {
        if (dim[d] == 0)
            return sl_err_set(err, SL_E_INPUT, "tensor \"%s\": dimension %u is 0", name, d);
        t.dim[d] = dim[d];
        if (!sl_size_mul(t.size, dim[d], &t.size) || t.size > SL_VALUES_MAX)
            return sl_err_set(err, SL_E_LIMIT, "tensor \"%s\": more than %zu values", name,
                              SL_VALUES_MAX);
    }
    if (l->n_values + t.size > SL_VALUES_MAX)
        return sl_err_set(err, SL_E_LIMIT, "tensor \"%s\": model beyond %zu values", name,
                          SL_VALUES_MAX);
    struct sl_tensor *more = realloc(l->tensors, (l->n_tensors + 1) * sizeof(*more));
    if (more == NULL)
        return sl_err_set(err, SL_E_NOMEM, "tensor \"%s\"", name);
    l->tensors = more;
    l->tensors[l->n_tensors++] = t;
    l->n_values += t.size;
    return SL_OK;
}

size_t sl_layout_travelling(const struct sl_layout *l)
{
    size_t n = 0;
    for (size_t i = 0; i < l->n_tensors; i++)
        if (l->tensors[i].role != SL_TENSOR_FIXED)
            n += l->tensors[i].size;
    return n;
}

const struct sl_tensor *sl_layout_find(const struct sl_layout *l, const char *name)
{
    for (size_t i = 0; i < l->n_tensors; i++)
        if (strcmp(l->tensors[i].name, name) == 0)
            return &l->tensors[i];
    return NULL;
}

enum sl_code sl_layout_match(const struct sl_layout *want, const struct sl_layout *got,
                             struct sl_err *err)
{
    if (want->n_tensors != got->n_tensors)
        return sl_err_set(err, SL_E_INPUT, "%zu tensors, expected %zu", got->n_tensors,
                          want->n_tensors);
    for (size_t i = 0; i < want->n_tensors; i++) {
        const struct sl_tensor *a = &want->tensors[i], *b = &got->tensors[i];
        if (strcmp(a->name, b->name) != 0)
            return sl_err_set(err, SL_E_INPUT, "tensor %zu is \"%s\", expected \"%s\"", i,
                              b->name, a->name);
        if (a->role != b->role || a->n_dims != b->n_dims ||
            memcmp(a->dim, b->dim, sizeof(a->dim)) != 0)
            return sl_err_set(err, SL_E_INPUT, "tensor \"%s\" has another shape or role",
                              a->name);
    }
    return SL_OK;
}

enum sl_code sl_layout_copy(const struct sl_layout *from, struct sl_layout *ret,
                            struct sl_err *err)
{
    struct sl_layout l = *from;
    l.tensors = sl_calloc(from->n_tensors, sizeof(*l.tensors));
    if (l.tensors == NULL)
        return sl_err_set(err, SL_E_NOMEM, "layout of %zu tensors", from->n_tensors);
    if (from->n_tensors > 0)
        memcpy(l.tensors, from->tensors, from->n_tensors * sizeof(*l.tensors));
    *ret = l;
    return SL_OK;
}

static int by_name(const void *a, const void *b)
{
    const struct sl_tensor *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

void sl_model_digest(const struct sl_layout *l, const float *values,
                     uint8_t ret[SL_DIGEST_BYTES])
{
    const struct sl_tensor *sorted[SL_TENSORS_MAX];
    for (size_t i = 0; i < l->n_tensors; i++)
        sorted[i] = &l->tensors[i];
    qsort(sorted, l->n_tensors, sizeof(sorted[0]), by_name);
    crypto_generichash_state st;
    crypto_generichash_init(&st, NULL, 0, SL_DIGEST_BYTES);
    for (size_t i = 0; i < l->n_tensors; i++)
        crypto_generichash_update(&st, (const uint8_t *)(values + sorted[i]->offset),
                                  sorted[i]->size * sizeof(float));
    crypto_generichash_final(&st, ret, SL_DIGEST_BYTES);
}
