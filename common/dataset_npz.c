/* SPDX-License-Identifier: Apache-2.0 */
/* NumPy arrays: an .npz with x_train, y_train, x_test and y_test, or a folder of .npy files of these
 * names. x is [n, width], [n, height, width] or [n, channels, height, width] (or any further shape [n, ...],
 * which is then a row of 1 x 1 x values); bytes are pixels, scaled to 0..1; other numbers are features, as
 * they are. y holds n integers from 0, as [n] or [n, 1]. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/dataset_ops.h"
#include "common/file.h"
#include "common/mem.h"
#include "common/npz.h"

#define FILE_BYTES_MAX ((size_t)1 << 32)
#define PATH_BYTES 1280

static const char *const names[2][2] = {{"x_train", "y_train"}, {"x_test", "y_test"}};

/* The two arrays of a split, and the blocks that they borrow from. */
struct pair {
    struct sl_npy x, y;
    struct sl_npz archive;
    uint8_t *bytes[2]; /* owned */
};

static void pair_deinit(struct pair *p)
{
    sl_npy_deinit(&p->x);
    sl_npy_deinit(&p->y);
    sl_npz_deinit(&p->archive);
    free(p->bytes[0]);
    free(p->bytes[1]);
}

static enum sl_code shape_of(const char *where, const struct sl_npy *x, struct sl_dataset *d,
                             struct sl_err *err)
{
    if (x->n_dims < 2 || x->dim[0] == 0)
        return sl_err_set(err, SL_E_INPUT,
                          "%s: x of %u dimensions with %zu samples (2 or more dimensions, samples first)",
                          where, x->n_dims, x->n_dims == 0 ? (size_t)0 : x->dim[0]);
    size_t shape[3] = {1, 1, x->n / x->dim[0]};
    if (x->n_dims == 3 || x->n_dims == 4) {
        shape[2] = x->dim[x->n_dims - 1];
        shape[1] = x->dim[x->n_dims - 2];
        shape[0] = x->n_dims == 4 ? x->dim[1] : 1;
    }
    for (size_t i = 0; i < 3; i++)
        if (shape[i] > SL_DATASET_VALUES_MAX)
            return sl_err_set(err, SL_E_LIMIT, "%s: samples of %zu values along an axis (at most %zu)",
                              where, shape[i], SL_DATASET_VALUES_MAX);
    d->channels = (uint32_t)shape[0];
    d->height = (uint32_t)shape[1];
    d->width = (uint32_t)shape[2];
    return SL_OK;
}

static enum sl_code take_labels(const char *where, const struct sl_npy *y, struct sl_dataset *d,
                                struct sl_err *err)
{
    bool column = y->n_dims == 1 || (y->n_dims == 2 && y->dim[1] == 1);
    if (!column || y->n != d->n)
        return sl_err_set(err, SL_E_INPUT, "%s: y of %zu values in %u dimensions (%zu in one)", where,
                          y->n, y->n_dims, d->n);
    int64_t *labels = sl_calloc(d->n, sizeof(*labels));
    if (labels == NULL)
        return sl_err_set(err, SL_E_NOMEM, "%s: %zu labels", where, d->n);
    enum sl_code rc = sl_npy_integers(where, y, labels, err);
    uint32_t largest = 0;
    for (size_t i = 0; rc == SL_OK && i < d->n; i++) {
        if (labels[i] < 0 || labels[i] >= SL_DATASET_CLASSES_MAX)
            rc = sl_err_set(err, SL_E_RANGE, "%s: label %" PRId64 " of sample %zu (0 to %d)", where,
                            labels[i], i, SL_DATASET_CLASSES_MAX - 1);
        else
            d->labels[i] = (int32_t)labels[i];
        largest = rc == SL_OK && labels[i] > largest ? (uint32_t)labels[i] : largest;
    }
    free(labels);
    d->n_classes = largest + 1;
    return rc;
}

enum sl_code sl_npy_samples(const char *where, const struct sl_npy *x, const struct sl_npy *y,
                            struct sl_dataset *ret, struct sl_err *err)
{
    struct sl_dataset d = {0};
    bool pixels = x->dtype == SL_NPY_U1;
    enum sl_code rc = shape_of(where, x, &d, err);
    if (rc == SL_OK)
        rc = sl_dataset_allocate(&d, x->dim[0], pixels, where, err);
    if (rc == SL_OK)
        rc = take_labels(where, y, &d, err);
    if (rc == SL_OK && pixels) {
        memcpy(d.pixels, x->data, x->n);
        for (uint32_t c = 0; c < d.channels; c++)
            sl_dataset_normalise(&d, c, 0, 1);
    } else if (rc == SL_OK) {
        sl_npy_floats(x, d.features);
        rc = sl_dataset_finite(&d, where, err);
    }
    if (rc != SL_OK) {
        sl_dataset_deinit(&d);
        return rc;
    }
    *ret = d;
    return SL_OK;
}

static enum sl_code open_archive(const char *path, const char *const name[2], struct pair *p,
                                 struct sl_err *err)
{
    size_t n;
    enum sl_code rc = sl_file_read(path, FILE_BYTES_MAX, &p->bytes[0], &n, err);
    if (rc == SL_OK)
        rc = sl_npz_open(path, p->bytes[0], n, &p->archive, err);
    if (rc == SL_OK)
        rc = sl_npz_get(&p->archive, name[0], &p->x, err);
    if (rc == SL_OK)
        rc = sl_npz_get(&p->archive, name[1], &p->y, err);
    return rc == SL_E_NOTFOUND && p->bytes[0] != NULL
               ? sl_err_set(err, SL_E_INPUT, "%s: no array %s (x_train, y_train, x_test and y_test)",
                            path, sl_npz_find(&p->archive, name[0]) == NULL ? name[0] : name[1])
               : rc;
}

static enum sl_code open_folder(const char *folder, const char *const name[2], struct pair *p,
                                struct sl_err *err)
{
    struct sl_npy *to[2] = {&p->x, &p->y};
    enum sl_code rc = SL_OK;
    for (int i = 0; i < 2 && rc == SL_OK; i++) {
        char path[PATH_BYTES];
        size_t n;
        if (snprintf(path, sizeof(path), "%s/%s.npy", folder, name[i]) >= PATH_BYTES)
            return sl_err_set(err, SL_E_LIMIT, "dataset path of more than %d bytes", PATH_BYTES - 1);
        rc = sl_file_read(path, FILE_BYTES_MAX, &p->bytes[i], &n, err);
        if (rc == SL_OK)
            rc = sl_npy_parse(path, p->bytes[i], n, to[i], err);
    }
    return rc;
}

static enum sl_code npz_load(const struct sl_dataset_source *src, const struct sl_rows *rows,
                             struct sl_dataset *ret, struct sl_err *err)
{
    if (src->path == NULL || src->path[0] == '\0')
        return sl_err_set(err, SL_E_INPUT,
                          "dataset \"npz\": data.path is empty (an .npz file, or a folder of .npy files)");
    struct pair p = {0};
    struct stat st;
    const char *const *name = names[src->split == SL_SPLIT_TEST];
    bool folder = stat(src->path, &st) == 0 && S_ISDIR(st.st_mode);
    enum sl_code rc = folder ? open_folder(src->path, name, &p, err)
                             : open_archive(src->path, name, &p, err);
    if (rc == SL_OK)
        rc = sl_npy_samples(src->path, &p.x, &p.y, ret, err);
    pair_deinit(&p);
    if (rc == SL_OK)
        rc = sl_dataset_classes(src, src->path, (int64_t)ret->n_classes - 1, &ret->n_classes, err);
    return rc == SL_OK ? sl_dataset_keep(ret, rows, src->path, err) : rc;
}

const struct sl_dataset_ops sl_dataset_npz = {"npz", npz_load, NULL};
