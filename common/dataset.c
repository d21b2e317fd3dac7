/* SPDX-License-Identifier: Apache-2.0 */
#include "common/dataset.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/dataset_ops.h"
#include "common/mem.h"

#define BYTE_VALUES 256

static const struct sl_dataset_ops *const kinds[] = {
    &sl_dataset_fashion_mnist, &sl_dataset_idx,       &sl_dataset_cifar10,
    &sl_dataset_csv,           &sl_dataset_npz,       &sl_dataset_synthetic,
};

#define N_KINDS (sizeof(kinds) / sizeof(kinds[0]))

const char *sl_dataset_kind(size_t i)
{
    return i < N_KINDS ? kinds[i]->kind : NULL;
}

void sl_dataset_deinit(struct sl_dataset *d)
{
    if (d == NULL)
        return;
    free(d->labels);
    free(d->pixels);
    free(d->features);
    free(d->lut);
    *d = (struct sl_dataset){0};
}

static enum sl_code find_kind(const char *kind, const struct sl_dataset_ops **ret,
                              struct sl_err *err)
{
    for (size_t i = 0; i < N_KINDS; i++) {
        if (strcmp(kinds[i]->kind, kind) == 0) {
            *ret = kinds[i];
            return SL_OK;
        }
    }
    return sl_err_set(err, SL_E_USAGE,
                      "dataset \"%s\": fashion-mnist, idx, cifar10, csv, npz and synthetic "
                      "are allowed",
                      kind);
}

static enum sl_code load(const struct sl_dataset_source *src, const struct sl_rows *rows,
                         struct sl_dataset *ret, struct sl_err *err)
{
    const struct sl_dataset_ops *ops = NULL;
    enum sl_code rc = find_kind(src->kind, &ops, err);
    if (rc != SL_OK)
        return rc;
    struct sl_dataset d = {0};
    rc = ops->load(src, rows, &d, err);
    if (rc != SL_OK) {
        sl_dataset_deinit(&d);
        return rc;
    }
    *ret = d;
    return SL_OK;
}

enum sl_code sl_dataset_load(const struct sl_dataset_source *src, struct sl_dataset *ret,
                             struct sl_err *err)
{
    const struct sl_rows all = {.limit = src->limit};
    return load(src, &all, ret, err);
}

enum sl_code sl_dataset_subset(const struct sl_dataset_source *src, const uint32_t *index,
                               size_t n, struct sl_dataset *ret, struct sl_err *err)
{
    if (n == 0)
        return sl_err_set(err, SL_E_RANGE,
                          "dataset \"%s\": no samples asked for (1 or more)", src->kind);
    for (size_t i = 1; i < n; i++)
        if (index[i] <= index[i - 1])
            return sl_err_set(err, SL_E_RANGE,
                              "dataset \"%s\": sample %" PRIu32 " follows %" PRIu32
                              " (ascending order is allowed)",
                              src->kind, index[i], index[i - 1]);
    const struct sl_rows rows = {.index = index, .n = n, .limit = src->limit};
    return load(src, &rows, ret, err);
}

enum sl_code sl_dataset_labels(const struct sl_dataset_source *src, int32_t **ret_labels,
                               size_t *ret_n, uint32_t *ret_n_classes, struct sl_err *err)
{
    const struct sl_dataset_ops *ops = NULL;
    enum sl_code rc = find_kind(src->kind, &ops, err);
    if (rc != SL_OK)
        return rc;
    if (ops->labels != NULL)
        return ops->labels(src, ret_labels, ret_n, ret_n_classes, err);
    struct sl_dataset d;
    rc = sl_dataset_load(src, &d, err);
    if (rc != SL_OK)
        return rc;
    *ret_labels = d.labels;
    *ret_n = d.n;
    *ret_n_classes = d.n_classes;
    d.labels = NULL;
    sl_dataset_deinit(&d);
    return SL_OK;
}

static void gather_bytes(const struct sl_dataset *d, const uint8_t *from, float *to)
{
    size_t plane = (size_t)d->height * d->width;
    for (uint32_t c = 0; c < d->channels; c++) {
        const float *lut = d->lut + (size_t)c * BYTE_VALUES;
        for (size_t i = 0; i < plane; i++)
            to[i] = lut[from[i]];
        from += plane;
        to += plane;
    }
}

void sl_dataset_gather(const struct sl_dataset *d, const uint32_t *index, size_t n,
                       float *ret_x, int32_t *ret_y)
{
    size_t values = sl_dataset_values(d);
    for (size_t i = 0; i < n; i++) {
        size_t at = (size_t)index[i] * values;
        if (d->pixels != NULL)
            gather_bytes(d, d->pixels + at, ret_x + i * values);
        else
            memcpy(ret_x + i * values, d->features + at, values * sizeof(float));
        if (ret_y != NULL)
            ret_y[i] = d->labels[index[i]];
    }
}

enum sl_code sl_rows_check(const struct sl_rows *rows, size_t n, const char *where,
                           struct sl_err *err)
{
    if (n == 0)
        return sl_err_set(err, SL_E_INPUT, "%s: no samples (1 or more)", where);
    if (rows->index != NULL && rows->index[rows->n - 1] >= n)
        return sl_err_set(err, SL_E_RANGE, "%s: sample %" PRIu32 " asked for (0 to %zu)",
                          where, rows->index[rows->n - 1], n - 1);
    return SL_OK;
}

static enum sl_code check_shape(const struct sl_dataset *d, bool bytes, const char *where,
                                struct sl_err *err)
{
    if (d->channels == 0 || d->height == 0 || d->width == 0)
        return sl_err_set(err, SL_E_INPUT,
                          "%s: samples of %" PRIu32 " x %" PRIu32 " x %" PRIu32
                          " values (1 or more of each)",
                          where, d->channels, d->height, d->width);
    size_t plane, values;
    if (!sl_size_mul(d->height, d->width, &plane) ||
        !sl_size_mul(plane, d->channels, &values) || values > SL_DATASET_VALUES_MAX ||
        (bytes && d->channels > SL_DATASET_CHANNELS_MAX))
        return sl_err_set(err, SL_E_LIMIT,
                          "%s: samples of %" PRIu32 " x %" PRIu32 " x %" PRIu32
                          " values (at most %zu, of %d channels)",
                          where, d->channels, d->height, d->width, SL_DATASET_VALUES_MAX,
                          SL_DATASET_CHANNELS_MAX);
    return SL_OK;
}

enum sl_code sl_dataset_allocate(struct sl_dataset *d, size_t n, bool bytes,
                                 const char *where, struct sl_err *err)
{
    enum sl_code rc = check_shape(d, bytes, where, err);
    if (rc != SL_OK)
        return rc;
    size_t one = sl_dataset_values(d) * (bytes ? 1 : sizeof(float)), all;
    if (n > SL_DATASET_SAMPLES_MAX || !sl_size_mul(n, one, &all) ||
        all > SL_DATASET_BYTES_MAX)
        return sl_err_set(err, SL_E_LIMIT,
                          "%s: %zu samples of %zu bytes (at most %zu samples, %zu bytes)",
                          where, n, one, SL_DATASET_SAMPLES_MAX, SL_DATASET_BYTES_MAX);
    d->n = n;
    d->labels = sl_calloc(n, sizeof(*d->labels));
    if (bytes) {
        d->pixels = sl_calloc(n, one);
        d->lut = sl_calloc(d->channels, BYTE_VALUES * sizeof(float));
    } else {
        d->features = sl_calloc(n, one);
    }
    if (d->labels == NULL ||
        (bytes ? d->pixels == NULL || d->lut == NULL : d->features == NULL))
        return sl_err_set(err, SL_E_NOMEM, "%s: no memory for %zu samples of %zu bytes",
                          where, n, one);
    return SL_OK;
}

void sl_dataset_normalise(struct sl_dataset *d, uint32_t c, float mean, float std)
{
    for (int byte = 0; byte < BYTE_VALUES; byte++) {
        float scaled = (float)byte / 255.0f;
        d->lut[(size_t)c * BYTE_VALUES + (size_t)byte] = (scaled - mean) / std;
    }
}

enum sl_code sl_dataset_classes(const struct sl_dataset_source *src, const char *where,
                                int64_t largest_label, uint32_t *ret, struct sl_err *err)
{
    uint32_t allowed = src->n_classes > 0 ? src->n_classes : SL_DATASET_CLASSES_MAX;
    if (largest_label >= (int64_t)allowed)
        return sl_err_set(err, SL_E_RANGE, "%s: label %" PRId64 " (0 to %" PRIu32 ")",
                          where, largest_label, allowed - 1);
    *ret = src->n_classes > 0 ? src->n_classes : (uint32_t)(largest_label + 1);
    return SL_OK;
}

enum sl_code sl_dataset_keep(struct sl_dataset *d, const struct sl_rows *rows,
                             const char *where, struct sl_err *err)
{
    size_t left = sl_rows_after_limit(rows, d->n);
    enum sl_code rc = sl_rows_check(rows, left, where, err);
    if (rc != SL_OK)
        return rc;
    size_t n = sl_rows_count(rows, left), values = sl_dataset_values(d);
    /* index[i] >= i, so rows only move towards the front */
    for (size_t i = 0; i < n && rows->index != NULL; i++) {
        size_t from = rows->index[i];
        d->labels[i] = d->labels[from];
        if (d->pixels != NULL)
            memmove(d->pixels + i * values, d->pixels + from * values, values);
        else
            memmove(d->features + i * values, d->features + from * values,
                    values * sizeof(float));
    }
    if (n < d->n) {
        void *p = realloc(d->labels, n * sizeof(*d->labels));
        d->labels = p != NULL ? p : d->labels;
        p = d->pixels != NULL ? realloc(d->pixels, n * values)
                              : realloc(d->features, n * values * sizeof(float));
        if (p != NULL && d->pixels != NULL)
            d->pixels = p;
        else if (p != NULL)
            d->features = p;
    }
    d->n = n;
    return SL_OK;
}

enum sl_code sl_dataset_finite(const struct sl_dataset *d, const char *where,
                               struct sl_err *err)
{
    size_t values = sl_dataset_values(d);
    for (size_t i = 0; d->features != NULL && i < d->n * values; i++)
        if (!isfinite(d->features[i]))
            return sl_err_set(
                err, SL_E_INPUT,
                "%s: sample %zu, value %zu is %s (finite numbers are allowed)", where,
                i / values, i % values, isnan(d->features[i]) ? "NaN" : "infinite");
    return SL_OK;
}
