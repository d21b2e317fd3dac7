/* SPDX-License-Identifier: Apache-2.0 */
/* The unit "fast" against the definition, bit for bit, with every kernel level of this
 * CPU: the three products of dense layers and convolutions of many shapes, narrow and
 * wide forms; then its choices, its noise, its ledger, and whole trainings. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "accel/accel.h"
#include "accel/kernels/cpu.h"
#include "accel/kernels/kernels.h"
#include "accel/nn/train.h"
#include "accel/units/bfp_conv.h"
#include "accel/units/fast.h"
#include "accel/units/fast_operand.h"

static const uint32_t levels[] = {0,
                                  SL_CPU_AVX2,
                                  SL_CPU_AVX2 | SL_CPU_AVX512,
                                  SL_CPU_AVX2 | SL_CPU_AVX512 | SL_CPU_AVX512_VNNI,
                                  SL_CPU_NEON,
                                  SL_CPU_NEON | SL_CPU_DOTPROD};
#define LEVELS (sizeof(levels) / sizeof(levels[0]))

static struct sl_kernels kernels;
static struct sl_rng rng;

static bool has(uint32_t level)
{
    return (sl_cpu_detect() & level) == level;
}

#define ROOM 60000
static float x[ROOM], w[ROOM], dy[ROOM], want[ROOM], got[ROOM];

static void fill(float *v, size_t n)
{
    assert_true(n <= ROOM);
    for (size_t i = 0; i < n; i++) {
        uint32_t dice = sl_rng_u32(&rng) % 16;
        v[i] = dice == 0 ? 0.0f : ldexpf((float)sl_rng_normal(&rng), dice < 4 ? -6 : 0);
    }
}

/* A context with its memory, as the net makes it. */
struct bench {
    struct sl_fast_options o;
    struct sl_unit_ctx ctx;
};

static void bench_init(struct bench *b, const struct sl_unit_bytes *bytes)
{
    b->ctx = (struct sl_unit_ctx){.unit = &sl_matmul_fast,
                                  .kernels = &kernels,
                                  .options = {.fast = &b->o},
                                  .version = 1,
                                  .draw = {.seed = 7, .client = 3, .round = 2, .step = 5},
                                  .place = {.layer = 2, .n_layers = 4}};
    b->ctx.scratch = aligned_alloc(64, bytes->scratch + 64);
    b->ctx.keep = bytes->keep > 0 ? aligned_alloc(64, bytes->keep) : NULL;
    memset(b->ctx.scratch, 0xa5, bytes->scratch + 64);
    if (b->ctx.keep != NULL)
        memset(b->ctx.keep, 0, bytes->keep);
}

static void bench_deinit(struct bench *b)
{
    free(b->ctx.scratch);
    free(b->ctx.keep);
}

/* Unit options and those of the definition's operands. */
static struct sl_bfp_options defined(const struct bench *b, bool gradient, uint32_t use)
{
    struct sl_bfp_options o = {
        .g = b->o.g, .e = b->o.e, .m = b->o.precision == SL_FAST_LOW ? 2 : 4};
    if (b->o.precision == SL_FAST_FIXED)
        o.m = b->o.m[0];
    o.round = gradient ? SL_BFP_CTR : SL_BFP_TRUNCATE;
    o.key = sl_fast_key(&b->ctx.draw, 2, SL_FAST_TENSOR_GRADIENT, use, 0, 0);
    return o;
}

static struct sl_fast_options some_options(int kind)
{
    struct sl_fast_options o = sl_fast_defaults();
    o.precision = kind % 2 ? SL_FAST_HIGH : SL_FAST_LOW;
    if (kind == 2) {
        o.precision = SL_FAST_FIXED;
        o.m[0] = o.m[1] = o.m[2] = 8;
    } else if (kind == 3) {
        o.g = 9;
    } else if (kind == 4) {
        o.precision = SL_FAST_FIXED;
        o.m[0] = o.m[1] = o.m[2] = 3;
        o.e = 3;
    } else if (kind == 5) {
        o.e = 0;
    }
    return o;
}
#define KINDS 6

static void same(const char *what, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(&want[i], &got[i], sizeof(float)) != 0)
            fail_msg("%s: at %zu of %zu %a, want %a", what, i, n, (double)got[i],
                     (double)want[i]);
}

/* --- dense
 * ----------------------------------------------------------------------------------- */

/* want [lines of a][lines of b] by the definition. */
static void define(const struct sl_bfp_options *oa, const struct sl_bfp_lines *la,
                   const float *a, const struct sl_bfp_options *ob,
                   const struct sl_bfp_lines *lb, const float *b)
{
    static int16_t ma[ROOM], mb[ROOM], ea[ROOM], eb[ROOM];
    struct sl_bfp_out ca = {.mantissa = ma, .exponent = ea};
    struct sl_bfp_out cb = {.mantissa = mb, .exponent = eb};
    assert_int_equal(sl_bfp_convert(oa, la, a, &ca, NULL), SL_OK);
    assert_int_equal(sl_bfp_convert(ob, lb, b, &cb, NULL), SL_OK);
    struct sl_bfp_gemm p = {.rows = sl_bfp_line_count(la),
                            .cols = sl_bfp_line_count(lb),
                            .k = la->k,
                            .g = oa->g};
    p.a = (struct sl_bfp_operand){ma,    la->step1, la->step_k, ea, ca.exponent_t,
                                  oa->m, oa->e};
    p.b = (struct sl_bfp_operand){mb,    lb->step1, lb->step_k, eb, cb.exponent_t,
                                  ob->m, ob->e};
    assert_int_equal(sl_bfp_gemm(&p, want, NULL), SL_OK);
}

static struct sl_bfp_lines along(size_t rows, size_t cols)
{
    return (struct sl_bfp_lines){
        .n0 = 1, .n1 = rows, .k = cols, .step1 = cols, .step_k = 1};
}

static struct sl_bfp_lines down(size_t rows, size_t cols)
{
    return (struct sl_bfp_lines){
        .n0 = 1, .n1 = cols, .k = rows, .step1 = 1, .step_k = cols};
}

static void run(struct bench *b, enum sl_pass pass, size_t m, size_t n, size_t k,
                struct sl_operand a, struct sl_operand c)
{
    sl_matmul(&b->ctx, &(struct sl_matmul){.pass = pass,
                                           .m = m,
                                           .n = n,
                                           .k = k,
                                           .a = a,
                                           .b = c,
                                           .alpha = 1.0f,
                                           .c = got,
                                           .ldc = n});
}

static void check_dense(struct bench *b, size_t rows, size_t in, size_t out, bool keep)
{
    struct sl_unit_bytes bytes = {0, 0};
    sl_matmul_fast.matmul_bytes(&(struct sl_unit_options){.fast = &b->o}, rows, out, in,
                                keep, &bytes);
    bench_init(b, &bytes);
    struct sl_bfp_options plain = defined(b, false, 0), da = defined(b, true, 1),
                          dw = defined(b, true, 2);
    struct sl_bfp_lines lx = along(rows, in), lw = along(out, in), ld = along(rows, out);
    struct sl_bfp_lines lx2 = down(rows, in), lw2 = down(out, in), ld2 = down(rows, out);
    for (int twice = 0; twice < 2; twice++) { /* packed weights are used again */
        define(&plain, &lx, x, &plain, &lw, w);
        run(b, SL_PASS_FORWARD, rows, out, in,
            (struct sl_operand){x, in, false, SL_ROLE_ACTIVATION},
            (struct sl_operand){w, in, true, SL_ROLE_WEIGHT});
        same("y", rows * out);
        memset(b->ctx.place.calls, 0, sizeof(b->ctx.place.calls));
        define(&da, &ld, dy, &plain, &lw2, w);
        run(b, SL_PASS_INPUT_GRADIENT, rows, in, out,
            (struct sl_operand){dy, out, false, SL_ROLE_GRADIENT},
            (struct sl_operand){w, in, false, SL_ROLE_WEIGHT});
        same("dx", rows * in);
        define(&dw, &ld2, dy, &plain, &lx2, x);
        run(b, SL_PASS_WEIGHT_GRADIENT, out, in, rows,
            (struct sl_operand){dy, out, true, SL_ROLE_GRADIENT},
            (struct sl_operand){x, in, false, SL_ROLE_ACTIVATION});
        same("dw", out * in);
        memset(b->ctx.place.calls, 0, sizeof(b->ctx.place.calls));
    }
    uint64_t packed =
        2 * (2 * rows * in + 2 * rows * out) + 2 * in * out * (keep ? 1 : 2);
    uint64_t counted = 0;
    for (int p = 0; p < SL_PASSES; p++)
        counted += b->ctx.ledger.conversions[p];
    assert_int_equal(counted, packed);
    uint64_t work = 2 * rows * in * out * sl_bfp_passes(plain.m, plain.m);
    assert_int_equal(b->ctx.ledger.work[SL_PASS_WEIGHT_GRADIENT], work);
    bench_deinit(b);
}

static void dense_products_equal_the_definition(void **state)
{
    static const size_t shapes[][3] = {{1, 1, 1},   {5, 17, 10},  {32, 100, 30},
                                       {7, 33, 65}, {40, 16, 16}, {13, 50, 3}};
    for (size_t l = 0; l < LEVELS; l++) {
        if (!has(levels[l]))
            continue;
        sl_kernels_init(&kernels, levels[l]);
        for (int kind = 0; kind < KINDS; kind++)
            for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
                struct bench b = {.o = some_options(kind)};
                fill(x, shapes[i][0] * shapes[i][1]);
                fill(w, shapes[i][1] * shapes[i][2]);
                fill(dy, shapes[i][0] * shapes[i][2]);
                check_dense(&b, shapes[i][0], shapes[i][1], shapes[i][2], i % 2 == 0);
            }
    }
}

/* --- convolution
 * ----------------------------------------------------------------------------- */

static void check_conv(struct bench *b, const struct sl_conv_geometry *g, size_t n)
{
    struct sl_unit_bytes bytes = {0, 0};
    size_t in = n * g->in_c * g->in_h * g->in_w, out = n * g->out_c * g->out_h * g->out_w;
    size_t weights = (size_t)g->out_c * g->in_c * g->kernel * g->kernel;
    sl_matmul_fast.conv_bytes(&(struct sl_unit_options){.fast = &b->o}, g, n, &bytes);
    bench_init(b, &bytes);
    fill(x, in);
    fill(w, weights);
    fill(dy, out);
    struct sl_bfp_conv c = {.g = *g, .n = n};
    c.x = c.w = defined(b, false, 0);
    c.dy = defined(b, true, 1);
    assert_int_equal(sl_bfp_conv_forward(&c, x, w, want, NULL), SL_OK);
    sl_matmul_fast.conv_forward(&b->ctx, g, n, x, w, got);
    same("y", out);
    memset(b->ctx.place.calls, 0, sizeof(b->ctx.place.calls));
    assert_int_equal(sl_bfp_conv_data(&c, dy, w, want, NULL), SL_OK);
    sl_matmul_fast.conv_backward_data(&b->ctx, g, n, dy, w, got);
    same("dx", in);
    c.dy = defined(b, true, 2);
    assert_int_equal(sl_bfp_conv_weights(&c, x, dy, want, NULL), SL_OK);
    sl_matmul_fast.conv_backward_weights(&b->ctx, g, n, x, dy, false, got);
    same("dw", weights);
    memset(b->ctx.place.calls, 0, sizeof(b->ctx.place.calls));
    sl_matmul_fast.conv_backward_weights(&b->ctx, g, n, x, dy, true, got);
    for (size_t i = 0; i < weights; i++)
        want[i] += want[i];
    same("dw added", weights);
    bench_deinit(b);
}

static void convolutions_equal_the_definition(void **state)
{
    /* in_c, h, w, out_c, kernel, stride, pad, images */
    static const uint32_t list[][8] = {
        {1, 7, 6, 5, 3, 1, 1, 3},    {3, 9, 8, 17, 5, 1, 2, 2},
        {17, 6, 7, 20, 3, 1, 1, 18}, {5, 8, 8, 6, 3, 2, 1, 4},
        {20, 7, 9, 33, 1, 2, 0, 2},  {16, 5, 5, 8, 1, 1, 0, 5},
        {4, 9, 10, 3, 2, 3, 0, 17},  {6, 5, 6, 40, 5, 1, 0, 2},
        {2, 6, 6, 2, 3, 1, 3, 2},    {33, 4, 4, 16, 4, 2, 1, 3}};
    for (size_t l = 0; l < LEVELS; l++) {
        if (!has(levels[l]))
            continue;
        sl_kernels_init(&kernels, levels[l]);
        for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++)
            for (int kind = 0; kind < KINDS; kind++) {
                struct sl_conv_geometry g = {list[i][0], list[i][1], list[i][2],
                                             list[i][3], 0,          0,
                                             list[i][4], list[i][5], list[i][6]};
                struct bench b = {.o = some_options(kind)};
                g.out_h = (g.in_h + 2 * g.pad - g.kernel) / g.stride + 1;
                g.out_w = (g.in_w + 2 * g.pad - g.kernel) / g.stride + 1;
                check_conv(&b, &g, list[i][7]);
            }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dense_products_equal_the_definition),
        cmocka_unit_test(convolutions_equal_the_definition),
    };
    sl_accel_init();
    sl_rng_init(&rng, &(struct sl_rng_id){.seed = 11, .purpose = SL_RNG_TEST});
    return cmocka_run_group_tests(tests, NULL, NULL);
}
