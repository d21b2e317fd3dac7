/* SPDX-License-Identifier: Apache-2.0 */
/* CIFAR-10's binary version (Krizhevsky 2009): records of one label byte and 3 x 32 x 32 pixels,
 * red plane first. Training set: data_batch_1.bin to data_batch_5.bin, in this order. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/dataset_ops.h"
#include "common/dataset_stream.h"

#define CHANNELS 3
#define SIDE 32
#define PIXELS (CHANNELS * SIDE * SIDE)
#define RECORD (1 + PIXELS)
#define CLASSES 10
#define TRAIN_FILES 5
#define SAMPLES_MAX 1000000
#define PATH_BYTES 1280

/* Mean and standard deviation of the training pixels, by channel, as usual in the literature. */
static const float mean[CHANNELS] = {0.4914f, 0.4822f, 0.4465f};
static const float deviation[CHANNELS] = {0.2470f, 0.2435f, 0.2616f};

struct reader {
    const struct sl_rows *rows;
    uint32_t n_classes;
    size_t seen;     /* records so far, over all files */
    size_t kept;     /* of them in the set */
    size_t capacity; /* samples allocated */
    struct sl_dataset d;
};

static enum sl_code reader_init(struct reader *r, const struct sl_rows *rows,
                                uint32_t n_classes, const char *where, struct sl_err *err)
{
    *r = (struct reader){.rows = rows,
                         .n_classes = n_classes > 0 ? n_classes : CLASSES,
                         .capacity = rows->index != NULL ? rows->n : 64,
                         .d = {.channels = CHANNELS, .height = SIDE, .width = SIDE}};
    enum sl_code rc = sl_dataset_allocate(&r->d, r->capacity, true, where, err);
    for (uint32_t c = 0; rc == SL_OK && c < CHANNELS; c++)
        sl_dataset_normalise(&r->d, c, mean[c], deviation[c]);
    return rc;
}

static enum sl_code resize(struct reader *r, size_t n, const char *where,
                           struct sl_err *err)
{
    if (n > SAMPLES_MAX)
        return sl_err_set(err, SL_E_LIMIT, "%s: more than %d samples", where,
                          SAMPLES_MAX);
    void *pixels = realloc(r->d.pixels, n * PIXELS);
    if (pixels != NULL)
        r->d.pixels = pixels;
    void *labels = realloc(r->d.labels, n * sizeof(*r->d.labels));
    if (labels != NULL)
        r->d.labels = labels;
    if (pixels == NULL || labels == NULL)
        return sl_err_set(err, SL_E_NOMEM, "%s: no memory for %zu samples", where, n);
    r->capacity = n;
    return SL_OK;
}

static enum sl_code grow(struct reader *r, const char *where, struct sl_err *err)
{
    size_t twice = 2 * r->capacity;
    bool last_step = r->capacity < SAMPLES_MAX && twice > SAMPLES_MAX;
    return resize(r, last_step ? SAMPLES_MAX : twice, where, err);
}

static bool wanted(const struct reader *r)
{
    if (r->rows->index == NULL)
        return true;
    return r->kept < r->rows->n && r->rows->index[r->kept] == r->seen;
}

static bool done(const struct reader *r)
{
    return (r->rows->limit > 0 && r->seen >= r->rows->limit) ||
           (r->rows->index != NULL && r->kept == r->rows->n);
}

static enum sl_code take_record(struct reader *r, const uint8_t record[RECORD],
                                const char *where, struct sl_err *err)
{
    if (record[0] >= r->n_classes)
        return sl_err_set(err, SL_E_RANGE, "%s: label %d (0 to %d)", where, record[0],
                          (int)r->n_classes - 1);
    if (wanted(r)) {
        enum sl_code rc = SL_OK;
        if (r->kept == r->capacity)
            rc = grow(r, where, err);
        if (rc != SL_OK)
            return rc;
        r->d.labels[r->kept] = record[0];
        memcpy(r->d.pixels + r->kept * PIXELS, record + 1, PIXELS);
        r->kept++;
    }
    r->seen++;
    return SL_OK;
}

static enum sl_code read_records(struct reader *r, struct sl_stream *s,
                                 struct sl_err *err)
{
    uint8_t record[RECORD];
    while (!done(r)) {
        size_t got;
        enum sl_code rc = sl_stream_read(s, record, RECORD, &got, err);
        if (rc != SL_OK)
            return rc;
        if (got == 0)
            break;
        if (got < RECORD)
            return sl_err_set(err, SL_E_INPUT,
                              "%s: %zu bytes after the last record (records of %d bytes)",
                              s->where, got, RECORD);
        rc = take_record(r, record, s->where, err);
        if (rc != SL_OK)
            return rc;
    }
    return SL_OK;
}

/* Checks that everything asked for was there and gives spare memory back. */
static enum sl_code finish(struct reader *r, const char *where, struct sl_err *err)
{
    enum sl_code rc = SL_OK;
    if (r->rows->index == NULL || r->kept < r->rows->n)
        rc = sl_rows_check(r->rows, r->seen, where, err);
    if (rc == SL_OK && r->kept < r->capacity)
        rc = resize(r, r->kept, where, err);
    r->d.n = r->kept;
    r->d.n_classes = r->n_classes;
    return rc;
}

enum sl_code sl_cifar_parse(const char *where, const uint8_t *bytes, size_t n,
                            const struct sl_rows *rows, struct sl_dataset *ret,
                            struct sl_err *err)
{
    struct sl_stream s = {0};
    struct reader r = {0};
    enum sl_code rc = reader_init(&r, rows, 0, where, err);
    if (rc == SL_OK)
        rc = sl_stream_open_memory(where, bytes, n, &s, err);
    if (rc == SL_OK)
        rc = read_records(&r, &s, err);
    if (rc == SL_OK)
        rc = finish(&r, where, err);
    sl_stream_close(&s);
    if (rc != SL_OK)
        sl_dataset_deinit(&r.d);
    else
        *ret = r.d;
    return rc;
}

static enum sl_code read_file(struct reader *r, const char *folder, const char *name,
                              struct sl_err *err)
{
    char path[PATH_BYTES];
    int n = snprintf(path, sizeof(path), "%s/%s", folder, name);
    if (n < 0 || n >= PATH_BYTES)
        return sl_err_set(err, SL_E_LIMIT, "dataset path of %d bytes (at most %d)", n,
                          PATH_BYTES - 1);
    struct sl_stream s;
    enum sl_code rc = sl_stream_open_file(path, &s, err);
    if (rc != SL_OK)
        return rc;
    rc = read_records(r, &s, err);
    sl_stream_close(&s);
    return rc;
}

static enum sl_code cifar_load(const struct sl_dataset_source *src,
                               const struct sl_rows *rows, struct sl_dataset *ret,
                               struct sl_err *err)
{
    if (src->path == NULL || src->path[0] == '\0')
        return sl_err_set(err, SL_E_INPUT,
                          "dataset \"cifar10\": data.path is empty (a folder)");
    struct reader r;
    enum sl_code rc = reader_init(&r, rows, src->n_classes, src->path, err);
    if (rc == SL_OK && src->split == SL_SPLIT_TEST)
        rc = read_file(&r, src->path, "test_batch.bin", err);
    for (int i = 1; i <= TRAIN_FILES && src->split == SL_SPLIT_TRAIN; i++) {
        char name[32];
        snprintf(name, sizeof(name), "data_batch_%d.bin", i);
        if (rc == SL_OK && !done(&r))
            rc = read_file(&r, src->path, name, err);
    }
    if (rc == SL_OK)
        rc = finish(&r, src->path, err);
    if (rc != SL_OK)
        sl_dataset_deinit(&r.d);
    else
        *ret = r.d;
    return rc;
}

const struct sl_dataset_ops sl_dataset_cifar10 = {"cifar10", cifar_load, NULL};
