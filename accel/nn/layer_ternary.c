/* SPDX-License-Identifier: Apache-2.0 */
/* layer_ternary.c - dense and conv2d of a reparameterised ternary network (units/rtn.h):
 *   t = T(x), a = gamma_a t + beta_a; tw = T_w(w), q = gamma_w tw + beta_w; y = a q^T + b
 * x is best the output of a batch norm, without a ReLU between. Scale and offset are
 * parameters like others, one of each a layer; those of the weights start at the mean
 * magnitude of the weights that are not 0, and at 0. On a unit that is ternary the
 * product goes by bit planes, and what is kept for backward is three bits an activation:
 * t, and whether |x| <= 1; x is not read again. With upstream gradient G, all in fp32: ga
 * = G q, dx = gamma_a ga [|x| <= 1], dgamma_a = sum ga t, dbeta_a = sum ga; gw = G^T a,
 * dw = gw, dgamma_w = sum gw tw, dbeta_w = sum gw. The forms "plain" and "binary" are the
 * same with gamma_a = 1, no offsets and gamma_w taken from the weights at each step; these
 * four parameters stay as they are. On any other unit the layer is an
 * ordinary one of weight and bias: clients of both sorts share a model, and scale and
 * offset have gradient 0 there. */
#include "accel/nn/layer.h"

#include <math.h>
#include <string.h>

#include "accel/nn/conv_geometry.h"
#include "accel/units/rtn.h"
#include "common/mem.h"

enum { WEIGHT, GAMMA_W, BETA_W, GAMMA_A, BETA_A, BIAS };

#define LINES 64 /* lines of activations multiplied at a time */

/* --- shapes --------------------------------------------------------------------------
 */

/* The layer as a product of lines with filters. A line is a row of a dense layer or an
 * image of a convolution. */
struct size {
    size_t rows;    /* lines */
    size_t line;    /* values of a line */
    size_t out;     /* outputs of a dense line, filters of a convolution */
    size_t taps;    /* weights of an output */
    size_t weights; /* out taps */
    size_t words, tap_words;
};

static bool is_conv(const struct sl_layer *l)
{
    return l->spec.kind == SL_LAYER_TERNARY_CONV2D;
}

static struct size size_of(const struct sl_layer *l, size_t n)
{
    size_t k = l->spec.kernel;
    size_t line = is_conv(l) ? l->in_size : l->in.dim[l->in.n_dims - 1];
    struct size s = {.rows = n * l->in_size / line,
                     .line = line,
                     .out = l->spec.out,
                     .taps = is_conv(l) ? l->in.dim[0] * k * k : line};
    s.weights = s.out * s.taps;
    s.words = SL_RTN_WORDS(s.line);
    s.tap_words = SL_RTN_WORDS(s.taps);
    return s;
}

static enum sl_code declare_scales(struct sl_model_builder *b, struct sl_layer *l,
                                   struct sl_err *err)
{
    static const struct {
        const char *suffix;
        enum sl_tensor_init init;
    } scales[] = {{"gamma_w", SL_TENSOR_TERNARY_SCALE},
                  {"beta_w", SL_TENSOR_ZEROS},
                  {"gamma_a", SL_TENSOR_ONES},
                  {"beta_a", SL_TENSOR_ZEROS}};
    const uint32_t one = 1;
    enum sl_code rc = SL_OK;
    for (size_t i = 0; i < sizeof(scales) / sizeof(scales[0]) && rc == SL_OK; i++) {
        rc = sl_layer_declare(b, l, scales[i].suffix, SL_TENSOR_PARAM, 1, &one,
                              scales[i].init, 1, err);
        if (rc == SL_OK)
            b->decls[b->n_decls - 1].no_decay = true;
    }
    return rc;
}

static enum sl_code declare(struct sl_model_builder *b, struct sl_layer *l,
                            unsigned n_dims, const uint32_t *dim, size_t fan_in,
                            struct sl_err *err)
{
    enum sl_code rc = sl_layer_declare(b, l, "weight", SL_TENSOR_PARAM, n_dims, dim,
                                       SL_TENSOR_UNIFORM_WEIGHT, fan_in, err);
    if (rc == SL_OK)
        rc = declare_scales(b, l, err);
    if (rc == SL_OK && l->spec.bias)
        rc = sl_layer_declare(b, l, "bias", SL_TENSOR_PARAM, 1, dim,
                              SL_TENSOR_UNIFORM_BIAS, fan_in, err);
    return rc;
}

static enum sl_code build_dense(struct sl_model_builder *b, struct sl_layer *l,
                                struct sl_err *err)
{
    char text[SL_SHAPE_TEXT];
    if (l->in.n_dims == 3)
        return sl_layer_error(l, err, "input %s has 3 dimensions (flatten it first)",
                              sl_shape_text(&l->in, text));
    if (l->spec.out == 0)
        return sl_layer_error(l, err, "out 0 (at least 1)");
    l->out = l->in;
    l->out.dim[l->in.n_dims - 1] = l->spec.out;
    const uint32_t dim[2] = {l->spec.out, l->in.dim[l->in.n_dims - 1]};
    return declare(b, l, 2, dim, dim[1], err);
}

static enum sl_code build_conv(struct sl_model_builder *b, struct sl_layer *l,
                               struct sl_err *err)
{
    const struct sl_layer_spec *s = &l->spec;
    enum sl_code rc = sl_window_shape(l, s->out, err);
    if (rc != SL_OK)
        return rc;
    if (s->kernel > SL_RTN_KERNEL_MAX)
        return sl_layer_error(l, err, "kernel %u (1 to %d)", s->kernel,
                              SL_RTN_KERNEL_MAX);
    size_t taps = (size_t)l->in.dim[0] * s->kernel * s->kernel, n;
    if (!sl_size_mul(taps, (size_t)l->out.dim[1] * l->out.dim[2], &n) ||
        n > SL_ACTIVATION_MAX)
        return sl_layer_error(l, err, "more than %zu values in an image's lines",
                              SL_ACTIVATION_MAX);
    const uint32_t dim[4] = {s->out, l->in.dim[0], s->kernel, s->kernel};
    return declare(b, l, 4, dim, taps, err);
}

/* --- memory --------------------------------------------------------------------------
 */

/* Lays pieces out behind one another; base NULL: adds up only. */
struct carver {
    uint8_t *base;
    size_t used;
};

static void *carve(struct carver *c, size_t n, size_t size)
{
    void *p = c->base == NULL ? NULL : c->base + c->used;
    c->used += sl_arena_cost(n * size);
    return p;
}

/* What is made from the weights once a version of them. */
struct kept {
    uint64_t version;
    const float *data;
    float gamma; /* mean magnitude of the weights that are not 0 */
    bool finite;
};

struct weights {
    struct kept *kept;
    uint64_t *flag, *sign;         /* [out, tap_words] in the order of storage */
    uint64_t *packed;              /* dense: blocks of these lines */
    int32_t *sum_w;                /* dense: [out] */
    struct sl_rtn_filters filters; /* convolution */
};

static size_t lay_weights(const struct sl_layer *l, const struct size *s, void *keep,
                          struct weights *ret)
{
    struct carver c = {keep, 0};
    *ret = (struct weights){.kept = carve(&c, 1, sizeof(struct kept))};
    ret->flag = carve(&c, s->out * s->tap_words, sizeof(uint64_t));
    ret->sign = carve(&c, s->out * s->tap_words, sizeof(uint64_t));
    if (is_conv(l)) {
        size_t places = (size_t)l->out.dim[1] * l->out.dim[2];
        ret->filters.flag = carve(&c, s->out * s->tap_words, sizeof(uint64_t));
        ret->filters.sign = carve(&c, s->out * s->tap_words, sizeof(uint64_t));
        ret->filters.sum_w = carve(&c, s->out * places, sizeof(int32_t));
        ret->filters.count = carve(&c, places, sizeof(int32_t));
    } else {
        ret->packed =
            carve(&c, sl_rtn_packed_words(s->tap_words, s->out), sizeof(uint64_t));
        ret->sum_w = carve(&c, s->out, sizeof(int32_t));
    }
    return c.used;
}

/* Three bits an activation. */
struct bits {
    uint64_t *flag, *sign, *clip; /* [rows, words] */
};

static struct bits bits_of(const struct size *s, void *aux)
{
    uint64_t *p = aux;
    size_t n = s->rows * s->words;
    return (struct bits){p, p + n, p + 2 * n};
}

static size_t aux_bytes(const struct sl_layer *l, size_t n)
{
    struct size s = size_of(l, n);
    return 3 * s.rows * s.words * sizeof(uint64_t);
}

/* Within a forward call. */
struct forward_room {
    struct sl_rtn_affine *affine; /* [out] */
    int8_t *tw, *t;               /* weights of one output set; an image */
    int32_t *d;                   /* dense: [LINES, out] */
    struct sl_rtn_image image;    /* convolution */
};

static size_t lay_forward(const struct sl_layer *l, const struct size *s, void *scratch,
                          struct forward_room *ret)
{
    struct carver c = {scratch, 0};
    *ret = (struct forward_room){.affine = carve(&c, s->out, sizeof(*ret->affine))};
    if (!is_conv(l)) {
        ret->d = carve(&c, LINES * s->out, sizeof(int32_t));
        return c.used;
    }
    size_t places = (size_t)l->out.dim[1] * l->out.dim[2], pad = l->spec.pad;
    ret->tw = carve(&c, s->weights, 1);
    ret->t = carve(&c, s->line, 1);
    ret->image.padded =
        carve(&c, (l->in.dim[1] + 2 * pad) * (l->in.dim[2] + 2 * pad) * l->in.dim[0], 1);
    ret->image.line = carve(&c, s->taps, 1);
    ret->image.flag = carve(&c, places * s->tap_words, sizeof(uint64_t));
    ret->image.sign = carve(&c, places * s->tap_words, sizeof(uint64_t));
    ret->image.packed =
        carve(&c, sl_rtn_packed_words(s->tap_words, places), sizeof(uint64_t));
    ret->image.sum_a = carve(&c, places, sizeof(int32_t));
    ret->image.d = carve(&c, s->out * places, sizeof(int32_t));
    return c.used;
}

/* Within a backward call. */
struct backward_room {
    float *a, *q;   /* decoded: like x, like w */
    float *ga, *gw; /* their gradients; ga: where dx is not wanted */
};

static size_t lay_backward(const struct size *s, void *scratch, struct backward_room *ret)
{
    struct carver c = {scratch, 0};
    ret->a = carve(&c, s->rows * s->line, sizeof(float));
    ret->q = carve(&c, s->weights, sizeof(float));
    ret->ga = carve(&c, s->rows * s->line, sizeof(float));
    ret->gw = carve(&c, s->weights, sizeof(float));
    return c.used;
}

static size_t scratch_bytes(const struct sl_layer *l, size_t n)
{
    struct size s = size_of(l, n);
    struct forward_room f;
    struct backward_room b;
    size_t forth = lay_forward(l, &s, NULL, &f), back = lay_backward(&s, NULL, &b);
    return forth > back ? forth : back;
}

static void unit_bytes(const struct sl_layer *l, size_t n, const struct sl_matmul_unit *u,
                       const struct sl_unit_options *o, struct sl_unit_bytes *ret)
{
    struct size s = size_of(l, n);
    struct weights w;
    if (is_conv(l)) {
        struct sl_conv_geometry g = sl_conv_geometry_of(l);
        u->conv_bytes(o, &g, n, ret);
    } else {
        sl_unit_matmul_bytes(u, o, s.rows, s.out, s.line, true, ret);
    }
    if (u->ternary)
        ret->keep = lay_weights(l, &s, NULL, &w);
}

/* --- scale and offset ----------------------------------------------------------------
 */

struct scales {
    float gamma_a, beta_a, gamma_w, beta_w;
};

static bool is_learned(const struct sl_layer *l)
{
    return l->spec.form == SL_TERNARY_LEARNED;
}

static struct scales scales_of(const struct sl_layer *l, const struct sl_pass_ctx *c,
                               const struct weights *w)
{
    if (!is_learned(l))
        return (struct scales){.gamma_a = 1.0f, .gamma_w = w->kept->gamma};
    return (struct scales){
        *sl_layer_value(l, c, GAMMA_A), *sl_layer_value(l, c, BETA_A),
        *sl_layer_value(l, c, GAMMA_W), *sl_layer_value(l, c, BETA_W)};
}

static float mean_magnitude(const float *w, size_t n)
{
    double sum = 0.0;
    for (size_t i = 0; i < n; i++)
        sum += fabsf(w[i]);
    return (float)(sum / (double)n);
}

/* --- forward -------------------------------------------------------------------------
 */

static void make_weights(const struct sl_layer *l, const struct sl_pass_ctx *c,
                         const struct size *s, const struct forward_room *room,
                         struct weights *w)
{
    const struct sl_rtn_ops *ops = &c->k->rtn;
    const float *data = sl_layer_value(l, c, WEIGHT);
    struct sl_rtn_weights as_product = {data, s->taps, s->out, 1, s->taps};
    struct sl_err ignored;
    float d, gamma;
    *w->kept = (struct kept){.version = c->unit->version, .data = data};
    if (sl_rtn_threshold(&as_product, &d, &gamma, &ignored) != SL_OK)
        return;
    w->kept->finite = true;
    w->kept->gamma = gamma;
    if (l->spec.form == SL_TERNARY_BINARY) {
        w->kept->gamma = mean_magnitude(data, s->weights);
        d = 0.0f;
    }
    for (size_t o = 0; o < s->out; o++)
        ops->ternarise(data + o * s->taps, s->taps, d, w->flag + o * s->tap_words,
                       w->sign + o * s->tap_words, NULL);
    if (is_conv(l)) {
        struct sl_conv_geometry g = sl_conv_geometry_of(l);
        for (size_t o = 0; o < s->out; o++)
            sl_rtn_unpack(w->flag + o * s->tap_words, w->sign + o * s->tap_words, s->taps,
                          room->tw + o * s->taps);
        sl_rtn_filters_make(ops, &g, room->tw, room->image.line, &w->filters);
        return;
    }
    sl_rtn_pack_lines(w->flag, w->sign, s->out, s->tap_words, w->packed);
    for (size_t o = 0; o < s->out; o++)
        w->sum_w[o] = ops->sum(w->flag + o * s->tap_words, w->sign + o * s->tap_words,
                               s->tap_words);
}

/* Planes and clip mask of all lines; false for a NaN. */
static bool make_bits(const struct sl_layer *l, const struct sl_pass_ctx *c,
                      const struct size *s, const float *x, const struct bits *bits)
{
    float d = l->spec.form == SL_TERNARY_BINARY ? 0.0f : SL_RTN_ACTIVATION_D;
    bool good = true;
    for (size_t r = 0; r < s->rows && good; r++)
        good = c->k->rtn.ternarise(x + r * s->line, s->line, d, bits->flag + r * s->words,
                                   bits->sign + r * s->words, bits->clip + r * s->words);
    return good;
}

static void multiply_dense(const struct sl_layer *l, const struct sl_pass_ctx *c,
                           const struct size *s, const struct weights *w,
                           const struct bits *bits, const struct forward_room *room,
                           float *y)
{
    const struct sl_rtn_ops *ops = &c->k->rtn;
    const float *bias = l->spec.bias ? sl_layer_value(l, c, BIAS) : NULL;
    for (size_t r = 0; r < s->rows; r += LINES) {
        size_t n = s->rows - r < LINES ? s->rows - r : LINES;
        const uint64_t *flag = bits->flag + r * s->words,
                       *sign = bits->sign + r * s->words;
        ops->dots(n, s->out, s->words, flag, sign, w->packed, room->d, s->out);
        for (size_t i = 0; i < n; i++)
            ops->combine_line(
                s->out, room->d + i * s->out,
                ops->sum(flag + i * s->words, sign + i * s->words, s->words), w->sum_w,
                (int32_t)s->line, room->affine, bias, y + (r + i) * s->out);
    }
}

static void multiply_conv(const struct sl_layer *l, const struct sl_pass_ctx *c,
                          const struct size *s, const struct weights *w,
                          const struct bits *bits, struct forward_room *room, float *y)
{
    const float *bias = l->spec.bias ? sl_layer_value(l, c, BIAS) : NULL;
    struct sl_conv_geometry g = sl_conv_geometry_of(l);
    for (size_t r = 0; r < s->rows; r++, y += l->out_size) {
        sl_rtn_unpack(bits->flag + r * s->words, bits->sign + r * s->words, s->line,
                      room->t);
        sl_rtn_conv_image(&c->k->rtn, &g, room->t, &w->filters, room->affine, bias,
                          &room->image, y);
    }
}

static void count(const struct sl_layer *l, const struct sl_pass_ctx *c,
                  const struct size *s, size_t converted)
{
    struct sl_unit_ledger *to = &c->unit->ledger;
    uint64_t outputs = (uint64_t)c->n * l->out_size;
    struct sl_rtn_options o =
        c->unit->options.rtn == NULL ? sl_rtn_defaults() : *c->unit->options.rtn;
    to->calls[SL_PASS_FORWARD]++;
    to->macs[SL_PASS_FORWARD] += outputs * s->taps;
    to->work[SL_PASS_FORWARD] += outputs * ((s->taps + o.word_bits - 1) / o.word_bits);
    to->ternary_macs += outputs * s->taps;
    to->cycles[SL_PASS_FORWARD] += sl_rtn_cycles(&o, outputs, 1, s->taps);
    to->conversions[SL_PASS_FORWARD] += converted;
    to->bits[SL_PASS_FORWARD] += 2 * (uint64_t)(s->rows * s->line + s->weights);
}

static void forward_ternary(const struct sl_layer *l, const struct sl_pass_ctx *c,
                            const float *x, float *y, void *aux)
{
    struct size s = size_of(l, c->n);
    struct bits bits = bits_of(&s, aux);
    struct forward_room room;
    struct weights w;
    size_t converted = s.rows * s.line;
    lay_forward(l, &s, c->scratch, &room);
    lay_weights(l, &s, c->unit->keep, &w);
    if (w.kept->version != c->unit->version ||
        w.kept->data != sl_layer_value(l, c, WEIGHT)) {
        make_weights(l, c, &s, &room, &w);
        converted += s.weights;
    }
    struct scales k = scales_of(l, c, &w);
    sl_rtn_affine(k.gamma_a, k.beta_a, &k.gamma_w, &k.beta_w, 1, s.out, room.affine);
    if (!make_bits(l, c, &s, x, &bits) || !w.kept->finite) {
        for (size_t i = 0; i < c->n * l->out_size; i++)
            y[i] = NAN; /* no ternary values: the loss shows it */
    } else if (is_conv(l)) {
        multiply_conv(l, c, &s, &w, &bits, &room, y);
    } else {
        multiply_dense(l, c, &s, &w, &bits, &room, y);
    }
    count(l, c, &s, converted);
}

static void forward(const struct sl_layer *l, const struct sl_pass_ctx *c, const float *x,
                    float *y, void *aux)
{
    const float *w = sl_layer_value(l, c, WEIGHT);
    const float *bias = l->spec.bias ? sl_layer_value(l, c, BIAS) : NULL;
    struct size s = size_of(l, c->n);
    if (c->unit->unit->ternary) {
        forward_ternary(l, c, x, y, aux);
        return;
    }
    if (!is_conv(l)) {
        sl_dense_forward(c, s.rows, s.line, s.out, x, w, bias, y);
        return;
    }
    struct sl_conv_geometry g = sl_conv_geometry_of(l);
    c->unit->unit->conv_forward(c->unit, &g, c->n, x, w, y);
    if (bias != NULL)
        c->k->conv.bias_planes(bias, y, c->n * g.out_c, g.out_c,
                               (size_t)g.out_h * g.out_w);
}

/* --- backward ------------------------------------------------------------------------
 */

static void add_scalar(const struct sl_layer *l, const struct sl_pass_ctx *c,
                       unsigned slot, double sum)
{
    float *to = sl_layer_grad(l, c, slot);
    *to = (c->accumulate ? *to : 0.0f) + (float)sum;
}

static void bias_gradient(const struct sl_layer *l, const struct sl_pass_ctx *c,
                          const struct size *s, const float *dy)
{
    if (!l->spec.bias)
        return;
    if (is_conv(l))
        c->k->conv.bias_planes_grad(dy, c->n, s->out,
                                    (size_t)l->out.dim[1] * l->out.dim[2], c->accumulate,
                                    sl_layer_grad(l, c, BIAS));
    else
        c->k->elem.bias_rows_grad(dy, s->rows, s->out, c->accumulate,
                                  sl_layer_grad(l, c, BIAS));
}

/* ga (NULL = not wanted) and gw of y = x w^T, in single precision whatever the unit. */
static void gradients(const struct sl_layer *l, const struct sl_pass_ctx *c,
                      const struct size *s, const float *x, const float *w,
                      const float *dy, float *ga, bool accumulate, float *gw)
{
    const struct sl_matmul_unit *u = c->unit->unit;
    if (is_conv(l)) {
        struct sl_conv_geometry g = sl_conv_geometry_of(l);
        if (ga != NULL)
            u->conv_backward_data(c->unit, &g, c->n, dy, w, ga);
        u->conv_backward_weights(c->unit, &g, c->n, x, dy, accumulate, gw);
        return;
    }
    if (ga != NULL)
        sl_matmul(c->unit, &(struct sl_matmul){.pass = SL_PASS_INPUT_GRADIENT,
                                               .m = s->rows,
                                               .n = s->line,
                                               .k = s->out,
                                               .a = {dy, s->out, false, SL_ROLE_GRADIENT},
                                               .b = {w, s->line, false, SL_ROLE_WEIGHT},
                                               .alpha = 1.0f,
                                               .c = ga,
                                               .ldc = s->line});
    sl_matmul(c->unit, &(struct sl_matmul){.pass = SL_PASS_WEIGHT_GRADIENT,
                                           .m = s->out,
                                           .n = s->line,
                                           .k = s->rows,
                                           .a = {dy, s->out, true, SL_ROLE_GRADIENT},
                                           .b = {x, s->line, false, SL_ROLE_ACTIVATION},
                                           .alpha = 1.0f,
                                           .accumulate = accumulate,
                                           .c = gw,
                                           .ldc = s->line});
}

static void decode(const struct sl_pass_ctx *c, size_t rows, size_t len,
                   const uint64_t *flag, const uint64_t *sign, float gamma, float beta,
                   float *ret)
{
    float level[3];
    size_t words = SL_RTN_WORDS(len);
    sl_rtn_levels(gamma, beta, level);
    for (size_t r = 0; r < rows; r++)
        c->k->rtn.decode(flag + r * words, sign + r * words, len, level, ret + r * len);
}

static struct sl_rtn_sums sums_of(const float *g, const uint64_t *flag,
                                  const uint64_t *sign, size_t rows, size_t len)
{
    struct sl_rtn_sums s = {0};
    size_t words = SL_RTN_WORDS(len);
    for (size_t r = 0; r < rows; r++)
        sl_rtn_sums_add(&s, g + r * len, flag + r * words, sign + r * words, len);
    return s;
}

static void backward_ternary(const struct sl_layer *l, const struct sl_pass_ctx *c,
                             const float *dy, float *dx, void *aux)
{
    struct size s = size_of(l, c->n);
    struct bits bits = bits_of(&s, aux);
    struct backward_room room;
    struct weights w;
    float *dw = sl_layer_grad(l, c, WEIGHT);
    lay_backward(&s, c->scratch, &room);
    lay_weights(l, &s, c->unit->keep, &w);
    float *ga = dx != NULL ? dx : room.ga;
    struct scales k = scales_of(l, c, &w);
    decode(c, s.rows, s.line, bits.flag, bits.sign, k.gamma_a, k.beta_a, room.a);
    decode(c, s.out, s.taps, w.flag, w.sign, k.gamma_w, k.beta_w, room.q);
    gradients(l, c, &s, room.a, room.q, dy, ga, false, room.gw);
    struct sl_rtn_sums sa = {0}, sw = {0};
    if (is_learned(l)) {
        sa = sums_of(ga, bits.flag, bits.sign, s.rows, s.line);
        sw = sums_of(room.gw, w.flag, w.sign, s.out, s.taps);
    }
    add_scalar(l, c, GAMMA_A, sa.gamma);
    add_scalar(l, c, BETA_A, sa.beta);
    add_scalar(l, c, GAMMA_W, sw.gamma);
    add_scalar(l, c, BETA_W, sw.beta);
    if (c->accumulate)
        c->k->elem.add(dw, room.gw, dw, s.weights);
    else
        memcpy(dw, room.gw, s.weights * sizeof(*dw));
    for (size_t r = 0; r < s.rows && dx != NULL; r++)
        c->k->rtn.clip_grad(bits.clip + r * s.words, k.gamma_a, dx + r * s.line, s.line,
                            dx + r * s.line);
}

static void backward(const struct sl_layer *l, const struct sl_pass_ctx *c,
                     const float *x, const float *y, float *dy, float *dx, void *aux)
{
    struct size s = size_of(l, c->n);
    if (c->unit->unit->ternary) {
        backward_ternary(l, c, dy, dx, aux);
    } else {
        gradients(l, c, &s, x, sl_layer_value(l, c, WEIGHT), dy, dx, c->accumulate,
                  sl_layer_grad(l, c, WEIGHT));
        for (unsigned slot = GAMMA_W; slot <= BETA_A; slot++)
            add_scalar(l, c, slot, 0.0);
    }
    bias_gradient(l, c, &s, dy);
}

const struct sl_layer_ops sl_layer_ternary_dense = {
    .kind = SL_LAYER_TERNARY_DENSE,
    .prefix = "fc",
    .build = build_dense,
    .aux_bytes = aux_bytes,
    .scratch_bytes = scratch_bytes,
    .unit_bytes = unit_bytes,
    .forward = forward,
    .backward = backward,
};

const struct sl_layer_ops sl_layer_ternary_conv2d = {
    .kind = SL_LAYER_TERNARY_CONV2D,
    .prefix = "conv",
    .build = build_conv,
    .aux_bytes = aux_bytes,
    .scratch_bytes = scratch_bytes,
    .unit_bytes = unit_bytes,
    .forward = forward,
    .backward = backward,
};
