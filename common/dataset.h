/* SPDX-License-Identifier: Apache-2.0 */
/* dataset.h - labelled samples in memory, and the loaders of the formats we read.
 * A sample is channels x height x width values, row-major (rows of a table: 1 x 1 x columns).
 * Pixels stay bytes, as in the file, and are normalised when they are handed out:
 * ((float)byte / 255 - mean) / std in float arithmetic, in this order; features are floats and
 * handed out as they are. A loaded set is constant: any number of threads may read it.
 * Owns: its arrays. Loaders read files, never the clock, never the network. */
#ifndef SL_COMMON_DATASET_H
#define SL_COMMON_DATASET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

#define SL_DATASET_SAMPLES_MAX ((size_t)1 << 26)
#define SL_DATASET_VALUES_MAX ((size_t)1 << 24) /* values of one sample */
#define SL_DATASET_BYTES_MAX ((size_t)1 << 34)  /* pixels or features of a set */
#define SL_DATASET_CHANNELS_MAX 1024            /* channels of a set of bytes */
#define SL_DATASET_CLASSES_MAX 100000
#define SL_DATASET_FASHION_DIR "/usr/share/datasets/fashion-mnist"

struct sl_dataset {
    uint32_t channels, height, width;
    uint32_t n_classes;
    size_t n;         /* samples, >= 1 */
    int32_t *labels;  /* [n], 0..n_classes-1 */
    uint8_t *pixels;  /* [n, channels, height, width], or NULL */
    float *features;  /* the same shape, or NULL; exactly one of both is there */
    float *lut;       /* [channels, 256]: a byte's value; NULL with features */
};

enum sl_dataset_split { SL_SPLIT_TRAIN, SL_SPLIT_TEST };

/* What to load. Strings are borrowed for the call.
 * kind           path                                   files
 * fashion-mnist  folder; "" = $FMNIST_DIR, else the     {train,t10k}-{images-idx3,
 *                Debian package's                       labels-idx1}-ubyte, .gz or plain
 * idx            folder                                 the same names
 * cifar10        folder                                 data_batch_1..5.bin, test_batch.bin
 * csv            folder with train.csv and test.csv, or one file: then the hash of a row's number
 *                says whether it is a test sample; about a fifth are
 * npz            .npz file of x_train, y_train, x_test,
 *                y_test, or a folder                    x_train.npy and so on
 * synthetic      options "key=value,..." of channels, height, width, classes, train, test,
 *                seed, noise_percent; "" = 1 x 28 x 28, 10 classes, 600 and 200 samples,
 *                seed 1, 10 % */
struct sl_dataset_source {
    const char *kind;
    const char *path;
    enum sl_dataset_split split;
    uint64_t limit;     /* first N samples; 0 = all */
    uint32_t n_classes; /* 0 = largest label of the split's file + 1 (10 for fashion-mnist and
                           cifar10); else a label beyond is an error. Loaders of a test set pass
                           the training set's number */
    bool label_first;   /* csv: the label stands in the first column, not in the last */
};

void sl_dataset_deinit(struct sl_dataset *d); /* NULL, {0} and half built allowed */

/* Values of one sample: channels * height * width. */
static inline size_t sl_dataset_values(const struct sl_dataset *d)
{
    return (size_t)d->channels * d->height * d->width;
}

/* Loads a split. Errors name file, what and what is allowed: SL_E_NOTFOUND, SL_E_IO, SL_E_INPUT,
 * SL_E_LIMIT, SL_E_NOMEM; SL_E_USAGE for an unknown kind. */
enum sl_code sl_dataset_load(const struct sl_dataset_source *src, struct sl_dataset *ret,
                             struct sl_err *err);

/* Loads samples index[0..n-1] only (ascending, no repeats, n >= 1): a file of bytes is streamed,
 * and memory is that of the n samples. Sample i of the result is sample index[i] of the split;
 * n_classes is that of the whole split. SL_E_RANGE when an index lies beyond the split (after
 * `limit`) or is out of order. */
enum sl_code sl_dataset_subset(const struct sl_dataset_source *src, const uint32_t *index,
                               size_t n, struct sl_dataset *ret, struct sl_err *err);

/* Labels of the whole split (after `limit`), for partitions; *ret_labels is the caller's to
 * free(). */
enum sl_code sl_dataset_labels(const struct sl_dataset_source *src, int32_t **ret_labels,
                               size_t *ret_n, uint32_t *ret_n_classes, struct sl_err *err);

/* The samples index[0..n-1] of d (any order, repeats allowed, each below d->n) as normalised
 * floats ret_x[n, channels, height, width] and labels ret_y[n]; ret_y may be NULL. */
void sl_dataset_gather(const struct sl_dataset *d, const uint32_t *index, size_t n,
                       float *ret_x, int32_t *ret_y);

/* Kinds that sl_dataset_load knows, by number from 0; NULL beyond the last. */
const char *sl_dataset_kind(size_t i);

#endif
