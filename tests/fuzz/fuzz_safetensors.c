/* SPDX-License-Identifier: Apache-2.0 */
/* Input: a whole file. What can be read converts, and its floats survive writing. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_tensor(const struct sl_safetensor *t)
{
    struct sl_safetensors_item item = {.name = t->name, .n_dims = t->n_dims};
    float *x = malloc((t->n + 1) * sizeof(*x)), *y = malloc((t->n + 1) * sizeof(*y));
    sl_safetensors_floats(t, x);
    memcpy(item.dim, t->dim, sizeof(item.dim));
    item.values = x;
    uint8_t *file;
    size_t n;
    struct sl_safetensors s;
    if (sl_safetensors_encode(&item, 1, &file, &n, NULL) == SL_OK) {
        if (sl_safetensors_open("again", file, n, &s, NULL) != SL_OK || s.n_tensors != 1)
            abort();
        sl_safetensors_floats(&s.tensors[0], y);
        if (s.tensors[0].n != t->n || memcmp(x, y, t->n * sizeof(*x)) != 0)
            abort();
        sl_safetensors_deinit(&s);
        free(file);
    }
    free(x);
    free(y);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_safetensors s;
    struct sl_err err;
    if (sl_safetensors_open("file", data, size, &s, &err) != SL_OK)
        return 0;
    size_t bytes = 0;
    for (size_t i = 0; i < s.n_tensors; i++) {
        check_tensor(&s.tensors[i]);
        bytes += s.tensors[i].bytes;
    }
    if (bytes > size)
        abort();
    sl_safetensors_deinit(&s);
    return 0;
}
