/* SPDX-License-Identifier: Apache-2.0 */
/* bench_units.c - emulated units against what they replace, one thread, best kernels:
 * RTN's dot products against sgemm, and the forward products of mlp by Term Revealing
 * against the bare integer products they reduce to. Both sides of a ratio run in turn;
 * medians of the rounds, ratio of medians. usage: bench_units [--rounds N] */
#include <cblas.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "accel/accel.h"
#include "accel/kernels/cpu.h"
#include "accel/kernels/kernels.h"
#include "accel/units/matmul.h"
#include "accel/units/rtn.h"
#include "accel/units/tr.h"
#include "common/mem.h"
#include "common/rng.h"

#define ROUNDS_MAX 1000

struct pair {
    double first[ROUNDS_MAX], second[ROUNDS_MAX];
};

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof(*v), ascending);
    return v[n / 2];
}

/* Runs both in turn. */
static void time_pair(void (*first)(void *), void (*second)(void *), void *ctx,
                      int rounds, struct pair *ret)
{
    for (int r = -2; r < rounds; r++) {
        double a = seconds();
        first(ctx);
        double b = seconds();
        second(ctx);
        double c = seconds();
        if (r >= 0) {
            ret->first[r] = b - a;
            ret->second[r] = c - b;
        }
    }
}

static void *room(size_t bytes)
{
    void *p = aligned_alloc(SL_ALIGN, (bytes + SL_ALIGN) / SL_ALIGN * SL_ALIGN);
    if (p == NULL)
        exit(1);
    memset(p, 0, bytes);
    return p;
}

static float *random_floats(size_t n, uint64_t seed)
{
    float *v = room(n * sizeof(*v));
    struct sl_rng r;
    sl_rng_init(&r, &(struct sl_rng_id){.seed = seed, .purpose = SL_RNG_TEST});
    for (size_t i = 0; i < n; i++)
        v[i] = 2.0f * sl_rng_f32(&r) - 1.0f;
    return v;
}

/* --- RTN -----------------------------------------------------------------------------
 */

struct ternary {
    struct sl_rtn_ops ops;
    size_t m, n, k, words;
    float *a, *b, *c; /* a [m, k], b [n, k] */
    uint64_t *a_flag, *a_sign, *b_flag, *b_sign, *packed;
    int32_t *d;
};

static void ternary_dots(void *ctx)
{
    struct ternary *t = ctx;
    t->ops.dots(t->m, t->n, t->words, t->a_flag, t->a_sign, t->packed, t->d, t->n);
}

static void ternary_with_planes(void *ctx)
{
    struct ternary *t = ctx;
    for (size_t i = 0; i < t->m; i++)
        t->ops.ternarise(t->a + i * t->k, t->k, 0.5f, t->a_flag + i * t->words,
                         t->a_sign + i * t->words, NULL);
    ternary_dots(t);
}

static void ternary_sgemm(void *ctx)
{
    struct ternary *t = ctx;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)t->m, (blasint)t->n,
                (blasint)t->k, 1.0f, t->a, (blasint)t->k, t->b, (blasint)t->k, 0.0f, t->c,
                (blasint)t->n);
}

static void bench_rtn(size_t m, size_t n, size_t k, uint32_t cpu, int rounds)
{
    static struct pair dots, all;
    struct ternary t = {.m = m, .n = n, .k = k, .words = SL_RTN_WORDS(k)};
    sl_rtn_ops_init(&t.ops, cpu);
    t.a = random_floats(m * k, 1);
    t.b = random_floats(n * k, 2);
    t.c = room(m * n * sizeof(float));
    t.d = room(m * n * sizeof(int32_t));
    t.a_flag = room(m * t.words * 8);
    t.a_sign = room(m * t.words * 8);
    t.b_flag = room(n * t.words * 8);
    t.b_sign = room(n * t.words * 8);
    t.packed = room(sl_rtn_packed_words(t.words, n) * 8);
    for (size_t i = 0; i < n; i++)
        t.ops.ternarise(t.b + i * k, k, 0.5f, t.b_flag + i * t.words,
                        t.b_sign + i * t.words, NULL);
    sl_rtn_pack_lines(t.b_flag, t.b_sign, n, t.words, t.packed);
    ternary_with_planes(&t);
    time_pair(ternary_sgemm, ternary_dots, &t, rounds, &dots);
    time_pair(ternary_sgemm, ternary_with_planes, &t, rounds, &all);
    double sgemm = median(dots.first, rounds), bits = median(dots.second, rounds);
    double sgemm2 = median(all.first, rounds), both = median(all.second, rounds);
    printf("{\"bench\":\"rtn\",\"m\":%zu,\"n\":%zu,\"k\":%zu,\"cpu\":%" PRIu32
           ",\"sgemm_us\":%.1f,\"dots_us\":%.1f,\"times\":%.2f,"
           "\"with_planes_us\":%.1f,\"times_with_planes\":%.2f}\n",
           m, n, k, cpu, 1e6 * sgemm, 1e6 * bits, sgemm / bits, 1e6 * both,
           sgemm2 / both);
    void *all_rooms[] = {t.a,      t.b,      t.c,      t.d,     t.a_flag,
                         t.a_sign, t.b_flag, t.b_sign, t.packed};
    for (size_t i = 0; i < sizeof(all_rooms) / sizeof(all_rooms[0]); i++)
        free(all_rooms[i]);
}

/* --- Term Revealing ------------------------------------------------------------------
 */

#define LAYERS 3
static const size_t widths[LAYERS + 1] = {784, 200, 200, 10}; /* of mlp */

struct mlp {
    struct sl_kernels kernels;
    struct sl_unit_ctx unit;
    size_t batch;
    float *x[LAYERS + 1], *w[LAYERS];
    void *keep[LAYERS];
    int16_t *codes[LAYERS], *packed[LAYERS];
};

/* The unit's forward products: codes of the data, caps, products, scales. */
static void mlp_unit(void *ctx)
{
    struct mlp *p = ctx;
    for (size_t i = 0; i < LAYERS; i++) {
        size_t k = widths[i], n = widths[i + 1];
        p->unit.keep = p->keep[i];
        sl_matmul(&p->unit,
                  &(struct sl_matmul){.pass = SL_PASS_FORWARD,
                                      .m = p->batch,
                                      .n = n,
                                      .k = k,
                                      .a = {p->x[i], k, false, SL_ROLE_ACTIVATION},
                                      .b = {p->w[i], k, true, SL_ROLE_WEIGHT},
                                      .alpha = 1.0f,
                                      .c = p->x[i + 1],
                                      .ldc = n});
    }
}

/* The products of ready codes. */
static void mlp_products(void *ctx)
{
    struct mlp *p = ctx;
    for (size_t i = 0; i < LAYERS; i++) {
        size_t k = widths[i], n = widths[i + 1];
        struct sl_tr_finish f = {
            .scale = 1e-3f, .alpha = 1.0f, .c = p->x[i + 1], .ldc = n};
        p->kernels.tr.product(p->batch, n, SL_TR_PAIRS(k), p->codes[i],
                              2 * SL_TR_PAIRS(k), p->packed[i], &f);
    }
}

static void mlp_sgemm(void *ctx)
{
    struct mlp *p = ctx;
    for (size_t i = 0; i < LAYERS; i++)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)p->batch,
                    (blasint)widths[i + 1], (blasint)widths[i], 1.0f, p->x[i],
                    (blasint)widths[i], p->w[i], (blasint)widths[i], 0.0f, p->x[i + 1],
                    (blasint)widths[i + 1]);
}

static void mlp_init(struct mlp *p, size_t batch, uint32_t cpu)
{
    struct sl_unit_options none = {0};
    size_t scratch = 0;
    *p = (struct mlp){.batch = batch};
    sl_kernels_init(&p->kernels, cpu);
    p->x[0] = random_floats(batch * widths[0], 3);
    for (size_t i = 0; i < LAYERS; i++) {
        size_t k = widths[i], n = widths[i + 1];
        struct sl_unit_bytes need = {0};
        sl_matmul_tr.matmul_bytes(&none, batch, n, k, true, &need);
        scratch = need.scratch > scratch ? need.scratch : scratch;
        p->keep[i] = room(need.keep);
        p->w[i] = random_floats(n * k, 4 + i);
        p->x[i + 1] = room(batch * n * sizeof(float));
        p->codes[i] = room(batch * 2 * SL_TR_PAIRS(k) * sizeof(int16_t));
        p->packed[i] = room(sl_tr_packed_values(k, n) * sizeof(int16_t));
        for (size_t j = 0; j < batch * k; j++)
            p->codes[i][j] = (int16_t)(j * 7919 % 257 - 128);
        for (size_t j = 0; j < sl_tr_packed_values(k, n); j++)
            p->packed[i][j] = (int16_t)(j * 104729 % 257 - 128);
    }
    p->unit = (struct sl_unit_ctx){.unit = &sl_matmul_tr,
                                   .kernels = &p->kernels,
                                   .scratch = room(scratch),
                                   .version = 1};
}

static void mlp_deinit(struct mlp *p)
{
    free(p->unit.scratch);
    free(p->x[0]);
    for (size_t i = 0; i < LAYERS; i++) {
        free(p->x[i + 1]);
        free(p->w[i]);
        free(p->keep[i]);
        free(p->codes[i]);
        free(p->packed[i]);
    }
}

static void bench_tr(size_t batch, uint32_t cpu, int rounds)
{
    static struct pair against_ints, against_sgemm;
    struct mlp p;
    mlp_init(&p, batch, cpu);
    time_pair(mlp_products, mlp_unit, &p, rounds, &against_ints);
    time_pair(mlp_sgemm, mlp_unit, &p, rounds, &against_sgemm);
    double ints = median(against_ints.first, rounds);
    double unit = median(against_ints.second, rounds);
    double sgemm = median(against_sgemm.first, rounds);
    double unit2 = median(against_sgemm.second, rounds);
    printf("{\"bench\":\"tr_mlp\",\"batch\":%zu,\"cpu\":%" PRIu32
           ",\"products_us\":%.1f,\"unit_us\":%.1f,\"of_products\":%.3f,"
           "\"sgemm_us\":%.1f,\"of_sgemm\":%.3f}\n",
           batch, cpu, 1e6 * ints, 1e6 * unit, unit / ints, 1e6 * sgemm, unit2 / sgemm);
    mlp_deinit(&p);
}

int main(int argc, char **argv)
{
    int rounds = 101;
    if (argc == 3 && strcmp(argv[1], "--rounds") == 0)
        rounds = atoi(argv[2]);
    if (rounds < 1 || rounds > ROUNDS_MAX || (argc != 1 && argc != 3)) {
        fprintf(stderr, "usage: bench_units [--rounds N], N from 1 to %d\n", ROUNDS_MAX);
        return 2;
    }
    sl_accel_init();
    uint32_t have = sl_cpu_detect();
    uint32_t levels[] = {have, have & ~SL_CPU_VPOPCNTDQ, have & SL_CPU_AVX2};
    printf("{\"blas\":\"%s\",\"rounds\":%d}\n", sl_accel_blas_name(), rounds);
    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
        bench_rtn(512, 512, 1024, levels[i], rounds);
        bench_tr(512, levels[i], rounds);
    }
    bench_rtn(128, 128, 1024, have, rounds);
    return 0;
}
