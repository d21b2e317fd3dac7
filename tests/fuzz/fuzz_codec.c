/* SPDX-License-Identifier: Apache-2.0 */
/* Input: an encoding (one byte; with 8 added the update is two vectors), how many
 * tensors, a size of each (two bytes), a byte that draws the pieces, then an update; what
 * is missing of it is zeros. It is decoded whole and in pieces of any size, each from a
 * block of its own that ends with its bytes: both take the same updates and give the same
 * values. What was taken is encoded again and must say the same. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "accel/codec/codec.h"
#include "tests/fuzz/files.h"

#define TENSORS_MAX 4
#define TENSOR_SIZE_MAX 5000
#define WHOLE (1 << 20)
#define GROUP 16

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct sl_codec_options kinds[] = {
    {.encoding = SL_ENC_FP32},        {.encoding = SL_ENC_BF16},
    {.encoding = SL_ENC_BFP, .m = 2}, {.encoding = SL_ENC_BFP, .m = 3},
    {.encoding = SL_ENC_BFP, .m = 4}, {.encoding = SL_ENC_TERNARY},
    {.encoding = SL_ENC_BFP, .m = 5}, {.encoding = SL_ENC_BFP, .m = 1},
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

struct input {
    const uint8_t *at;
    size_t left;
};

static unsigned take(struct input *in)
{
    if (in->left == 0)
        return 0;
    in->left--;
    return *in->at++;
}

static void *room(size_t bytes)
{
    void *p = malloc(bytes == 0 ? 1 : bytes);
    fuzz_must(p != NULL);
    return p;
}

static bool all_finite(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return false;
    return true;
}

/* One piece, out of and into blocks of its own size. */
static enum sl_code decode_piece(const struct sl_decoder *d, const struct sl_codec_piece *p,
                                 const uint8_t *blob, float *ret)
{
    uint8_t *bytes = room(p->n_bytes);
    float *values = room(p->n * sizeof(*values));
    struct sl_err err;
    memcpy(bytes, blob + p->offset, p->n_bytes);
    enum sl_code rc = sl_decoder_piece(d, p, bytes, values, &err);
    fuzz_check_line(rc, &err);
    if (rc == SL_OK)
        memcpy(ret + p->first, values, p->n * sizeof(*values));
    free(bytes);
    free(values);
    return rc;
}

/* draw 0: whole tensors; else pieces whose sizes follow from it. */
static enum sl_code decode(const struct sl_codec *c, const uint8_t *blob, uint32_t draw,
                           float *ret)
{
    struct sl_decoder d;
    struct sl_err err;
    uint64_t end = c->header_bytes;
    fuzz_must(sl_decoder_init(c, &d, &err) == SL_OK);
    enum sl_code rc = sl_decoder_header(&d, blob, &err);
    fuzz_check_line(rc, &err);
    for (size_t at = 0; rc == SL_OK && at < c->n_values;) {
        size_t most = WHOLE;
        if (draw != 0) {
            draw = draw * 1664525u + 1013904223u;
            most = GROUP + GROUP * (size_t)((draw >> 16) % 64);
        }
        struct sl_codec_piece p = sl_codec_piece(c, at, most);
        fuzz_must(p.first == at && p.n >= 1 && p.n <= most && p.offset == end);
        fuzz_must(p.n_bytes <= SL_CODEC_PIECE_BYTES(p.n));
        rc = decode_piece(&d, &p, blob, ret);
        at += p.n;
        end = p.offset + p.n_bytes;
    }
    fuzz_must(rc == SL_OK ? end == c->n_bytes : rc == SL_E_REJECTED);
    sl_decoder_deinit(&d);
    return rc;
}

/* bfp: the group of value i of a tensor lies below the exponents that groups have. */
static bool is_faint(const float *x, size_t size, size_t i)
{
    size_t first = i / GROUP * GROUP;
    for (size_t k = first; k < first + GROUP && k < size; k++)
        if (fabsf(x[k]) >= 0x1p-60f)
            return false;
    return true;
}

/* ternary: the mean of equal magnitudes, but for two roundings. */
static bool is_near(float x, float y)
{
    return fabsf(x - y) <= 1e-6f * fabsf(x);
}

/* again: x encoded and decoded. */
static void check_values(const struct sl_codec *c, const float *x, const float *again)
{
    for (size_t t = 0; t < c->n_tensors; t++) {
        const struct sl_codec_tensor *at = &c->tensor[t];
        const float *from = x + at->first, *to = again + at->first;
        float most = 0;
        for (size_t i = 0; i < at->size; i++)
            most = fabsf(from[i]) > most ? fabsf(from[i]) : most;
        bool normal = most < 1e30f && most > 1e-30f; /* sums stay in the range of floats */
        for (size_t i = 0; i < at->size; i++)
            if (c->encoding == SL_ENC_BFP)
                fuzz_must(to[i] == (is_faint(from, at->size, i) ? 0 : from[i]));
            else if (c->encoding == SL_ENC_TERNARY)
                fuzz_must(!normal || is_near(from[i], to[i]));
            else
                fuzz_must(to[i] == from[i]);
    }
}

/* x, which came out of blob, in and out once more; then with error feedback, which keeps
 * what the decoded values lack. */
static void check_round_trip(const struct sl_codec *c, const uint8_t *blob, const float *x)
{
    const struct sl_codec_noise noise = {.seed = 1, .client = 2, .round = 3};
    size_t n = c->n_values, bytes = n * sizeof(*x);
    float *sum = room(bytes), *again = room(bytes), *residual = calloc(n + 1, sizeof(*x));
    uint8_t *written = room((size_t)c->n_bytes);
    struct sl_err err;
    fuzz_must(residual != NULL);
    memcpy(sum, x, bytes);
    enum sl_code rc = sl_codec_encode(c, &noise, sum, NULL, written, &err);
    fuzz_check_line(rc, &err);
    fuzz_must((rc == SL_OK) == all_finite(x, n) && memcmp(sum, x, bytes) == 0);
    if (rc == SL_OK) {
        if (c->encoding == SL_ENC_FP32 || c->encoding == SL_ENC_BF16)
            fuzz_must(memcmp(written, blob, (size_t)c->n_bytes) == 0);
        fuzz_must(decode(c, written, 0, again) == SL_OK);
        check_values(c, x, again);
        fuzz_must(sl_codec_encode(c, &noise, sum, residual, written, &err) == SL_OK);
        for (size_t i = 0; i < n; i++)
            fuzz_must(sum[i] == x[i] && residual[i] == x[i] - again[i]);
    }
    free(sum);
    free(again);
    free(residual);
    free(written);
}

static void check_update(const struct sl_codec *c, struct input *in, uint32_t draw)
{
    size_t bytes = c->n_values * sizeof(float), have = (size_t)c->n_bytes;
    uint8_t *blob = calloc(have + 1, 1);
    float *whole = room(bytes), *parts = room(bytes);
    fuzz_must(blob != NULL);
    if (in->left > 0)
        memcpy(blob, in->at, in->left < have ? in->left : have);
    enum sl_code rc = decode(c, blob, 0, whole);
    fuzz_must(decode(c, blob, draw + 1, parts) == rc);
    if (rc == SL_OK) {
        fuzz_must(memcmp(whole, parts, bytes) == 0);
        check_round_trip(c, blob, whole);
    }
    free(blob);
    free(whole);
    free(parts);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    unsigned kind = take(&in), vectors = (kind & 8) != 0 ? 2 : 1;
    unsigned n = 1 + take(&in) % TENSORS_MAX;
    struct sl_layout layout = {0};
    struct sl_codec codec;
    struct sl_err err;
    for (unsigned i = 0; i < n; i++) {
        char name[4];
        uint32_t dim = take(&in);
        dim = 1 + (dim << 8 | take(&in)) % TENSOR_SIZE_MAX;
        snprintf(name, sizeof(name), "t%u", i);
        /* the last of several stays at home */
        enum sl_tensor_role role = i == 3 ? SL_TENSOR_FIXED : SL_TENSOR_PARAM;
        fuzz_must(sl_layout_add(&layout, name, role, 1, &dim, &err) == SL_OK);
    }
    uint32_t draw = take(&in);
    enum sl_code rc = sl_codec_init(&kinds[kind % KINDS], &layout, vectors, &codec, &err);
    fuzz_check_line(rc, &err);
    if (rc == SL_OK) {
        check_update(&codec, &in, draw);
        sl_codec_deinit(&codec);
    } else {
        fuzz_must(rc == SL_E_RANGE);
    }
    sl_layout_deinit(&layout);
    return 0;
}
