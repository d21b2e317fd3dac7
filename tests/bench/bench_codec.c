/* SPDX-License-Identifier: Apache-2.0 */
/* bench_codec.c - encoding an update of a cnn's 1,663,370 values and decoding it piece by
 * piece, one thread, in GB/s of fp32. The encodings take turns; best and median over
 * rounds of CPU time. Prints a JSON line each. usage: bench_codec [--rounds N] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "accel/codec/codec.h"
#include "common/mem.h"
#include "common/rng.h"

#define VALUES 1663370
#define PIECE 4096 /* values decoded at a time */
#define ROUNDS_MAX 500

static const struct kind {
    const char *name;
    struct sl_codec_options o;
} kinds[] = {
    {"fp32", {.encoding = SL_ENC_FP32}},
    {"bf16", {.encoding = SL_ENC_BF16}},
    {"bfp m=2", {.encoding = SL_ENC_BFP, .m = 2}},
    {"bfp m=3", {.encoding = SL_ENC_BFP, .m = 3}},
    {"bfp m=4", {.encoding = SL_ENC_BFP, .m = 4}},
    {"ternary", {.encoding = SL_ENC_TERNARY}},
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

struct job {
    struct sl_layout layout;
    struct sl_codec codec[KINDS];
    uint8_t *blob[KINDS];
    float *x;
    double seconds[KINDS][2][ROUNDS_MAX]; /* encode, decode */
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int up(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static bool prepare(struct job *j, struct sl_err *err)
{
    uint32_t dim = VALUES;
    struct sl_rng r;
    j->x = malloc(VALUES * sizeof(*j->x));
    bool ok = j->x != NULL &&
              sl_layout_add(&j->layout, "w", SL_TENSOR_PARAM, 1, &dim, err) == SL_OK;
    sl_rng_init(&r, &(struct sl_rng_id){.seed = 1, .purpose = SL_RNG_TEST});
    for (size_t i = 0; ok && i < VALUES; i++)
        j->x[i] = 1e-3f * (sl_rng_f32(&r) + sl_rng_f32(&r) + sl_rng_f32(&r) - 1.5f);
    for (size_t k = 0; ok && k < KINDS; k++) {
        ok = sl_codec_init(&kinds[k].o, &j->layout, 1, &j->codec[k], err) == SL_OK;
        j->blob[k] = ok ? calloc(j->codec[k].n_bytes, 1) : NULL;
        ok = j->blob[k] != NULL;
    }
    return ok;
}

static bool decode(const struct sl_codec *c, const uint8_t *blob, struct sl_err *err)
{
    static float values[PIECE];
    struct sl_decoder d;
    if (sl_decoder_init(c, &d, err) != SL_OK)
        return false;
    bool ok = sl_decoder_header(&d, blob, err) == SL_OK;
    for (size_t at = 0; ok && at < c->n_values;) {
        struct sl_codec_piece p = sl_codec_piece(c, at, PIECE);
        ok = sl_decoder_piece(&d, &p, blob + p.offset, values, err) == SL_OK;
        at += p.n;
    }
    sl_decoder_deinit(&d);
    return ok;
}

/* Round -1 warms up. */
static bool run(struct job *j, int rounds, struct sl_err *err)
{
    const struct sl_codec_noise noise = {.seed = 1, .client = 2, .round = 3};
    for (int r = -1; r < rounds; r++)
        for (size_t k = 0; k < KINDS; k++) {
            double a = now();
            if (sl_codec_encode(&j->codec[k], &noise, j->x, NULL, j->blob[k], err) != SL_OK)
                return false;
            double b = now();
            if (!decode(&j->codec[k], j->blob[k], err))
                return false;
            j->seconds[k][0][r < 0 ? 0 : r] = b - a;
            j->seconds[k][1][r < 0 ? 0 : r] = now() - b;
        }
    return true;
}

static void print(struct job *j, int rounds)
{
    const double gb = 4e-9 * VALUES;
    for (size_t k = 0; k < KINDS; k++) {
        for (int way = 0; way < 2; way++)
            qsort(j->seconds[k][way], (size_t)rounds, sizeof(double), up);
        printf("{\"bench\":\"codec\",\"encoding\":\"%s\",\"bits_a_value\":%.2f,"
               "\"encode_gb_s\":%.2f,\"encode_median\":%.2f,"
               "\"decode_gb_s\":%.2f,\"decode_median\":%.2f}\n",
               kinds[k].name, 8.0 * (double)j->codec[k].n_bytes / VALUES,
               gb / j->seconds[k][0][0], gb / j->seconds[k][0][rounds / 2],
               gb / j->seconds[k][1][0], gb / j->seconds[k][1][rounds / 2]);
    }
}

int main(int argc, char **argv)
{
    static struct job j;
    struct sl_err err = {0};
    int rounds = argc == 3 && strcmp(argv[1], "--rounds") == 0 ? atoi(argv[2]) : 51;
    if ((argc != 1 && argc != 3) || rounds < 1 || rounds > ROUNDS_MAX) {
        fprintf(stderr, "usage: bench_codec [--rounds 1..%d]\n", ROUNDS_MAX);
        return 2;
    }
    sl_mem_tune_malloc();
    bool ok = prepare(&j, &err) && run(&j, rounds, &err);
    if (ok)
        print(&j, rounds);
    else
        fprintf(stderr, "bench_codec: %s\n", err.msg);
    for (size_t k = 0; k < KINDS; k++) {
        sl_codec_deinit(&j.codec[k]);
        free(j.blob[k]);
    }
    sl_layout_deinit(&j.layout);
    free(j.x);
    return ok ? 0 : 1;
}
