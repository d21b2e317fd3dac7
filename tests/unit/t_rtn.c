/* SPDX-License-Identifier: Apache-2.0 */
/* Ternary values, their products and gradients, and the layers made of them. */
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
#include "accel/check/cases.h"
#include "accel/nn/net.h"
#include "accel/nn/train.h"
#include "accel/kernels/cpu.h"
#include "accel/units/rtn.h"
#include "common/dataset.h"
#include "common/rng.h"

static struct sl_rng stream(uint64_t seed)
{
    struct sl_rng r;
    sl_rng_init(&r, &(struct sl_rng_id){.seed = seed, .purpose = SL_RNG_TEST});
    return r;
}

static void fill(float *v, size_t n, uint64_t seed, float spread)
{
    struct sl_rng r = stream(seed);
    for (size_t i = 0; i < n; i++)
        v[i] = spread * (2.0f * sl_rng_f32(&r) - 1.0f);
}

static void fill_ternary(int8_t *t, size_t n, uint64_t seed)
{
    struct sl_rng r = stream(seed);
    for (size_t i = 0; i < n; i++)
        t[i] = (int8_t)(sl_rng_u32(&r) % 3) - 1;
}

/* --- planes and products -------------------------------------------------------------
 */

#define LINE 300

static void planes_read_back_what_was_written(void **state)
{
    int8_t t[LINE], back[LINE];
    uint64_t flag[SL_RTN_WORDS(LINE)], sign[SL_RTN_WORDS(LINE)];
    uint32_t cpu;
    for (size_t level = 0; sl_cases_cpu(level, &cpu); level++) {
        struct sl_rtn_ops ops;
        sl_rtn_ops_init(&ops, cpu);
        for (size_t n = 0; n <= LINE; n++) {
            fill_ternary(t, n, n + 1);
            ops.pack_bytes(t, n, flag, sign);
            sl_rtn_unpack(flag, sign, n, back);
            assert_memory_equal(t, back, n);
            int32_t sum = 0;
            for (size_t i = 0; i < n; i++)
                sum += t[i];
            assert_int_equal(ops.sum(flag, sign, SL_RTN_WORDS(n)), sum);
            if (n % 64 != 0)
                assert_int_equal(flag[n / 64] >> n % 64, 0);
        }
    }
}

#define SMALL 729 /* 3^6 */

static void all_small_lines_multiply_right(void **state)
{
    static int8_t t[SMALL][6];
    static uint64_t flag[SMALL], sign[SMALL];
    static int32_t d[SMALL][SMALL];
    static uint64_t packed[(SMALL + 7) / 8 * 16];
    uint32_t cpu;
    for (int i = 0; i < SMALL; i++)
        for (int k = 0, v = i; k < 6; k++, v /= 3)
            t[i][k] = (int8_t)(v % 3 - 1);
    for (size_t level = 0; sl_cases_cpu(level, &cpu); level++) {
        struct sl_rtn_ops ops;
        sl_rtn_ops_init(&ops, cpu);
        for (int i = 0; i < SMALL; i++)
            ops.pack_bytes(t[i], 6, &flag[i], &sign[i]);
        assert_true(sl_rtn_packed_words(1, SMALL) == sizeof(packed) / sizeof(packed[0]));
        sl_rtn_pack_lines(flag, sign, SMALL, 1, packed);
        ops.dots(SMALL, SMALL, 1, flag, sign, packed, d[0], SMALL);
        for (int i = 0; i < SMALL; i++)
            for (int j = 0; j < SMALL; j++) {
                int32_t want = 0;
                for (int k = 0; k < 6; k++)
                    want += t[i][k] * t[j][k];
                assert_int_equal(d[i][j], want);
            }
    }
}

#define M 7
#define N 21
#define K_MAX 1300
#define WORDS SL_RTN_WORDS(K_MAX)

struct product {
    int8_t a[M][K_MAX], w[N][K_MAX];
    uint64_t a_flag[M * WORDS], a_sign[M * WORDS], w_flag[N * WORDS], w_sign[N * WORDS];
    uint64_t packed[(N + 7) / 8 * 16 * WORDS];
    int32_t d[M][N];
};

static void multiply(const struct sl_rtn_ops *ops, struct product *p, size_t k)
{
    size_t words = SL_RTN_WORDS(k);
    for (size_t i = 0; i < M; i++)
        ops->pack_bytes(p->a[i], k, p->a_flag + i * words, p->a_sign + i * words);
    for (size_t j = 0; j < N; j++)
        ops->pack_bytes(p->w[j], k, p->w_flag + j * words, p->w_sign + j * words);
    sl_rtn_pack_lines(p->w_flag, p->w_sign, N, words, p->packed);
    ops->dots(M, N, words, p->a_flag, p->a_sign, p->packed, p->d[0], N);
}

static void expect_dots(const struct product *p, size_t k)
{
    for (size_t i = 0; i < M; i++)
        for (size_t j = 0; j < N; j++) {
            int32_t want = 0;
            for (size_t l = 0; l < k; l++)
                want += p->a[i][l] * p->w[j][l];
            assert_int_equal(p->d[i][j], want);
        }
}

static void long_lines_multiply_right_whatever_the_sign_of_a_zero(void **state)
{
    static struct product p;
    static const size_t lengths[] = {1, 63, 64, 65, 257, 640, 704, 1024, K_MAX};
    uint32_t cpu;
    for (size_t level = 0; sl_cases_cpu(level, &cpu); level++) {
        struct sl_rtn_ops ops;
        sl_rtn_ops_init(&ops, cpu);
        for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
            size_t k = lengths[i], words = SL_RTN_WORDS(k);
            fill_ternary(p.a[0], sizeof(p.a), 3 + i);
            fill_ternary(p.w[0], sizeof(p.w), 4 + i);
            multiply(&ops, &p, k);
            expect_dots(&p, k);
            for (size_t j = 0; j < N * words; j++)
                p.w_sign[j] |= ~p.w_flag[j];
            for (size_t j = 0; j < M * words; j++)
                p.a_sign[j] |= ~p.a_flag[j];
            sl_rtn_pack_lines(p.w_flag, p.w_sign, N, words, p.packed);
            ops.dots(M, N, words, p.a_flag, p.a_sign, p.packed, p.d[0], N);
            expect_dots(&p, k);
        }
        for (size_t side = 0; side < 2; side++) { /* extremes: all equal, all opposed */
            memset(p.a, 1, sizeof(p.a));
            memset(p.w, side == 0 ? 1 : -1, sizeof(p.w));
            multiply(&ops, &p, K_MAX);
            assert_int_equal(p.d[M - 1][N - 1], side == 0 ? K_MAX : -K_MAX);
        }
    }
}

static void the_order_of_the_reduction_does_not_matter(void **state)
{
    static struct product p, q;
    struct sl_rtn_ops ops;
    struct sl_rng r = stream(9);
    uint32_t order[K_MAX];
    sl_rtn_ops_init(&ops, sl_cpu_detect());
    fill_ternary(p.a[0], sizeof(p.a), 5);
    fill_ternary(p.w[0], sizeof(p.w), 6);
    for (uint32_t k = 0; k < K_MAX; k++)
        order[k] = k;
    sl_rng_shuffle_u32(&r, order, K_MAX);
    for (size_t k = 0; k < K_MAX; k++) {
        for (size_t i = 0; i < M; i++)
            q.a[i][k] = p.a[i][order[k]];
        for (size_t j = 0; j < N; j++)
            q.w[j][k] = p.w[j][order[k]];
    }
    multiply(&ops, &p, K_MAX);
    multiply(&ops, &q, K_MAX);
    assert_memory_equal(p.d, q.d, sizeof(p.d));
    for (size_t i = 0; i < M; i++)
        assert_int_equal(ops.sum(p.a_flag + i * WORDS, p.a_sign + i * WORDS, WORDS),
                         ops.sum(q.a_flag + i * WORDS, q.a_sign + i * WORDS, WORDS));
}

static void the_worked_example_comes_out(void **state)
{
    static const float a[] = {0.9f, -0.2f, 0.5f, -1.7f, 0.51f, -0.5f, 2.0f, -0.6f};
    static const float w[] = {-0.8f, 0.3f, 1.2f, -0.9f, -0.1f, 0.7f, 0.6f, -2.0f};
    uint64_t af, as, wf, ws, packed[16], clip;
    int32_t d, sum_w;
    float r;
    struct sl_rtn_affine affine;
    struct sl_rtn_ops ops;
    sl_rtn_ops_init(&ops, sl_cpu_detect());
    assert_true(ops.ternarise(a, 8, 0.5f, &af, &as, &clip));
    assert_true(ops.ternarise(w, 8, 0.5f, &wf, &ws, NULL));
    assert_true(af == 0xD9 && as == 0x51 && wf == 0xED && ws == 0x64 && clip == 0xB7);
    sl_rtn_pack_lines(&wf, &ws, 1, 1, packed);
    ops.dots(1, 1, 1, &af, &as, packed, &d, 1);
    assert_int_equal(d, 2);
    sum_w = ops.sum(&wf, &ws, 1);
    assert_int_equal(sum_w, 0);
    assert_int_equal(ops.sum(&af, &as, 1), 1);
    const float gw = 0.5f, bw = -0.0625f;
    sl_rtn_affine(0.75f, 0.125f, &gw, &bw, 1, 1, &affine);
    ops.combine_line(1, &d, 1, &sum_w, 8, &affine, NULL, &r);
    assert_true(r == 0.640625f);
}

static void scale_and_offset_equal_the_direct_sum(void **state)
{
    static struct product p;
    struct sl_rtn_ops ops;
    sl_rtn_ops_init(&ops, sl_cpu_detect());
    for (uint64_t seed = 1; seed < 30; seed++) {
        float s[4], out[N];
        struct sl_rtn_affine affine[N];
        int32_t sums[N];
        size_t k = 1 + seed * 43 % K_MAX, words = SL_RTN_WORDS(k);
        fill(s, 4, seed, 1.5f);
        fill_ternary(p.a[0], sizeof(p.a), seed);
        fill_ternary(p.w[0], sizeof(p.w), seed + 99);
        multiply(&ops, &p, k);
        for (size_t j = 0; j < N; j++)
            sums[j] = ops.sum(p.w_flag + j * words, p.w_sign + j * words, words);
        sl_rtn_affine(s[0], s[1], &s[2], &s[3], 1, N, affine);
        ops.combine_line(N, p.d[0], ops.sum(p.a_flag, p.a_sign, words), sums, (int32_t)k,
                         affine, NULL, out);
        for (size_t j = 0; j < N; j++) {
            double want = 0.0, size = 0.0;
            for (size_t l = 0; l < k; l++) {
                double term = ((double)s[0] * p.a[0][l] + (double)s[1]) *
                              ((double)s[2] * p.w[j][l] + (double)s[3]);
                want += term;
                size += fabs((double)s[0] * s[2]) + fabs((double)s[0] * s[3]) +
                        fabs((double)s[1] * s[2]) + fabs((double)s[1] * s[3]);
            }
            assert_true(fabs(want - (double)out[j]) <= 4.0 * 0x1p-23 * size);
        }
    }
}

static void without_offset_the_result_is_the_scaled_dot(void **state)
{
    const int32_t d[] = {-7, 0, 13}, sums[] = {3, -4, 5};
    const float one = 1.0f, two = 2.0f, zero = 0.0f;
    struct sl_rtn_affine affine[3];
    struct sl_rtn_ops ops;
    float r[3], doubled[3];
    sl_rtn_ops_init(&ops, sl_cpu_detect());
    sl_rtn_affine(1.0f, 0.0f, &one, &zero, 1, 3, affine);
    ops.combine_line(3, d, 9, sums, 20, affine, NULL, r);
    sl_rtn_affine(1.0f, 0.0f, &two, &zero, 1, 3, affine);
    ops.combine_line(3, d, 9, sums, 20, affine, NULL, doubled);
    for (int j = 0; j < 3; j++)
        assert_true(r[j] == (float)d[j] && doubled[j] == 2.0f * r[j]);
}

/* --- thresholds and refusals ---------------------------------------------------------
 */

static void thresholds_sum_in_the_order_of_the_product(void **state)
{
    /* stored [n, k] as a layer does, and [k, n] as a product does: equal bits */
    float stored[5 * 300], product[5 * 300], d[2], gamma[2];
    struct sl_err err;
    fill(stored, 1500, 8, 1.0f);
    for (size_t i = 0; i < 1500; i += 7)
        stored[i] *= 1e6f;
    for (size_t j = 0; j < 5; j++)
        for (size_t i = 0; i < 300; i++)
            product[i * 5 + j] = stored[j * 300 + i];
    struct sl_rtn_weights a = {stored, 300, 5, 1, 300}, b = {product, 300, 5, 5, 1};
    assert_int_equal(sl_rtn_threshold(&a, &d[0], &gamma[0], &err), SL_OK);
    assert_int_equal(sl_rtn_threshold(&b, &d[1], &gamma[1], &err), SL_OK);
    assert_memory_equal(&d[0], &d[1], sizeof(d[0]));
    assert_memory_equal(&gamma[0], &gamma[1], sizeof(gamma[0]));
    static const float w[] = {.3f, -.05f, .8f, -.6f, .02f, -.3f, .11f, .9f};
    struct sl_rtn_weights example = {w, 8, 1, 1, 1};
    assert_int_equal(sl_rtn_threshold(&example, d, gamma, &err), SL_OK);
    assert_true(fabsf(d[0] - 0.2695f) < 1e-6f && fabsf(gamma[0] - 0.58f) < 1e-6f);
}

static void what_is_no_number_is_refused(void **state)
{
    float x[70], d, gamma;
    int8_t t[70];
    uint64_t flag[2], sign[2];
    struct sl_err err;
    uint32_t cpu;
    for (size_t level = 0; sl_cases_cpu(level, &cpu); level++) {
        struct sl_rtn_ops ops;
        sl_rtn_ops_init(&ops, cpu);
        for (size_t at = 0; at < 70; at++) {
            fill(x, 70, 1, 1.0f);
            x[at] = NAN;
            assert_int_equal(sl_rtn_ternarise(&ops, x, 70, 0.5f, flag, sign, NULL, &err),
                             SL_E_INPUT);
        }
    }
    struct sl_rtn_weights w = {x, 70, 1, 1, 1};
    memset(t, 9, sizeof(t));
    assert_int_equal(sl_rtn_threshold(&w, &d, &gamma, &err), SL_E_INPUT);
    assert_int_equal(sl_rtn_ternarise_before(x, 70, 1.0f, 0.0f, t, &err), SL_E_INPUT);
    x[69] = INFINITY;
    assert_int_equal(sl_rtn_threshold(&w, &d, &gamma, &err), SL_E_INPUT);
    assert_int_equal(sl_rtn_ternarise_before(x, 70, 0.0f, 0.0f, t, &err), SL_E_RANGE);
    assert_int_equal(t[0], 9);
    assert_int_equal(sl_rtn_ternarise_before(x, 70, 1.0f, 0.0f, t, &err), SL_OK);
    assert_int_equal(t[69], 1);
}

/* --- layers --------------------------------------------------------------------------
 */

#define BATCH 3

struct bed {
    struct sl_model *model;
    struct sl_arena arena;
    struct sl_net net;
    float *values, *grads, *x, *dy;
    size_t in, out;
};

static void bed_open(struct bed *b, const struct sl_layer_spec *layer, struct sl_shape in,
                     const struct sl_matmul_unit *unit, uint32_t cpu)
{
    struct sl_model_spec spec = {(struct sl_layer_spec *)layer, 1};
    struct sl_taker cost = {0};
    struct sl_err err;
    *b = (struct bed){0};
    if (sl_model_build(&spec, &in, &b->model, &err) != SL_OK)
        fail_msg("%s", err.msg);
    sl_net_plan(&b->net, b->model, BATCH, unit, cpu, &cost);
    assert_true(sl_arena_init(&b->arena, cost.bytes));
    sl_net_plan(&b->net, b->model, BATCH, unit, cpu,
                &(struct sl_taker){.arena = &b->arena});
    b->in = b->model->input_size;
    b->out = b->model->output_size;
    b->values = calloc(b->model->n_params, sizeof(float));
    b->grads = calloc(b->model->n_params, sizeof(float));
    b->x = calloc(BATCH * b->in, sizeof(float));
    b->dy = calloc(BATCH * b->out, sizeof(float));
    sl_model_init_uniform(b->model, 7, b->values);
    fill(b->x, BATCH * b->in, 11, 1.6f);
    fill(b->dy, BATCH * b->out, 12, 1.0f);
}

static void bed_close(struct bed *b)
{
    sl_model_free(b->model);
    sl_arena_deinit(&b->arena);
    free(b->values);
    free(b->grads);
    free(b->x);
    free(b->dy);
}

static float *value_of(const struct bed *b, const char *suffix, bool gradient)
{
    const struct sl_layout *l = &b->model->layout;
    for (size_t i = 0; i < l->n_tensors; i++)
        if (strcmp(strrchr(l->tensors[i].name, '.') + 1, suffix) == 0)
            return (gradient ? b->grads : b->values) + l->tensors[i].offset;
    fail_msg("no tensor %s", suffix);
    return NULL;
}

static struct sl_pass_ctx pass_of(struct bed *b)
{
    struct sl_pass_ctx c = sl_net_pass(&b->net, b->values);
    c.grads = b->grads;
    c.train = true;
    c.n = BATCH;
    return c;
}

static const float *run(struct bed *b)
{
    struct sl_pass_ctx c = pass_of(b);
    return sl_net_forward(&c, b->x);
}

static const float *run_back(struct bed *b)
{
    struct sl_pass_ctx c = pass_of(b);
    memcpy(sl_net_output_gradient(&b->net), b->dy, BATCH * b->out * sizeof(float));
    return sl_net_backward(&c, b->x, true);
}

static double loss_of(struct bed *b)
{
    const float *y = run(b);
    double sum = 0.0;
    for (size_t i = 0; i < BATCH * b->out; i++)
        sum += (double)y[i] * (double)b->dy[i];
    return sum;
}

static struct sl_layer_spec dense(void)
{
    struct sl_layer_spec l = sl_layer_default(SL_LAYER_TERNARY_DENSE);
    l.out = 9;
    return l;
}

static struct sl_layer_spec conv(uint32_t kernel, uint32_t stride, uint32_t pad)
{
    struct sl_layer_spec l = sl_layer_default(SL_LAYER_TERNARY_CONV2D);
    l.out = 4;
    l.kernel = kernel;
    l.stride = stride;
    l.pad = pad;
    return l;
}

static const struct {
    struct sl_shape in;
    bool conv;
    uint32_t kernel, stride, pad;
} beds[] = {
    {{1, {70}}, false, 0, 0, 0},     {{2, {4, 33}}, false, 0, 0, 0},
    {{3, {3, 7, 6}}, true, 3, 1, 1}, {{3, {3, 7, 6}}, true, 3, 2, 0},
    {{3, {2, 9, 9}}, true, 5, 2, 2}, {{3, {70, 3, 4}}, true, 1, 1, 0},
    {{3, {2, 2, 2}}, true, 3, 1, 2},
};
#define N_BEDS (sizeof(beds) / sizeof(beds[0]))

static void open_number(struct bed *b, size_t i, const struct sl_matmul_unit *unit,
                        uint32_t cpu)
{
    struct sl_layer_spec l =
        beds[i].conv ? conv(beds[i].kernel, beds[i].stride, beds[i].pad) : dense();
    bed_open(b, &l, beds[i].in, unit, cpu);
    *value_of(b, "gamma_a", false) = 1.25f;
    *value_of(b, "beta_a", false) = -0.3f;
    *value_of(b, "beta_w", false) = 0.11f;
}

static int ternary(float x, float d)
{
    return (x > d) - (x < -d);
}

/* The layer's definition in double, with its gradients. */
struct reference {
    double y[4000], da[4000], dq[4000];
};

static void visit_macs(const struct bed *b, size_t number,
                       void (*visit)(void *ctx, size_t x, size_t w, size_t y), void *ctx)
{
    const struct sl_layer *l = &b->model->layers[0];
    if (!beds[number].conv) {
        size_t k = l->in.dim[l->in.n_dims - 1], n = l->spec.out;
        for (size_t r = 0; r < BATCH * b->in / k; r++)
            for (size_t j = 0; j < n; j++)
                for (size_t i = 0; i < k; i++)
                    visit(ctx, r * k + i, j * k + i, r * n + j);
        return;
    }
    size_t c_in = l->in.dim[0], h = l->in.dim[1], w = l->in.dim[2];
    size_t kk = l->spec.kernel, oh = l->out.dim[1], ow = l->out.dim[2];
    for (size_t s = 0; s < BATCH; s++)
        for (size_t o = 0; o < l->spec.out; o++)
            for (size_t oy = 0; oy < oh; oy++)
                for (size_t ox = 0; ox < ow; ox++)
                    for (size_t t = 0; t < c_in * kk * kk; t++) {
                        size_t c = t / (kk * kk), y = oy * l->spec.stride + t / kk % kk;
                        size_t x = ox * l->spec.stride + t % kk, pad = l->spec.pad;
                        if (y < pad || y - pad >= h || x < pad || x - pad >= w)
                            continue;
                        visit(ctx, ((s * c_in + c) * h + y - pad) * w + x - pad,
                              o * c_in * kk * kk + t,
                              ((s * l->spec.out + o) * oh + oy) * ow + ox);
                    }
}

struct visitor {
    const struct bed *b;
    struct reference *r;
    double d;
    double ga, ba, gw, bw;
};

static void add_mac(void *ctx, size_t x, size_t w, size_t y)
{
    struct visitor *v = ctx;
    double a = v->ga * ternary(v->b->x[x], 0.5f) + v->ba;
    double q = v->gw * ternary(value_of(v->b, "weight", false)[w], (float)v->d) + v->bw;
    v->r->y[y] += a * q;
    v->r->da[x] += q * (double)v->b->dy[y];
    v->r->dq[w] += a * (double)v->b->dy[y];
}

static void close_to(double want, double got, double size)
{
    if (!(fabs(want - got) <= 1e-5 * (1.0 + size)))
        fail_msg("%g, expected %g", got, want);
}

static float threshold_of(const struct bed *b)
{
    const struct sl_layer *l = &b->model->layers[0];
    size_t weights = b->model->layout.tensors[0].size, out = l->spec.out;
    struct sl_rtn_weights w = {value_of(b, "weight", false), weights / out, out, 1,
                               weights / out};
    struct sl_err err;
    float d, gamma;
    assert_int_equal(sl_rtn_threshold(&w, &d, &gamma, &err), SL_OK);
    assert_true(gamma == *value_of(b, "gamma_w", false)); /* as initialised */
    return d;
}

static void layers_and_their_gradients_are_as_defined(void **state)
{
    static struct reference r;
    for (size_t i = 0; i < N_BEDS; i++) {
        struct bed b;
        open_number(&b, i, &sl_matmul_rtn, sl_cpu_detect());
        memset(&r, 0, sizeof(r));
        struct visitor v = {&b,
                            &r,
                            (double)threshold_of(&b),
                            (double)*value_of(&b, "gamma_a", false),
                            (double)*value_of(&b, "beta_a", false),
                            (double)*value_of(&b, "gamma_w", false),
                            (double)*value_of(&b, "beta_w", false)};
        visit_macs(&b, i, add_mac, &v);
        const struct sl_layer *l = &b.model->layers[0];
        const float *y = run(&b), *bias = value_of(&b, "bias", false);
        size_t places = beds[i].conv ? (size_t)l->out.dim[1] * l->out.dim[2] : 1;
        for (size_t j = 0; j < BATCH * b.out; j++)
            close_to(r.y[j] + (double)bias[j / places % l->spec.out], (double)y[j],
                     fabs(r.y[j]));
        const float *dx = run_back(&b);
        double gamma = 0.0, beta = 0.0;
        for (size_t j = 0; j < BATCH * b.in; j++) {
            close_to(fabsf(b.x[j]) <= 1.0f ? v.ga * r.da[j] : 0.0, (double)dx[j],
                     fabs(r.da[j]));
            gamma += r.da[j] * ternary(b.x[j], 0.5f);
            beta += r.da[j];
        }
        close_to(gamma, (double)*value_of(&b, "gamma_a", true), 10.0 * fabs(gamma));
        close_to(beta, (double)*value_of(&b, "beta_a", true), 10.0 * fabs(beta));
        const float *w = value_of(&b, "weight", false),
                    *dw = value_of(&b, "weight", true);
        gamma = beta = 0.0;
        for (size_t j = 0; j < b.model->layout.tensors[0].size; j++) {
            close_to(r.dq[j], (double)dw[j], fabs(r.dq[j]));
            gamma += r.dq[j] * ternary(w[j], (float)v.d);
            beta += r.dq[j];
        }
        close_to(gamma, (double)*value_of(&b, "gamma_w", true), 10.0 * fabs(gamma));
        close_to(beta, (double)*value_of(&b, "beta_w", true), 10.0 * fabs(beta));
        bed_close(&b);
    }
}

static void scales_and_offsets_have_the_gradients_of_differences(void **state)
{
    static const char *const names[] = {"gamma_a", "beta_a", "gamma_w", "beta_w", "bias"};
    for (size_t i = 0; i < N_BEDS; i++) {
        struct bed b;
        open_number(&b, i, &sl_matmul_rtn, sl_cpu_detect());
        run(&b);
        run_back(&b);
        for (size_t p = 0; p < sizeof(names) / sizeof(names[0]); p++) {
            float *at = value_of(&b, names[p], false), old = *at;
            *at = old + 0.125f;
            double high = loss_of(&b);
            *at = old - 0.125f;
            double low = loss_of(&b);
            *at = old;
            double want = (high - low) / 0.25,
                   got = (double)*value_of(&b, names[p], true);
            if (!(fabs(want - got) <= 1e-3 * (1.0 + fabs(want))))
                fail_msg("bed %zu, %s: %g, differences say %g", i, names[p], got, want);
        }
        bed_close(&b);
    }
}

static void every_kernel_gives_the_same_bits(void **state)
{
    uint32_t cpu;
    for (size_t i = 0; i < N_BEDS; i++) {
        struct bed plain;
        open_number(&plain, i, &sl_matmul_rtn, 0);
        const float *want = run(&plain);
        for (size_t level = 1; sl_cases_cpu(level, &cpu); level++) {
            struct bed b;
            open_number(&b, i, &sl_matmul_rtn, cpu);
            assert_memory_equal(run(&b), want, BATCH * b.out * sizeof(float));
            bed_close(&b);
        }
        bed_close(&plain);
    }
}

static void gradients_of_parts_add_up(void **state)
{
    struct bed b;
    open_number(&b, 2, &sl_matmul_rtn, sl_cpu_detect());
    run(&b);
    run_back(&b);
    size_t n = b.model->n_params;
    float *once = malloc(n * sizeof(*once));
    memcpy(once, b.grads, n * sizeof(*once));
    struct sl_pass_ctx c = pass_of(&b);
    c.accumulate = true;
    memcpy(sl_net_output_gradient(&b.net), b.dy, BATCH * b.out * sizeof(float));
    sl_net_backward(&c, b.x, false);
    for (size_t i = 0; i < n; i++)
        assert_true(b.grads[i] == 2.0f * once[i]);
    free(once);
    bed_close(&b);
}

static void borders_of_a_constant_image_count_valid_places_only(void **state)
{
    struct bed b;
    open_number(&b, 6, &sl_matmul_rtn, sl_cpu_detect()); /* 2 x 2, kernel 3, pad 2 */
    for (size_t i = 0; i < BATCH * b.in; i++)
        b.x[i] = 0.1f; /* ternary 0: a = beta_a inside, nothing outside */
    static struct reference r;
    memset(&r, 0, sizeof(r));
    struct visitor v = {&b,
                        &r,
                        (double)threshold_of(&b),
                        1.25,
                        (double)*value_of(&b, "beta_a", false),
                        (double)*value_of(&b, "gamma_w", false),
                        (double)*value_of(&b, "beta_w", false)};
    visit_macs(&b, 6, add_mac, &v);
    const float *y = run(&b), *bias = value_of(&b, "bias", false);
    size_t places = b.out / 4;
    for (size_t i = 0; i < b.out; i++)
        close_to(r.y[i] + (double)bias[i / places], (double)y[i], fabs(r.y[i]));
    assert_true(fabs(r.y[0]) > 1e-6 && fabs(r.y[0] - r.y[places / 2]) > 1e-6);
    bed_close(&b);
}

static void decoded_operands_have_three_values(void **state)
{
    uint64_t flag[5], sign[5];
    float x[300], y[300], level[3];
    uint32_t cpu;
    fill(x, 300, 4, 1.5f);
    sl_rtn_levels(0.7f, -0.2f, level);
    for (size_t i = 0; sl_cases_cpu(i, &cpu); i++) {
        struct sl_rtn_ops ops;
        sl_rtn_ops_init(&ops, cpu);
        ops.ternarise(x, 300, 0.5f, flag, sign, NULL);
        ops.decode(flag, sign, 300, level, y);
        for (size_t j = 0; j < 300; j++)
            assert_true(y[j] == level[ternary(x[j], 0.5f) + 1]);
    }
}

static void three_bits_an_activation_are_kept(void **state)
{
    struct bed b;
    struct sl_layer_spec l = dense();
    bed_open(&b, &l, (struct sl_shape){1, {128}}, &sl_matmul_rtn, 0);
    const struct sl_layer *layer = &b.model->layers[0];
    assert_int_equal(8 * layer->ops->aux_bytes(layer, 50), 3 * 50 * 128);
    /* and backward does not read x again */
    run(&b);
    run_back(&b);
    float first = *value_of(&b, "gamma_a", true);
    run(&b);
    memset(b.x, 0x7f, BATCH * b.in * sizeof(float));
    run_back(&b);
    assert_true(first == *value_of(&b, "gamma_a", true));
    bed_close(&b);
}

static void other_units_see_an_ordinary_layer(void **state)
{
    for (size_t i = 0; i < N_BEDS; i++) {
        struct bed t, o;
        struct sl_layer_spec l =
            beds[i].conv ? conv(beds[i].kernel, beds[i].stride, beds[i].pad) : dense();
        bed_open(&t, &l, beds[i].in, &sl_matmul_fp32, sl_cpu_detect());
        l.kind = beds[i].conv ? SL_LAYER_CONV2D : SL_LAYER_DENSE;
        bed_open(&o, &l, beds[i].in, &sl_matmul_fp32, sl_cpu_detect());
        size_t weights = t.model->layout.tensors[0].size;
        memcpy(value_of(&o, "bias", false), value_of(&t, "bias", false),
               l.out * sizeof(float));
        memcpy(value_of(&o, "weight", false), value_of(&t, "weight", false),
               weights * sizeof(float));
        assert_memory_equal(run(&t), run(&o), BATCH * t.out * sizeof(float));
        assert_memory_equal(run_back(&t), run_back(&o), BATCH * t.in * sizeof(float));
        assert_memory_equal(value_of(&t, "weight", true), value_of(&o, "weight", true),
                            weights * sizeof(float));
        assert_true(*value_of(&t, "gamma_a", true) == 0.0f);
        bed_close(&t);
        bed_close(&o);
    }
}

static void changed_weights_are_seen_with_the_next_version(void **state)
{
    struct bed b;
    open_number(&b, 0, &sl_matmul_rtn, sl_cpu_detect());
    float before = run(&b)[0];
    float *w = value_of(&b, "weight", false);
    for (size_t i = 0; i < 70; i++)
        w[i] = -w[i];
    b.net.unit.version++;
    assert_true(run(&b)[0] != before);
    w[3] = NAN;
    b.net.unit.version++;
    assert_true(isnan(run(&b)[0]));
    bed_close(&b);
}

/* --- models --------------------------------------------------------------------------
 */

#define SAMPLES 64

static struct sl_model *train_ternary(const struct sl_matmul_unit *unit, double decay,
                                      uint32_t cpu_off, float **ret_values,
                                      struct sl_eval_result *ret)
{
    struct sl_layer_spec l[7] = {
        sl_layer_default(SL_LAYER_FLATTEN),   sl_layer_default(SL_LAYER_DENSE),
        sl_layer_default(SL_LAYER_BATCHNORM), sl_layer_default(SL_LAYER_TERNARY_DENSE),
        sl_layer_default(SL_LAYER_BATCHNORM), sl_layer_default(SL_LAYER_TERNARY_DENSE),
        sl_layer_default(SL_LAYER_DENSE)};
    l[1].out = 32;
    l[3].out = 32;
    l[5].out = 32;
    l[6].out = 3;
    struct sl_model_spec spec = {l, 7};
    struct sl_model *m;
    struct sl_trainer *t;
    struct sl_err err;
    struct sl_dataset set = {0};
    struct sl_dataset_source source = {
        .kind = "synthetic", .path = "height=3,width=4,classes=3,train=64,test=8"};
    assert_int_equal(sl_dataset_load(&source, &set, &err), SL_OK);
    if (sl_model_new(&spec, &(struct sl_shape){3, {1, 3, 4}}, 3, SL_LOSS_SOFTMAX_CE, &m,
                     &err) != SL_OK)
        fail_msg("%s", err.msg);
    struct sl_trainer_options o = {
        .max_batch = SAMPLES, .unit = unit, .cpu_off = cpu_off};
    assert_int_equal(sl_trainer_new(m, &o, &t, &err), SL_OK);
    size_t n = sl_model_layout(m)->n_values;
    float *start = calloc(n, sizeof(*start)), *end = calloc(n, sizeof(*end));
    sl_model_init_uniform(m, 3, start);
    struct sl_samples s = {.set = &set, .n = SAMPLES};
    struct sl_train_spec ts = {.optimizer = SL_OPT_ADAM,
                               .lr = 0.01,
                               .beta1 = 0.9,
                               .beta2 = 0.999,
                               .eps = 1e-8,
                               .weight_decay = decay,
                               .batch_size = 16,
                               .epochs = 12,
                               .local_steps = -1,
                               .seed = 1};
    struct sl_train_result result;
    if (sl_train(t, start, &s, &ts, end, &result, &err) != SL_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(sl_evaluate(t, end, &s, ret, &err), SL_OK);
    free(start);
    sl_trainer_free(t);
    sl_dataset_deinit(&set);
    *ret_values = end;
    return m;
}

static float scale_in(const struct sl_model *m, const float *values, const char *name)
{
    const struct sl_layout *l = sl_model_layout(m);
    for (size_t i = 0; i < l->n_tensors; i++)
        if (strcmp(l->tensors[i].name, name) == 0)
            return values[l->tensors[i].offset];
    fail_msg("no %s", name);
    return 0.0f;
}

static void a_small_model_learns_with_ternary_layers_on_every_kernel(void **state)
{
    struct sl_eval_result r, plain;
    float *best, *masked;
    struct sl_model *m = train_ternary(&sl_matmul_rtn, 1e-4, 0, &best, &r);
    assert_true(r.correct >= SAMPLES * 9 / 10);
    assert_true(scale_in(m, best, "fc3.gamma_a") != 1.0f);
    struct sl_model *again = train_ternary(&sl_matmul_rtn, 1e-4, ~0u, &masked, &plain);
    assert_memory_equal(best, masked, sl_model_layout(m)->n_values * sizeof(float));
    assert_true(plain.correct == r.correct);
    sl_model_free(m);
    sl_model_free(again);
    free(best);
    free(masked);
}

static void weight_decay_leaves_scales_and_offsets_alone(void **state)
{
    /* on fp32 their gradients are 0: whatever moves them is decay */
    struct sl_eval_result r;
    float *values;
    struct sl_model *m = train_ternary(&sl_matmul_fp32, 0.05, 0, &values, &r);
    assert_true(scale_in(m, values, "fc2.gamma_a") == 1.0f);
    assert_true(scale_in(m, values, "fc3.gamma_a") == 1.0f);
    assert_true(scale_in(m, values, "fc3.beta_w") == 0.0f);
    sl_model_free(m);
    free(values);
}

static void expect_kinds(const struct sl_model_spec *m, const enum sl_layer_kind *kinds,
                         size_t n)
{
    assert_int_equal(m->n_layers, n);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(m->layers[i].kind, kinds[i]);
}

static void inner_layers_of_a_model_become_ternary(void **state)
{
    static const enum sl_layer_kind mlp[] = {SL_LAYER_FLATTEN,   SL_LAYER_DENSE,
                                             SL_LAYER_BATCHNORM, SL_LAYER_TERNARY_DENSE,
                                             SL_LAYER_RELU,      SL_LAYER_DENSE};
    static const enum sl_layer_kind lenet[] = {
        SL_LAYER_CONV2D,         SL_LAYER_MAXPOOL,       SL_LAYER_BATCHNORM,
        SL_LAYER_TERNARY_CONV2D, SL_LAYER_MAXPOOL,       SL_LAYER_FLATTEN,
        SL_LAYER_BATCHNORM,      SL_LAYER_TERNARY_DENSE, SL_LAYER_BATCHNORM,
        SL_LAYER_TERNARY_DENSE,  SL_LAYER_RELU,          SL_LAYER_DENSE};
    struct sl_model_spec from = {0}, to = {0};
    struct sl_model *m;
    struct sl_err err;
    assert_int_equal(sl_model_spec_named("mlp", 10, &from, &err), SL_OK);
    assert_int_equal(sl_model_spec_ternary(&from, &to, &err), SL_OK);
    expect_kinds(&to, mlp, sizeof(mlp) / sizeof(mlp[0]));
    assert_string_equal(to.layers[3].name, "fc2");
    sl_model_spec_deinit(&from);
    assert_int_equal(sl_model_spec_ternary(&to, &from, &err), SL_OK); /* no further */
    expect_kinds(&from, mlp, sizeof(mlp) / sizeof(mlp[0]));
    sl_model_spec_deinit(&from);
    sl_model_spec_deinit(&to);
    assert_int_equal(sl_model_spec_named("lenet", 10, &from, &err), SL_OK);
    assert_int_equal(sl_model_spec_ternary(&from, &to, &err), SL_OK);
    expect_kinds(&to, lenet, sizeof(lenet) / sizeof(lenet[0]));
    assert_int_equal(sl_model_new(&to, &(struct sl_shape){3, {1, 28, 28}}, 10,
                                  SL_LOSS_SOFTMAX_CE, &m, &err),
                     SL_OK);
    sl_model_free(m);
    sl_model_spec_deinit(&from);
    sl_model_spec_deinit(&to);
    assert_int_equal(sl_model_spec_named("tiny", 10, &from, &err), SL_OK);
    assert_int_equal(sl_model_spec_ternary(&from, &to, &err), SL_E_INPUT);
    assert_null(to.layers);
    sl_model_spec_deinit(&from);
}

static void cycles_follow_their_formula(void **state)
{
    struct sl_rtn_options o = sl_rtn_defaults();
    struct sl_err err;
    assert_int_equal(sl_rtn_check(&o, &err), SL_OK);
    assert_int_equal(sl_rtn_cycles(&o, 1, 1, 1), 1);
    o.lanes = 8;
    assert_int_equal(sl_rtn_cycles(&o, 10, 20, 65), 2 * 10 * 20 / 8);
    o.lanes = 4;
    assert_int_equal(sl_rtn_cycles(&o, 3, 3, 64), 3);
    o.e_ternary = 0.25;
    struct sl_unit_ledger l = {.macs = {100, 10, 10}, .ternary_macs = 60};
    assert_true(sl_rtn_energy(&o, &l) == 15.0 + 60.0);
    o.lanes = 0;
    assert_int_equal(sl_rtn_check(&o, &err), SL_E_RANGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(planes_read_back_what_was_written),
        cmocka_unit_test(all_small_lines_multiply_right),
        cmocka_unit_test(long_lines_multiply_right_whatever_the_sign_of_a_zero),
        cmocka_unit_test(the_order_of_the_reduction_does_not_matter),
        cmocka_unit_test(the_worked_example_comes_out),
        cmocka_unit_test(scale_and_offset_equal_the_direct_sum),
        cmocka_unit_test(without_offset_the_result_is_the_scaled_dot),
        cmocka_unit_test(thresholds_sum_in_the_order_of_the_product),
        cmocka_unit_test(what_is_no_number_is_refused),
        cmocka_unit_test(layers_and_their_gradients_are_as_defined),
        cmocka_unit_test(scales_and_offsets_have_the_gradients_of_differences),
        cmocka_unit_test(every_kernel_gives_the_same_bits),
        cmocka_unit_test(gradients_of_parts_add_up),
        cmocka_unit_test(borders_of_a_constant_image_count_valid_places_only),
        cmocka_unit_test(decoded_operands_have_three_values),
        cmocka_unit_test(three_bits_an_activation_are_kept),
        cmocka_unit_test(other_units_see_an_ordinary_layer),
        cmocka_unit_test(changed_weights_are_seen_with_the_next_version),
        cmocka_unit_test(a_small_model_learns_with_ternary_layers_on_every_kernel),
        cmocka_unit_test(weight_decay_leaves_scales_and_offsets_alone),
        cmocka_unit_test(inner_layers_of_a_model_become_ternary),
        cmocka_unit_test(cycles_follow_their_formula),
    };
    sl_accel_init();
    return cmocka_run_group_tests_name("rtn", tests, NULL, NULL);
}
