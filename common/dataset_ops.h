/* SPDX-License-Identifier: Apache-2.0 */
/* dataset_ops.h - what a format of data sets provides, and what formats share.
 * Inside common/ only: dataset.c and the dataset_*.c files, their tests and fuzz targets. A new
 * format is one file, one row of the table in dataset.c, one test. Parsers work on memory or on
 * a stream; `where` names the input in messages. */
#ifndef SL_COMMON_DATASET_OPS_H
#define SL_COMMON_DATASET_OPS_H

#include "common/dataset.h"
#include "common/npy.h"

/* The samples a caller wants: all (index NULL) or index[0..n-1], ascending. */
struct sl_rows {
    const uint32_t *index;
    size_t n;
    uint64_t limit; /* first N samples only; 0 = all */
};

struct sl_dataset_ops {
    const char *kind;
    enum sl_code (*load)(const struct sl_dataset_source *src, const struct sl_rows *rows,
                         struct sl_dataset *ret, struct sl_err *err);
    /* NULL: labels are those of a set loaded whole */
    enum sl_code (*labels)(const struct sl_dataset_source *src, int32_t **ret_labels,
                           size_t *ret_n, uint32_t *ret_n_classes, struct sl_err *err);
};

extern const struct sl_dataset_ops sl_dataset_fashion_mnist, sl_dataset_idx, sl_dataset_cifar10,
    sl_dataset_csv, sl_dataset_npz, sl_dataset_synthetic;

/* Samples of a file of n_file that the limit leaves. */
static inline size_t sl_rows_after_limit(const struct sl_rows *rows, size_t n_file)
{
    return rows->limit > 0 && rows->limit < n_file ? (size_t)rows->limit : n_file;
}

/* SL_E_RANGE when a wanted index is not below n, the samples after the limit; SL_E_INPUT when n
 * is 0. */
enum sl_code sl_rows_check(const struct sl_rows *rows, size_t n, const char *where,
                           struct sl_err *err);

/* Samples that rows picks out of n. */
static inline size_t sl_rows_count(const struct sl_rows *rows, size_t n)
{
    return rows->index == NULL ? n : rows->n;
}

/* Sets d->n to n and allocates labels and, by `bytes`, pixels and lut or features; shape and
 * contents are the caller's. d must be deinit'ed on failure too. */
enum sl_code sl_dataset_allocate(struct sl_dataset *d, size_t n, bool bytes, const char *where,
                                 struct sl_err *err);

/* Fills channel c of the lut: ((float)byte / 255 - mean) / std. */
void sl_dataset_normalise(struct sl_dataset *d, uint32_t c, float mean, float std);

/* *ret = n_classes as src states it, or else largest label + 1; SL_E_RANGE when the largest label
 * or the number of classes is not allowed. */
enum sl_code sl_dataset_classes(const struct sl_dataset_source *src, const char *where,
                                int64_t largest_label, uint32_t *ret, struct sl_err *err);

/* Keeps rows of a set loaded whole (n_classes stays); checks them first. `d` is changed. */
enum sl_code sl_dataset_keep(struct sl_dataset *d, const struct sl_rows *rows, const char *where,
                             struct sl_err *err);

/* SL_E_INPUT naming the first sample with a value that is NaN or infinite. */
enum sl_code sl_dataset_finite(const struct sl_dataset *d, const char *where,
                               struct sl_err *err);

/* An IDX pair in memory (gzip allowed). Pixels are scaled to 0..1. */
struct sl_idx_input {
    const char *images_where, *labels_where;
    const uint8_t *images, *labels;
    size_t n_images, n_labels; /* bytes */
};
enum sl_code sl_idx_parse(const struct sl_idx_input *in, const struct sl_rows *rows,
                          struct sl_dataset *ret, struct sl_err *err);

/* One file of CIFAR-10 records in memory (gzip allowed). */
enum sl_code sl_cifar_parse(const char *where, const uint8_t *bytes, size_t n,
                            const struct sl_rows *rows, struct sl_dataset *ret,
                            struct sl_err *err);

enum sl_code sl_csv_parse(const char *where, const char *text, size_t n, bool label_first,
                          struct sl_dataset *ret, struct sl_err *err);

/* Samples x [n, ...] with labels y [n]; copies what it keeps. n_classes = largest label + 1. */
enum sl_code sl_npy_samples(const char *where, const struct sl_npy *x, const struct sl_npy *y,
                            struct sl_dataset *ret, struct sl_err *err);

#endif
