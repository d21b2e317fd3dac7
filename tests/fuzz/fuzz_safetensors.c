/* SPDX-License-Identifier: Apache-2.0 */
/* Input: a whole file. What can be read converts, and all its floats survive writing,
 * tensor by tensor and together. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/model_file.h"
#include "common/safetensors.h"
#include "tests/fuzz/files.h"

#define TENSORS_MAX 16

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct sl_safetensors_item item_of(const struct sl_safetensor *t)
{
    struct sl_safetensors_item item = {.name = t->name, .n_dims = t->n_dims};
    float *x = malloc((t->n + 1) * sizeof(*x));
    fuzz_must(x != NULL);
    sl_safetensors_floats(t, x);
    memcpy(item.dim, t->dim, sizeof(item.dim));
    item.values = x;
    return item;
}

static void check_written(const struct sl_safetensors_item *items, size_t n_items,
                          const struct sl_safetensor *from)
{
    uint8_t *file;
    size_t n;
    struct sl_safetensors s;
    struct sl_err err;
    enum sl_code rc = sl_safetensors_encode(items, n_items, &file, &n, &err);
    fuzz_check_line(rc, &err);
    fuzz_must(rc == SL_OK);
    fuzz_must(sl_safetensors_open("again", file, n, &s, NULL) == SL_OK &&
              s.n_tensors == n_items);
    for (size_t i = 0; i < n_items; i++) {
        const struct sl_safetensor *t = sl_safetensors_find(&s, items[i].name);
        fuzz_must(t != NULL && t->dtype == SL_ST_F32 && t->n == from[i].n &&
                  t->n_dims == from[i].n_dims &&
                  memcmp(t->dim, from[i].dim, sizeof(t->dim)) == 0);
        fuzz_must(t->n == 0 || memcmp(t->data, items[i].values, t->bytes) == 0);
    }
    sl_safetensors_deinit(&s);
    free(file);
}

/* A model with these tensors; false when none can have them. */
static bool layout_of(const struct sl_safetensors *s, struct sl_layout *l)
{
    enum sl_code rc = SL_OK;
    for (size_t i = 0; rc == SL_OK && i < s->n_tensors; i++) {
        const struct sl_safetensor *t = &s->tensors[i];
        uint32_t dim[SL_TENSOR_DIMS];
        for (unsigned d = 0; d < t->n_dims && d < SL_TENSOR_DIMS; d++)
            dim[d] = (uint32_t)t->dim[d];
        rc = t->n_dims > SL_TENSOR_DIMS
                 ? SL_E_LIMIT
                 : sl_layout_add(l, t->name, SL_TENSOR_PARAM, t->n_dims, dim, NULL);
    }
    return rc == SL_OK && l->n_tensors > 0;
}

static enum sl_code load(const struct fuzz_folder *folder, const char *name,
                         const struct sl_layout *l, float *ret)
{
    char path[300];
    struct sl_err err;
    snprintf(path, sizeof(path), "%s/%s", folder->path, name);
    enum sl_code rc = sl_model_file_load(path, l, ret, &err);
    fuzz_check_line(rc, &err);
    return rc;
}

/* What is loaded is saved as .npz and loaded again. */
static void check_saved(const struct fuzz_folder *folder, const struct sl_layout *l,
                        const float *x)
{
    char path[300];
    float *again = malloc(l->n_values * sizeof(*again));
    fuzz_must(again != NULL);
    snprintf(path, sizeof(path), "%s/m.npz", folder->path);
    fuzz_must(sl_model_file_save(path, l, x, NULL) == SL_OK &&
              load(folder, "m.npz", l, again) == SL_OK);
    fuzz_must(memcmp(x, again, l->n_values * sizeof(*x)) == 0);
    snprintf(path, sizeof(path), "%s/n.safetensors", folder->path);
    fuzz_must(sl_model_file_save(path, l, x, NULL) == SL_OK &&
              load(folder, "n.safetensors", l, again) == SL_OK);
    fuzz_must(memcmp(x, again, l->n_values * sizeof(*x)) == 0);
    free(again);
}

/* The last byte chooses how the model differs from the file: not, by a name, or by a
 * shape. */
static void check_model(const uint8_t *data, size_t size, const struct sl_safetensors *s)
{
    struct sl_layout l = {0};
    struct fuzz_folder folder;
    if (!layout_of(s, &l)) {
        sl_layout_deinit(&l);
        return;
    }
    float *x = malloc(l.n_values * sizeof(*x));
    fuzz_must(x != NULL);
    fuzz_folder_open(&folder);
    fuzz_folder_put(&folder, "m.safetensors", data, size);
    fuzz_must(load(&folder, "m.safetensors", &l, x) == SL_OK);
    check_saved(&folder, &l, x);
    struct sl_tensor *t = &l.tensors[data[size - 1] % l.n_tensors];
    if (data[size - 1] & 64)
        t->name[0] = t->name[0] == 'x' ? 'y' : 'x';
    else if (t->n_dims < SL_TENSOR_DIMS)
        t->dim[t->n_dims++] = 1;
    else
        t->n_dims--;
    fuzz_must(load(&folder, "m.safetensors", &l, x) != SL_OK || data[size - 1] & 64);
    fuzz_must(load(&folder, "m.npz", &l, x) != SL_OK || data[size - 1] & 64);
    fuzz_must(load(&folder, "m.txt", &l, x) == SL_E_USAGE);
    fuzz_folder_close(&folder);
    free(x);
    sl_layout_deinit(&l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_safetensors s;
    struct sl_err err;
    enum sl_code rc = sl_safetensors_open("file", data, size, &s, &err);
    fuzz_check_line(rc, &err);
    if (rc != SL_OK)
        return 0;
    struct sl_safetensors_item items[TENSORS_MAX];
    size_t bytes = 0, n = 0;
    for (size_t i = 0; i < s.n_tensors; i++) {
        bytes += s.tensors[i].bytes;
        if (n < TENSORS_MAX)
            items[n++] = item_of(&s.tensors[i]);
    }
    fuzz_must(bytes <= size);
    for (size_t i = 0; i < n; i++)
        check_written(&items[i], 1, &s.tensors[i]);
    check_written(items, n, s.tensors);
    check_model(data, size, &s);
    for (size_t i = 0; i < n; i++)
        free((void *)(uintptr_t)items[i].values);
    sl_safetensors_deinit(&s);
    return 0;
}
