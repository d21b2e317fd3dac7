/* SPDX-License-Identifier: Apache-2.0 */
/* Input: an archive, or one .npy. What can be read is written again and must read back
 * alike. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/dataset_ops.h"
#include "common/npy.h"
#include "common/npz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_alike(const struct sl_npy *a, const struct sl_npy *b)
{
    if (a->dtype != b->dtype || a->n_dims != b->n_dims || a->bytes != b->bytes ||
        memcmp(a->dim, b->dim, sizeof(a->dim)) != 0 ||
        (a->bytes > 0 && memcmp(a->data, b->data, a->bytes) != 0))
        abort();
}

static void check_array(const struct sl_npy *a)
{
    size_t n = sl_npy_file_bytes(a);
    uint8_t *file = malloc(n);
    struct sl_npy again;
    sl_npy_encode(a, file);
    if (sl_npy_parse("again", file, n, &again, NULL) != SL_OK)
        abort();
    check_alike(a, &again);
    free(file);
    float *x = malloc((a->n + 1) * sizeof(*x));
    sl_npy_floats(a, x);
    free(x);
}

/* The first two arrays as samples and labels. */
static void check_samples(const struct sl_npz *z)
{
    struct sl_npy x, y = {0};
    struct sl_dataset d;
    if (z->n_entries < 2 || sl_npz_get(z, z->entry[0].name, &x, NULL) != SL_OK)
        return;
    if (sl_npz_get(z, z->entry[1].name, &y, NULL) == SL_OK &&
        sl_npy_samples("samples", &x, &y, &d, NULL) == SL_OK) {
        for (size_t i = 0; i < d.n; i++)
            if (d.labels[i] < 0 || (uint32_t)d.labels[i] >= d.n_classes)
                abort();
        sl_dataset_deinit(&d);
    }
    sl_npy_deinit(&x);
    sl_npy_deinit(&y);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_err err;
    struct sl_npy a;
    if (sl_npy_parse("array", data, size, &a, &err) == SL_OK)
        check_array(&a);
    struct sl_npz z;
    if (sl_npz_open("archive", data, size, &z, &err) != SL_OK)
        return 0;
    for (size_t i = 0; i < z.n_entries; i++)
        if (sl_npz_get(&z, z.entry[i].name, &a, &err) == SL_OK) {
            check_array(&a);
            sl_npy_deinit(&a);
        }
    check_samples(&z);
    sl_npz_deinit(&z);
    return 0;
}
