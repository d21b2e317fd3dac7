/* SPDX-License-Identifier: Apache-2.0 */
/* check_rtn.c - golden vectors of reparameterised ternary networks: ternarisers,
 * thresholds, bit planes, affine products, convolution with borders, gradients. */
#include <string.h>

#include "accel/check/vector.h"
#include "accel/units/rtn.h"

static const void *values(const struct sl_npy *a)
{
    return a->data;
}

/* Value i of a float array. */
static float number(struct sl_vector *v, const char *name, size_t i)
{
    const struct sl_npy *a = sl_vector_need(v, name, SL_NPY_F4);
    if (a != NULL && i < a->n)
        return ((const float *)values(a))[i];
    sl_vector_fail(v, name, "-", "a float", "none");
    return 0.0f;
}

/* Is the array a matrix? Else a failure. */
static bool is_matrix(struct sl_vector *v, const char *name, const struct sl_npy *a)
{
    if (a != NULL && a->n_dims == 2)
        return true;
    sl_vector_fail(v, name, "-", "a matrix", "another shape");
    return false;
}

/* --- planes --------------------------------------------------------------------------
 */

/* Lines of planes, as many as rows of a matrix or columns of it. */
struct lines {
    size_t n, len, words;
    uint64_t *flag, *sign, *packed;
    int32_t *sum;
};

static bool lines_init(struct sl_vector *v, struct lines *l, size_t n, size_t len)
{
    *l = (struct lines){.n = n, .len = len, .words = SL_RTN_WORDS(len)};
    l->flag = sl_vector_room(v, n * l->words, sizeof(uint64_t));
    l->sign = sl_vector_room(v, n * l->words, sizeof(uint64_t));
    l->packed = sl_vector_room(v, sl_rtn_packed_words(l->words, n), sizeof(uint64_t));
    l->sum = sl_vector_room(v, n, sizeof(int32_t));
    return !v->failed;
}

static void lines_finish(const struct sl_rtn_ops *ops, struct lines *l)
{
    sl_rtn_pack_lines(l->flag, l->sign, l->n, l->words, l->packed);
    for (size_t i = 0; i < l->n; i++)
        l->sum[i] = ops->sum(l->flag + i * l->words, l->sign + i * l->words, l->words);
}

/* Lines of t [rows, cols]: its rows, or its columns. */
static bool lines_from_bytes(struct sl_vector *v, const struct sl_rtn_ops *ops,
                             const int8_t *t, size_t rows, size_t cols, bool columns,
                             struct lines *l)
{
    size_t n = columns ? cols : rows, len = columns ? rows : cols;
    int8_t *line = sl_vector_room(v, len, 1);
    if (line == NULL || !lines_init(v, l, n, len))
        return false;
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < len; k++)
            line[k] = columns ? t[k * cols + i] : t[i * cols + k];
        ops->pack_bytes(line, len, l->flag + i * l->words, l->sign + i * l->words);
    }
    lines_finish(ops, l);
    return true;
}

static void run_dot(struct sl_vector *v)
{
    struct sl_rtn_ops ops;
    struct lines a, w;
    const struct sl_npy *ta = sl_vector_need(v, "in_ta", SL_NPY_I1);
    const struct sl_npy *tw = sl_vector_need(v, "in_tw", SL_NPY_I1);
    const struct sl_npy *noisy = sl_vector_need(v, "in_w_sign_noisy", SL_NPY_U8);
    sl_rtn_ops_init(&ops, v->cpu);
    if (!is_matrix(v, "in_ta", ta) || !is_matrix(v, "in_tw", tw) || noisy == NULL ||
        !lines_from_bytes(v, &ops, values(ta), ta->dim[0], ta->dim[1], false, &a) ||
        !lines_from_bytes(v, &ops, values(tw), tw->dim[0], tw->dim[1], true, &w))
        return;
    int32_t *d = sl_vector_room(v, a.n * w.n, sizeof(*d));
    if (d == NULL || a.len != w.len || noisy->n != w.n * w.words) {
        sl_vector_fail(v, "in_w_sign_noisy", "-", "planes of the weights", "others");
        return;
    }
    sl_vector_expect(v, "out_a_flag", 0, SL_NPY_U8, a.flag, a.n * a.words);
    sl_vector_expect(v, "out_a_sign", 0, SL_NPY_U8, a.sign, a.n * a.words);
    sl_vector_expect(v, "out_w_flag", 0, SL_NPY_U8, w.flag, w.n * w.words);
    sl_vector_expect(v, "out_w_sign", 0, SL_NPY_U8, w.sign, w.n * w.words);
    for (int again = 0; again < 2; again++) { /* the second time with 01 zeros */
        ops.dots(a.n, w.n, a.words, a.flag, a.sign, w.packed, d, w.n);
        sl_vector_expect(v, "out_d", 0, SL_NPY_I4, d, a.n * w.n);
        sl_vector_expect(v, "out_sa", 0, SL_NPY_I4, a.sum, a.n);
        sl_vector_expect(v, "out_sw", 0, SL_NPY_I4, w.sum, w.n);
        memcpy(w.sign, values(noisy), noisy->bytes);
        lines_finish(&ops, &w);
    }
}

/* --- ternarisers ---------------------------------------------------------------------
 */

static void run_act(struct sl_vector *v)
{
    struct sl_rtn_ops ops;
    struct sl_err err;
    struct lines l;
    const struct sl_npy *x = sl_vector_need(v, "in_x", SL_NPY_F4);
    const struct sl_npy *gamma = sl_vector_need(v, "p_gamma", SL_NPY_F4);
    if (v->failed || !lines_init(v, &l, 1, x->n))
        return;
    int8_t *t = sl_vector_room(v, x->n, 1);
    float *y = sl_vector_room(v, x->n, sizeof(*y)), level[3];
    sl_rtn_ops_init(&ops, v->cpu);
    if (v->failed)
        return;
    if (sl_rtn_ternarise(&ops, values(x), x->n, SL_RTN_ACTIVATION_D, l.flag, l.sign, NULL,
                         &err) != SL_OK)
        sl_vector_fail(v, "in_x", "-", "planes", err.msg);
    sl_rtn_unpack(l.flag, l.sign, x->n, t);
    sl_vector_expect(v, "out_t", 0, SL_NPY_I1, t, x->n);
    for (size_t i = 0; i < gamma->n && !v->failed; i++) {
        float g = number(v, "p_gamma", i), b = number(v, "p_beta", i);
        sl_rtn_levels(g, b, level);
        ops.decode(l.flag, l.sign, x->n, level, y);
        sl_vector_expect(v, "out_value", i * x->n, SL_NPY_F4, y, x->n);
        if (sl_rtn_ternarise_before(values(x), x->n, g, b, t, &err) != SL_OK)
            sl_vector_fail(v, "in_x", "-", "ternary values", err.msg);
        sl_vector_expect(v, "out_t_before", i * x->n, SL_NPY_I1, t, x->n);
    }
}

/* Threshold, start scale and values of w [k, n]: over all of it, or of each column. What
 * is expected has the suffix. */
static void expect_weights(struct sl_vector *v, const struct sl_rtn_ops *ops,
                           const struct sl_npy *w, bool by_column, const char *t_name,
                           const char *d_name, const char *gamma_name)
{
    size_t k = w->dim[0], n = w->dim[1], parts = by_column ? n : 1;
    int8_t *t = sl_vector_room(v, w->n, 1), *part_t = sl_vector_room(v, w->n, 1);
    float *part = sl_vector_room(v, w->n, sizeof(*part));
    struct lines l;
    struct sl_err err;
    if (v->failed || !lines_init(v, &l, 1, w->n))
        return;
    for (size_t p = 0; p < parts; p++) {
        const float *from = (const float *)values(w) + p;
        size_t width = by_column ? 1 : n;
        float d, gamma;
        struct sl_rtn_weights weights = {from, k, width, n, 1};
        if (sl_rtn_threshold(&weights, &d, &gamma, &err) != SL_OK) {
            sl_vector_fail(v, "in_w", "-", "a threshold", err.msg);
            return;
        }
        sl_vector_expect(v, d_name, p, SL_NPY_F4, &d, 1);
        if (gamma_name != NULL)
            sl_vector_expect(v, gamma_name, p, SL_NPY_F4, &gamma, 1);
        for (size_t i = 0; i < k * width; i++)
            part[i] = from[i / width * n + i % width];
        if (!ops->ternarise(part, k * width, d, l.flag, l.sign, NULL))
            sl_vector_fail(v, "in_w", "-", "numbers", "NaN");
        sl_rtn_unpack(l.flag, l.sign, k * width, part_t);
        for (size_t i = 0; i < k * width; i++)
            t[i / width * n + i % width + p] = part_t[i];
    }
    sl_vector_expect(v, t_name, 0, SL_NPY_I1, t, w->n);
}

static void run_weight(struct sl_vector *v)
{
    struct sl_rtn_ops ops;
    const struct sl_npy *w = sl_vector_need(v, "in_w", SL_NPY_F4);
    if (!is_matrix(v, "in_w", w))
        return;
    sl_rtn_ops_init(&ops, v->cpu);
    expect_weights(v, &ops, w, false, "out_t", "out_d", "out_gamma");
    expect_weights(v, &ops, w, true, "out_t_ch", "out_d_ch", "out_gamma_ch");
}

/* --- products ------------------------------------------------------------------------
 */

/* Ternary w [k, n], one threshold or one a column, to t. */
static bool ternarise_weights(struct sl_vector *v, const struct sl_npy *w, bool by_column,
                              int8_t *t)
{
    size_t k = w->dim[0], n = w->dim[1];
    const float *x = values(w);
    struct sl_err err;
    for (size_t j = 0; j < n; j++) {
        struct sl_rtn_weights part = {by_column ? x + j : x, k, by_column ? 1 : n, n, 1};
        float d, gamma;
        if (sl_rtn_threshold(&part, &d, &gamma, &err) != SL_OK) {
            sl_vector_fail(v, "in_w", "-", "a threshold", err.msg);
            return false;
        }
        for (size_t i = 0; i < k; i++)
            t[i * n + j] = (int8_t)((x[i * n + j] > d) - (x[i * n + j] < -d));
    }
    return true;
}

static void run_gemm(struct sl_vector *v)
{
    struct sl_rtn_ops ops;
    struct lines a, w;
    const struct sl_npy *x = sl_vector_need(v, "in_x", SL_NPY_F4);
    const struct sl_npy *in_w = sl_vector_need(v, "in_w", SL_NPY_F4);
    const struct sl_npy *gw = sl_vector_need(v, "p_gw", SL_NPY_F4);
    const struct sl_npy *bw = sl_vector_need(v, "p_bw", SL_NPY_F4);
    const struct sl_npy *bias = sl_vector_find(v, "in_bias");
    float ga = number(v, "p_ga", 0), ba = number(v, "p_ba", 0);
    if (v->failed || !is_matrix(v, "in_x", x) || !is_matrix(v, "in_w", in_w))
        return;
    size_t m = x->dim[0], k = x->dim[1], n = in_w->dim[1];
    bool by_column = gw->n == n && n > 1;
    int8_t *ta = sl_vector_room(v, m * k, 1), *tw = sl_vector_room(v, k * n, 1);
    int32_t *d = sl_vector_room(v, m * n, sizeof(*d));
    float *r = sl_vector_room(v, m * n, sizeof(*r));
    struct sl_rtn_affine *affine = sl_vector_room(v, n, sizeof(*affine));
    sl_rtn_ops_init(&ops, v->cpu);
    if (v->failed || !lines_init(v, &a, m, k) ||
        !ternarise_weights(v, in_w, by_column, tw) ||
        !lines_from_bytes(v, &ops, tw, k, n, true, &w))
        return;
    for (size_t i = 0; i < m; i++) {
        uint64_t *flag = a.flag + i * a.words, *sign = a.sign + i * a.words;
        ops.ternarise((const float *)values(x) + i * k, k, SL_RTN_ACTIVATION_D, flag,
                      sign, NULL);
        sl_rtn_unpack(flag, sign, k, ta + i * k);
    }
    lines_finish(&ops, &a);
    ops.dots(m, n, a.words, a.flag, a.sign, w.packed, d, n);
    sl_rtn_affine(ga, ba, values(gw), values(bw), gw->n, n, affine);
    for (size_t i = 0; i < m; i++)
        ops.combine_line(n, d + i * n, a.sum[i], w.sum, (int32_t)k, affine,
                         bias == NULL ? NULL : values(bias), r + i * n);
    sl_vector_expect(v, "out_ta", 0, SL_NPY_I1, ta, m * k);
    sl_vector_expect(v, "out_tw", 0, SL_NPY_I1, tw, k * n);
    sl_vector_expect(v, "out_d", 0, SL_NPY_I4, d, m * n);
    sl_vector_expect(v, "out_sa", 0, SL_NPY_I4, a.sum, m);
    sl_vector_expect(v, "out_sw", 0, SL_NPY_I4, w.sum, n);
    sl_vector_expect(v, "out_r", 0, SL_NPY_F4, r, m * n);
}

/* --- convolution ---------------------------------------------------------------------
 */

static bool geometry_of(struct sl_vector *v, const struct sl_npy *ta,
                        const struct sl_npy *tw, struct sl_conv_geometry *ret)
{
    if (ta->n_dims != 3 || tw->n_dims != 4 || tw->dim[1] != ta->dim[0] ||
        tw->dim[2] != tw->dim[3] || tw->dim[2] > SL_RTN_KERNEL_MAX) {
        sl_vector_fail(v, "in_tw", "-", "filters of the image", "others");
        return false;
    }
    *ret = (struct sl_conv_geometry){.in_c = (uint32_t)ta->dim[0],
                                     .in_h = (uint32_t)ta->dim[1],
                                     .in_w = (uint32_t)ta->dim[2],
                                     .out_c = (uint32_t)tw->dim[0],
                                     .kernel = (uint32_t)tw->dim[2],
                                     .stride = (uint32_t)sl_vector_int(v, "p_stride", 0),
                                     .pad = (uint32_t)sl_vector_int(v, "p_pad", 0)};
    if (v->failed || ret->stride == 0)
        return false;
    ret->out_h = (ret->in_h + 2 * ret->pad - ret->kernel) / ret->stride + 1;
    ret->out_w = (ret->in_w + 2 * ret->pad - ret->kernel) / ret->stride + 1;
    return true;
}

static void run_conv(struct sl_vector *v)
{
    struct sl_rtn_ops ops;
    struct sl_conv_geometry g;
    const struct sl_npy *ta = sl_vector_need(v, "in_ta", SL_NPY_I1);
    const struct sl_npy *tw = sl_vector_need(v, "in_tw", SL_NPY_I1);
    const struct sl_npy *bias = sl_vector_need(v, "in_bias", SL_NPY_F4);
    const struct sl_npy *gw = sl_vector_need(v, "p_gw", SL_NPY_F4);
    const struct sl_npy *bw = sl_vector_need(v, "p_bw", SL_NPY_F4);
    float ga = number(v, "p_ga", 0), ba = number(v, "p_ba", 0);
    if (v->failed || !geometry_of(v, ta, tw, &g))
        return;
    size_t words = sl_rtn_conv_words(&g), places = (size_t)g.out_h * g.out_w;
    size_t padded = (g.in_h + 2 * (size_t)g.pad) * (g.in_w + 2 * (size_t)g.pad) * g.in_c;
    struct sl_rtn_filters f = {.flag = sl_vector_room(v, g.out_c * words, 8),
                               .sign = sl_vector_room(v, g.out_c * words, 8),
                               .sum_w = sl_vector_room(v, g.out_c * places, 4),
                               .count = sl_vector_room(v, places, 4)};
    struct sl_rtn_image im = {
        .padded = sl_vector_room(v, padded, 1),
        .line = sl_vector_room(v, words * 64, 1),
        .flag = sl_vector_room(v, places * words, 8),
        .sign = sl_vector_room(v, places * words, 8),
        .packed = sl_vector_room(v, sl_rtn_packed_words(words, places), 8),
        .sum_a = sl_vector_room(v, places, 4),
        .d = sl_vector_room(v, g.out_c * places, 4)};
    struct sl_rtn_affine *affine = sl_vector_room(v, g.out_c, sizeof(*affine));
    float *r = sl_vector_room(v, g.out_c * places, sizeof(*r));
    if (v->failed)
        return;
    sl_rtn_ops_init(&ops, v->cpu);
    sl_rtn_filters_make(&ops, &g, values(tw), im.line, &f);
    sl_rtn_affine(ga, ba, values(gw), values(bw), gw->n, g.out_c, affine);
    sl_rtn_conv_image(&ops, &g, values(ta), &f, affine, values(bias), &im, r);
    sl_vector_expect(v, "out_d", 0, SL_NPY_I4, im.d, g.out_c * places);
    sl_vector_expect(v, "out_sa", 0, SL_NPY_I4, im.sum_a, places);
    sl_vector_expect(v, "out_sw", 0, SL_NPY_I4, f.sum_w, g.out_c * places);
    sl_vector_expect(v, "out_k", 0, SL_NPY_I4, f.count, places);
    sl_vector_expect(v, "out_r", 0, SL_NPY_F4, r, g.out_c * places);
}

/* --- gradients -----------------------------------------------------------------------
 */

static void expect_sums(struct sl_vector *v, const char *gamma_name,
                        const char *beta_name, size_t at, const struct sl_rtn_sums *s)
{
    float gamma = (float)s->gamma, beta = (float)s->beta;
    sl_vector_expect(v, gamma_name, at, SL_NPY_F4, &gamma, 1);
    sl_vector_expect(v, beta_name, at, SL_NPY_F4, &beta, 1);
}

static void weight_gradients(struct sl_vector *v, const struct sl_rtn_ops *ops,
                             const struct sl_npy *tw, const struct sl_npy *gw)
{
    size_t k = tw->dim[0], n = tw->dim[1];
    struct lines all, columns;
    float *column = sl_vector_room(v, k, sizeof(*column));
    if (v->failed || gw->n != tw->n ||
        !lines_from_bytes(v, ops, values(tw), 1, tw->n, false, &all) ||
        !lines_from_bytes(v, ops, values(tw), k, n, true, &columns))
        return;
    struct sl_rtn_sums s = {0};
    sl_rtn_sums_add(&s, values(gw), all.flag, all.sign, tw->n);
    expect_sums(v, "out_dgamma_w", "out_dbeta_w", 0, &s);
    sl_vector_expect(v, "out_dw", 0, SL_NPY_F4, values(gw), gw->n);
    for (size_t j = 0; j < n; j++) {
        s = (struct sl_rtn_sums){0};
        for (size_t i = 0; i < k; i++)
            column[i] = ((const float *)values(gw))[i * n + j];
        sl_rtn_sums_add(&s, column, columns.flag + j * columns.words,
                        columns.sign + j * columns.words, k);
        expect_sums(v, "out_dgamma_w_ch", "out_dbeta_w_ch", j, &s);
    }
}

static void run_backward(struct sl_vector *v)
{
    struct sl_rtn_ops ops;
    struct lines l;
    const struct sl_npy *x = sl_vector_need(v, "in_x", SL_NPY_F4);
    const struct sl_npy *g = sl_vector_need(v, "in_g", SL_NPY_F4);
    const struct sl_npy *tw = sl_vector_need(v, "in_tw", SL_NPY_I1);
    const struct sl_npy *gw = sl_vector_need(v, "in_gw", SL_NPY_F4);
    float ga = number(v, "p_ga", 0);
    if (v->failed || g->n != x->n || !is_matrix(v, "in_tw", tw) ||
        !lines_init(v, &l, 1, x->n))
        return;
    uint64_t *clip = sl_vector_room(v, l.words, sizeof(*clip));
    int8_t *t = sl_vector_room(v, x->n, 1);
    float *dx = sl_vector_room(v, x->n, sizeof(*dx));
    if (v->failed)
        return;
    sl_rtn_ops_init(&ops, v->cpu);
    ops.ternarise(values(x), x->n, SL_RTN_ACTIVATION_D, l.flag, l.sign, clip);
    sl_rtn_unpack(l.flag, l.sign, x->n, t);
    sl_vector_expect(v, "out_t", 0, SL_NPY_I1, t, x->n);
    struct sl_rtn_sums s = {0};
    sl_rtn_sums_add(&s, values(g), l.flag, l.sign, x->n);
    expect_sums(v, "out_dgamma_a", "out_dbeta_a", 0, &s);
    ops.clip_grad(clip, ga, values(g), x->n, dx);
    sl_vector_expect(v, "out_dx", 0, SL_NPY_F4, dx, x->n);
    weight_gradients(v, &ops, tw, gw);
}

/* --- kinds ---------------------------------------------------------------------------
 */

void sl_vector_reject_rtn(struct sl_vector *v)
{
    struct sl_rtn_ops ops;
    struct sl_err err;
    struct lines l;
    const struct sl_npy *x = sl_vector_need(v, "in_x", SL_NPY_F4);
    float d, gamma;
    if (x == NULL || !lines_init(v, &l, 1, x->n))
        return;
    sl_rtn_ops_init(&ops, v->cpu);
    if (sl_rtn_ternarise(&ops, values(x), x->n, SL_RTN_ACTIVATION_D, l.flag, l.sign, NULL,
                         &err) == SL_OK)
        sl_vector_fail(v, "in_x", "-", "an error", "planes");
    struct sl_rtn_weights w = {values(x), x->n, 1, 1, 1};
    if (sl_rtn_threshold(&w, &d, &gamma, &err) == SL_OK)
        sl_vector_fail(v, "in_x", "-", "an error", "a threshold");
}

const struct sl_vector_kind sl_vector_kinds_rtn[] = {
    {"rtn_act", run_act},   {"rtn_weight", run_weight}, {"rtn_dot", run_dot},
    {"rtn_gemm", run_gemm}, {"rtn_conv", run_conv},     {"rtn_backward", run_backward},
    {NULL, NULL},
};
