/* SPDX-License-Identifier: Apache-2.0 */
/* matmul_tr.c - unit "tr": forward products by Term Revealing, backward ones in single
 * precision, straight through. A tensor's scale is its own (of the batch, for data).
 * Weights keep k digits in groups of g along the reduction: input features of a dense
 * layer, input channels at one kernel position of a convolution. Every other operand
 * keeps s digits a value. Weights are converted once as long as they and the options stay
 * (sl_unit_ctx.keep). A tensor with Inf or NaN has no codes: the result is NaN then. */
#include "accel/units/matmul.h"

#include <math.h>
#include <string.h>

#include "accel/kernels/kernels.h"
#include "accel/units/tr.h"
#include "common/mem.h"

#define BLOCK 48 /* rows of data coded at a time: they stay in the first-level cache */

/* Codes made from weights, in front of which this lies. */
struct kept {
    const float *data;
    uint64_t version;
    struct sl_tr_options options;
    float sf;
    uint64_t terms; /* digits kept */
    bool finite;
};

#define KEPT_BYTES sl_arena_cost(sizeof(struct kept))

static int16_t *codes_of(struct kept *k)
{
    return (int16_t *)(void *)((uint8_t *)k + KEPT_BYTES);
}

static struct sl_tr_options options_of(const struct sl_unit_ctx *ctx)
{
    return ctx->options.tr == NULL ? sl_tr_defaults() : *ctx->options.tr;
}

static bool same_options(const struct sl_tr_options *a, const struct sl_tr_options *b)
{
    return a->bits_w == b->bits_w && a->g == b->g && a->k == b->k && a->enc == b->enc &&
           a->s == b->s && a->bits_x == b->bits_x;
}

static bool holds(const struct kept *k, const struct sl_unit_ctx *ctx, const float *data,
                  const struct sl_tr_options *o)
{
    return k->data == data && k->version == ctx->version && same_options(&k->options, o);
}

static void *carve(uint8_t **at, size_t bytes)
{
    void *p = *at;
    *at += sl_arena_cost(bytes);
    return p;
}

/* A product [m, k] [k, n] whose reduction is `positions` runs of groups. */
static void count(struct sl_unit_ctx *ctx, const struct sl_tr_options *o, size_t m,
                  size_t n, size_t k, size_t positions, size_t converted,
                  const struct kept *w)
{
    uint64_t groups = positions * ((k / positions + o->g - 1) / o->g);
    struct sl_unit_ledger *l = &ctx->ledger;
    l->calls[SL_PASS_FORWARD]++;
    l->macs[SL_PASS_FORWARD] += (uint64_t)m * n * k;
    l->work[SL_PASS_FORWARD] += (uint64_t)m * n * groups * o->k * o->s;
    l->cycles[SL_PASS_FORWARD] += sl_tr_cycles(o, m, n, groups);
    l->bits[SL_PASS_FORWARD] += sl_tr_bits(o, w->terms);
    l->conversions[SL_PASS_FORWARD] += converted;
}

/* --- operands ------------------------------------------------------------------------
 */

/* A matrix as it lies in memory. */
struct block {
    const float *data;
    size_t rows, cols, ld;
};

/* The scale of a matrix; 0 = all codes are 0. False for Inf or NaN. */
static bool scale_of(const struct sl_tr_ops *ops, const struct block *b, unsigned bits,
                     float *ret)
{
    uint32_t max = 0;
    float largest;
    if (b->ld == b->cols)
        max = ops->max_bits(b->data, b->rows * b->cols);
    else
        for (size_t i = 0; i < b->rows; i++) {
            uint32_t row = ops->max_bits(b->data + i * b->ld, b->cols);
            max = row > max ? row : max;
        }
    if (max >= 0x7f800000u)
        return false;
    memcpy(&largest, &max, sizeof(largest));
    largest /= (float)(1u << (bits - 1));
    *ret = largest < 0x1p-126f ? 0.0f : largest;
    return true;
}

/* What the scale counts for in the product: that of a tensor of zeros is 1. */
static float stored(float sf)
{
    return sf == 0.0f ? 1.0f : sf;
}

static void quantise(const struct sl_tr_ops *ops, const float *x, size_t n, float sf,
                     unsigned bits, int16_t *q)
{
    if (sf == 0.0f)
        memset(q, 0, n * sizeof(*q));
    else
        ops->quantise(x, n, sf, (int16_t)(1 << (bits - 1)), q);
}

/* Row i of the left operand as capped codes, with a zero behind an odd k. */
static void code_row(const struct sl_tr_ops *ops, const struct sl_tr_options *o,
                     const struct sl_operand *a, size_t i, size_t k, float sf, int16_t *q)
{
    if (!a->transposed) {
        quantise(ops, a->data + i * a->ld, k, sf, o->bits_x, q);
    } else {
        for (size_t at = 0; at < k; at += BLOCK) {
            float part[BLOCK];
            size_t n = k - at < BLOCK ? k - at : BLOCK;
            for (size_t j = 0; j < n; j++)
                part[j] = a->data[(at + j) * a->ld + i];
            quantise(ops, part, n, sf, o->bits_x, q + at);
        }
    }
    ops->cap(o->enc, o->bits_x, q, k, o->s, q);
    if (k % 2 == 1)
        q[k] = 0;
}

/* The right operand [k, n] coded and packed behind `to`. q: room for n k codes. */
static void code_right(const struct sl_unit_ctx *ctx, const struct sl_tr_options *o,
                       const struct sl_operand *b, size_t k, size_t n, int16_t *q,
                       struct kept *to)
{
    const struct sl_tr_ops *ops = &ctx->kernels->tr;
    struct block all = {b->data, b->transposed ? n : k, b->transposed ? k : n, b->ld};
    bool weight = b->role == SL_ROLE_WEIGHT;
    unsigned bits = weight ? o->bits_w : o->bits_x;
    *to = (struct kept){.data = b->data, .version = ctx->version, .options = *o};
    to->finite = scale_of(ops, &all, bits, &to->sf);
    if (!to->finite)
        return;
    for (size_t i = 0; i < all.rows; i++)
        quantise(ops, b->data + i * b->ld, all.cols, to->sf, bits, q + i * all.cols);
    if (weight) {
        struct sl_tr_lines lines = {b->transposed ? n : 1, k, b->transposed ? 1 : n};
        struct sl_tr_out out = {.value = q};
        sl_tr_reveal(ops, o->enc, o->g, o->k, &lines, q, &out);
        to->terms = out.terms;
    } else {
        ops->cap(o->enc, bits, q, n * k, o->s, q);
    }
    sl_tr_pack(q, all.cols, b->transposed, k, n, codes_of(to));
}

/* --- matrices ------------------------------------------------------------------------
 */

static size_t packed_bytes(size_t k, size_t n)
{
    return KEPT_BYTES + sl_arena_cost(sl_tr_packed_values(k, n) * sizeof(int16_t));
}

static void matmul_bytes(const struct sl_unit_options *o, size_t m, size_t n, size_t k,
                         bool keep, struct sl_unit_bytes *ret)
{
    size_t rows = sl_arena_cost(BLOCK * 2 * SL_TR_PAIRS(k) * sizeof(int16_t));
    size_t need = rows + sl_arena_cost(n * k * sizeof(int16_t));
    if (keep)
        ret->keep = packed_bytes(k, n);
    else
        need += packed_bytes(k, n);
    ret->scratch = need > ret->scratch ? need : ret->scratch;
}

static void fill_nan(const struct sl_matmul *op)
{
    for (size_t i = 0; i < op->m; i++)
        for (size_t j = 0; j < op->n; j++)
            op->c[i * op->ldc + j] = NAN;
}

static void multiply(const struct sl_unit_ctx *ctx, const struct sl_tr_options *o,
                     const struct sl_matmul *op, float sf, struct kept *b, int16_t *rows)
{
    const struct sl_tr_ops *ops = &ctx->kernels->tr;
    size_t lda = 2 * SL_TR_PAIRS(op->k);
    bool wide = sl_tr_is_wide(o, op->k);
    for (size_t i = 0; i < op->m; i += BLOCK) {
        size_t n = op->m - i < BLOCK ? op->m - i : BLOCK;
        for (size_t r = 0; r < n; r++)
            code_row(ops, o, &op->a, i + r, op->k, sf, rows + r * lda);
        struct sl_tr_finish f = {.scale = stored(b->sf) * stored(sf),
                                 .alpha = op->alpha,
                                 .accumulate = op->accumulate,
                                 .c = op->c + i * op->ldc,
                                 .ldc = op->ldc};
        sl_tr_product(ops, wide, n, op->n, op->k, rows, lda, codes_of(b), &f);
    }
}

static void matmul(struct sl_unit_ctx *ctx, const struct sl_matmul *op)
{
    if (op->pass != SL_PASS_FORWARD) {
        sl_matmul_fp32.matmul(ctx, op);
        return;
    }
    struct sl_tr_options o = options_of(ctx);
    uint8_t *at = ctx->scratch;
    int16_t *rows = carve(&at, BLOCK * 2 * SL_TR_PAIRS(op->k) * sizeof(*rows));
    int16_t *q = carve(&at, op->n * op->k * sizeof(*q));
    bool keep = ctx->keep != NULL && op->b.role == SL_ROLE_WEIGHT;
    struct kept *b = keep ? ctx->keep : (void *)at;
    struct block a = {op->a.data, op->a.transposed ? op->k : op->m,
                      op->a.transposed ? op->m : op->k, op->a.ld};
    size_t converted = op->m * op->k;
    float sf = 0.0f;
    if (!keep || !holds(b, ctx, op->b.data, &o)) {
        code_right(ctx, &o, &op->b, op->k, op->n, q, b);
        converted += op->k * op->n;
    }
    if (b->finite && scale_of(&ctx->kernels->tr, &a, o.bits_x, &sf))
        multiply(ctx, &o, op, sf, b, rows);
    else
        fill_nan(op);
    count(ctx, &o, op->m, op->n, op->k, 1, converted, b);
}

/* --- convolution ---------------------------------------------------------------------
 */

struct conv_size {
    size_t in, out, places, taps, weights;
    size_t lda; /* of a filter's row of codes */
};

static struct conv_size sizes(const struct sl_conv_geometry *g)
{
    struct conv_size s = {.places = (size_t)g->out_h * g->out_w,
                          .in = (size_t)g->in_c * g->in_h * g->in_w,
                          .taps = (size_t)g->in_c * g->kernel * g->kernel};
    s.out = g->out_c * s.places;
    s.weights = g->out_c * s.taps;
    s.lda = 2 * SL_TR_PAIRS(s.taps);
    return s;
}

static size_t conv_keep_bytes(const struct sl_conv_geometry *g)
{
    struct conv_size s = sizes(g);
    return KEPT_BYTES + sl_arena_cost(g->out_c * s.lda * sizeof(int16_t));
}

static size_t conv_scratch_bytes(const struct sl_conv_geometry *g)
{
    struct conv_size s = sizes(g);
    size_t own = sl_arena_cost(s.in * sizeof(int16_t)) +
                 sl_arena_cost(2 * s.places * sizeof(int16_t)) +
                 sl_arena_cost(s.weights * sizeof(int16_t)) +
                 sl_arena_cost(sl_tr_packed_values(s.taps, s.places) * sizeof(int16_t)) +
                 conv_keep_bytes(g);
    return own;
}

static void conv_bytes(const struct sl_unit_options *o, const struct sl_conv_geometry *g,
                       size_t n, struct sl_unit_bytes *ret)
{
    size_t need = conv_scratch_bytes(g);
    sl_matmul_fp32.conv_bytes(o, g, n, ret); /* of the gradients */
    ret->scratch = need > ret->scratch ? need : ret->scratch;
    ret->keep = conv_keep_bytes(g);
}

/* Filters [out_c, in_c, k, k] as rows of codes; q: room for all of them. */
static void code_filters(const struct sl_unit_ctx *ctx, const struct sl_tr_options *o,
                         const struct sl_conv_geometry *g, const float *w, int16_t *q,
                         struct kept *to)
{
    const struct sl_tr_ops *ops = &ctx->kernels->tr;
    struct conv_size s = sizes(g);
    struct block all = {w, 1, s.weights, s.weights};
    int16_t *rows = codes_of(to);
    *to = (struct kept){.data = w, .version = ctx->version, .options = *o};
    to->finite = scale_of(ops, &all, o->bits_w, &to->sf);
    if (!to->finite)
        return;
    struct sl_tr_lines lines = {g->out_c, g->in_c, (size_t)g->kernel * g->kernel};
    quantise(ops, w, s.weights, to->sf, o->bits_w, q);
    struct sl_tr_out out = {.value = q};
    sl_tr_reveal(ops, o->enc, o->g, o->k, &lines, q, &out);
    to->terms = out.terms;
    for (size_t i = 0; i < g->out_c; i++) {
        memcpy(rows + i * s.lda, q + i * s.taps, s.taps * sizeof(*q));
        if (s.taps % 2 == 1)
            rows[i * s.lda + s.taps] = 0;
    }
}

/* What a tap (channel, ky, kx) sees at each place, 0 outside the image. */
static void gather_tap(const struct sl_conv_geometry *g, const int16_t *codes, size_t tap,
                       int16_t *line)
{
    size_t kk = (size_t)g->kernel * g->kernel;
    size_t ky = tap % kk / g->kernel, kx = tap % g->kernel;
    const int16_t *plane = codes + tap / kk * g->in_h * g->in_w;
    for (size_t oy = 0; oy < g->out_h; oy++)
        for (size_t ox = 0; ox < g->out_w; ox++) {
            size_t y = oy * g->stride + ky, x = ox * g->stride + kx;
            bool inside = y >= g->pad && y - g->pad < g->in_h && x >= g->pad &&
                          x - g->pad < g->in_w;
            *line++ = inside ? plane[(y - g->pad) * g->in_w + x - g->pad] : 0;
        }
}

/* An image's codes to packed columns [taps, places]; lines: room for two taps. */
static void pack_image(const struct sl_conv_geometry *g, const struct conv_size *s,
                       const int16_t *codes, int16_t *lines, int16_t *packed)
{
    size_t pairs = SL_TR_PAIRS(s->taps);
    for (size_t p = 0; p < pairs; p++) {
        int16_t *even = lines, *odd = lines + s->places;
        gather_tap(g, codes, 2 * p, even);
        if (2 * p + 1 < s->taps)
            gather_tap(g, codes, 2 * p + 1, odd);
        else
            memset(odd, 0, s->places * sizeof(*odd));
        for (size_t j = 0; j < s->places; j++) {
            int16_t *to =
                packed + ((j / SL_TR_TILE * pairs + p) * SL_TR_TILE + j % SL_TR_TILE) * 2;
            to[0] = even[j];
            to[1] = odd[j];
        }
    }
    size_t rest = s->places % SL_TR_TILE; /* columns beyond the last place */
    if (rest != 0)
        for (size_t p = 0; p < pairs; p++)
            memset(packed +
                       ((s->places / SL_TR_TILE * pairs + p) * SL_TR_TILE + rest) * 2,
                   0, (SL_TR_TILE - rest) * 2 * sizeof(*packed));
}

static void conv_forward(struct sl_unit_ctx *ctx, const struct sl_conv_geometry *g,
                         size_t n, const float *x, const float *w, float *y)
{
    const struct sl_tr_ops *ops = &ctx->kernels->tr;
    struct sl_tr_options o = options_of(ctx);
    struct conv_size s = sizes(g);
    uint8_t *at = ctx->scratch;
    int16_t *codes = carve(&at, s.in * sizeof(*codes));
    int16_t *lines = carve(&at, 2 * s.places * sizeof(*lines));
    int16_t *q = carve(&at, s.weights * sizeof(*q));
    int16_t *packed = carve(&at, sl_tr_packed_values(s.taps, s.places) * sizeof(*packed));
    struct kept *k = ctx->keep != NULL ? ctx->keep : (void *)at;
    struct block all = {x, 1, n * s.in, n * s.in};
    size_t converted = n * s.in;
    float sf = 0.0f;
    if (ctx->keep == NULL || !holds(k, ctx, w, &o)) {
        code_filters(ctx, &o, g, w, q, k);
        converted += s.weights;
    }
    bool finite = k->finite && scale_of(ops, &all, o.bits_x, &sf);
    for (size_t i = 0; i < n * s.out && !finite; i++)
        y[i] = NAN;
    for (size_t i = 0; i < n && finite; i++, x += s.in, y += s.out) {
        struct sl_tr_finish f = {
            .scale = stored(k->sf) * stored(sf), .alpha = 1.0f, .c = y, .ldc = s.places};
        quantise(ops, x, s.in, sf, o.bits_x, codes);
        ops->cap(o.enc, o.bits_x, codes, s.in, o.s, codes);
        pack_image(g, &s, codes, lines, packed);
        sl_tr_product(ops, sl_tr_is_wide(&o, s.taps), g->out_c, s.places, s.taps,
                      codes_of(k), s.lda, packed, &f);
    }
    count(ctx, &o, n * s.places, g->out_c, s.taps, (size_t)g->kernel * g->kernel,
          converted, k);
}

static void conv_backward_data(struct sl_unit_ctx *ctx, const struct sl_conv_geometry *g,
                               size_t n, const float *dy, const float *w, float *dx)
{
    sl_matmul_fp32.conv_backward_data(ctx, g, n, dy, w, dx);
}

static void conv_backward_weights(struct sl_unit_ctx *ctx,
                                  const struct sl_conv_geometry *g, size_t n,
                                  const float *x, const float *dy, bool accumulate,
                                  float *dw)
{
    sl_matmul_fp32.conv_backward_weights(ctx, g, n, x, dy, accumulate, dw);
}

const struct sl_matmul_unit sl_matmul_tr = {
    .name = "tr",
    .matmul_bytes = matmul_bytes,
    .conv_bytes = conv_bytes,
    .matmul = matmul,
    .conv_forward = conv_forward,
    .conv_backward_data = conv_backward_data,
    .conv_backward_weights = conv_backward_weights,
};
