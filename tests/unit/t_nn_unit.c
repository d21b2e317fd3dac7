/* SPDX-License-Identifier: Apache-2.0 */
/* Matrix units against sums in double, and their ledgers. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "accel/accel.h"
#include "accel/kernels/cpu.h"
#include "accel/kernels/kernels.h"
#include "accel/units/matmul.h"

#define ROOM 20000

static struct sl_kernels kernels;
static float a[ROOM], b[ROOM], c[ROOM], before[ROOM];

static void fill(float *v, uint64_t seed)
{
    struct sl_rng r;
    sl_rng_init(&r, &(struct sl_rng_id){.seed = seed, .purpose = SL_RNG_TEST});
    for (size_t i = 0; i < ROOM; i++)
        v[i] = 2.0f * sl_rng_f32(&r) - 1.0f;
}

static struct sl_unit_ctx context(const struct sl_matmul_unit *u, void *scratch)
{
    return (struct sl_unit_ctx){.unit = u, .kernels = &kernels, .scratch = scratch};
}

static float at(const struct sl_operand *o, size_t row, size_t col)
{
    return o->transposed ? o->data[col * o->ld + row] : o->data[row * o->ld + col];
}

static void products_are_right_for_every_transposition(void **state)
{
    fill(a, 1);
    fill(b, 2);
    for (int bits = 0; bits < 8; bits++) {
        size_t m = 7, n = 12, k = 19;
        bool ta = bits & 1, tb = bits & 2;
        struct sl_matmul op = {.pass = SL_PASS_WEIGHT_GRADIENT,
                               .m = m,
                               .n = n,
                               .k = k,
                               .a = {a, (ta ? m : k) + 3, ta, SL_ROLE_GRADIENT},
                               .b = {b, (tb ? k : n) + 2, tb, SL_ROLE_ACTIVATION},
                               .alpha = 0.5f,
                               .accumulate = bits & 4,
                               .c = c,
                               .ldc = n + 1};
        struct sl_unit_ctx u = context(&sl_matmul_fp32, NULL);
        fill(c, 3);
        memcpy(before, c, sizeof(c));
        sl_matmul(&u, &op);
        for (size_t i = 0; i < m; i++) {
            for (size_t j = 0; j < n; j++) {
                double sum = 0.0;
                for (size_t p = 0; p < k; p++)
                    sum += (double)at(&op.a, i, p) * (double)at(&op.b, p, j);
                sum = 0.5 * sum + (op.accumulate ? (double)before[i * op.ldc + j] : 0.0);
                assert_true(fabs(sum - (double)c[i * op.ldc + j]) < 1e-5);
            }
            assert_true(c[i * op.ldc + n] == before[i * op.ldc + n]);
        }
        assert_int_equal(u.ledger.calls[SL_PASS_WEIGHT_GRADIENT], 1);
        assert_int_equal(u.ledger.macs[SL_PASS_WEIGHT_GRADIENT], m * n * k);
        assert_int_equal(u.ledger.calls[SL_PASS_FORWARD], 0);
    }
}

/* Place of input (ch, iy, ix) under output (oy, ox) and tap (ky, kx); false in the
 * padding. */
static bool tap(const struct sl_conv_geometry *g, size_t ch, size_t oy, size_t ox,
                size_t ky, size_t kx, size_t *ret)
{
    size_t iy = oy * g->stride + ky, ix = ox * g->stride + kx;
    if (iy < g->pad || ix < g->pad || iy - g->pad >= g->in_h || ix - g->pad >= g->in_w)
        return false;
    *ret = (ch * g->in_h + iy - g->pad) * g->in_w + ix - g->pad;
    return true;
}

/* y, dx and dw of the definition, in double. */
static void naive(const struct sl_conv_geometry *g, size_t n, const float *x,
                  const float *w, const float *dy, double *y, double *dx, double *dw)
{
    size_t in = (size_t)g->in_c * g->in_h * g->in_w;
    size_t out = (size_t)g->out_c * g->out_h * g->out_w, from;
    for (size_t i = 0; i < n; i++)
        for (size_t o = 0; o < out; o++)
            for (size_t t = 0; t < (size_t)g->in_c * g->kernel * g->kernel; t++) {
                size_t k = g->kernel, oc = o / g->out_w / g->out_h;
                size_t weight = oc * g->in_c * k * k + t;
                if (!tap(g, t / k / k, o / g->out_w % g->out_h, o % g->out_w, t / k % k,
                         t % k, &from))
                    continue;
                y[i * out + o] += (double)w[weight] * (double)x[i * in + from];
                dx[i * in + from] += (double)w[weight] * (double)dy[i * out + o];
                dw[weight] += (double)dy[i * out + o] * (double)x[i * in + from];
            }
}

static void close_to(const double *want, const float *got, size_t n, const char *what,
                     size_t i)
{
    for (size_t j = 0; j < n; j++)
        if (!(fabs(want[j] - (double)got[j]) < 2e-5 * (1.0 + fabs(want[j]))))
            fail_msg("geometry %zu: %s[%zu]: %g, expected %g", i, what, j, (double)got[j],
                     want[j]);
}

static void convolutions_are_right_in_each_form(void **state)
{
    static const uint32_t list[][7] = {/* in_c h w out_c kernel stride pad */
                                       {3, 9, 7, 4, 3, 1, 1},  {3, 9, 7, 4, 3, 1, 0},
                                       {16, 6, 7, 5, 5, 1, 2}, {16, 6, 7, 5, 5, 1, 0},
                                       {24, 5, 6, 3, 3, 1, 1}, {22, 6, 5, 3, 3, 1, 2},
                                       {3, 9, 7, 4, 3, 2, 1},  {8, 5, 5, 6, 1, 1, 0},
                                       {8, 5, 5, 6, 1, 2, 0},  {64, 4, 4, 2, 2, 1, 1}};
    static double y[ROOM], dx[ROOM], dw[ROOM];
    static float dy[ROOM], got[ROOM];
    fill(a, 4);
    fill(b, 5);
    fill(dy, 6);
    for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
        struct sl_conv_geometry g = {list[i][0], list[i][1], list[i][2], list[i][3], 0,
                                     0,          list[i][4], list[i][5], list[i][6]};
        size_t n = 3;
        g.out_h = (g.in_h + 2 * g.pad - g.kernel) / g.stride + 1;
        g.out_w = (g.in_w + 2 * g.pad - g.kernel) / g.stride + 1;
        size_t in = n * g.in_c * g.in_h * g.in_w, out = n * g.out_c * g.out_h * g.out_w;
        size_t weights = (size_t)g.out_c * g.in_c * g.kernel * g.kernel;
        memset(y, 0, sizeof(y));
        memset(dx, 0, sizeof(dx));
        memset(dw, 0, sizeof(dw));
        naive(&g, n, a, b, dy, y, dx, dw);
        struct sl_unit_bytes need = {0, 0};
        sl_matmul_fp32.conv_bytes(NULL, &g, 1, &need);
        size_t bytes = need.scratch;
        void *scratch = bytes == 0 ? NULL : aligned_alloc(64, (bytes + 63) / 64 * 64);
        struct sl_unit_ctx u = context(&sl_matmul_fp32, scratch);
        sl_matmul_fp32.conv_forward(&u, &g, n, a, b, got);
        close_to(y, got, out, "y", i);
        sl_matmul_fp32.conv_backward_data(&u, &g, n, dy, b, got);
        close_to(dx, got, in, "dx", i);
        memcpy(got, c, weights * sizeof(float));
        for (int add = 0; add < 2; add++) {
            sl_matmul_fp32.conv_backward_weights(&u, &g, n, a, dy, add, got);
            for (size_t j = 0; add == 1 && j < weights; j++)
                dw[j] *= 2.0; /* the second comes on top of the first */
            close_to(dw, got, weights, "dw", i);
        }
        uint64_t macs = (uint64_t)out * g.in_c * g.kernel * g.kernel;
        assert_int_equal(u.ledger.macs[SL_PASS_FORWARD], macs);
        assert_int_equal(u.ledger.macs[SL_PASS_INPUT_GRADIENT], macs);
        assert_int_equal(u.ledger.macs[SL_PASS_WEIGHT_GRADIENT], 2 * macs);
        free(scratch);
    }
}

static void units_are_found_by_name(void **state)
{
    assert_ptr_equal(sl_matmul_unit_find("fp32"), &sl_matmul_fp32);
    assert_null(sl_matmul_unit_find("fp33"));
    assert_ptr_equal(sl_matmul_unit_at(0), &sl_matmul_fp32);
    assert_null(sl_matmul_unit_at(1000));
    assert_true(strlen(sl_accel_blas_name()) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_right_for_every_transposition),
        cmocka_unit_test(convolutions_are_right_in_each_form),
        cmocka_unit_test(units_are_found_by_name),
    };
    sl_accel_init();
    sl_kernels_init(&kernels, sl_cpu_detect());
    return cmocka_run_group_tests_name("nn_unit", tests, NULL, NULL);
}
