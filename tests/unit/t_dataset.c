/* SPDX-License-Identifier: Apache-2.0 */
#include "common/dataset.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>

#include "common/dataset_ops.h"
#include "common/npz.h"

#define PATH_BYTES 256

/* --- files ------------------------------------------------------------------------------- */

struct folder {
    char path[64];
};

static struct folder new_folder(void)
{
    struct folder f = {"/tmp/sl_dataset_XXXXXX"};
    assert_non_null(mkdtemp(f.path));
    return f;
}

static void put(const struct folder *f, const char *name, const void *bytes, size_t n, bool gz)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof(path), "%s/%s", f->path, name);
    if (gz) {
        gzFile z = gzopen(path, "wb");
        assert_int_equal(gzwrite(z, bytes, (unsigned)n), n);
        assert_int_equal(gzclose(z), Z_OK);
        return;
    }
    FILE *file = fopen(path, "wb");
    assert_int_equal(fwrite(bytes, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

static void drop_folder(const struct folder *f)
{
    static const char *const names[] = {
        "train-images-idx3-ubyte", "train-labels-idx1-ubyte", "train-images-idx3-ubyte.gz",
        "train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte",
        "data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin",
        "data_batch_5.bin", "test_batch.bin", "train.csv", "test.csv", "one.csv",
        "all.npz", "x_train.npy", "y_train.npy", "x_test.npy", "y_test.npy"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char path[PATH_BYTES];
        snprintf(path, sizeof(path), "%s/%s", f->path, names[i]);
        unlink(path);
    }
    assert_int_equal(rmdir(f->path), 0);
}

/* --- IDX --------------------------------------------------------------------------------- */

#define N_IDX 5
#define IMAGES (16 + N_IDX * 6)
#define LABELS (8 + N_IDX)

/* 5 images of 2 x 3, pixel i of the file has value 10 i mod 256; labels 3 1 4 1 5 */
static void make_idx(uint8_t images[IMAGES], uint8_t labels[LABELS])
{
    static const uint8_t head[16] = {0, 0, 8, 3, 0, 0, 0, N_IDX, 0, 0, 0, 2, 0, 0, 0, 3};
    static const uint8_t label_head[LABELS] = {0, 0, 8, 1, 0, 0, 0, N_IDX, 3, 1, 4, 1, 5};
    memcpy(images, head, sizeof(head));
    for (int i = 0; i < N_IDX * 6; i++)
        images[16 + i] = (uint8_t)(10 * i);
    memcpy(labels, label_head, sizeof(label_head));
}

static enum sl_code parse_idx(const uint8_t *images, size_t n_images, const uint8_t *labels,
                              size_t n_labels, const struct sl_rows *rows,
                              struct sl_dataset *ret, struct sl_err *err)
{
    /* copies of exactly the given sizes, so that sanitizers see a read beyond them */
    uint8_t *i = malloc(n_images + 1), *l = malloc(n_labels + 1);
    memcpy(i + 1, images, n_images);
    memcpy(l + 1, labels, n_labels);
    const struct sl_idx_input in = {"images", "labels", i + 1, l + 1, n_images, n_labels};
    const struct sl_rows all = {0};
    enum sl_code rc = sl_idx_parse(&in, rows != NULL ? rows : &all, ret, err);
    free(i);
    free(l);
    return rc;
}

static void an_idx_pair_is_read(void **state)
{
    uint8_t images[IMAGES], labels[LABELS];
    make_idx(images, labels);
    struct sl_dataset d;
    struct sl_err err;
    assert_int_equal(parse_idx(images, IMAGES, labels, LABELS, NULL, &d, &err), SL_OK);
    assert_int_equal(d.n, 5);
    assert_int_equal(d.channels, 1);
    assert_int_equal(d.height, 2);
    assert_int_equal(d.width, 3);
    assert_int_equal(d.n_classes, 6);
    const int32_t want[] = {3, 1, 4, 1, 5};
    assert_memory_equal(d.labels, want, sizeof(want));
    assert_memory_equal(d.pixels, images + 16, N_IDX * 6);
    float x[12];
    int32_t y[2];
    const uint32_t index[2] = {4, 0};
    sl_dataset_gather(&d, index, 2, x, y);
    assert_int_equal(y[0], 5);
    assert_int_equal(y[1], 3);
    assert_true(x[0] == 240.0f / 255.0f && x[1] == 250.0f / 255.0f && x[7] == 10.0f / 255.0f);
    sl_dataset_deinit(&d);
    sl_dataset_deinit(&d);
    sl_dataset_deinit(NULL);
}

struct patch {
    int file;     /* 0 images, 1 labels */
    size_t at, n; /* n bytes overwritten from `at` */
    uint8_t bytes[12];
    size_t cut; /* size afterwards; 0 = as before */
    enum sl_code code;
    const char *message;
};

static const struct patch bad_idx[] = {
    {0, 3, 1, {5}, 0, SL_E_INPUT,
     "images: magic number 0x00000805 (0x00000802 to 0x00000804, unsigned bytes, allowed)"},
    {0, 2, 1, {0x0d}, 0, SL_E_INPUT,
     "images: magic number 0x00000d03 (0x00000802 to 0x00000804, unsigned bytes, allowed)"},
    {1, 3, 1, {3}, 0, SL_E_INPUT,
     "labels: magic number 0x00000803 (0x00000801 to 0x00000801, unsigned bytes, allowed)"},
    {1, 7, 1, {4}, 0, SL_E_INPUT,
     "images: 5 images, but labels has 4 labels (equal numbers allowed)"},
    {0, 0, 0, {0}, 3, SL_E_INPUT, "images: truncated at the magic number"},
    {0, 0, 0, {0}, 15, SL_E_INPUT, "images: truncated at the dimensions"},
    {0, 0, 0, {0}, IMAGES - 1, SL_E_INPUT, "images: truncated at the pixels"},
    {1, 0, 0, {0}, LABELS - 1, SL_E_INPUT, "labels: truncated at the labels"},
    {0, 0, 0, {0}, IMAGES + 1, SL_E_INPUT, "images: bytes after the last sample"},
    {1, 0, 0, {0}, LABELS + 1, SL_E_INPUT, "labels: bytes after the last sample"},
    {0, 8, 4, {0, 0, 0, 0}, 0, SL_E_INPUT,
     "labels: samples of 1 x 0 x 3 values (1 or more of each)"},
    {0, 8, 8, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 0, SL_E_INPUT,
     "images: truncated at the pixels: 18446744073709551615 bytes announced, room for 46"},
    {0, 4, 4, {0xff, 0xff, 0xff, 0xff}, 0, SL_E_LIMIT,
     "images: 4294967295 samples (at most 67108864)"},
};

static void bad_idx_files_are_refused(void **state)
{
    for (size_t i = 0; i < sizeof(bad_idx) / sizeof(bad_idx[0]); i++) {
        const struct patch *b = &bad_idx[i];
        uint8_t images[IMAGES + 1] = {0}, labels[LABELS + 1] = {0};
        size_t n[2] = {IMAGES, LABELS};
        make_idx(images, labels);
        memcpy((b->file == 0 ? images : labels) + b->at, b->bytes, b->n);
        if (b->cut > 0)
            n[b->file] = b->cut;
        struct sl_dataset d = {.n = 42};
        struct sl_err err = {0};
        assert_int_equal(parse_idx(images, n[0], labels, n[1], NULL, &d, &err), b->code);
        assert_string_equal(err.msg, b->message);
        assert_int_equal(d.n, 42);
    }
}

static void an_empty_idx_pair_is_refused(void **state)
{
    uint8_t images[IMAGES], labels[LABELS];
    make_idx(images, labels);
    images[7] = labels[7] = 0;
    struct sl_dataset d;
    struct sl_err err;
    assert_int_equal(parse_idx(images, 16, labels, 8, NULL, &d, &err), SL_E_INPUT);
    assert_string_equal(err.msg, "labels: no samples (1 or more)");
}

static void every_truncation_of_an_idx_pair_is_refused(void **state)
{
    uint8_t images[IMAGES], labels[LABELS];
    make_idx(images, labels);
    struct sl_dataset d;
    struct sl_err err;
    for (size_t n = 0; n < IMAGES; n++)
        assert_int_equal(parse_idx(images, n, labels, LABELS, NULL, &d, &err), SL_E_INPUT);
    for (size_t n = 0; n < LABELS; n++)
        assert_int_equal(parse_idx(images, IMAGES, labels, n, NULL, &d, &err), SL_E_INPUT);
}

static void put_idx(const struct folder *f, bool gz)
{
    uint8_t images[IMAGES], labels[LABELS];
    make_idx(images, labels);
    put(f, gz ? "train-images-idx3-ubyte.gz" : "train-images-idx3-ubyte", images, IMAGES, gz);
    put(f, gz ? "train-labels-idx1-ubyte.gz" : "train-labels-idx1-ubyte", labels, LABELS, gz);
}

static void a_folder_of_idx_files_loads_plain_and_compressed(void **state)
{
    for (int gz = 0; gz < 2; gz++) {
        struct folder f = new_folder();
        put_idx(&f, gz);
        struct sl_dataset_source src = {.kind = "idx", .path = f.path};
        struct sl_dataset d;
        struct sl_err err;
        assert_int_equal(sl_dataset_load(&src, &d, &err), SL_OK);
        assert_int_equal(d.n, 5);
        assert_int_equal(d.pixels[29], 290 - 256);
        sl_dataset_deinit(&d);

        src.limit = 2;
        assert_int_equal(sl_dataset_load(&src, &d, &err), SL_OK);
        assert_int_equal(d.n, 2);
        assert_int_equal(d.n_classes, 4);
        sl_dataset_deinit(&d);

        src.split = SL_SPLIT_TEST;
        assert_int_equal(sl_dataset_load(&src, &d, &err), SL_E_NOTFOUND);
        char want[PATH_BYTES];
        snprintf(want, sizeof(want), "%s/t10k-images-idx3-ubyte: no such file, plain or .gz",
                 f.path);
        assert_string_equal(err.msg, want);
        drop_folder(&f);
    }
}

static void a_subset_holds_only_its_rows(void **state)
{
    for (int gz = 0; gz < 2; gz++) {
        struct folder f = new_folder();
        put_idx(&f, gz);
        struct sl_dataset_source src = {.kind = "idx", .path = f.path};
        struct sl_dataset d;
        struct sl_err err;
        const uint32_t index[] = {1, 3}, beyond[] = {1, 5}, unsorted[] = {3, 1};
        assert_int_equal(sl_dataset_subset(&src, index, 2, &d, &err), SL_OK);
        assert_int_equal(d.n, 2);
        assert_int_equal(d.n_classes, 6); /* of the whole file */
        assert_int_equal(d.labels[0], 1);
        assert_int_equal(d.labels[1], 1);
        assert_int_equal(d.pixels[0], 60);
        assert_int_equal(d.pixels[6], 180);
        sl_dataset_deinit(&d);
        assert_int_equal(sl_dataset_subset(&src, beyond, 2, &d, &err), SL_E_RANGE);
        assert_non_null(strstr(err.msg, ": sample 5 asked for (0 to 4)"));
        assert_int_equal(sl_dataset_subset(&src, unsorted, 2, &d, &err), SL_E_RANGE);
        assert_string_equal(err.msg,
                            "dataset \"idx\": sample 1 follows 3 (ascending order is allowed)");
        assert_int_equal(sl_dataset_subset(&src, index, 0, &d, &err), SL_E_RANGE);
        src.limit = 3;
        assert_int_equal(sl_dataset_subset(&src, index, 2, &d, &err), SL_E_RANGE);
        drop_folder(&f);
    }
}

static void labels_load_without_pixels(void **state)
{
    struct folder f = new_folder();
    put_idx(&f, true);
    const struct sl_dataset_source src = {.kind = "idx", .path = f.path};
    int32_t *labels;
    size_t n;
    uint32_t n_classes;
    struct sl_err err;
    assert_int_equal(sl_dataset_labels(&src, &labels, &n, &n_classes, &err), SL_OK);
    const int32_t want[] = {3, 1, 4, 1, 5};
    assert_int_equal(n, 5);
    assert_int_equal(n_classes, 6);
    assert_memory_equal(labels, want, sizeof(want));
    free(labels);
    drop_folder(&f);
}

static void labels_beyond_the_stated_classes_are_refused(void **state)
{
    struct folder f = new_folder();
    put_idx(&f, false);
    const struct sl_dataset_source src = {.kind = "idx", .path = f.path, .n_classes = 5};
    struct sl_dataset d;
    struct sl_err err;
    assert_int_equal(sl_dataset_load(&src, &d, &err), SL_E_RANGE);
    assert_non_null(strstr(err.msg, "train-labels-idx1-ubyte: label 5 (0 to 4)"));
    drop_folder(&f);
}

static void broken_gzip_is_refused(void **state)
{
    uint8_t images[IMAGES], labels[LABELS], packed[256];
    make_idx(images, labels);
    z_stream z = {0};
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = images;
    z.avail_in = IMAGES;
    z.next_out = packed;
    z.avail_out = sizeof(packed);
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    size_t n = z.total_out;
    deflateEnd(&z);
    struct sl_dataset d;
    struct sl_err err;
    assert_int_equal(parse_idx(packed, n, labels, LABELS, NULL, &d, &err), SL_OK);
    sl_dataset_deinit(&d);
    for (size_t cut = 0; cut < n; cut++)
        assert_int_equal(parse_idx(packed, cut, labels, LABELS, NULL, &d, &err), SL_E_INPUT);
    assert_string_equal(err.msg, "images: truncated gzip data");
    packed[n - 5] ^= 1; /* checksum */
    assert_int_equal(parse_idx(packed, n, labels, LABELS, NULL, &d, &err), SL_E_INPUT);
    assert_string_equal(err.msg, "images: broken gzip data (incorrect data check)");
}

/* --- normalisation ------------------------------------------------------------------------- */

/* Bits of ((x / 255) - 0.2860) / 0.3530, each operation rounded to float, as numpy does in
 * bench/fl_common.py */
static void fashion_pixels_are_normalised_as_numpy_does(void **state)
{
    static const struct {
        uint8_t byte;
        uint32_t bits;
    } known[] = {
        {0, 0xbf4f6929},
        {1, 0xbf4c911b},
        {2, 0xbf49b90c},
        {3, 0xbf46e0fe},
        {7, 0xbf3b80c4},
        {51, 0xbe79791f},
        {73, 0x3a4bdaf9},
        {128, 0x3f1c9e13},
        {200, 0x3fb4b111},
        {254, 0x4000bd4c},
        {255, 0x4001734f},
    };
    if (access(SL_DATASET_FASHION_DIR "/t10k-images-idx3-ubyte.gz", R_OK) != 0)
        skip();
    const struct sl_dataset_source src = {.kind = "fashion-mnist",
                                          .path = SL_DATASET_FASHION_DIR,
                                          .split = SL_SPLIT_TEST, .limit = 3};
    struct sl_dataset d;
    struct sl_err err;
    assert_int_equal(sl_dataset_load(&src, &d, &err), SL_OK);
    assert_int_equal(d.n_classes, 10);
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        uint32_t bits;
        memcpy(&bits, &d.lut[known[i].byte], sizeof(bits));
        assert_int_equal(bits, known[i].bits);
    }
    float x[784];
    const uint32_t one = 1;
    sl_dataset_gather(&d, &one, 1, x, NULL);
    for (int i = 0; i < 784; i++)
        assert_true(x[i] == d.lut[d.pixels[784 + i]]);
    sl_dataset_deinit(&d);
}

static void fashion_mnist_has_sixty_thousand_balanced_labels(void **state)
{
    if (access(SL_DATASET_FASHION_DIR "/train-labels-idx1-ubyte.gz", R_OK) != 0)
        skip();
    const struct sl_dataset_source src = {.kind = "fashion-mnist",
                                          .path = SL_DATASET_FASHION_DIR};
    int32_t *labels;
    size_t n, count[10] = {0};
    uint32_t n_classes;
    struct sl_err err;
    assert_int_equal(sl_dataset_labels(&src, &labels, &n, &n_classes, &err), SL_OK);
    assert_int_equal(n, 60000);
    for (size_t i = 0; i < n; i++)
        count[labels[i]]++;
    for (int c = 0; c < 10; c++)
        assert_int_equal(count[c], 6000);
    free(labels);
}

/* --- CIFAR-10 ------------------------------------------------------------------------------ */

#define RECORD 3073

static void make_cifar(uint8_t *to, size_t n, uint8_t first_label)
{
    for (size_t i = 0; i < n; i++) {
        to[i * RECORD] = (uint8_t)((first_label + i) % 10);
        for (size_t p = 0; p < 3072; p++)
            to[i * RECORD + 1 + p] = (uint8_t)(p / 1024 * 50 + i);
    }
}

static void cifar_batches_load_in_order(void **state)
{
    struct folder f = new_folder();
    static uint8_t batch[2 * RECORD];
    for (int b = 1; b <= 5; b++) {
        char name[32];
        snprintf(name, sizeof(name), "data_batch_%d.bin", b);
        make_cifar(batch, 2, (uint8_t)(2 * b - 2));
        put(&f, name, batch, sizeof(batch), false);
    }
    struct sl_dataset_source src = {.kind = "cifar10", .path = f.path};
    struct sl_dataset d;
    struct sl_err err;
    assert_int_equal(sl_dataset_load(&src, &d, &err), SL_OK);
    assert_int_equal(d.n, 10);
    assert_int_equal(d.n_classes, 10);
    for (int i = 0; i < 10; i++)
        assert_int_equal(d.labels[i], i);
    static float x[3072];
    const uint32_t one = 1;
    sl_dataset_gather(&d, &one, 1, x, NULL);
    assert_true(x[0] == (1.0f / 255.0f - 0.4914f) / 0.2470f);
    assert_true(x[1024] == (51.0f / 255.0f - 0.4822f) / 0.2435f);
    assert_true(x[3071] == (101.0f / 255.0f - 0.4465f) / 0.2616f);
    sl_dataset_deinit(&d);

    const uint32_t index[] = {1, 8}, beyond[] = {1, 10};
    assert_int_equal(sl_dataset_subset(&src, index, 2, &d, &err), SL_OK);
    assert_int_equal(d.n, 2);
    assert_int_equal(d.labels[1], 8);
    sl_dataset_deinit(&d);
    assert_int_equal(sl_dataset_subset(&src, beyond, 2, &d, &err), SL_E_RANGE);
    src.limit = 3;
    assert_int_equal(sl_dataset_load(&src, &d, &err), SL_OK);
    assert_int_equal(d.n, 3);
    sl_dataset_deinit(&d);
    src.split = SL_SPLIT_TEST;
    assert_int_equal(sl_dataset_load(&src, &d, &err), SL_E_NOTFOUND);
    drop_folder(&f);
}

static void bad_cifar_records_are_refused(void **state)
{
    static uint8_t bytes[2 * RECORD];
    make_cifar(bytes, 2, 3);
    const struct sl_rows all = {0};
    struct sl_dataset d;
    struct sl_err err;
    assert_int_equal(sl_cifar_parse("f", bytes, 2 * RECORD - 1, &all, &d, &err), SL_E_INPUT);
    assert_string_equal(err.msg,
                        "f: 3072 bytes after the last record (records of 3073 bytes)");
    assert_int_equal(sl_cifar_parse("f", bytes, 0, &all, &d, &err), SL_E_INPUT);
    assert_string_equal(err.msg, "f: no samples (1 or more)");
    bytes[RECORD] = 10;
    assert_int_equal(sl_cifar_parse("f", bytes, 2 * RECORD, &all, &d, &err), SL_E_RANGE);
    assert_string_equal(err.msg, "f: label 10 (0 to 9)");
}

/* --- CSV ----------------------------------------------------------------------------------- */

static enum sl_code parse_csv(const char *text, bool label_first, struct sl_dataset *ret,
                              struct sl_err *err)
{
    size_t n = strlen(text);
    char *copy = malloc(n + 1);
    memcpy(copy + 1, text, n);
    enum sl_code rc = sl_csv_parse("f", copy + 1, n, label_first, ret, err);
    free(copy);
    return rc;
}

static void csv_rows_are_read_with_and_without_header(void **state)
{
    const char *texts[] = {"a,b,label\n1.5,-2e1,0\r\n\n 3 ,\t.25,2", "1.5,-2e1,0\n3,.25,2\n"};
    for (int i = 0; i < 2; i++) {
        struct sl_dataset d;
        struct sl_err err;
        assert_int_equal(parse_csv(texts[i], false, &d, &err), SL_OK);
        const float want[] = {1.5f, -20.0f, 3.0f, 0.25f};
        assert_int_equal(d.n, 2);
        assert_int_equal(d.width, 2);
        assert_int_equal(d.n_classes, 3);
        assert_memory_equal(d.features, want, sizeof(want));
        assert_int_equal(d.labels[0], 0);
        assert_int_equal(d.labels[1], 2);
        float x[2];
        int32_t y;
        const uint32_t one = 1;
        sl_dataset_gather(&d, &one, 1, x, &y);
        assert_true(x[0] == 3.0f && x[1] == 0.25f && y == 2);
        sl_dataset_deinit(&d);
    }
    struct sl_dataset d;
    struct sl_err err;
    assert_int_equal(parse_csv("7,0.5\n", true, &d, &err), SL_OK);
    assert_int_equal(d.labels[0], 7);
    assert_true(d.features[0] == 0.5f);
    sl_dataset_deinit(&d);
}

static void bad_csv_rows_are_refused_with_line_and_column(void **state)
{
    const struct {
        const char *text, *message;
    } bad[] = {
        {"", "f: no rows (1 or more)"},
        {"\n\r\n", "f: no rows (1 or more)"},
        {"a,b\n", "f: no rows (1 or more)"},
        {"1\n", "f:1: 1 columns (2 to 65536)"},
        {"1,2\n1,2,3\n", "f:2: 3 columns (2 as in the first line)"},
        {"1,2\n\n1\n", "f:3: 1 columns (2 as in the first line)"},
        {"1,2\nx,2\n", "f:2: column 1: \"x\" (finite decimal numbers)"},
        {"1,2\nnan,2\n", "f:2: column 1: \"nan\" (finite decimal numbers)"},
        {"1,2\ninf,2\n", "f:2: column 1: \"inf\" (finite decimal numbers)"},
        {"1,2\n1e39,2\n", "f:2: column 1: \"1e39\" (finite decimal numbers)"},
        {"1,2\n0x10,2\n", "f:2: column 1: \"0x10\" (finite decimal numbers)"},
        {"1,2\n1-2,2\n", "f:2: column 1: \"1-2\" (finite decimal numbers)"},
        {"1,2\n,2\n", "f:2: column 1: \"\" (finite decimal numbers)"},
        {"1,2\n1,\n", "f:2: column 2: label \"\" (integers 0 to 99999)"},
        {"1,2\n1,-1\n", "f:2: column 2: label \"-1\" (integers 0 to 99999)"},
        {"1,2\n1,1.5\n", "f:2: column 2: label \"1.5\" (integers 0 to 99999)"},
        {"1,2\n1,100000\n", "f:2: column 2: label \"100000\" (integers 0 to 99999)"},
        {"1,2\n\"1\",2\n", "f:2: column 1: \"\"1\"\" (finite decimal numbers)"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct sl_dataset d = {.n = 42};
        struct sl_err err = {0};
        assert_int_equal(parse_csv(bad[i].text, false, &d, &err), SL_E_INPUT);
        assert_string_equal(err.msg, bad[i].message);
        assert_int_equal(d.n, 42);
    }
}

static void one_csv_file_splits_into_training_and_test_rows(void **state)
{
    struct folder f = new_folder();
    char text[1000 * 16], path[PATH_BYTES];
    size_t n = 0;
    for (int i = 0; i < 1000; i++)
        n += (size_t)sprintf(text + n, "%d,%d\n", i, i % 3);
    put(&f, "one.csv", text, n, false);
    snprintf(path, sizeof(path), "%s/one.csv", f.path);
    struct sl_dataset_source src = {.kind = "csv", .path = path};
    struct sl_dataset train, test;
    struct sl_err err;
    assert_int_equal(sl_dataset_load(&src, &train, &err), SL_OK);
    src.split = SL_SPLIT_TEST;
    assert_int_equal(sl_dataset_load(&src, &test, &err), SL_OK);
    assert_int_equal(train.n + test.n, 1000);
    assert_in_range(test.n, 150, 250);
    bool seen[1000] = {false};
    for (size_t i = 0; i < train.n; i++)
        seen[(int)train.features[i]] = true;
    for (size_t i = 0; i < test.n; i++) {
        assert_false(seen[(int)test.features[i]]);
        seen[(int)test.features[i]] = true;
    }
    sl_dataset_deinit(&train);
    sl_dataset_deinit(&test);

    put(&f, "test.csv", "5,1\n", 4, false);
    src.path = f.path;
    assert_int_equal(sl_dataset_load(&src, &test, &err), SL_OK);
    assert_int_equal(test.n, 1);
    sl_dataset_deinit(&test);
    drop_folder(&f);
}

/* --- NumPy ---------------------------------------------------------------------------------- */

static struct sl_npy array(enum sl_npy_dtype dtype, unsigned n_dims, size_t a, size_t b, size_t c,
                           const void *data)
{
    struct sl_npy n;
    struct sl_err err;
    const size_t dim[] = {a, b, c};
    assert_int_equal(sl_npy_make(dtype, n_dims, dim, data, &n, &err), SL_OK);
    return n;
}

static void numpy_arrays_load_from_an_archive_and_from_a_folder(void **state)
{
    const uint8_t x[2 * 2 * 3] = {0, 51, 102, 153, 204, 255, 1, 2, 3, 4, 5, 6}, y[2] = {1, 0};
    const float tx[3 * 2] = {1, 2, 3, 4, 5, 6};
    const int64_t ty[3] = {0, 1, 1};
    struct sl_npz_item items[] = {{"x_train", array(SL_NPY_U1, 3, 2, 2, 3, x)},
                                  {"y_train", array(SL_NPY_U1, 1, 2, 0, 0, y)},
                                  {"x_test", array(SL_NPY_F4, 2, 3, 2, 0, tx)},
                                  {"y_test", array(SL_NPY_I8, 2, 3, 1, 0, ty)}};
    struct folder f = new_folder();
    struct sl_err err;
    uint8_t *bytes;
    size_t n;
    assert_int_equal(sl_npz_encode(items, 4, &bytes, &n, &err), SL_OK);
    put(&f, "all.npz", bytes, n, false);
    free(bytes);
    for (int i = 0; i < 4; i++) {
        char name[32];
        snprintf(name, sizeof(name), "%s.npy", items[i].name);
        n = sl_npy_file_bytes(&items[i].array);
        bytes = malloc(n);
        sl_npy_encode(&items[i].array, bytes);
        put(&f, name, bytes, n, false);
        free(bytes);
    }
    char archive[PATH_BYTES];
    snprintf(archive, sizeof(archive), "%s/all.npz", f.path);
    const char *paths[] = {archive, f.path};
    for (int i = 0; i < 2; i++) {
        struct sl_dataset_source src = {.kind = "npz", .path = paths[i]};
        struct sl_dataset d;
        assert_int_equal(sl_dataset_load(&src, &d, &err), SL_OK);
        assert_int_equal(d.n, 2);
        assert_int_equal(d.n_classes, 2);
        assert_true(d.channels == 1 && d.height == 2 && d.width == 3);
        float first[6];
        int32_t label;
        const uint32_t zero = 0;
        sl_dataset_gather(&d, &zero, 1, first, &label);
        assert_true(first[1] == 51.0f / 255.0f && first[5] == 1.0f && label == 1);
        sl_dataset_deinit(&d);
        src.split = SL_SPLIT_TEST;
        src.n_classes = 2;
        const uint32_t last = 2;
        assert_int_equal(sl_dataset_subset(&src, &last, 1, &d, &err), SL_OK);
        assert_true(d.n == 1 && d.width == 2 && d.features[1] == 6 && d.labels[0] == 1);
        sl_dataset_deinit(&d);
    }
    drop_folder(&f);
}

static void bad_numpy_arrays_are_refused(void **state)
{
    const float x[6] = {1, 2, 3, 4, 5, NAN};
    const int32_t y[3] = {0, -1, 1};
    struct sl_npy good_x = array(SL_NPY_F4, 2, 2, 2, 0, x), good_y = array(SL_NPY_I4, 1, 2, 0, 0, y + 2);
    struct {
        struct sl_npy x, y;
        enum sl_code code;
    } bad[] = {
        {array(SL_NPY_F4, 2, 3, 2, 0, x), array(SL_NPY_I4, 1, 3, 0, 0, y), SL_E_RANGE},
        {array(SL_NPY_F4, 2, 3, 2, 0, x), array(SL_NPY_I4, 1, 2, 0, 0, y), SL_E_INPUT},
        {array(SL_NPY_F4, 1, 2, 0, 0, x), good_y, SL_E_INPUT},
        {array(SL_NPY_F4, 2, 0, 2, 0, x), array(SL_NPY_I4, 1, 0, 0, 0, y), SL_E_INPUT},
        {good_x, array(SL_NPY_F4, 1, 2, 0, 0, x), SL_E_INPUT},
        {good_x, array(SL_NPY_I4, 2, 1, 2, 0, y), SL_E_INPUT},
        {array(SL_NPY_F4, 2, 1, 2, 0, x + 4), array(SL_NPY_I4, 1, 1, 0, 0, y), SL_E_INPUT},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct sl_dataset d = {.n = 42};
        struct sl_err err;
        assert_int_equal(sl_npy_samples("f", &bad[i].x, &bad[i].y, &d, &err), bad[i].code);
        assert_int_equal(d.n, 42);
    }
}

/* --- synthetic ----------------------------------------------------------------------------- */

static void synthetic_samples_are_functions_of_their_number(void **state)
{
    struct sl_dataset_source src = {.kind = "synthetic",
                                    .path = "channels=2,height=8,width=6,classes=4,train=40"};
    struct sl_dataset d, part;
    struct sl_err err;
    const uint32_t index[] = {3, 17, 39};
    assert_int_equal(sl_dataset_load(&src, &d, &err), SL_OK);
    assert_int_equal(d.n, 40);
    assert_int_equal(sl_dataset_values(&d), 96);
    assert_int_equal(sl_dataset_subset(&src, index, 3, &part, &err), SL_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(part.labels[i], index[i] % 4);
        assert_memory_equal(part.pixels + 96 * i, d.pixels + 96 * index[i], 96);
    }
    assert_memory_not_equal(d.pixels, d.pixels + 4 * 96, 96);
    sl_dataset_deinit(&d);
    sl_dataset_deinit(&part);
}

/* The nearest class mean of the training set classifies most test samples. */
static void synthetic_classes_can_be_told_apart(void **state)
{
    struct sl_dataset_source src = {.kind = "synthetic", .path = ""};
    struct sl_dataset train, test;
    struct sl_err err;
    assert_int_equal(sl_dataset_load(&src, &train, &err), SL_OK);
    src.split = SL_SPLIT_TEST;
    assert_int_equal(sl_dataset_load(&src, &test, &err), SL_OK);
    static double mean[10][784];
    for (size_t i = 0; i < train.n; i++)
        for (int v = 0; v < 784; v++)
            mean[train.labels[i]][v] += train.pixels[i * 784 + (size_t)v] / 60.0;
    size_t right = 0;
    for (size_t i = 0; i < test.n; i++) {
        int best = 0;
        double least = INFINITY;
        for (int c = 0; c < 10; c++) {
            double d2 = 0;
            for (int v = 0; v < 784; v++)
                d2 += pow(test.pixels[i * 784 + (size_t)v] - mean[c][v], 2);
            if (d2 < least) {
                least = d2;
                best = c;
            }
        }
        right += best == test.labels[i];
    }
    assert_true(right > test.n * 9 / 10);
    sl_dataset_deinit(&train);
    sl_dataset_deinit(&test);
}

static void bad_sources_are_refused(void **state)
{
    const struct {
        const char *kind, *path;
        enum sl_code code;
        const char *message;
    } bad[] = {
        {"synthetic", "depth=3", SL_E_INPUT,
         "dataset \"synthetic\": option \"depth\" (channels, height, width, classes, train, "
         "test, seed, noise_percent)"},
        {"synthetic", "train=0", SL_E_RANGE,
         "dataset \"synthetic\": train (integers 1 to 1000000)"},
        {"synthetic", "train=5x", SL_E_RANGE,
         "dataset \"synthetic\": train (integers 1 to 1000000)"},
        {"synthetic", "train", SL_E_RANGE,
         "dataset \"synthetic\": train (integers 1 to 1000000)"},
        {"idx", "", SL_E_INPUT, "dataset \"idx\": data.path is empty (a folder)"},
        {"cifar10", "", SL_E_INPUT, "dataset \"cifar10\": data.path is empty (a folder)"},
        {"csv", NULL, SL_E_INPUT, "dataset \"csv\": data.path is empty (a folder or a file)"},
        {"npz", "", SL_E_INPUT,
         "dataset \"npz\": data.path is empty (an .npz file, or a folder of .npy files)"},
        {"npz", "/nonexistent.npz", SL_E_NOTFOUND, "/nonexistent.npz: No such file or directory"},
        {"csv", "/nonexistent.csv", SL_E_NOTFOUND,
         "/nonexistent.csv: No such file or directory"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const struct sl_dataset_source src = {.kind = bad[i].kind, .path = bad[i].path};
        struct sl_dataset d = {.n = 42};
        struct sl_err err = {0};
        assert_int_equal(sl_dataset_load(&src, &d, &err), bad[i].code);
        assert_string_equal(err.msg, bad[i].message);
        assert_int_equal(d.n, 42);
    }
    const struct sl_dataset_source src = {.kind = "mnist", .path = ""};
    struct sl_dataset d;
    struct sl_err err;
    assert_int_equal(sl_dataset_load(&src, &d, &err), SL_E_USAGE);
    for (size_t i = 0; sl_dataset_kind(i) != NULL; i++)
        assert_non_null(strstr(err.msg, sl_dataset_kind(i)));
}

static void a_value_that_is_not_finite_names_its_sample(void **state)
{
    float values[] = {1, 2, 3, 4, 5, 6};
    struct sl_dataset d = {.channels = 1, .height = 1, .width = 2, .n = 3, .features = values};
    struct sl_err err;
    assert_int_equal(sl_dataset_finite(&d, "f", &err), SL_OK);
    values[3] = NAN;
    assert_int_equal(sl_dataset_finite(&d, "f", &err), SL_E_INPUT);
    assert_string_equal(err.msg, "f: sample 1, value 1 is NaN (finite numbers are allowed)");
    values[3] = -INFINITY;
    assert_int_equal(sl_dataset_finite(&d, "f", &err), SL_E_INPUT);
    assert_string_equal(err.msg,
                        "f: sample 1, value 1 is infinite (finite numbers are allowed)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_idx_pair_is_read),
        cmocka_unit_test(bad_idx_files_are_refused),
        cmocka_unit_test(an_empty_idx_pair_is_refused),
        cmocka_unit_test(every_truncation_of_an_idx_pair_is_refused),
        cmocka_unit_test(a_folder_of_idx_files_loads_plain_and_compressed),
        cmocka_unit_test(a_subset_holds_only_its_rows),
        cmocka_unit_test(labels_load_without_pixels),
        cmocka_unit_test(labels_beyond_the_stated_classes_are_refused),
        cmocka_unit_test(broken_gzip_is_refused),
        cmocka_unit_test(fashion_pixels_are_normalised_as_numpy_does),
        cmocka_unit_test(fashion_mnist_has_sixty_thousand_balanced_labels),
        cmocka_unit_test(cifar_batches_load_in_order),
        cmocka_unit_test(bad_cifar_records_are_refused),
        cmocka_unit_test(csv_rows_are_read_with_and_without_header),
        cmocka_unit_test(bad_csv_rows_are_refused_with_line_and_column),
        cmocka_unit_test(numpy_arrays_load_from_an_archive_and_from_a_folder),
        cmocka_unit_test(bad_numpy_arrays_are_refused),
        cmocka_unit_test(one_csv_file_splits_into_training_and_test_rows),
        cmocka_unit_test(synthetic_samples_are_functions_of_their_number),
        cmocka_unit_test(synthetic_classes_can_be_told_apart),
        cmocka_unit_test(bad_sources_are_refused),
        cmocka_unit_test(a_value_that_is_not_finite_names_its_sample),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
