/* SPDX-License-Identifier: Apache-2.0 */
/* IDX files (LeCun, Cortes, Burges, "The MNIST database"): two zero bytes, a type byte (8 =
 * unsigned byte), the number of dimensions, then each dimension as a big-endian 32-bit number,
 * then the values, last dimension fastest. A pair of files makes a set: labels[n] and images
 * [n, w], [n, h, w] or [n, c, h, w]. Fashion-MNIST is such a pair with a constant
 * normalisation. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/dataset_ops.h"
#include "common/dataset_stream.h"

#define PATH_BYTES 1280
#define IDX_BYTE_TYPE 0x00000800u
#define FASHION_CLASSES 10
#define FASHION_MEAN 0.2860f
#define FASHION_STD 0.3530f

struct idx_header {
    unsigned n_dims;
    uint32_t dim[4];
};

static uint32_t big_endian(const uint8_t b[4])
{
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static enum sl_code read_u32(struct sl_stream *s, const char *what, uint32_t *ret,
                             struct sl_err *err)
{
    uint8_t b[4];
    enum sl_code rc = sl_stream_exact(s, b, sizeof(b), what, err);
    if (rc == SL_OK)
        *ret = big_endian(b);
    return rc;
}

static enum sl_code read_header(struct sl_stream *s, unsigned min_dims, unsigned max_dims,
                                struct idx_header *ret, struct sl_err *err)
{
    uint32_t magic;
    enum sl_code rc = read_u32(s, "the magic number", &magic, err);
    if (rc != SL_OK)
        return rc;
    struct idx_header h = {.n_dims = magic & 0xff};
    if ((magic & ~0xffu) != IDX_BYTE_TYPE || h.n_dims < min_dims || h.n_dims > max_dims)
        return sl_err_set(err, SL_E_INPUT,
                          "%s: magic number 0x%08" PRIx32
                          " (0x%08x to 0x%08x, unsigned bytes, allowed)",
                          s->where, magic, IDX_BYTE_TYPE + min_dims,
                          IDX_BYTE_TYPE + max_dims);
    for (unsigned i = 0; i < h.n_dims; i++) {
        rc = read_u32(s, "the dimensions", &h.dim[i], err);
        if (rc != SL_OK)
            return rc;
    }
    if (h.dim[0] > SL_DATASET_SAMPLES_MAX)
        return sl_err_set(err, SL_E_LIMIT, "%s: %" PRIu32 " samples (at most %zu)",
                          s->where, h.dim[0], SL_DATASET_SAMPLES_MAX);
    *ret = h;
    return SL_OK;
}

/* A pass over the labels of a file: those of rows go to to[], the largest one to *ret_largest. */
static enum sl_code scan_labels(struct sl_stream *s, const struct sl_rows *rows, size_t n,
                                int32_t *to, int *ret_largest, struct sl_err *err)
{
    uint8_t block[4096];
    size_t kept = 0;
    int largest = 0;
    for (size_t at = 0; at < n;) {
        size_t some = n - at < sizeof(block) ? n - at : sizeof(block);
        enum sl_code rc = sl_stream_exact(s, block, some, "the labels", err);
        if (rc != SL_OK)
            return rc;
        for (size_t i = 0; i < some; i++, at++) {
            if (block[i] > largest)
                largest = block[i];
            if (rows->index == NULL || (kept < rows->n && rows->index[kept] == at))
                to[kept++] = block[i];
        }
    }
    *ret_largest = largest;
    return SL_OK;
}

/* The samples of rows, in order, into d->pixels. */
static enum sl_code read_pixels(struct sl_stream *s, const struct sl_rows *rows,
                                struct sl_dataset *d, struct sl_err *err)
{
    size_t values = sl_dataset_values(d);
    if (rows->index == NULL) /* the rows are all of the file's first d->n */
        return sl_stream_exact(s, d->pixels, d->n * values, "the pixels", err);
    uint64_t at = 0;
    for (size_t i = 0; i < d->n; i++) {
        enum sl_code rc =
            sl_stream_skip(s, (rows->index[i] - at) * values, "the pixels", err);
        if (rc == SL_OK)
            rc = sl_stream_exact(s, d->pixels + i * values, values, "the pixels", err);
        if (rc != SL_OK)
            return rc;
        at = (uint64_t)rows->index[i] + 1;
    }
    return SL_OK;
}

struct idx_pair {
    struct sl_stream images, labels;
};

static void set_shape(const struct idx_header *h, struct sl_dataset *d)
{
    d->channels = h->n_dims == 4 ? h->dim[1] : 1;
    d->height = h->n_dims >= 3 ? h->dim[h->n_dims - 2] : 1;
    d->width = h->dim[h->n_dims - 1];
}

static enum sl_code can_hold_pixels(const struct sl_stream *s, size_t n,
                                    const struct sl_dataset *d, struct sl_err *err)
{
    uint64_t bytes = n;
    const uint32_t dim[] = {d->channels, d->height, d->width};
    for (int i = 0; i < 3; i++)
        if (__builtin_mul_overflow(bytes, dim[i], &bytes))
            bytes = UINT64_MAX;
    return sl_stream_can_hold(s, bytes, "the pixels", err);
}

/* Labels into d, which has its shape; the file must end behind them when all are read. */
static enum sl_code load_labels(struct sl_stream *s, size_t n_file,
                                const struct sl_dataset_source *src,
                                const struct sl_rows *rows, struct sl_dataset *d,
                                struct sl_err *err)
{
    size_t n = sl_rows_after_limit(rows, n_file);
    enum sl_code rc = sl_rows_check(rows, n, s->where, err);
    if (rc == SL_OK)
        rc = sl_stream_can_hold(s, n, "the labels", err);
    if (rc == SL_OK)
        rc = sl_dataset_allocate(d, sl_rows_count(rows, n), true, s->where, err);
    int largest = 0;
    if (rc == SL_OK)
        rc = scan_labels(s, rows, n, d->labels, &largest, err);
    if (rc == SL_OK)
        rc = sl_dataset_classes(src, s->where, largest, &d->n_classes, err);
    if (rc == SL_OK && n == n_file)
        rc = sl_stream_expect_end(s, err);
    return rc;
}

static enum sl_code parse_pair(struct idx_pair *p, const struct sl_dataset_source *src,
                               const struct sl_rows *rows, struct sl_dataset *d,
                               struct sl_err *err)
{
    struct idx_header images, labels;
    enum sl_code rc = read_header(&p->labels, 1, 1, &labels, err);
    if (rc == SL_OK)
        rc = read_header(&p->images, 2, 4, &images, err);
    if (rc != SL_OK)
        return rc;
    if (images.dim[0] != labels.dim[0])
        return sl_err_set(err, SL_E_INPUT,
                          "%s: %" PRIu32 " images, but %s has %" PRIu32
                          " labels (equal numbers allowed)",
                          p->images.where, images.dim[0], p->labels.where, labels.dim[0]);
    set_shape(&images, d);
    rc = can_hold_pixels(&p->images, sl_rows_after_limit(rows, images.dim[0]), d, err);
    if (rc == SL_OK)
        rc = load_labels(&p->labels, labels.dim[0], src, rows, d, err);
    if (rc == SL_OK)
        rc = read_pixels(&p->images, rows, d, err);
    if (rc == SL_OK && rows->index == NULL && d->n == images.dim[0])
        rc = sl_stream_expect_end(&p->images, err);
    return rc;
}

static void close_pair(struct idx_pair *p)
{
    sl_stream_close(&p->images);
    sl_stream_close(&p->labels);
}

enum sl_code sl_idx_parse(const struct sl_idx_input *in, const struct sl_rows *rows,
                          struct sl_dataset *ret, struct sl_err *err)
{
    const struct sl_dataset_source any = {0};
    struct idx_pair p = {0};
    struct sl_dataset d = {0};
    enum sl_code rc =
        sl_stream_open_memory(in->images_where, in->images, in->n_images, &p.images, err);
    if (rc == SL_OK)
        rc = sl_stream_open_memory(in->labels_where, in->labels, in->n_labels, &p.labels,
                                   err);
    if (rc == SL_OK)
        rc = parse_pair(&p, &any, rows, &d, err);
    close_pair(&p);
    if (rc != SL_OK) {
        sl_dataset_deinit(&d);
        return rc;
    }
    for (uint32_t c = 0; c < d.channels; c++)
        sl_dataset_normalise(&d, c, 0.0f, 1.0f);
    *ret = d;
    return SL_OK;
}

/* FOLDER/NAME.gz when it is there, else FOLDER/NAME */
static enum sl_code find_file(const char *folder, const char *split, const char *rest,
                              char path[PATH_BYTES], struct sl_err *err)
{
    for (int plain = 0; plain < 2; plain++) {
        int n = snprintf(path, PATH_BYTES, "%s/%s-%s%s", folder, split, rest,
                         plain ? "" : ".gz");
        if (n < 0 || n >= PATH_BYTES)
            return sl_err_set(err, SL_E_LIMIT, "dataset path of %d bytes (at most %d)", n,
                              PATH_BYTES - 1);
        if (access(path, F_OK) == 0)
            return SL_OK;
    }
    return sl_err_set(err, SL_E_NOTFOUND, "%s: no such file, plain or .gz", path);
}

static const char *split_name(const struct sl_dataset_source *src)
{
    return src->split == SL_SPLIT_TRAIN ? "train" : "t10k";
}

static enum sl_code load_folder(const char *folder, const struct sl_dataset_source *src,
                                const struct sl_rows *rows, struct sl_dataset *d,
                                struct sl_err *err)
{
    char images[PATH_BYTES], labels[PATH_BYTES];
    enum sl_code rc =
        find_file(folder, split_name(src), "images-idx3-ubyte", images, err);
    if (rc == SL_OK)
        rc = find_file(folder, split_name(src), "labels-idx1-ubyte", labels, err);
    if (rc != SL_OK)
        return rc;
    struct idx_pair p = {0};
    rc = sl_stream_open_file(images, &p.images, err);
    if (rc == SL_OK)
        rc = sl_stream_open_file(labels, &p.labels, err);
    if (rc == SL_OK)
        rc = parse_pair(&p, src, rows, d, err);
    close_pair(&p);
    return rc;
}

static enum sl_code labels_of_folder(const char *folder,
                                     const struct sl_dataset_source *src,
                                     int32_t **ret_labels, size_t *ret_n,
                                     uint32_t *ret_n_classes, struct sl_err *err)
{
    char path[PATH_BYTES];
    struct sl_stream s;
    enum sl_code rc = find_file(folder, split_name(src), "labels-idx1-ubyte", path, err);
    if (rc == SL_OK)
        rc = sl_stream_open_file(path, &s, err);
    if (rc != SL_OK)
        return rc;
    const struct sl_rows all = {.limit = src->limit};
    struct idx_header h;
    struct sl_dataset d = {.channels = 1, .height = 1, .width = 1};
    rc = read_header(&s, 1, 1, &h, err);
    if (rc == SL_OK)
        rc = load_labels(&s, h.dim[0], src, &all, &d, err);
    sl_stream_close(&s);
    if (rc == SL_OK) {
        *ret_labels = d.labels;
        *ret_n = d.n;
        *ret_n_classes = d.n_classes;
        d.labels = NULL;
    }
    sl_dataset_deinit(&d);
    return rc;
}

static enum sl_code need_path(const struct sl_dataset_source *src, struct sl_err *err)
{
    if (src->path == NULL || src->path[0] == '\0')
        return sl_err_set(err, SL_E_INPUT,
                          "dataset \"%s\": data.path is empty (a folder)", src->kind);
    return SL_OK;
}

static enum sl_code idx_load(const struct sl_dataset_source *src,
                             const struct sl_rows *rows, struct sl_dataset *ret,
                             struct sl_err *err)
{
    enum sl_code rc = need_path(src, err);
    if (rc == SL_OK)
        rc = load_folder(src->path, src, rows, ret, err);
    for (uint32_t c = 0; rc == SL_OK && c < ret->channels; c++)
        sl_dataset_normalise(ret, c, 0.0f, 1.0f);
    return rc;
}

static enum sl_code idx_labels(const struct sl_dataset_source *src, int32_t **ret_labels,
                               size_t *ret_n, uint32_t *ret_n_classes, struct sl_err *err)
{
    enum sl_code rc = need_path(src, err);
    if (rc == SL_OK)
        rc = labels_of_folder(src->path, src, ret_labels, ret_n, ret_n_classes, err);
    return rc;
}

static const char *fashion_folder(const struct sl_dataset_source *src)
{
    if (src->path != NULL && src->path[0] != '\0')
        return src->path;
    const char *env = getenv("FMNIST_DIR");
    return env != NULL && env[0] != '\0' ? env : SL_DATASET_FASHION_DIR;
}

static struct sl_dataset_source with_ten_classes(const struct sl_dataset_source *src)
{
    struct sl_dataset_source s = *src;
    if (s.n_classes == 0)
        s.n_classes = FASHION_CLASSES;
    return s;
}

static enum sl_code fashion_load(const struct sl_dataset_source *src,
                                 const struct sl_rows *rows, struct sl_dataset *ret,
                                 struct sl_err *err)
{
    const struct sl_dataset_source s = with_ten_classes(src);
    enum sl_code rc = load_folder(fashion_folder(src), &s, rows, ret, err);
    for (uint32_t c = 0; rc == SL_OK && c < ret->channels; c++)
        sl_dataset_normalise(ret, c, FASHION_MEAN, FASHION_STD);
    return rc;
}

static enum sl_code fashion_labels(const struct sl_dataset_source *src,
                                   int32_t **ret_labels, size_t *ret_n,
                                   uint32_t *ret_n_classes, struct sl_err *err)
{
    const struct sl_dataset_source s = with_ten_classes(src);
    return labels_of_folder(fashion_folder(src), &s, ret_labels, ret_n, ret_n_classes,
                            err);
}

const struct sl_dataset_ops sl_dataset_idx = {"idx", idx_load, idx_labels};
const struct sl_dataset_ops sl_dataset_fashion_mnist = {"fashion-mnist", fashion_load,
                                                        fashion_labels};
