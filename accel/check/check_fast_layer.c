/* SPDX-License-Identifier: Apache-2.0 */
/* check_fast_layer.c - golden vectors of whole layers in FAST's block floating point: the
 * three products of a dense layer and of a convolution, by the definition and by the unit
 * on each kernel level. */
#include "accel/check/check_fast.h"

#include <stdlib.h>

#include "accel/kernels/kernels.h"
#include "accel/units/bfp_conv.h"
#include "accel/units/fast.h"

/* --- layer
 * ----------------------------------------------------------------------------------- */

struct layer_case {
    const float *a, *w, *bias, *d; /* a [m,k], w [k,n], d [m,n] */
    size_t m, k, n;
    uint32_t g, e, ma, mw, mg;
    uint64_t key_da, key_dw;
};

static struct sl_check_fast_side side_of(const struct layer_case *c, const float *x,
                                         size_t rows, size_t cols, bool down, uint32_t m,
                                         const uint64_t *key)
{
    struct sl_check_fast_side s = {x, rows, cols, down, {.g = c->g, .e = c->e, .m = m}};
    if (key != NULL) {
        s.o.round = SL_BFP_CTR;
        s.o.key = *key;
    }
    return s;
}

static void run_setting(struct sl_vector *v, size_t i, const struct layer_case *c,
                        float *ret)
{
    struct sl_check_fast_side a = side_of(c, c->a, c->m, c->k, false, c->ma, NULL);
    struct sl_check_fast_side w = side_of(c, c->w, c->k, c->n, true, c->mw, NULL);
    sl_check_fast_multiply(v, &a, &w, c->bias, false, ret);
    sl_vector_expect(v, "out_o", i * c->m * c->n, SL_NPY_F4, ret, c->m * c->n);
    struct sl_check_fast_side d = side_of(c, c->d, c->m, c->n, false, c->mg, &c->key_da);
    struct sl_check_fast_side wt = side_of(c, c->w, c->k, c->n, false, c->mw, NULL);
    sl_check_fast_multiply(v, &d, &wt, NULL, false, ret);
    sl_vector_expect(v, "out_da", i * c->m * c->k, SL_NPY_F4, ret, c->m * c->k);
    struct sl_check_fast_side at = side_of(c, c->a, c->m, c->k, true, c->ma, NULL);
    struct sl_check_fast_side dt = side_of(c, c->d, c->m, c->n, true, c->mg, &c->key_dw);
    sl_check_fast_multiply(v, &at, &dt, NULL, false, ret);
    sl_vector_expect(v, "out_dw", i * c->k * c->n, SL_NPY_F4, ret, c->k * c->n);
    uint64_t passes = sl_bfp_passes(c->ma, c->mw) + sl_bfp_passes(c->mg, c->mw) +
                      sl_bfp_passes(c->ma, c->mg);
    sl_vector_expect_int(v, "out_passes", i, (int64_t)(passes * c->m * c->k * c->n));
}

/* The unit with the options of a case, and its memory. */
struct unit {
    struct sl_kernels kernels;
    struct sl_fast_options o;
    struct sl_unit_ctx ctx;
};

static bool unit_init(struct sl_vector *v, const struct sl_unit_bytes *bytes,
                      struct unit *u)
{
    sl_kernels_init(&u->kernels, v->cpu);
    u->ctx = (struct sl_unit_ctx){.unit = &sl_matmul_fast,
                                  .kernels = &u->kernels,
                                  .options = {.fast = &u->o},
                                  .version = 1,
                                  .scratch = sl_check_fast_room(v, bytes->scratch, 1),
                                  .keep = sl_check_fast_room(v, bytes->keep, 1)};
    return !v->failed;
}

static void unit_deinit(struct unit *u)
{
    free(u->ctx.scratch);
    free(u->ctx.keep);
}

static void set_widths(struct unit *u, uint32_t mw, uint32_t ma, uint32_t mg)
{
    u->o.precision = SL_FAST_FIXED;
    u->o.m[SL_FAST_W] = mw;
    u->o.m[SL_FAST_A] = ma;
    u->o.m[SL_FAST_G] = mg;
    u->ctx.version++;
}

static struct sl_fast_options unit_options(struct sl_vector *v)
{
    struct sl_fast_options o = sl_fast_defaults();
    o.g = (uint32_t)sl_vector_int(v, "p_g", 0);
    o.e = (uint32_t)sl_vector_int(v, "p_e", 0);
    return o;
}

static void unit_product(struct unit *u, enum sl_pass pass, const struct layer_case *c,
                         size_t m, size_t n, size_t k, struct sl_operand a,
                         struct sl_operand b, float *ret)
{
    sl_matmul(&u->ctx, &(struct sl_matmul){.pass = pass,
                                           .m = m,
                                           .n = n,
                                           .k = k,
                                           .a = a,
                                           .b = b,
                                           .alpha = 1.0f,
                                           .c = ret,
                                           .ldc = n});
    u->ctx.place.calls[pass] = 0;
}

/* The three products by the unit; w [k, n] lies as the layer's weight, transposed. */
static void run_setting_by_unit(struct sl_vector *v, size_t i, const struct layer_case *c,
                                const float *wt, struct unit *u, float *ret)
{
    const struct sl_operand a = {c->a, c->k, false, SL_ROLE_ACTIVATION};
    const struct sl_operand d = {c->d, c->n, false, SL_ROLE_GRADIENT};
    struct sl_operand turned = {c->a, c->k, true, SL_ROLE_ACTIVATION};
    set_widths(u, c->mw, c->ma, c->mg);
    unit_product(u, SL_PASS_FORWARD, c, c->m, c->n, c->k, a,
                 (struct sl_operand){wt, c->k, true, SL_ROLE_WEIGHT}, ret);
    for (size_t j = 0; j < c->m * c->n; j++)
        ret[j] += c->bias[j % c->n];
    sl_vector_expect(v, "out_o", i * c->m * c->n, SL_NPY_F4, ret, c->m * c->n);
    unit_product(u, SL_PASS_INPUT_GRADIENT, c, c->m, c->k, c->n, d,
                 (struct sl_operand){wt, c->k, false, SL_ROLE_WEIGHT}, ret);
    sl_vector_expect(v, "out_da", i * c->m * c->k, SL_NPY_F4, ret, c->m * c->k);
    unit_product(u, SL_PASS_WEIGHT_GRADIENT, c, c->k, c->n, c->m, turned, d, ret);
    sl_vector_expect(v, "out_dw", i * c->k * c->n, SL_NPY_F4, ret, c->k * c->n);
}

static void run_layer_by_unit(struct sl_vector *v, struct layer_case *c, size_t sets,
                              float *ret)
{
    struct unit u = {.o = unit_options(v)};
    struct sl_unit_bytes bytes = {0, 0};
    const uint64_t keys[3] = {0, c->key_da, c->key_dw};
    u.o.keys = keys;
    sl_matmul_fast.matmul_bytes(&(struct sl_unit_options){.fast = &u.o}, c->m, c->n, c->k,
                                true, &bytes);
    float *wt = sl_check_fast_room(v, c->n * c->k, sizeof(*wt));
    if (!unit_init(v, &bytes, &u) || wt == NULL)
        goto out;
    for (size_t i = 0; i < c->n * c->k; i++)
        wt[i] = c->w[i % c->k * c->n + i / c->k];
    for (size_t i = 0; i < sets && !v->failed; i++) {
        c->ma = (uint32_t)sl_vector_int(v, "p_ma", i);
        c->mw = (uint32_t)sl_vector_int(v, "p_mw", i);
        c->mg = (uint32_t)sl_vector_int(v, "p_mg", i);
        run_setting_by_unit(v, i, c, wt, &u, ret);
    }
out:
    unit_deinit(&u);
    free(wt);
}

static uint64_t layer_key(struct sl_vector *v, uint64_t use)
{
    uint64_t id[6] = {0, 0, 0, 0, 2, use};
    for (size_t i = 0; i < 4; i++)
        id[i] = sl_vector_u64(v, "p_hash", i);
    return sl_hash64(id, 6);
}

void sl_check_fast_layer(struct sl_vector *v)
{
    const struct sl_npy *a = sl_vector_need(v, "in_a", SL_NPY_F4);
    const struct sl_npy *w = sl_vector_need(v, "in_w", SL_NPY_F4);
    const struct sl_npy *bias = sl_vector_need(v, "in_bias", SL_NPY_F4);
    const struct sl_npy *d = sl_vector_need(v, "in_do", SL_NPY_F4);
    const struct sl_npy *sets = sl_vector_need(v, "p_ma", SL_NPY_I4);
    if (v->failed || a->n_dims != 2 || w->n_dims != 2)
        return;
    struct layer_case c = {sl_check_fast_floats(a),
                           sl_check_fast_floats(w),
                           sl_check_fast_floats(bias),
                           sl_check_fast_floats(d),
                           a->dim[0],
                           a->dim[1],
                           w->dim[1]};
    c.g = (uint32_t)sl_vector_int(v, "p_g", 0);
    c.e = (uint32_t)sl_vector_int(v, "p_e", 0);
    c.key_da = layer_key(v, 1);
    c.key_dw = layer_key(v, 2);
    sl_vector_expect(v, "out_key_da", 0, SL_NPY_U8, &c.key_da, 1);
    sl_vector_expect(v, "out_key_dw", 0, SL_NPY_U8, &c.key_dw, 1);
    float *ret = sl_check_fast_room(v, c.m * c.k + c.k * c.n + c.m * c.n, sizeof(*ret));
    for (size_t i = 0; i < sets->n && !v->failed; i++) {
        c.ma = (uint32_t)sl_vector_int(v, "p_ma", i);
        c.mw = (uint32_t)sl_vector_int(v, "p_mw", i);
        c.mg = (uint32_t)sl_vector_int(v, "p_mg", i);
        run_setting(v, i, &c, ret);
    }
    if (!v->failed)
        run_layer_by_unit(v, &c, sets->n, ret);
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
    const float *a = sl_check_fast_floats(in->a), *w = sl_check_fast_floats(in->w),
                *d = sl_check_fast_floats(in->d);
    size_t places = in->d->dim[2] * in->d->dim[3];
    struct sl_err err = {0};
    c->x.m = (uint32_t)sl_vector_int(v, "p_ma", i);
    c->w.m = (uint32_t)sl_vector_int(v, "p_mw", i);
    c->dy.m = (uint32_t)sl_vector_int(v, "p_mg", i);
    c->dy.round = SL_BFP_CTR;
    if (sl_bfp_conv_forward(c, a, w, ret, &err) != SL_OK)
        sl_check_fast_error(v, "out_o", &err);
    for (size_t k = 0; k < in->d->n; k++)
        ret[k] += sl_check_fast_floats(in->bias)[k / places % in->d->dim[1]];
    sl_vector_expect(v, "out_o", i * in->d->n, SL_NPY_F4, ret, in->d->n);
    c->dy.key = sl_vector_u64(v, "p_key_da", 0);
    if (sl_bfp_conv_data(c, d, w, ret, &err) != SL_OK)
        sl_check_fast_error(v, "out_da", &err);
    sl_vector_expect(v, "out_da", i * in->a->n, SL_NPY_F4, ret, in->a->n);
    c->dy.key = sl_vector_u64(v, "p_key_dw", 0);
    if (sl_bfp_conv_weights(c, a, d, ret, &err) != SL_OK)
        sl_check_fast_error(v, "out_dw", &err);
    sl_vector_expect(v, "out_dw", i * in->w->n, SL_NPY_F4, ret, in->w->n);
}

static void run_conv_setting_by_unit(struct sl_vector *v, size_t i,
                                     const struct sl_bfp_conv *c,
                                     const struct conv_arrays *in, struct unit *u,
                                     float *ret)
{
    size_t places = in->d->dim[2] * in->d->dim[3];
    set_widths(u, (uint32_t)sl_vector_int(v, "p_mw", i),
               (uint32_t)sl_vector_int(v, "p_ma", i),
               (uint32_t)sl_vector_int(v, "p_mg", i));
    sl_matmul_fast.conv_forward(&u->ctx, &c->g, c->n, sl_check_fast_floats(in->a),
                                sl_check_fast_floats(in->w), ret);
    for (size_t k = 0; k < in->d->n; k++)
        ret[k] += sl_check_fast_floats(in->bias)[k / places % in->d->dim[1]];
    sl_vector_expect(v, "out_o", i * in->d->n, SL_NPY_F4, ret, in->d->n);
    sl_matmul_fast.conv_backward_data(&u->ctx, &c->g, c->n, sl_check_fast_floats(in->d),
                                      sl_check_fast_floats(in->w), ret);
    sl_vector_expect(v, "out_da", i * in->a->n, SL_NPY_F4, ret, in->a->n);
    sl_matmul_fast.conv_backward_weights(&u->ctx, &c->g, c->n,
                                         sl_check_fast_floats(in->a),
                                         sl_check_fast_floats(in->d), false, ret);
    sl_vector_expect(v, "out_dw", i * in->w->n, SL_NPY_F4, ret, in->w->n);
}

static void run_conv_by_unit(struct sl_vector *v, const struct sl_bfp_conv *c,
                             const struct conv_arrays *in, size_t sets, float *ret)
{
    const uint64_t keys[3] = {0, sl_vector_u64(v, "p_key_da", 0),
                              sl_vector_u64(v, "p_key_dw", 0)};
    struct unit u = {.o = unit_options(v)};
    struct sl_unit_bytes bytes = {0, 0};
    u.o.keys = keys;
    sl_matmul_fast.conv_bytes(&(struct sl_unit_options){.fast = &u.o}, &c->g, c->n,
                              &bytes);
    if (unit_init(v, &bytes, &u))
        for (size_t i = 0; i < sets && !v->failed; i++)
            run_conv_setting_by_unit(v, i, c, in, &u, ret);
    unit_deinit(&u);
}

void sl_check_fast_conv(struct sl_vector *v)
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
    float *ret = sl_check_fast_room(v, in.a->n + in.w->n + in.d->n, sizeof(*ret));
    for (size_t i = 0; i < sets->n && !v->failed; i++)
        run_conv_setting(v, i, &c, &in, ret);
    if (!v->failed)
        run_conv_by_unit(v, &c, &in, sets->n, ret);
    free(ret);
}
