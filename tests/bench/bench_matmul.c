/* SPDX-License-Identifier: Apache-2.0 */
/* bench_matmul.c - the unit "fast" against OpenBLAS, one thread, in turn within one run.
 * Products y[M, N] = x[M, K] w[N, K]^T with 4 and 2 bits: converting and packing both
 * operands, and with packed weights; median times and their ratio. Then converting alone,
 * elements in cache, along contiguous and across lines, truncating and stochastically.
 * Prints a JSON line each. usage: bench_matmul [--repeat N] [M N K]... */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cblas.h>

#include "accel/accel.h"
#include "accel/kernels/cpu.h"
#include "accel/kernels/kernels.h"
#include "accel/units/fast.h"
#include "common/mem.h"
#include "common/rng.h"

#define REPEAT_MAX 501

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

static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof(*v), up);
    return v[n / 2];
}

/* Gaussian enough; 2 MiB pages where there are any. */
static float *numbers(struct sl_arena *a, size_t n, uint32_t seed)
{
    struct sl_rng r;
    float *v = sl_arena_alloc(a, n * sizeof(*v));
    sl_rng_init(&r, &(struct sl_rng_id){.seed = seed, .purpose = SL_RNG_TEST});
    for (size_t i = 0; i < n; i++)
        v[i] = sl_rng_f32(&r) + sl_rng_f32(&r) + sl_rng_f32(&r) - 1.5f;
    return v;
}

struct sizes {
    size_t m, n, k;
};

/* A way to multiply: sgemm, or fast with a width, with or without packed weights. */
struct way {
    const char *name;
    enum sl_fast_precision precision;
    bool blas, packed;
};
static const struct way ways[] = {{"sgemm", SL_FAST_HIGH, true, false},
                                  {"m4", SL_FAST_HIGH, false, false},
                                  {"m4_packed", SL_FAST_HIGH, false, true},
                                  {"m2", SL_FAST_LOW, false, false},
                                  {"m2_packed", SL_FAST_LOW, false, true}};
#define WAYS (sizeof(ways) / sizeof(ways[0]))

struct operands {
    struct sizes s;
    float *x, *w, *y;
    struct sl_unit_ctx ctx[WAYS];
    struct sl_fast_options o[WAYS];
};

static void multiply(struct operands *p, size_t way)
{
    const struct sizes *s = &p->s;
    if (ways[way].blas) {
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)s->m, (blasint)s->n,
                    (blasint)s->k, 1.0f, p->x, (blasint)s->k, p->w, (blasint)s->k, 0.0f,
                    p->y, (blasint)s->n);
        return;
    }
    sl_matmul(&p->ctx[way],
              &(struct sl_matmul){.pass = SL_PASS_FORWARD,
                                  .m = s->m,
                                  .n = s->n,
                                  .k = s->k,
                                  .a = {p->x, s->k, false, SL_ROLE_ACTIVATION},
                                  .b = {p->w, s->k, true, SL_ROLE_WEIGHT},
                                  .alpha = 1.0f,
                                  .c = p->y,
                                  .ldc = s->n});
}

static bool prepare(struct operands *p, const struct sizes *s,
                    const struct sl_kernels *kernels, struct sl_arena *arena)
{
    size_t total = 4 * (s->m * s->k + s->n * s->k + s->m * s->n) * sizeof(float);
    struct sl_unit_bytes bytes[WAYS];
    for (size_t i = 0; i < WAYS; i++) {
        bytes[i] = (struct sl_unit_bytes){0, 0};
        p->o[i] = sl_fast_defaults();
        p->o[i].precision = ways[i].precision;
        sl_matmul_fast.matmul_bytes(&(struct sl_unit_options){.fast = &p->o[i]}, s->m,
                                    s->n, s->k, ways[i].packed, &bytes[i]);
        total += bytes[i].scratch + bytes[i].keep + 4096;
    }
    if (!sl_arena_init(arena, total + (1 << 16)))
        return false;
    p->s = *s;
    p->x = numbers(arena, s->m * s->k, 1);
    p->w = numbers(arena, s->n * s->k, 2);
    p->y = sl_arena_alloc(arena, s->m * s->n * sizeof(float));
    for (size_t i = 0; i < WAYS; i++)
        p->ctx[i] = (struct sl_unit_ctx){
            .unit = &sl_matmul_fast,
            .kernels = kernels,
            .scratch = sl_arena_alloc(arena, bytes[i].scratch),
            .keep = ways[i].packed ? sl_arena_alloc(arena, bytes[i].keep) : NULL,
            .options = {.fast = &p->o[i]},
            .version = 1};
    return true;
}

static bool bench_product(const struct sizes *s, const struct sl_kernels *kernels,
                          int repeat)
{
    static double seconds[WAYS][REPEAT_MAX];
    struct sl_arena arena = {0};
    struct operands p;
    if (!prepare(&p, s, kernels, &arena))
        return false;
    for (int r = -2; r < repeat; r++)
        for (size_t i = 0; i < WAYS; i++) {
            double t = now();
            multiply(&p, i);
            seconds[i][r < 0 ? 0 : r] = now() - t;
        }
    double flop = 2.0 * (double)s->m * (double)s->n * (double)s->k, blas = 0.0;
    for (size_t i = 0; i < WAYS; i++) {
        double t = median(seconds[i], repeat);
        blas = i == 0 ? t : blas;
        printf("{\"bench\":\"matmul\",\"m\":%zu,\"n\":%zu,\"k\":%zu,\"way\":\"%s\","
               "\"blas\":\"%s\",\"gflop_s\":%.0f,\"to_sgemm\":%.2f}\n",
               s->m, s->n, s->k, ways[i].name, sl_accel_blas_name(), flop / t * 1e-9,
               blas / t);
    }
    sl_arena_deinit(&arena);
    return true;
}

#define LINES 128
#define LENGTH 256 /* 128 KiB of floats */

static bool bench_convert(const struct sl_kernels *kernels, int repeat)
{
    static double seconds[REPEAT_MAX];
    const struct sl_bfp_ops *b = &kernels->bfp;
    struct sl_arena arena = {0};
    size_t n = LINES * LENGTH;
    if (!sl_arena_init(&arena, 8 * n * sizeof(float)))
        return false;
    const float *x = numbers(&arena, n, 3);
    struct sl_bfp_rows rows = {sl_arena_alloc(&arena, n), sl_arena_alloc(&arena, n / 4),
                               LENGTH / 16};
    for (int kind = 0; kind < 4; kind++) {
        struct sl_bfp_source s = {.x = x,
                                  .lines = LINES,
                                  .k = LENGTH,
                                  .line_step = kind % 2 ? 1 : LENGTH,
                                  .k_step = kind % 2 ? LINES : 1,
                                  .exponent_t = 0,
                                  .code_max = 15,
                                  .m = 4,
                                  .round = kind < 2 ? SL_BFP_TRUNCATE : SL_BFP_CTR,
                                  .key = 42,
                                  .number_step = LENGTH};
        for (int r = -2; r < repeat; r++) {
            double t = now();
            for (int i = 0; i < 16; i++) {
                b->largest(x, n);
                b->pack_rows(&s, &rows);
            }
            seconds[r < 0 ? 0 : r] = (now() - t) / 16;
        }
        printf("{\"bench\":\"quantise\",\"lines\":\"%s\",\"round\":\"%s\",\"m\":4,"
               "\"g_elements_s\":%.2f}\n",
               kind % 2 ? "across" : "along", kind < 2 ? "truncate" : "stochastic",
               (double)n / median(seconds, repeat) * 1e-9);
    }
    sl_arena_deinit(&arena);
    return true;
}

int main(int argc, char **argv)
{
    static const struct sizes all[] = {{512, 512, 512}, {384, 128, 784}, {1152, 64, 800}};
    struct sl_kernels kernels;
    uint32_t off = 0;
    int repeat = 51, first = 1;
    bool ok = true;
    if (argc > 2 && strcmp(argv[1], "--repeat") == 0) {
        repeat = atoi(argv[2]);
        first = 3;
    }
    if (repeat < 1 || repeat > REPEAT_MAX || (argc - first) % 3 != 0 ||
        !sl_cpu_off_parse(getenv("STARLING_CPU_MASK"), &off)) {
        fprintf(stderr, "usage: bench_matmul [--repeat 1..%d] [M N K]...\n", REPEAT_MAX);
        return 2;
    }
    sl_mem_tune_malloc();
    sl_accel_init();
    sl_kernels_init(&kernels, sl_cpu_detect() & ~off);
    for (size_t i = 0; first == argc && i < sizeof(all) / sizeof(all[0]); i++)
        ok &= bench_product(&all[i], &kernels, repeat);
    for (int i = first; i + 2 < argc; i += 3) {
        struct sizes s = {strtoul(argv[i], NULL, 10), strtoul(argv[i + 1], NULL, 10),
                          strtoul(argv[i + 2], NULL, 10)};
        ok &= s.m > 0 && s.n > 0 && s.k > 0 && bench_product(&s, &kernels, repeat);
    }
    ok &= bench_convert(&kernels, repeat);
    return ok ? 0 : 1;
}
