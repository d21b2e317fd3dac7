/* SPDX-License-Identifier: Apache-2.0 */
/* A small set made of numbers only, for tests and first steps without files: sample i shows class
 * i mod classes as a Gaussian blob. The classes' centres and strengths by channel are drawn once
 * per seed; each sample shifts its blob by up to a pixel and adds normal noise. Sample i is a
 * function of (options, split, i) and its bits depend on no C library. */
#include <inttypes.h>
#include <string.h>

#include "common/dataset_ops.h"
#include "common/fdmath.h"
#include "common/rng.h"

#define MEAN 0.25f
#define STD 0.25f
#define SIDE_MAX 1024

struct options {
    uint64_t channels, height, width, classes, train, test, seed, noise_percent;
};

struct option_row {
    const char *key;
    size_t offset;
    uint64_t min, max;
};

#define ROW(field, min, max) {#field, offsetof(struct options, field), min, max}
static const struct option_row option_rows[] = {
    ROW(channels, 1, 16),
    ROW(height, 1, SIDE_MAX),
    ROW(width, 1, SIDE_MAX),
    ROW(classes, 2, 1000),
    ROW(train, 1, 1000000),
    ROW(test, 1, 1000000),
    ROW(seed, 0, UINT64_MAX / 2),
    ROW(noise_percent, 0, 100),
};
#undef ROW

#define N_OPTIONS (sizeof(option_rows) / sizeof(option_rows[0]))

static const struct option_row *find_option(const char *key, size_t n)
{
    for (size_t i = 0; i < N_OPTIONS; i++)
        if (strlen(option_rows[i].key) == n && memcmp(option_rows[i].key, key, n) == 0)
            return &option_rows[i];
    return NULL;
}

static bool read_integer(const char *text, size_t n, uint64_t *ret)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++)
        if (text[i] < '0' || text[i] > '9' || __builtin_mul_overflow(v, 10, &v) ||
            __builtin_add_overflow(v, (uint64_t)(text[i] - '0'), &v))
            return false;
    *ret = v;
    return n > 0;
}

static enum sl_code read_option(const char *text, size_t n, struct options *o,
                                struct sl_err *err)
{
    const char *equals = memchr(text, '=', n);
    size_t key = equals != NULL ? (size_t)(equals - text) : n;
    const struct option_row *row = find_option(text, key);
    if (row == NULL)
        return sl_err_set(
            err, SL_E_INPUT,
            "dataset \"synthetic\": option \"%.*s\" (channels, height, width, "
            "classes, train, test, seed, noise_percent)",
            (int)(key < 40 ? key : 40), text);
    uint64_t v;
    if (equals == NULL || !read_integer(equals + 1, n - key - 1, &v) || v < row->min ||
        v > row->max)
        return sl_err_set(err, SL_E_RANGE,
                          "dataset \"synthetic\": %s (integers %" PRIu64 " to %" PRIu64
                          ")",
                          row->key, row->min, row->max);
    memcpy((char *)o + row->offset, &v, sizeof(v));
    return SL_OK;
}

static enum sl_code read_options(const char *text, struct options *ret,
                                 struct sl_err *err)
{
    struct options o = {.channels = 1,
                        .height = 28,
                        .width = 28,
                        .classes = 10,
                        .train = 600,
                        .test = 200,
                        .seed = 1,
                        .noise_percent = 10};
    while (text != NULL && *text != '\0') {
        size_t n = strcspn(text, ",");
        enum sl_code rc = read_option(text, n, &o, err);
        if (rc != SL_OK)
            return rc;
        text += n + (text[n] == ',');
    }
    *ret = o;
    return SL_OK;
}

struct blob {
    double y, x;     /* centre, in pixels */
    double radius;   /* in pixels */
    double strength; /* 0.5 to 1 */
};

static struct blob class_blob(const struct options *o, uint32_t label, uint32_t channel)
{
    struct sl_rng r;
    sl_rng_init(&r, &(struct sl_rng_id){.seed = o->seed,
                                        .purpose = SL_RNG_TEST,
                                        .client = label,
                                        .tensor = channel + 1});
    return (struct blob){
        .y = sl_rng_f64(&r) * (double)(o->height - 1),
        .x = sl_rng_f64(&r) * (double)(o->width - 1),
        .radius =
            0.5 + 0.15 * (double)(o->height + o->width) * (0.5 + sl_rng_f64(&r)) / 2,
        .strength = 0.5 + 0.5 * sl_rng_f64(&r),
    };
}

static void draw_plane(const struct options *o, const struct blob *b, struct sl_rng *r,
                       uint8_t *to)
{
    double dy = 2 * sl_rng_f64(r) - 1, dx = 2 * sl_rng_f64(r) - 1;
    double noise = (double)o->noise_percent / 100;
    for (uint64_t y = 0; y < o->height; y++) {
        for (uint64_t x = 0; x < o->width; x++) {
            double a = ((double)y - b->y - dy) / b->radius;
            double c = ((double)x - b->x - dx) / b->radius;
            double v = b->strength * sl_exp(-0.5 * (a * a + c * c));
            v = 255 * (v + noise * sl_rng_normal(r)) + 0.5;
            *to++ = v < 0 ? 0 : v > 255 ? 255 : (uint8_t)v;
        }
    }
}

static void draw_sample(const struct options *o, enum sl_dataset_split split,
                        uint64_t sample, struct sl_dataset *d, size_t at)
{
    uint32_t label = (uint32_t)(sample % o->classes);
    struct sl_rng r;
    sl_rng_init(&r, &(struct sl_rng_id){.seed = o->seed,
                                        .purpose = SL_RNG_TEST,
                                        .client = (uint32_t)sample,
                                        .round = split == SL_SPLIT_TRAIN ? 1 : 2});
    d->labels[at] = (int32_t)label;
    uint8_t *to = d->pixels + at * sl_dataset_values(d);
    for (uint32_t c = 0; c < d->channels; c++) {
        struct blob b = class_blob(o, label, c);
        draw_plane(o, &b, &r, to + (size_t)c * d->height * d->width);
    }
}

static enum sl_code synthetic_load(const struct sl_dataset_source *src,
                                   const struct sl_rows *rows, struct sl_dataset *ret,
                                   struct sl_err *err)
{
    static const char where[] = "dataset \"synthetic\"";
    struct options o;
    enum sl_code rc = read_options(src->path, &o, err);
    if (rc != SL_OK)
        return rc;
    size_t n_all = (size_t)(src->split == SL_SPLIT_TRAIN ? o.train : o.test);
    size_t n = sl_rows_after_limit(rows, n_all);
    rc = sl_rows_check(rows, n, where, err);
    if (rc == SL_OK)
        rc = sl_dataset_classes(src, where, (int64_t)o.classes - 1, &ret->n_classes, err);
    if (rc != SL_OK)
        return rc;
    ret->channels = (uint32_t)o.channels;
    ret->height = (uint32_t)o.height;
    ret->width = (uint32_t)o.width;
    rc = sl_dataset_allocate(ret, sl_rows_count(rows, n), true, where, err);
    if (rc != SL_OK)
        return rc;
    for (uint32_t c = 0; c < ret->channels; c++)
        sl_dataset_normalise(ret, c, MEAN, STD);
    for (size_t i = 0; i < ret->n; i++)
        draw_sample(&o, src->split, rows->index != NULL ? rows->index[i] : i, ret, i);
    return SL_OK;
}

const struct sl_dataset_ops sl_dataset_synthetic = {"synthetic", synthetic_load, NULL};
