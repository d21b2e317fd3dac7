/* SPDX-License-Identifier: Apache-2.0 */
/* check_tr.c - golden vectors of Term Revealing: planes of the encoders, base quantiser,
 * group budget, products with their term pairs, and the cell that works term by term. */
#include <string.h>

#include "accel/check/vector.h"
#include "accel/units/tr.h"

#define CELL_GROUP 8
#define CELL_COEFFICIENTS 17 /* of the vectors, whose codes go up to 256 */

/* The values of an array as the type that its dtype says. */
static const void *values(const struct sl_npy *a)
{
    return a->data;
}

/* --- encoders and quantiser ----------------------------------------------------------
 */

static void expect_plane(struct sl_vector *v, const char *name, size_t first,
                         const uint16_t *plane, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sl_vector_expect_int(v, name, first + i, plane[i]);
}

static void run_encode(struct sl_vector *v)
{
    struct sl_tr_ops ops;
    const struct sl_npy *in = sl_vector_need(v, "in_q", SL_NPY_I4);
    size_t n = in == NULL ? 0 : in->n;
    int16_t *q = sl_vector_room(v, n, sizeof(*q));
    uint16_t *plus = sl_vector_room(v, n, sizeof(*plus));
    uint16_t *minus = sl_vector_room(v, n, sizeof(*minus));
    if (v->failed)
        return;
    sl_tr_ops_init(&ops, v->cpu);
    for (size_t i = 0; i < n; i++)
        q[i] = (int16_t)sl_vector_int(v, "in_q", i);
    for (int enc = SL_TR_NAF; enc <= SL_TR_BINARY; enc++) {
        ops.encode((enum sl_tr_encoder)enc, q, n, plus, minus);
        expect_plane(v, "out_plus", (size_t)enc * n, plus, n);
        expect_plane(v, "out_minus", (size_t)enc * n, minus, n);
    }
}

static void run_quantise(struct sl_vector *v)
{
    struct sl_tr_ops ops;
    struct sl_err err;
    const struct sl_npy *x = sl_vector_need(v, "in_x", SL_NPY_F4);
    const struct sl_npy *bits = sl_vector_need(v, "p_bits", SL_NPY_I4);
    const struct sl_npy *given = sl_vector_find(v, "in_sf");
    int16_t *q = sl_vector_room(v, x == NULL ? 0 : x->n, sizeof(*q));
    if (v->failed || (given != NULL && sl_vector_need(v, "in_sf", SL_NPY_F4) == NULL))
        return;
    sl_tr_ops_init(&ops, v->cpu);
    for (size_t i = 0; i < bits->n && !v->failed; i++) {
        float sf, given_sf = 0.0f;
        if (given != NULL && i < given->n)
            given_sf = ((const float *)values(given))[i];
        if (sl_tr_quantise(&ops, values(x), x->n, (unsigned)sl_vector_int(v, "p_bits", i),
                           given == NULL ? NULL : &given_sf, q, &sf, &err) != SL_OK) {
            sl_vector_fail(v, "in_x", "-", "codes", err.msg);
            return;
        }
        sl_vector_expect(v, "out_q", i * x->n, SL_NPY_I2, q, x->n);
        sl_vector_expect(v, "out_sf", i, SL_NPY_F4, &sf, 1);
    }
}

/* --- group budget --------------------------------------------------------------------
 */

static void run_reveal(struct sl_vector *v)
{
    struct sl_tr_ops ops;
    const struct sl_npy *q = sl_vector_need(v, "in_q", SL_NPY_I2);
    const struct sl_npy *k = sl_vector_need(v, "p_k", SL_NPY_I4);
    size_t n = q == NULL ? 0 : q->n;
    struct sl_tr_out out = {.plus = sl_vector_room(v, n, sizeof(*out.plus)),
                            .minus = sl_vector_room(v, n, sizeof(*out.minus)),
                            .value = sl_vector_room(v, n, sizeof(*out.value))};
    int64_t axis = sl_vector_int(v, "p_axis", 0), g = sl_vector_int(v, "p_g", 0);
    if (v->failed)
        return;
    struct sl_tr_lines lines = sl_tr_lines_axis(q->dim, q->n_dims, (unsigned)axis);
    sl_tr_ops_init(&ops, v->cpu);
    for (size_t i = 0; i < k->n && !v->failed; i++) {
        struct sl_tr_options o = sl_tr_defaults();
        struct sl_err err;
        o.g = (unsigned)g;
        o.k = (unsigned)sl_vector_int(v, "p_k", i);
        o.enc = (enum sl_tr_encoder)sl_vector_int(v, "p_enc", i);
        if (sl_tr_check(&o, &err) != SL_OK) {
            sl_vector_fail(v, "p_k", "-", "valid options", err.msg);
            return;
        }
        sl_tr_reveal(&ops, o.enc, o.g, o.k, &lines, values(q), &out);
        expect_plane(v, "out_plus", i * n, out.plus, n);
        expect_plane(v, "out_minus", i * n, out.minus, n);
        for (size_t j = 0; j < n; j++)
            sl_vector_expect_int(v, "out_value", i * n + j, out.value[j]);
        sl_vector_expect_int(v, "out_terms", i, (int64_t)out.terms);
        if (o.g == 1) { /* a data cap: the kernel of its own gives the same */
            ops.cap(o.enc, SL_TR_BITS_MAX, values(q), n, o.k, out.value);
            for (size_t j = 0; j < n; j++)
                sl_vector_expect_int(v, "out_value", i * n + j, out.value[j]);
        }
    }
}

/* --- products ------------------------------------------------------------------------
 */

/* An operand on its way: codes, planes and values after the budget. */
struct operand {
    int16_t *q;
    struct sl_tr_out out;
    float sf;
};

static bool make_operand(struct sl_vector *v, const struct sl_tr_ops *ops,
                         const struct sl_npy *x, unsigned bits, const float *sf,
                         struct operand *ret)
{
    struct sl_err err;
    ret->q = sl_vector_room(v, x->n, sizeof(*ret->q));
    ret->out = (struct sl_tr_out){.plus = sl_vector_room(v, x->n, sizeof(uint16_t)),
                                  .minus = sl_vector_room(v, x->n, sizeof(uint16_t)),
                                  .value = sl_vector_room(v, x->n, sizeof(int16_t))};
    if (!v->failed &&
        sl_tr_quantise(ops, values(x), x->n, bits, sf, ret->q, &ret->sf, &err) != SL_OK)
        sl_vector_fail(v, "in", "-", "codes", err.msg);
    return !v->failed;
}

static void expect_operand(struct sl_vector *v, const char *codes, const char *kept,
                           const struct operand *o, size_t n)
{
    sl_vector_expect(v, codes, 0, SL_NPY_I2, o->q, n);
    for (size_t i = 0; i < n; i++)
        sl_vector_expect_int(v, kept, i, o->out.value[i]);
}

/* Integers and floats of the product x [m, k] w [k, n]. */
static void expect_product(struct sl_vector *v, const struct sl_tr_ops *ops,
                           const struct sl_tr_options *o, size_t m, size_t k, size_t n,
                           const struct operand *x, const struct operand *w)
{
    const struct sl_npy *bias = sl_vector_find(v, "in_bias");
    size_t lda = 2 * SL_TR_PAIRS(k);
    bool wide = sl_tr_is_wide(o, k);
    int16_t *a = sl_vector_room(v, m * lda, sizeof(*a));
    int16_t *packed = sl_vector_room(v, sl_tr_packed_values(k, n), sizeof(*packed));
    int64_t *dots = sl_vector_room(v, m * n, sizeof(*dots));
    struct sl_tr_finish f = {.scale = w->sf * x->sf, .alpha = 1.0f, .ldc = n};
    f.c = sl_vector_room(v, m * n, sizeof(*f.c));
    if (v->failed)
        return;
    if (bias != NULL)
        f.bias = values(bias);
    for (size_t i = 0; i < m; i++)
        memcpy(a + i * lda, x->out.value + i * k, k * sizeof(*a));
    sl_tr_pack(w->out.value, n, false, k, n, packed);
    sl_tr_product_int(ops, wide, m, n, k, a, lda, packed, dots);
    sl_tr_product(ops, wide, m, n, k, a, lda, packed, &f);
    sl_vector_expect(v, "out_int", 0, SL_NPY_I8, dots, m * n);
    sl_vector_expect(v, "out_c", 0, SL_NPY_F4, f.c, m * n);
    sl_vector_expect_int(v, "out_pairs", 0,
                         (int64_t)sl_tr_pairs(m, k, n, x->out.plus, x->out.minus,
                                              w->out.plus, w->out.minus));
    sl_vector_expect_int(v, "out_bound", 0, (int64_t)sl_tr_bound(o, m, n, k));
}

static void run_gemm(struct sl_vector *v)
{
    struct sl_tr_ops ops;
    struct operand ox, ow;
    struct sl_err err;
    const struct sl_npy *x = sl_vector_need(v, "in_x", SL_NPY_F4);
    const struct sl_npy *w = sl_vector_need(v, "in_w", SL_NPY_F4);
    const struct sl_npy *sf_x = sl_vector_need(v, "in_sf_x", SL_NPY_F4);
    struct sl_tr_options o = sl_tr_defaults();
    o.bits_x = (unsigned)sl_vector_int(v, "p_bits_x", 0);
    o.bits_w = (unsigned)sl_vector_int(v, "p_bits_w", 0);
    o.g = (unsigned)sl_vector_int(v, "p_g", 0);
    o.k = (unsigned)sl_vector_int(v, "p_k", 0);
    o.s = (unsigned)sl_vector_int(v, "p_s", 0);
    o.enc = (enum sl_tr_encoder)sl_vector_int(v, "p_enc", 0);
    if (v->failed)
        return;
    if (sl_tr_check(&o, &err) != SL_OK || x->n_dims != 2 || w->n_dims != 2 ||
        x->dim[1] != w->dim[0]) {
        sl_vector_fail(v, "in_x", "-", "matrices that multiply", "others");
        return;
    }
    sl_tr_ops_init(&ops, v->cpu);
    if (!make_operand(v, &ops, x, o.bits_x, values(sf_x), &ox) ||
        !make_operand(v, &ops, w, o.bits_w, NULL, &ow))
        return;
    sl_tr_reveal(&ops, o.enc, 1, o.s, &(struct sl_tr_lines){1, x->n, 1}, ox.q, &ox.out);
    struct sl_tr_lines columns = sl_tr_lines_axis(w->dim, 2, 0);
    sl_tr_reveal(&ops, o.enc, o.g, o.k, &columns, ow.q, &ow.out);
    sl_vector_expect(v, "out_sf_w", 0, SL_NPY_F4, &ow.sf, 1);
    expect_operand(v, "out_qx", "out_vx", &ox, x->n);
    expect_operand(v, "out_qw", "out_vw", &ow, w->n);
    expect_product(v, &ops, &o, x->dim[0], x->dim[1], w->dim[1], &ox, &ow);
}

/* --- the cell ------------------------------------------------------------------------
 */

static void run_tmac(struct sl_vector *v)
{
    struct sl_tr_ops ops;
    const struct sl_npy *x = sl_vector_need(v, "in_x", SL_NPY_I2);
    const struct sl_npy *w = sl_vector_need(v, "in_w", SL_NPY_I2);
    uint16_t xp[CELL_GROUP], xm[CELL_GROUP], wp[CELL_GROUP], wm[CELL_GROUP];
    struct sl_tr_out ox = {.plus = xp, .minus = xm}, ow = {.plus = wp, .minus = wm};
    if (v->failed)
        return;
    sl_tr_ops_init(&ops, v->cpu);
    for (size_t i = 0; i < x->n / CELL_GROUP && i < w->n / CELL_GROUP; i++) {
        const struct sl_tr_lines group = {1, CELL_GROUP, 1};
        enum sl_tr_encoder enc = (enum sl_tr_encoder)sl_vector_int(v, "p_enc", i);
        const int16_t *qx = values(x), *qw = values(w);
        int32_t coefficient[SL_TR_COEFFICIENTS];
        uint64_t pairs;
        sl_tr_reveal(&ops, enc, 1, (unsigned)sl_vector_int(v, "p_s", i), &group,
                     qx + i * CELL_GROUP, &ox);
        sl_tr_reveal(&ops, enc, CELL_GROUP, (unsigned)sl_vector_int(v, "p_k", i), &group,
                     qw + i * CELL_GROUP, &ow);
        int64_t dot = sl_tr_cell(CELL_GROUP, xp, xm, wp, wm, coefficient, &pairs);
        sl_vector_expect(v, "out_coef", i * CELL_COEFFICIENTS, SL_NPY_I4, coefficient,
                         CELL_COEFFICIENTS);
        sl_vector_expect_int(v, "out_pairs", i, (int64_t)pairs);
        sl_vector_expect_int(v, "out_dot", i, dot);
    }
}

/* --- kinds ---------------------------------------------------------------------------
 */

void sl_vector_reject_tr(struct sl_vector *v)
{
    struct sl_tr_ops ops;
    struct sl_err err;
    float sf;
    const struct sl_npy *x = sl_vector_need(v, "in_x", SL_NPY_F4);
    int16_t *q = sl_vector_room(v, x == NULL ? 0 : x->n, sizeof(*q));
    if (v->failed)
        return;
    sl_tr_ops_init(&ops, v->cpu);
    if (sl_tr_quantise(&ops, values(x), x->n, 8, NULL, q, &sf, &err) == SL_OK)
        sl_vector_fail(v, "in_x", "-", "an error", "codes");
}

const struct sl_vector_kind sl_vector_kinds_tr[] = {
    {"tr_encode", run_encode}, {"tr_quantise", run_quantise}, {"tr_reveal", run_reveal},
    {"tr_gemm", run_gemm},     {"tr_tmac", run_tmac},         {NULL, NULL},
};
