/* SPDX-License-Identifier: Apache-2.0 */
/* Input: an archive, or one .npy. What can be read is written again and must read back
 * alike: array by array, all of them as an archive, and the first two as samples and
 * labels of a data set in an archive and in a folder. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/dataset_ops.h"
#include "common/npy.h"
#include "common/npz.h"
#include "tests/fuzz/datasets.h"
#include "tests/fuzz/files.h"

#define ARRAYS_MAX 16

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_alike(const struct sl_npy *a, const struct sl_npy *b)
{
    fuzz_must(a->dtype == b->dtype && a->n_dims == b->n_dims && a->n == b->n &&
              a->bytes == b->bytes && memcmp(a->dim, b->dim, sizeof(a->dim)) == 0);
    fuzz_must(a->bytes == 0 || memcmp(a->data, b->data, a->bytes) == 0);
}

/* The three conversions agree where all can hold a value. */
static void check_values(const struct sl_npy *a)
{
    float *x = malloc((a->n + 1) * sizeof(*x));
    double *d = malloc((a->n + 1) * sizeof(*d));
    int64_t *i = malloc((a->n + 1) * sizeof(*i));
    struct sl_err err;
    fuzz_must(x != NULL && d != NULL && i != NULL);
    sl_npy_floats(a, x);
    sl_npy_doubles(a, d);
    enum sl_code rc = sl_npy_integers("array", a, i, &err);
    fuzz_check_line(rc, &err);
    for (size_t k = 0; k < a->n; k++) {
        if (rc == SL_OK)
            fuzz_must(x[k] == (float)i[k] && d[k] == (double)i[k]);
        else if (a->dtype == SL_NPY_F4)
            fuzz_must(d[k] == (double)x[k] || (x[k] != x[k] && d[k] != d[k]));
    }
    free(x);
    free(d);
    free(i);
}

static uint8_t *encoded(const struct sl_npy *a, size_t *ret_n)
{
    *ret_n = sl_npy_file_bytes(a);
    uint8_t *file = malloc(*ret_n);
    fuzz_must(file != NULL);
    sl_npy_encode(a, file);
    return file;
}

static void check_array(const struct sl_npy *a)
{
    size_t n;
    uint8_t *file = encoded(a, &n);
    struct sl_npy again, made;
    fuzz_must(sl_npy_parse("again", file, n, &again, NULL) == SL_OK);
    check_alike(a, &again);
    fuzz_must(sl_npy_make(a->dtype, a->n_dims, a->dim, a->data, &made, NULL) == SL_OK);
    check_alike(a, &made);
    fuzz_must(a->bytes == a->n * sl_npy_value_bytes(a->dtype));
    free(file);
    check_values(a);
}

/* All arrays written as an archive, which holds them under the same names. */
static void check_archive(const struct sl_npz_item *items, size_t n_items)
{
    uint8_t *file;
    size_t n;
    struct sl_npz z;
    struct sl_npy a;
    fuzz_must(sl_npz_encode(items, n_items, &file, &n, NULL) == SL_OK);
    fuzz_must(sl_npz_open("again", file, n, &z, NULL) == SL_OK && z.n_entries == n_items);
    for (size_t i = 0; i < n_items; i++) {
        fuzz_must(sl_npz_get(&z, items[i].name, &a, NULL) == SL_OK);
        check_alike(&a, &items[i].array);
        sl_npy_deinit(&a);
    }
    sl_npz_deinit(&z);
    free(file);
}

static bool load(const char *path, enum sl_dataset_split split, struct sl_dataset *ret)
{
    const struct sl_dataset_source src = {.kind = "npz", .path = path, .split = split};
    return fuzz_load(&src, 0, 0, ret);
}

/* x and y as the training set of an archive and as the test set of a folder. */
static void check_samples(const struct sl_npy *x, const struct sl_npy *y)
{
    struct sl_dataset d, again;
    struct sl_err err;
    enum sl_code rc = sl_npy_samples("samples", x, y, &d, &err);
    fuzz_check_line(rc, &err);

    const struct sl_npz_item items[2] = {{"y_train", *y}, {"x_train", *x}};
    uint8_t *bytes;
    size_t n;
    struct fuzz_file file;
    fuzz_must(sl_npz_encode(items, 2, &bytes, &n, NULL) == SL_OK);
    fuzz_file_open(&file, bytes, n);
    free(bytes);
    bool in_archive = load(file.path, SL_SPLIT_TRAIN, &again);
    fuzz_must(in_archive == (rc == SL_OK));
    if (in_archive) {
        fuzz_check_same_dataset(&d, &again);
        sl_dataset_deinit(&again);
    }
    fuzz_file_close(&file);

    struct fuzz_folder folder;
    fuzz_folder_open(&folder);
    for (int i = 0; i < 2; i++) {
        bytes = encoded(i == 0 ? x : y, &n);
        fuzz_folder_put(&folder, i == 0 ? "x_test.npy" : "y_test.npy", bytes, n);
        free(bytes);
    }
    bool in_folder = load(folder.path, SL_SPLIT_TEST, &again);
    fuzz_must(in_folder == (rc == SL_OK));
    if (in_folder) {
        fuzz_check_same_dataset(&d, &again);
        sl_dataset_deinit(&again);
    }
    fuzz_folder_close(&folder);
    if (rc == SL_OK)
        sl_dataset_deinit(&d);
}

/* The bytes as a user's data set. */
static void load_as_is(const uint8_t *data, size_t size)
{
    struct fuzz_file file;
    struct sl_dataset d;
    fuzz_file_open(&file, data, size);
    for (int split = 0; split < 2; split++)
        if (load(file.path, split == 0 ? SL_SPLIT_TRAIN : SL_SPLIT_TEST, &d))
            sl_dataset_deinit(&d);
    fuzz_file_close(&file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_err err;
    struct sl_npy a;
    enum sl_code rc = sl_npy_parse("array", data, size, &a, &err);
    fuzz_check_line(rc, &err);
    if (rc == SL_OK)
        check_array(&a);
    struct sl_npz z;
    rc = sl_npz_open("archive", data, size, &z, &err);
    fuzz_check_line(rc, &err);
    if (rc == SL_OK) {
        struct sl_npz_item items[ARRAYS_MAX];
        size_t n = 0;
        for (size_t i = 0; i < z.n_entries && n < ARRAYS_MAX; i++) {
            rc = sl_npz_get(&z, z.entry[i].name, &items[n].array, &err);
            fuzz_check_line(rc, &err);
            if (rc == SL_OK)
                items[n++].name = z.entry[i].name;
        }
        for (size_t i = 0; i < n; i++)
            check_array(&items[i].array);
        check_archive(items, n);
        if (n >= 2)
            check_samples(&items[0].array, &items[1].array);
        for (size_t i = 0; i < n; i++)
            sl_npy_deinit(&items[i].array);
        sl_npz_deinit(&z);
    }
    load_as_is(data, size);
    return 0;
}
