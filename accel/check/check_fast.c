/* SPDX-License-Identifier: Apache-2.0 */
/* check_fast.c - golden vectors of FAST's block floating point: noise keys, conversion,
 * group dot products, products of matrices, the three products of a layer and of a
 * convolution, and the choice of precision. */
#include "accel/check/vector.h"

#include <stdlib.h>
#include <string.h>

#include "accel/units/bfp.h"
#include "accel/units/bfp_conv.h"
#include "common/mem.h"
#include "common/rng.h"

#define HASH_VALUES 6

/* Room for n values of `size` bytes, at least one; NULL is noted as the case's failure.
 */
static void *room(struct sl_vector *v, size_t n, size_t size)
{
    void *p = sl_calloc(n + 1, size);
    if (p == NULL)
        sl_vector_fail(v, "case", "-", "memory", "none");
    return p;
}

static void fail_code(struct sl_vector *v, const char *field, const struct sl_err *err)
{
    sl_vector_fail(v, field, "-", "a result", err->msg);
}

static void run_hash64(struct sl_vector *v)
{
    const struct sl_npy *in = sl_vector_need(v, "in_v", SL_NPY_U8);
    if (in == NULL)
        return;
    const uint64_t *value = (const uint64_t *)(const void *)in->data;
    for (size_t i = 0; i < in->n; i++) {
        size_t column = i % HASH_VALUES;
        uint64_t mixed = sl_splitmix64_at(value[i], 0);
        uint64_t hash = sl_hash64(value + i - column, column + 1);
        sl_vector_expect(v, "out_splitmix", i, SL_NPY_U8, &mixed, 1);
        sl_vector_expect(v, "out_hash", i, SL_NPY_U8, &hash, 1);
    }
}

/* --- conversion
 * ------------------------------------------------------------------------------ */

struct converted {
    struct sl_bfp_out out;
    size_t n, groups; /* values, groups of all lines */
};

static void converted_deinit(struct converted *c)
{
    free(c->out.mantissa);
    free(c->out.code);
    free(c->out.exponent);
    free(c->out.value);
    free(c->out.noise);
    *c = (struct converted){0};
}

static bool converted_init(struct sl_vector *v, const struct sl_bfp_lines *l, uint32_t g,
                           struct converted *c)
{
    *c = (struct converted){.n = sl_bfp_line_count(l) * l->k,
                            .groups = sl_bfp_line_count(l) * sl_bfp_groups(l->k, g)};
    c->out.mantissa = room(v, c->n, sizeof(int16_t));
    c->out.code = room(v, c->groups, 1);
    c->out.exponent = room(v, c->groups, sizeof(int16_t));
    c->out.value = room(v, c->n, sizeof(float));
    c->out.noise = room(v, c->n, 1);
    if (!v->failed)
        return true;
    converted_deinit(c);
    return false;
}

static bool convert(struct sl_vector *v, const struct sl_bfp_options *o,
                    const struct sl_bfp_lines *l, const float *x, struct converted *c)
{
    struct sl_err err;
    if (!converted_init(v, l, o->g, c))
        return false;
    if (sl_bfp_convert(o, l, x, &c->out, &err) == SL_OK)
        return true;
    fail_code(v, "in_x", &err);
    converted_deinit(c);
    return false;
}

static void expect_converted(struct sl_vector *v, size_t set, const struct converted *c)
{
    sl_vector_expect(v, "out_noise", set * c->n, SL_NPY_U1, c->out.noise, c->n);
    sl_vector_expect(v, "out_mantissa", set * c->n, SL_NPY_I2, c->out.mantissa, c->n);
    sl_vector_expect(v, "out_value", set * c->n, SL_NPY_F4, c->out.value, c->n);
    sl_vector_expect(v, "out_code", set * c->groups, SL_NPY_U1, c->out.code, c->groups);
    sl_vector_expect(v, "out_exponent", set * c->groups, SL_NPY_I2, c->out.exponent,
                     c->groups);
    sl_vector_expect_int(v, "out_exponent_t", set, c->out.exponent_t);
    sl_vector_expect_int(v, "out_n_inf", set, (int64_t)c->out.n_inf);
}

static void run_quantise(struct sl_vector *v)
{
    const struct sl_npy *x = sl_vector_need(v, "in_x", SL_NPY_F4);
    const struct sl_npy *sets = sl_vector_need(v, "p_m", SL_NPY_I4);
    const struct sl_npy *noise = sl_vector_need(v, "out_noise", SL_NPY_U1);
    int64_t axis = sl_vector_int(v, "p_axis", 0);
    if (!v->failed && (axis < 0 || (uint64_t)axis >= x->n_dims))
        sl_vector_fail(v, "p_axis", "-", "an axis of in_x", "another");
    if (v->failed)
        return;
    struct sl_bfp_lines l = sl_bfp_lines_axis(x->dim, x->n_dims, (unsigned)axis);
    for (size_t i = 0; i < sets->n && !v->failed; i++) {
        struct sl_bfp_options o = {.g = (uint32_t)sl_vector_int(v, "p_g", 0),
                                   .e = (uint32_t)sl_vector_int(v, "p_e", i),
                                   .m = (uint32_t)sl_vector_int(v, "p_m", i),
                                   .round =
                                       (enum sl_bfp_round)sl_vector_int(v, "p_round", i),
                                   .key = sl_vector_u64(v, "p_key", i),
                                   .lfsr_start = sl_vector_u64(v, "p_lfsr_start", i),
                                   .given = noise->data + i * x->n};
        struct converted c;
        if (convert(v, &o, &l, (const float *)(const void *)x->data, &c)) {
            expect_converted(v, i, &c);
            converted_deinit(&c);
        }
    }
}

/* A NaN is refused, and nothing is written. */
void sl_vector_reject_fast(struct sl_vector *v)
{
    const struct sl_npy *x = sl_vector_need(v, "in_x", SL_NPY_F4);
    if (x == NULL)
        return;
    struct sl_bfp_options o = {.g = 16, .e = 4, .m = 4};
    struct sl_bfp_lines l = {.n0 = 1, .n1 = 1, .k = x->n, .step_k = 1};
    struct converted c;
    struct sl_err err;
    if (!converted_init(v, &l, o.g, &c))
        return;
    memset(c.out.mantissa, 0x5a, c.n * sizeof(int16_t));
    c.out.exponent_t = 0x5a5a;
    if (sl_bfp_convert(&o, &l, (const float *)(const void *)x->data, &c.out, &err) ==
        SL_OK)
        sl_vector_fail(v, "in_x", "-", "refused", "converted");
    for (size_t i = 0; i < c.n; i++)
        if (c.out.mantissa[i] != 0x5a5a || c.out.exponent_t != 0x5a5a)
            sl_vector_fail(v, "mantissa", "-", "nothing written", "a value");
    converted_deinit(&c);
}

/* --- products
 * -------------------------------------------------------------------------------- */

#define DOT_VALUES 16

static void run_dot(struct sl_vector *v)
{
    const struct sl_npy *x = sl_vector_need(v, "in_mx", SL_NPY_I2);
    const struct sl_npy *y = sl_vector_need(v, "in_my", SL_NPY_I2);
    if (x == NULL || y == NULL)
        return;
    for (size_t i = 0; i < x->n / DOT_VALUES && i < y->n / DOT_VALUES; i++) {
        const int16_t *mx = (const int16_t *)(const void *)x->data + i * DOT_VALUES;
        const int16_t *my = (const int16_t *)(const void *)y->data + i * DOT_VALUES;
        int32_t chunks[SL_BFP_CHUNKS][SL_BFP_CHUNKS];
        sl_bfp_dot_chunks(mx, my, DOT_VALUES, chunks);
        sl_vector_expect_int(v, "out_p", i, sl_bfp_dot(mx, my, DOT_VALUES));
        sl_vector_expect(v, "out_chunks", i * SL_BFP_CHUNKS * SL_BFP_CHUNKS, SL_NPY_I4,
                         chunks, SL_BFP_CHUNKS * SL_BFP_CHUNKS);
        sl_vector_expect_int(v, "out_passes", i,
                             sl_bfp_passes((uint32_t)sl_vector_int(v, "p_mx", i),
                                           (uint32_t)sl_vector_int(v, "p_my", i)));
    }
}

/* A matrix and how it enters a product: lines along its rows, or down its columns. */
struct side {
    const float *x;
    size_t rows, cols;
    bool down;
    struct sl_bfp_options o;
};

static struct sl_bfp_lines lines_of(const struct side *s)
{
    const size_t dim[2] = {s->rows, s->cols};
    return sl_bfp_lines_axis(dim, 2, s->down ? 0 : 1);
}

static struct sl_bfp_operand operand_of(const struct side *s, const struct converted *c)
{
    return (struct sl_bfp_operand){.mantissa = c->out.mantissa,
                                   .step_line = s->down ? 1 : s->cols,
                                   .step_k = s->down ? s->cols : 1,
                                   .exponent = c->out.exponent,
                                   .exponent_t = c->out.exponent_t,
                                   .m = s->o.m,
                                   .e = s->o.e};
}

/* By the scalar definition; ret [lines of a][lines of b]. */
static void multiply(struct sl_vector *v, const struct side *a, const struct side *b,
                     const float *bias, bool exact, float *ret)
{
    struct sl_bfp_lines la = lines_of(a), lb = lines_of(b);
    struct converted ca, cb;
    struct sl_err err;
    if (!convert(v, &a->o, &la, a->x, &ca))
        return;
    if (convert(v, &b->o, &lb, b->x, &cb)) {
        struct sl_bfp_gemm p = {.rows = sl_bfp_line_count(&la),
                                .cols = sl_bfp_line_count(&lb),
                                .k = la.k,
                                .g = a->o.g,
                                .a = operand_of(a, &ca),
                                .b = operand_of(b, &cb),
                                .bias = bias,
                                .exact = exact};
        if (sl_bfp_gemm(&p, ret, &err) != SL_OK)
            fail_code(v, "product", &err);
        converted_deinit(&cb);
    }
    converted_deinit(&ca);
}

static const float *floats_of(const struct sl_npy *a)
{
    return a == NULL ? NULL : (const float *)(const void *)a->data;
}

static void run_gemm(struct sl_vector *v)
{
    const struct sl_npy *a = sl_vector_need(v, "in_a", SL_NPY_F4);
    const struct sl_npy *w = sl_vector_need(v, "in_w", SL_NPY_F4);
    const struct sl_npy *bias = sl_vector_find(v, "in_bias");
    const struct sl_npy *sets = sl_vector_need(v, "p_ma", SL_NPY_I4);
    if (v->failed || a->n_dims != 2 || w->n_dims != 2)
        return;
    size_t m = a->dim[0], k = a->dim[1], n = w->dim[1];
    uint32_t g = (uint32_t)sl_vector_int(v, "p_g", 0);
    float *c = room(v, m * n, sizeof(*c));
    for (size_t i = 0; i < sets->n && !v->failed; i++) {
        uint32_t e = (uint32_t)sl_vector_int(v, "p_e", i);
        struct side sa = {floats_of(a),
                          m,
                          k,
                          false,
                          {.g = g,
                           .e = e,
                           .m = (uint32_t)sl_vector_int(v, "p_ma", i),
                           .round = (enum sl_bfp_round)sl_vector_int(v, "p_round_a", i),
                           .key = sl_vector_u64(v, "p_key_a", i)}};
        struct side sw = {floats_of(w),
                          k,
                          n,
                          true,
                          {.g = g,
                           .e = e,
                           .m = (uint32_t)sl_vector_int(v, "p_mw", i),
                           .round = (enum sl_bfp_round)sl_vector_int(v, "p_round_w", i),
                           .key = sl_vector_u64(v, "p_key_w", i)}};
        multiply(v, &sa, &sw, floats_of(bias), sl_vector_int(v, "p_exact", 0) != 0, c);
        sl_vector_expect(v, "out_c", i * m * n, SL_NPY_F4, c, m * n);
        uint64_t passes = (uint64_t)m * k * n * sl_bfp_passes(sa.o.m, sw.o.m);
        sl_vector_expect_int(v, "out_passes", i, (int64_t)passes);
    }
    free(c);
}

/* --- layer
 * ----------------------------------------------------------------------------------- */

struct layer_case {
    const float *a, *w, *bias, *d; /* a [m,k], w [k,n], d [m,n] */
    size_t m, k, n;
    uint32_t g, e, ma, mw, mg;
    uint64_t key_da, key_dw;
};

static struct side side_of(const struct layer_case *c, const float *x, size_t rows,
                           size_t cols, bool down, uint32_t m, const uint64_t *key)
{
    struct side s = {x, rows, cols, down, {.g = c->g, .e = c->e, .m = m}};
    if (key != NULL) {
        s.o.round = SL_BFP_CTR;
        s.o.key = *key;
    }
    return s;
}

static void run_setting(struct sl_vector *v, size_t i, const struct layer_case *c,
                        float *ret)
{
    struct side a = side_of(c, c->a, c->m, c->k, false, c->ma, NULL);
    struct side w = side_of(c, c->w, c->k, c->n, true, c->mw, NULL);
    multiply(v, &a, &w, c->bias, false, ret);
    sl_vector_expect(v, "out_o", i * c->m * c->n, SL_NPY_F4, ret, c->m * c->n);
    struct side d = side_of(c, c->d, c->m, c->n, false, c->mg, &c->key_da);
    struct side wt = side_of(c, c->w, c->k, c->n, false, c->mw, NULL);
    multiply(v, &d, &wt, NULL, false, ret);
    sl_vector_expect(v, "out_da", i * c->m * c->k, SL_NPY_F4, ret, c->m * c->k);
    struct side at = side_of(c, c->a, c->m, c->k, true, c->ma, NULL);
    struct side dt = side_of(c, c->d, c->m, c->n, true, c->mg, &c->key_dw);
    multiply(v, &at, &dt, NULL, false, ret);
    sl_vector_expect(v, "out_dw", i * c->k * c->n, SL_NPY_F4, ret, c->k * c->n);
    uint64_t passes = sl_bfp_passes(c->ma, c->mw) + sl_bfp_passes(c->mg, c->mw) +
                      sl_bfp_passes(c->ma, c->mg);
    sl_vector_expect_int(v, "out_passes", i, (int64_t)(passes * c->m * c->k * c->n));
}

static uint64_t layer_key(struct sl_vector *v, uint64_t use)
{
    uint64_t id[6] = {0, 0, 0, 0, 2, use};
    for (size_t i = 0; i < 4; i++)
        id[i] = sl_vector_u64(v, "p_hash", i);
    return sl_hash64(id, 6);
}

static void run_layer(struct sl_vector *v)
{
    const struct sl_npy *a = sl_vector_need(v, "in_a", SL_NPY_F4);
    const struct sl_npy *w = sl_vector_need(v, "in_w", SL_NPY_F4);
    const struct sl_npy *bias = sl_vector_need(v, "in_bias", SL_NPY_F4);
    const struct sl_npy *d = sl_vector_need(v, "in_do", SL_NPY_F4);
    const struct sl_npy *sets = sl_vector_need(v, "p_ma", SL_NPY_I4);
    if (v->failed || a->n_dims != 2 || w->n_dims != 2)
        return;
    struct layer_case c = {floats_of(a), floats_of(w), floats_of(bias), floats_of(d),
                           a->dim[0],    a->dim[1],    w->dim[1]};
    c.g = (uint32_t)sl_vector_int(v, "p_g", 0);
    c.e = (uint32_t)sl_vector_int(v, "p_e", 0);
    c.key_da = layer_key(v, 1);
    c.key_dw = layer_key(v, 2);
    sl_vector_expect(v, "out_key_da", 0, SL_NPY_U8, &c.key_da, 1);
    sl_vector_expect(v, "out_key_dw", 0, SL_NPY_U8, &c.key_dw, 1);
    float *ret = room(v, c.m * c.k + c.k * c.n + c.m * c.n, sizeof(*ret));
    for (size_t i = 0; i < sets->n && !v->failed; i++) {
        c.ma = (uint32_t)sl_vector_int(v, "p_ma", i);
        c.mw = (uint32_t)sl_vector_int(v, "p_mw", i);
        c.mg = (uint32_t)sl_vector_int(v, "p_mg", i);
        run_setting(v, i, &c, ret);
    }
    free(ret);
}

/* --- convolution
 * ----------------------------------------------------------------------------- */

static struct sl_bfp_conv conv_of(struct sl_vector *v, const struct sl_npy *a,
                                  const struct sl_npy *w, const struct sl_npy *d)
{
    struct sl_bfp_options o = {.g = (uint32_t)sl_vector_int(v, "p_g", 0),
                               .e = (uint32_t)sl_vector_int(v, "p_e", 0)};
    return (struct sl_bfp_conv){.n = a->dim[0],
                                .g = {.in_c = (uint32_t)a->dim[1],
                                      .in_h = (uint32_t)a->dim[2],
                                      .in_w = (uint32_t)a->dim[3],
                                      .out_c = (uint32_t)d->dim[1],
                                      .out_h = (uint32_t)d->dim[2],
                                      .out_w = (uint32_t)d->dim[3],
                                      .kernel = (uint32_t)w->dim[2],
                                      .stride = (uint32_t)sl_vector_int(v, "p_stride", 0),
                                      .pad = (uint32_t)sl_vector_int(v, "p_pad", 0)},
                                .x = o,
                                .w = o,
                                .dy = o};
}

struct conv_arrays {
    const struct sl_npy *a, *w, *bias, *d;
};

static void run_conv_setting(struct sl_vector *v, size_t i, struct sl_bfp_conv *c,
                             const struct conv_arrays *in, float *ret)
{
    const float *a = floats_of(in->a), *w = floats_of(in->w), *d = floats_of(in->d);
    size_t places = in->d->dim[2] * in->d->dim[3];
    struct sl_err err = {0};
    c->x.m = (uint32_t)sl_vector_int(v, "p_ma", i);
    c->w.m = (uint32_t)sl_vector_int(v, "p_mw", i);
    c->dy.m = (uint32_t)sl_vector_int(v, "p_mg", i);
    c->dy.round = SL_BFP_CTR;
    if (sl_bfp_conv_forward(c, a, w, ret, &err) != SL_OK)
        fail_code(v, "out_o", &err);
    for (size_t k = 0; k < in->d->n; k++)
        ret[k] += floats_of(in->bias)[k / places % in->d->dim[1]];
    sl_vector_expect(v, "out_o", i * in->d->n, SL_NPY_F4, ret, in->d->n);
    c->dy.key = sl_vector_u64(v, "p_key_da", 0);
    if (sl_bfp_conv_data(c, d, w, ret, &err) != SL_OK)
        fail_code(v, "out_da", &err);
    sl_vector_expect(v, "out_da", i * in->a->n, SL_NPY_F4, ret, in->a->n);
    c->dy.key = sl_vector_u64(v, "p_key_dw", 0);
    if (sl_bfp_conv_weights(c, a, d, ret, &err) != SL_OK)
        fail_code(v, "out_dw", &err);
    sl_vector_expect(v, "out_dw", i * in->w->n, SL_NPY_F4, ret, in->w->n);
}

static void run_conv(struct sl_vector *v)
{
    struct conv_arrays in = {.a = sl_vector_need(v, "in_a", SL_NPY_F4),
                             .w = sl_vector_need(v, "in_w", SL_NPY_F4),
                             .bias = sl_vector_need(v, "in_bias", SL_NPY_F4),
                             .d = sl_vector_need(v, "in_do", SL_NPY_F4)};
    const struct sl_npy *sets = sl_vector_need(v, "p_ma", SL_NPY_I4);
    if (v->failed || in.a->n_dims != 4 || in.w->n_dims != 4 || in.d->n_dims != 4 ||
        in.bias->n != in.d->dim[1])
        return;
    struct sl_bfp_conv c = conv_of(v, in.a, in.w, in.d);
    float *ret = room(v, in.a->n + in.w->n + in.d->n, sizeof(*ret));
    for (size_t i = 0; i < sets->n && !v->failed; i++)
        run_conv_setting(v, i, &c, &in, ret);
    free(ret);
}

/* --- adaptive precision
 * ---------------------------------------------------------------------- */

static void expect_choices(struct sl_vector *v, size_t row, double num, double den)
{
    const struct sl_npy *at = sl_vector_need(v, "p_l", SL_NPY_I4);
    const struct sl_npy *alpha = sl_vector_need(v, "p_alpha", SL_NPY_F8);
    const struct sl_npy *beta = sl_vector_need(v, "p_beta", SL_NPY_F8);
    if (v->failed)
        return;
    double a, b;
    memcpy(&a, alpha->data, sizeof(a));
    memcpy(&b, beta->data, sizeof(b));
    for (size_t q = 0; q < at->n; q++) {
        double eps = sl_bfp_threshold(a, b, sl_vector_u64(v, "p_i", q),
                                      sl_vector_u64(v, "p_n_iter", 0),
                                      (uint32_t)sl_vector_int(v, "p_l", q),
                                      (uint32_t)sl_vector_int(v, "p_n_layers", 0));
        sl_vector_expect(v, "out_eps", q, SL_NPY_F8, &eps, 1);
        sl_vector_expect_int(v, "out_pick", row * at->n + q, sl_bfp_pick(num, den, eps));
    }
}

static void run_adapt(struct sl_vector *v)
{
    const struct sl_npy *x = sl_vector_need(v, "in_x", SL_NPY_F4);
    if (x == NULL || x->n_dims != 3)
        return;
    for (size_t row = 0; row < 2 * x->dim[0] && !v->failed; row++) {
        struct sl_bfp_lines l = sl_bfp_lines_axis(x->dim + 1, 2, row % 2 == 0 ? 1 : 0);
        double num, den;
        struct sl_err err;
        if (sl_bfp_improvement((uint32_t)sl_vector_int(v, "p_g", 0),
                               (uint32_t)sl_vector_int(v, "p_e", 0), &l,
                               floats_of(x) + row / 2 * x->dim[1] * x->dim[2], &num, &den,
                               &err) != SL_OK) {
            fail_code(v, "in_x", &err);
            return;
        }
        sl_vector_expect(v, "out_num", row, SL_NPY_F8, &num, 1);
        sl_vector_expect(v, "out_den", row, SL_NPY_F8, &den, 1);
        expect_choices(v, row, num, den);
    }
}

const struct sl_vector_kind sl_vector_kinds_fast[] = {
    {"hash64", run_hash64},    {"fast_quantise", run_quantise},
    {"fast_dot", run_dot},     {"fast_gemm", run_gemm},
    {"fast_layer", run_layer}, {"fast_conv", run_conv},
    {"fast_adapt", run_adapt}, {NULL, NULL},
};
