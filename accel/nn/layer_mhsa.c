/* SPDX-License-Identifier: Apache-2.0 */
/* layer_mhsa.c - multi-head self-attention (Vaswani et al. 2017, eq. 1) on x [B,T,D]:
 * q, k, v = x w^T + b; per head h of Dh = D / heads consecutive columns, att = softmax(q
 * k^T / sqrt(Dh)) (with `causal`, token i sees tokens 0..i), o_h = att v; y = o wo^T +
 * bo. Kept for backward: q, k, v, o [B,T,D] and att [B,H,T,T]. */
#include "accel/nn/layer.h"

#include <math.h>

#include "common/mem.h"

enum { Q, K, V, O, PARTS }; /* weight of part p is tensor 2 p, its bias 2 p + 1 */

static const char *const part_names[PARTS] = {"q.", "k.", "v.", "o."};

struct kept {
    float *part[PARTS];
    float *att;
};

static struct kept kept_of(const struct sl_layer *l, size_t n, void *aux)
{
    struct kept s;
    float *p = aux;
    for (unsigned i = 0; i < PARTS; i++, p += n * l->in_size)
        s.part[i] = p;
    s.att = p;
    return s;
}

static enum sl_code build(struct sl_model_builder *b, struct sl_layer *l,
                          struct sl_err *err)
{
    char text[SL_SHAPE_TEXT];
    uint32_t d = l->in.n_dims == 2 ? l->in.dim[1] : 0, heads = l->spec.heads;
    if (d == 0)
        return sl_layer_error(l, err, "input %s (tokens and width wanted)",
                              sl_shape_text(&l->in, text));
    if (heads == 0 || d % heads != 0)
        return sl_layer_error(l, err, "%u heads for width %u (must divide it)", heads, d);
    size_t att = (size_t)l->in.dim[0] * l->in.dim[0];
    if (!sl_size_mul(att, heads, &att) || att > SL_ACTIVATION_MAX)
        return sl_layer_error(l, err, "more than %zu attention values",
                              SL_ACTIVATION_MAX);
    l->out = l->in;
    enum sl_code rc = SL_OK;
    for (unsigned p = 0; p < PARTS && rc == SL_OK; p++)
        rc = sl_layer_declare_dense(b, l, part_names[p], d, d, true, err);
    return rc;
}

static size_t attention_values(const struct sl_layer *l)
{
    return (size_t)l->spec.heads * l->in.dim[0] * l->in.dim[0];
}

static size_t aux_bytes(const struct sl_layer *l, size_t n)
{
    return n * (PARTS * l->in_size + attention_values(l)) * sizeof(float);
}

/* Backward: gradients of o, q, k, v, and of one head's att. */
static size_t scratch_bytes(const struct sl_layer *l, size_t n)
{
    return (n * PARTS * l->in_size + (size_t)l->in.dim[0] * l->in.dim[0]) * sizeof(float);
}

/* c = alpha op(a) op(b), both activations or gradients. */
static void product(const struct sl_pass_ctx *c, enum sl_pass pass, size_t m, size_t n,
                    size_t k, struct sl_operand a, struct sl_operand b, float alpha,
                    float *out, size_t ld)
{
    sl_matmul(c->unit, &(struct sl_matmul){.pass = pass,
                                           .m = m,
                                           .n = n,
                                           .k = k,
                                           .a = a,
                                           .b = b,
                                           .alpha = alpha,
                                           .c = out,
                                           .ldc = ld});
}

static void softmax_scores(const struct sl_layer *l, const struct sl_pass_ctx *c,
                           float *att)
{
    size_t t = l->in.dim[0];
    if (!l->spec.causal) {
        c->k->elem.softmax_rows(att, att, t, t, NULL, NULL);
        return;
    }
    for (size_t i = 0; i < t; i++) {
        c->k->elem.softmax_rows(att + i * t, att + i * t, 1, i + 1, NULL, NULL);
        for (size_t j = i + 1; j < t; j++)
            att[i * t + j] = 0.0f;
    }
}

static void forward(const struct sl_layer *l, const struct sl_pass_ctx *c, const float *x,
                    float *y, void *aux)
{
    size_t t = l->in.dim[0], d = l->in.dim[1], heads = l->spec.heads, dh = d / heads;
    struct kept s = kept_of(l, c->n, aux);
    float scale = 1.0f / sqrtf((float)dh);
    for (unsigned p = Q; p <= V; p++)
        sl_dense_forward(c, c->n * t, d, d, x, sl_layer_value(l, c, 2 * p),
                         sl_layer_value(l, c, 2 * p + 1), s.part[p]);
    for (size_t i = 0; i < c->n * heads; i++) {
        size_t at = i / heads * t * d + i % heads * dh;
        float *att = s.att + i * t * t;
        product(c, SL_PASS_FORWARD, t, t, dh,
                (struct sl_operand){s.part[Q] + at, d, false, SL_ROLE_ACTIVATION},
                (struct sl_operand){s.part[K] + at, d, true, SL_ROLE_ACTIVATION}, scale,
                att, t);
        softmax_scores(l, c, att);
        product(c, SL_PASS_FORWARD, t, dh, t,
                (struct sl_operand){att, t, false, SL_ROLE_ACTIVATION},
                (struct sl_operand){s.part[V] + at, d, false, SL_ROLE_ACTIVATION}, 1.0f,
                s.part[O] + at, d);
    }
    sl_dense_forward(c, c->n * t, d, d, s.part[O], sl_layer_value(l, c, 2 * O),
                     sl_layer_value(l, c, 2 * O + 1), y);
}

/* One head: from g.part[O] (gradient of o) to those of q, k, v. datt [T,T] is scratch. */
static void head_backward(const struct sl_layer *l, const struct sl_pass_ctx *c,
                          const struct kept *s, const struct kept *g, size_t at,
                          const float *att)
{
    size_t t = l->in.dim[0], d = l->in.dim[1], dh = d / l->spec.heads;
    float scale = 1.0f / sqrtf((float)dh), *datt = g->att;
    struct sl_operand go = {g->part[O] + at, d, false, SL_ROLE_GRADIENT};
    product(c, SL_PASS_INPUT_GRADIENT, t, dh, t,
            (struct sl_operand){att, t, true, SL_ROLE_ACTIVATION}, go, 1.0f,
            g->part[V] + at, d);
    product(c, SL_PASS_INPUT_GRADIENT, t, t, dh, go,
            (struct sl_operand){s->part[V] + at, d, true, SL_ROLE_ACTIVATION}, 1.0f, datt,
            t);
    for (size_t i = 0; i < t; i++) { /* softmax: ds = att (datt - sum(att datt)) */
        float inner = c->k->elem.dot(att + i * t, datt + i * t, t);
        for (size_t j = 0; j < t; j++)
            datt[i * t + j] = att[i * t + j] * (datt[i * t + j] - inner);
    }
    product(c, SL_PASS_INPUT_GRADIENT, t, dh, t,
            (struct sl_operand){datt, t, false, SL_ROLE_GRADIENT},
            (struct sl_operand){s->part[K] + at, d, false, SL_ROLE_ACTIVATION}, scale,
            g->part[Q] + at, d);
    product(c, SL_PASS_INPUT_GRADIENT, t, dh, t,
            (struct sl_operand){datt, t, true, SL_ROLE_GRADIENT},
            (struct sl_operand){s->part[Q] + at, d, false, SL_ROLE_ACTIVATION}, scale,
            g->part[K] + at, d);
}

static void backward(const struct sl_layer *l, const struct sl_pass_ctx *c,
                     const float *x, const float *y, float *dy, float *dx, void *aux)
{
    size_t t = l->in.dim[0], d = l->in.dim[1], heads = l->spec.heads;
    struct kept s = kept_of(l, c->n, aux), g = kept_of(l, c->n, c->scratch);
    sl_dense_backward(c, c->n * t, d, d, s.part[O], sl_layer_value(l, c, 2 * O), dy,
                      sl_layer_grad(l, c, 2 * O), sl_layer_grad(l, c, 2 * O + 1), false,
                      g.part[O]);
    for (size_t i = 0; i < c->n * heads; i++)
        head_backward(l, c, &s, &g, i / heads * t * d + i % heads * (d / heads),
                      s.att + i * t * t);
    for (unsigned p = Q; p <= V; p++)
        sl_dense_backward(c, c->n * t, d, d, x, sl_layer_value(l, c, 2 * p), g.part[p],
                          sl_layer_grad(l, c, 2 * p), sl_layer_grad(l, c, 2 * p + 1),
                          p != Q, dx);
}

static void unit_bytes(const struct sl_layer *l, size_t n, const struct sl_matmul_unit *u,
                       const struct sl_unit_options *o, struct sl_unit_bytes *ret)
{
    size_t t = l->in.dim[0], d = l->in.dim[1], dh = d / l->spec.heads;
    sl_unit_matmul_bytes(u, o, n * t, d, d, false, ret);
    sl_unit_matmul_bytes(u, o, t, t, dh, false, ret);
    sl_unit_matmul_bytes(u, o, t, dh, t, false, ret);
}

const struct sl_layer_ops sl_layer_mhsa = {
    .kind = SL_LAYER_MHSA,
    .prefix = "attn",
    .build = build,
    .unit_bytes = unit_bytes,
    .aux_bytes = aux_bytes,
    .scratch_bytes = scratch_bytes,
    .forward = forward,
    .backward = backward,
};
