/* SPDX-License-Identifier: Apache-2.0 */
/* Input: a whole file. What can be read converts, and all its floats survive writing,
 * tensor by tensor and together. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

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
    for (size_t i = 0; i < n; i++)
        free((void *)(uintptr_t)items[i].values);
    sl_safetensors_deinit(&s);
    return 0;
}
