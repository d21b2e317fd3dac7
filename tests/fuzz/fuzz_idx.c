/* SPDX-License-Identifier: Apache-2.0 */
/* Input: byte 0 chooses samples, byte 1 how the files lie, bytes 2 and 3 say how many of
 * the following are the labels file, the rest is the images file. The pair is read from
 * memory and, as a folder of the kinds idx and fashion-mnist, through the loaders: what
 * reads must be the same both ways. So must the images file as a stream, from memory and
 * from a file. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/dataset_ops.h"
#include "common/dataset_stream.h"
#include "tests/fuzz/datasets.h"
#include "tests/fuzz/files.h"

enum {
    FASHION = 1,
    GZIP_LABELS = 2,
    GZIP_IMAGES = 4,
    TEST = 8,
    CLASSES = 16,
    NO_LABELS = 32,
    NO_IMAGES = 64,
    NO_PATH = 128
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool parse(const struct sl_idx_input *in, const struct sl_rows *rows,
                  struct sl_dataset *ret)
{
    struct sl_err err;
    enum sl_code rc = sl_idx_parse(in, rows, ret, &err);
    fuzz_check_line(rc, &err);
    if (rc == SL_OK)
        fuzz_check_dataset(ret);
    return rc == SL_OK;
}

static void put(const struct fuzz_folder *d, bool test, const char *rest, bool gzip,
                const uint8_t *bytes, size_t n)
{
    char name[64];
    snprintf(name, sizeof(name), "%s-%s%s", test ? "t10k" : "train", rest,
             gzip ? ".gz" : "");
    if (gzip)
        fuzz_folder_put_gzip(d, name, bytes, n);
    else
        fuzz_folder_put(d, name, bytes, n);
}

/* whole: the pair parsed from memory with the same limit, or NULL. */
static void check_folder(const struct sl_idx_input *in, uint8_t rows, uint8_t ways,
                         const struct sl_dataset *whole)
{
    struct fuzz_folder folder;
    fuzz_folder_open(&folder);
    if (!(ways & NO_LABELS))
        put(&folder, ways & TEST, "labels-idx1-ubyte", ways & GZIP_LABELS, in->labels,
            in->n_labels);
    if (!(ways & NO_IMAGES))
        put(&folder, ways & TEST, "images-idx3-ubyte", ways & GZIP_IMAGES, in->images,
            in->n_images);
    const struct sl_dataset_source src = {
        .kind = ways & FASHION ? "fashion-mnist" : "idx",
        .path = ways & NO_PATH ? "" : folder.path,
        .split = ways & TEST ? SL_SPLIT_TEST : SL_SPLIT_TRAIN,
        .limit = rows & 8 ? 3 : 0,
        .n_classes = ways & CLASSES ? 3 : 0,
    };
    char env[sizeof(folder.path) + 16];
    snprintf(env, sizeof(env), "FMNIST_DIR=%s", folder.path);
    putenv(env);
    struct sl_dataset d;
    bool whole_folder = !(ways & (NO_LABELS | NO_IMAGES | NO_PATH));
    if (fuzz_load(&src, rows & 7, rows >> 5, &d)) {
        fuzz_must(whole != NULL);
        if (src.n_classes == 0 && !(ways & FASHION))
            fuzz_check_same_dataset(&d, whole);
        sl_dataset_deinit(&d);
    } else {
        fuzz_must(!(whole_folder && whole != NULL && !(ways & (CLASSES | FASHION))));
    }
    unsetenv("FMNIST_DIR");
    fuzz_folder_close(&folder);
}

#define STREAM_BYTES_MAX ((size_t)100 << 10) /* what is read of one */

static enum sl_code read_stream(enum sl_code opened, struct sl_stream *s, uint8_t **ret,
                                size_t *ret_n, struct sl_err *err)
{
    enum sl_code rc = opened;
    if (rc != SL_OK)
        return rc;
    rc = sl_stream_rest(s, STREAM_BYTES_MAX, ret, ret_n, err);
    if (rc == SL_OK)
        fuzz_must(*ret_n <= STREAM_BYTES_MAX &&
                  sl_stream_can_hold(s, *ret_n, "all", NULL) == SL_OK &&
                  sl_stream_expect_end(s, NULL) == SL_OK);
    sl_stream_close(s);
    return rc;
}

static void check_stream(const uint8_t *bytes, size_t n)
{
    struct sl_stream s;
    struct sl_err err[2];
    uint8_t *all[2] = {NULL, NULL};
    size_t n_all[2] = {0, 0};
    enum sl_code rc[2];
    struct fuzz_file file;
    fuzz_file_open(&file, bytes, n);
    rc[0] = read_stream(sl_stream_open_memory(file.path, bytes, n, &s, &err[0]), &s,
                        &all[0], &n_all[0], &err[0]);
    rc[1] = read_stream(sl_stream_open_file(file.path, &s, &err[1]), &s, &all[1],
                        &n_all[1], &err[1]);
    fuzz_must(rc[0] == rc[1] && n_all[0] == n_all[1]);
    fuzz_check_line(rc[0], &err[0]);
    fuzz_must(rc[0] == SL_OK || strcmp(err[0].msg, err[1].msg) == 0);
    fuzz_must(n_all[0] == 0 || memcmp(all[0], all[1], n_all[0]) == 0);
    free(all[0]);
    free(all[1]);
    fuzz_file_close(&file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 4)
        return 0;
    size_t n_labels = (size_t)data[2] << 8 | data[3];
    if (n_labels > size - 4)
        n_labels = size - 4;
    const struct sl_idx_input in = {
        .images_where = "images",
        .labels_where = "labels",
        .labels = data + 4,
        .n_labels = n_labels,
        .images = data + 4 + n_labels,
        .n_images = size - 4 - n_labels,
    };
    check_stream(in.images, in.n_images);
    const uint32_t index[2] = {data[0] & 7, (data[0] & 7) + 1u + (data[0] >> 5)};
    struct sl_rows rows = {.limit = data[0] & 8 ? 3 : 0};
    struct sl_dataset whole, some;
    bool parsed = parse(&in, &rows, &whole);
    check_folder(&in, data[0], data[1], parsed ? &whole : NULL);
    rows.index = index;
    rows.n = 2;
    if (parse(&in, &rows, &some)) {
        for (size_t i = 0; i < 2 && parsed; i++)
            fuzz_check_same_sample(&some, i, &whole, index[i]);
        sl_dataset_deinit(&some);
    }
    if (parsed)
        sl_dataset_deinit(&whole);
    return 0;
}
