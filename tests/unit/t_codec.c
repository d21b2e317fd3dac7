/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/codec/codec.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "accel/units/bfp.h"
#include "common/rng.h"

static const size_t sizes[] = {1, 15, 16, 17, 100, 4096, 4097, 9000, 3};
#define N_TENSORS (sizeof(sizes) / sizeof(sizes[0]))

static const struct sl_codec_options all[] = {
    {.encoding = SL_ENC_FP32},        {.encoding = SL_ENC_BF16},
    {.encoding = SL_ENC_BFP, .m = 2}, {.encoding = SL_ENC_BFP, .m = 3},
    {.encoding = SL_ENC_BFP, .m = 4}, {.encoding = SL_ENC_TERNARY},
};
#define N_OPTIONS (sizeof(all) / sizeof(all[0]))

static void make_layout(struct sl_layout *l)
{
    struct sl_err err;
    for (size_t i = 0; i < N_TENSORS; i++) {
        char name[8];
        uint32_t dim = (uint32_t)sizes[i];
        snprintf(name, sizeof(name), "t%zu", i);
        assert_int_equal(sl_layout_add(l, name, SL_TENSOR_PARAM, 1, &dim, &err), SL_OK);
    }
    uint32_t fixed = 50; /* never travels */
    assert_int_equal(sl_layout_add(l, "head", SL_TENSOR_FIXED, 1, &fixed, &err), SL_OK);
}

struct rig {
    struct sl_layout layout;
    struct sl_codec codec;
    float *x, *start, *got;
    uint8_t *blob;
};

static void rig_open(struct rig *r, const struct sl_codec_options *o)
{
    struct sl_err err;
    *r = (struct rig){0};
    make_layout(&r->layout);
    assert_int_equal(sl_codec_init(o, &r->layout, 1, &r->codec, &err), SL_OK);
    size_t n = r->codec.n_values;
    assert_int_equal(n, r->layout.n_values - 50);
    r->x = calloc(n, sizeof(float));
    r->start = calloc(n, sizeof(float));
    r->got = calloc(n, sizeof(float));
    r->blob = calloc(r->codec.n_bytes, 1);
    struct sl_rng rng;
    sl_rng_init(&rng, &(struct sl_rng_id){.seed = 7, .purpose = SL_RNG_TEST});
    for (size_t i = 0; i < n; i++)
        r->start[i] = i % 700 < 40 ? 0 : (float)(sl_rng_normal(&rng) * 1e-3);
    memcpy(r->x, r->start, n * sizeof(float));
}

static void rig_close(struct rig *r)
{
    sl_layout_deinit(&r->layout);
    sl_codec_deinit(&r->codec);
    free(r->x);
    free(r->start);
    free(r->got);
    free(r->blob);
}

static enum sl_code decode(const struct sl_codec *c, const uint8_t *blob, size_t most, float *ret,
                           struct sl_err *err)
{
    struct sl_decoder d;
    enum sl_code rc = sl_decoder_init(c, &d, err);
    if (rc == SL_OK)
        rc = sl_decoder_header(&d, blob, err);
    uint64_t end = c->header_bytes;
    for (size_t at = 0; rc == SL_OK && at < c->n_values;) {
        struct sl_codec_piece p = sl_codec_piece(c, at, most);
        assert_true(p.n >= 1 && p.n <= most && p.offset == end);
        assert_true(p.n_bytes <= SL_CODEC_PIECE_BYTES(p.n));
        rc = sl_decoder_piece(&d, &p, blob + p.offset, ret + at, err);
        end = p.offset + p.n_bytes;
        at += p.n;
    }
    if (rc == SL_OK)
        assert_int_equal(end, c->n_bytes);
    sl_decoder_deinit(&d);
    return rc;
}

static const struct sl_codec_noise noise = {.seed = 11, .client = 3, .round = 5};

static void what_is_decoded_does_not_depend_on_the_pieces(void **state)
{
    for (size_t o = 0; o < N_OPTIONS; o++) {
        struct rig r;
        struct sl_err err;
        rig_open(&r, &all[o]);
        assert_int_equal(sl_codec_encode(&r.codec, &noise, r.x, NULL, r.blob, &err), SL_OK);
        assert_memory_equal(r.x, r.start, r.codec.n_values * sizeof(float));
        assert_int_equal(decode(&r.codec, r.blob, 1 << 20, r.got, &err), SL_OK);
        float *again = calloc(r.codec.n_values, sizeof(float));
        for (size_t most = 16; most <= 4096; most *= 4) {
            assert_int_equal(decode(&r.codec, r.blob, most, again, &err), SL_OK);
            assert_memory_equal(again, r.got, r.codec.n_values * sizeof(float));
        }
        free(again);
        rig_close(&r);
    }
}

static void fp32_and_bf16_are_the_values_and_their_nearest_halves(void **state)
{
    struct rig r;
    struct sl_err err;
    rig_open(&r, &all[0]);
    assert_int_equal(sl_codec_encode(&r.codec, &noise, r.x, NULL, r.blob, &err), SL_OK);
    assert_int_equal(decode(&r.codec, r.blob, 4096, r.got, &err), SL_OK);
    assert_memory_equal(r.got, r.start, r.codec.n_values * sizeof(float));
    rig_close(&r);
    rig_open(&r, &all[1]);
    r.x[0] = 1.00390625f;  /* halfway between 1 and 1 + 2^-7: to even */
    r.x[1] = 1.01171875f;  /* halfway between 1 + 2^-7 and 1 + 2^-6 */
    r.x[2] = -1.00390637f; /* above halfway */
    assert_int_equal(sl_codec_encode(&r.codec, &noise, r.x, NULL, r.blob, &err), SL_OK);
    assert_int_equal(decode(&r.codec, r.blob, 4096, r.got, &err), SL_OK);
    assert_true(r.got[0] == 1.0f && r.got[1] == 1.015625f && r.got[2] == -1.0078125f);
    for (size_t i = 3; i < r.codec.n_values; i++)
        assert_true(fabsf(r.got[i] - r.start[i]) <= fabsf(r.start[i]) / 256);
    rig_close(&r);
}

/* The values are those of the definition of FAST's conversion with this client's noise. */
static void bfp_is_the_conversion_of_fast(void **state)
{
    for (size_t o = 2; o <= 4; o++) {
        struct rig r;
        struct sl_err err;
        rig_open(&r, &all[o]);
        assert_int_equal(sl_codec_encode(&r.codec, &noise, r.x, NULL, r.blob, &err), SL_OK);
        assert_int_equal(decode(&r.codec, r.blob, 4096, r.got, &err), SL_OK);
        for (size_t i = 0; i < N_TENSORS; i++) {
            const struct sl_codec_tensor *t = &r.codec.tensor[i];
            const uint64_t v[] = {11, 3, (uint64_t)5 << 32, i, 3, 3};
            struct sl_bfp_options opt = {
                .g = 16, .m = all[o].m, .round = SL_BFP_CTR, .key = sl_hash64(v, 6)};
            struct sl_bfp_lines line = {.n0 = 1, .n1 = 1, .k = t->size, .step_k = 1};
            float *want = calloc(t->size, sizeof(float));
            struct sl_bfp_out out = {.value = want};
            assert_int_equal(sl_bfp_convert(&opt, &line, r.start + t->first, &out, &err), SL_OK);
            assert_memory_equal(r.got + t->first, want, t->size * sizeof(float));
            free(want);
        }
        rig_close(&r);
    }
}

static void sizes_keep_what_is_promised_a_value(void **state)
{
    struct sl_layout l = {0};
    struct sl_err err;
    struct sl_codec c;
    const uint32_t dim[] = {200, 784};
    assert_int_equal(sl_layout_add(&l, "w", SL_TENSOR_PARAM, 2, dim, &err), SL_OK);
    const double most[] = {32, 16, 3.5, 4.5, 5.5, 2.01};
    for (size_t o = 0; o < N_OPTIONS; o++) {
        assert_int_equal(sl_codec_init(&all[o], &l, 1, &c, &err), SL_OK);
        assert_true(8.0 * (double)c.n_bytes / (double)c.n_values <= most[o]);
        sl_codec_deinit(&c);
    }
    sl_layout_deinit(&l);
}

static void ternary_values_are_the_scale_or_nothing_and_the_rest_comes_later(void **state)
{
    struct rig r;
    struct sl_err err;
    rig_open(&r, &all[5]);
    size_t n = r.codec.n_values;
    float *residual = calloc(n, sizeof(float));
    double *total = calloc(n, sizeof(double));
    for (int round = 0; round < 60; round++) {
        memcpy(r.x, r.start, n * sizeof(float));
        assert_int_equal(sl_codec_encode(&r.codec, &noise, r.x, residual, r.blob, &err), SL_OK);
        assert_int_equal(decode(&r.codec, r.blob, 4096, r.got, &err), SL_OK);
        for (size_t i = 0; i < n; i++) {
            total[i] += r.got[i];
            assert_true(residual[i] == r.x[i] - r.got[i]);
        }
    }
    double off = 0, size = 0;
    for (size_t i = 0; i < n; i++) { /* what 60 equal updates add up to */
        off += fabs(total[i] / 60 - r.start[i]);
        size += fabs((double)r.start[i]);
    }
    assert_true(off < 0.1 * size);
    free(residual);
    free(total);
    rig_close(&r);
}

static void bytes_that_no_encoder_writes_are_refused(void **state)
{
    struct rig r;
    struct sl_err err;
    rig_open(&r, &all[4]);
    assert_int_equal(sl_codec_encode(&r.codec, &noise, r.x, NULL, r.blob, &err), SL_OK);
    size_t group = 11, last = r.codec.n_bytes - group; /* 3 values, 13 zeros behind them */
    const struct {
        size_t at;
        uint8_t byte;
    } bad[] = {
        {0, 61},          /* an exponent beyond 60 */
        {0, 0x80},        /* a group of zeros with values */
        {last + 2, 0x80}, /* a sign without a value */
        {last + 4, 0x10}, /* a value behind the last */
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        uint8_t was = r.blob[bad[i].at];
        r.blob[bad[i].at] = bad[i].byte;
        if (bad[i].at == 0) { /* a value is there */
            r.blob[3] |= 1;
        }
        assert_int_equal(decode(&r.codec, r.blob, 4096, r.got, &err), SL_E_REJECTED);
        r.blob[bad[i].at] = was;
    }
    rig_close(&r);
    rig_open(&r, &all[5]);
    assert_int_equal(sl_codec_encode(&r.codec, &noise, r.x, NULL, r.blob, &err), SL_OK);
    r.blob[r.codec.n_bytes - 1] = 0x03;
    assert_int_equal(decode(&r.codec, r.blob, 4096, r.got, &err), SL_E_REJECTED);
    r.blob[r.codec.n_bytes - 1] = 0x40; /* a fourth value of three */
    assert_int_equal(decode(&r.codec, r.blob, 4096, r.got, &err), SL_E_REJECTED);
    r.blob[r.codec.n_bytes - 1] = 0;
    r.blob[3] = 0x7f, r.blob[2] = 0x80; /* a scale that is infinite */
    assert_int_equal(decode(&r.codec, r.blob, 4096, r.got, &err), SL_E_REJECTED);
    rig_close(&r);
}

static void values_that_are_not_finite_are_not_encoded(void **state)
{
    for (size_t o = 0; o < N_OPTIONS; o++) {
        struct rig r;
        struct sl_err err;
        rig_open(&r, &all[o]);
        r.x[33] = o % 2 == 0 ? NAN : -INFINITY;
        assert_int_equal(sl_codec_encode(&r.codec, &noise, r.x, NULL, r.blob, &err), SL_E_FAILED);
        rig_close(&r);
    }
    struct sl_layout l = {0};
    struct sl_codec c;
    struct sl_err err;
    const struct sl_codec_options bad[] = {{.encoding = SL_ENC_BFP, .m = 1},
                                           {.encoding = SL_ENC_BFP, .m = 5}};
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(sl_codec_init(&bad[i], &l, 1, &c, &err), SL_E_RANGE);
}

static void two_vectors_are_one_update_of_each(void **state)
{
    for (size_t o = 0; o < N_OPTIONS; o++) {
        struct rig r;
        struct sl_codec two;
        struct sl_err err;
        rig_open(&r, &all[o]);
        size_t n = r.codec.n_values;
        assert_int_equal(sl_codec_init(&all[o], &r.layout, 2, &two, &err), SL_OK);
        assert_int_equal(two.n_values, 2 * n);
        assert_int_equal(two.n_bytes, 2 * r.codec.n_bytes);
        float *x = calloc(2 * n, sizeof(float)), *got = calloc(2 * n, sizeof(float));
        uint8_t *blob = calloc(two.n_bytes, 1);
        for (size_t i = 0; i < n; i++) {
            x[i] = r.start[i];
            x[n + i] = 3 * r.start[n - 1 - i];
        }
        assert_int_equal(sl_codec_encode(&two, &noise, x, NULL, blob, &err), SL_OK);
        struct sl_decoder d;
        assert_int_equal(sl_decoder_init(&two, &d, &err), SL_OK);
        assert_int_equal(sl_decoder_header(&d, blob, &err), SL_OK);
        for (size_t at = 0; at < 2 * n;) {
            struct sl_codec_piece p = sl_codec_piece(&two, at, 64);
            assert_int_equal(sl_decoder_piece(&d, &p, blob + p.offset, got + at, &err), SL_OK);
            at += p.n;
        }
        sl_decoder_deinit(&d);
        double apart = 0, length = 0;
        for (size_t i = n; i < 2 * n; i++) {
            apart += pow((double)got[i] - (double)x[i], 2);
            length += pow((double)x[i], 2);
        }
        assert_true(apart < 0.4 * length); /* the second as well as the first */
        if (all[o].encoding == SL_ENC_FP32)
            assert_memory_equal(got, x, 2 * n * sizeof(float));
        free(x);
        free(got);
        free(blob);
        sl_codec_deinit(&two);
        rig_close(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_decoded_does_not_depend_on_the_pieces),
        cmocka_unit_test(fp32_and_bf16_are_the_values_and_their_nearest_halves),
        cmocka_unit_test(bfp_is_the_conversion_of_fast),
        cmocka_unit_test(sizes_keep_what_is_promised_a_value),
        cmocka_unit_test(ternary_values_are_the_scale_or_nothing_and_the_rest_comes_later),
        cmocka_unit_test(bytes_that_no_encoder_writes_are_refused),
        cmocka_unit_test(values_that_are_not_finite_are_not_encoded),
        cmocka_unit_test(two_vectors_are_one_update_of_each),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
