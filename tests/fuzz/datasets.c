/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fuzz/datasets.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/files.h"

#define SAMPLES_LOOKED_AT 64 /* values of this many samples are compared */

void fuzz_check_dataset(const struct sl_dataset *d)
{
    fuzz_must(d->n >= 1 && sl_dataset_values(d) >= 1 && d->n_classes >= 1);
    fuzz_must((d->pixels != NULL) != (d->features != NULL));
    for (size_t i = 0; i < d->n; i++)
        fuzz_must(d->labels[i] >= 0 && (uint32_t)d->labels[i] < d->n_classes);
    const uint32_t last = (uint32_t)(d->n - 1);
    size_t values = sl_dataset_values(d);
    float *x = malloc(values * sizeof(*x));
    int32_t y;
    fuzz_must(x != NULL);
    sl_dataset_gather(d, &last, 1, x, &y);
    fuzz_must(y == d->labels[last]);
    for (size_t i = 0; i < values; i++)
        fuzz_must(isfinite(x[i]));
    free(x);
}

void fuzz_check_same_sample(const struct sl_dataset *a, size_t i,
                            const struct sl_dataset *b, size_t k)
{
    size_t n = sl_dataset_values(a);
    fuzz_must(n == sl_dataset_values(b) && (a->pixels == NULL) == (b->pixels == NULL));
    fuzz_must(a->labels[i] == b->labels[k]);
    if (a->pixels != NULL)
        fuzz_must(memcmp(a->pixels + i * n, b->pixels + k * n, n) == 0);
    else
        fuzz_must(memcmp(a->features + i * n, b->features + k * n, n * sizeof(float)) ==
                  0);
}

void fuzz_check_same_dataset(const struct sl_dataset *a, const struct sl_dataset *b)
{
    fuzz_must(a->n == b->n && a->n_classes == b->n_classes &&
              a->channels == b->channels && a->height == b->height &&
              a->width == b->width);
    for (size_t i = 0; i < a->n && i < SAMPLES_LOOKED_AT; i++)
        fuzz_check_same_sample(a, i, b, i);
}

static void check_labels(const struct sl_dataset_source *src,
                         const struct sl_dataset *whole)
{
    int32_t *labels;
    size_t n;
    uint32_t n_classes;
    struct sl_err err;
    enum sl_code rc = sl_dataset_labels(src, &labels, &n, &n_classes, &err);
    fuzz_check_line(rc, &err);
    fuzz_must(rc == SL_OK || whole == NULL);
    if (rc != SL_OK)
        return;
    if (whole != NULL)
        fuzz_must(n == whole->n && n_classes == whole->n_classes &&
                  memcmp(labels, whole->labels, n * sizeof(*labels)) == 0);
    free(labels);
}

static void check_subset(const struct sl_dataset_source *src, uint32_t first,
                         uint32_t gap, const struct sl_dataset *whole)
{
    const uint32_t index[2] = {first, first + gap + 1};
    struct sl_dataset d;
    struct sl_err err;
    enum sl_code rc = sl_dataset_subset(src, index, 2, &d, &err);
    fuzz_check_line(rc, &err);
    if (whole != NULL)
        fuzz_must(rc == (index[1] < whole->n ? SL_OK : SL_E_RANGE));
    if (rc != SL_OK)
        return;
    fuzz_check_dataset(&d);
    fuzz_must(d.n == 2);
    for (size_t i = 0; i < 2 && whole != NULL; i++)
        fuzz_check_same_sample(&d, i, whole, index[i]);
    sl_dataset_deinit(&d);
}

bool fuzz_load(const struct sl_dataset_source *src, uint32_t first, uint32_t gap,
               struct sl_dataset *ret)
{
    struct sl_dataset d;
    struct sl_err err;
    enum sl_code rc = sl_dataset_load(src, &d, &err);
    fuzz_check_line(rc, &err);
    const struct sl_dataset *whole = rc == SL_OK ? &d : NULL;
    if (whole != NULL)
        fuzz_check_dataset(whole);
    check_labels(src, whole);
    check_subset(src, first, gap, whole);
    if (whole != NULL)
        *ret = d;
    return whole != NULL;
}
