/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/units/bfp_conv.h"

#include <stdlib.h>

#include "common/mem.h"

/* An operand, converted. */
struct side {
    struct sl_bfp_lines lines;
    struct sl_bfp_out out;
    uint32_t g, m;
};

static void side_deinit(struct side *s)
{
    free(s->out.mantissa);
    free(s->out.exponent);
    *s = (struct side){0};
}

static enum sl_code side_init(struct side *s, const struct sl_bfp_options *o,
                              const struct sl_bfp_lines *l, const float *x,
                              struct sl_err *err)
{
    enum sl_code rc = sl_bfp_check(o, err);
    *s = (struct side){.lines = *l, .g = o->g, .m = o->m};
    if (rc != SL_OK)
        return rc;
    size_t lines = sl_bfp_line_count(l);
    s->out.mantissa = sl_calloc(lines * l->k + 1, sizeof(int16_t));
    s->out.exponent = sl_calloc(lines * sl_bfp_groups(l->k, o->g) + 1, sizeof(int16_t));
    if (s->out.mantissa == NULL || s->out.exponent == NULL)
        rc = sl_err_set(err, SL_E_NOMEM, "operand of %zu lines", lines);
    if (rc == SL_OK)
        rc = sl_bfp_convert(o, l, x, &s->out, err);
    if (rc != SL_OK)
        side_deinit(s);
    return rc;
}

static enum sl_code sides_init(struct side s[2], const struct sl_bfp_options *oa,
                               const struct sl_bfp_lines *la, const float *a,
                               const struct sl_bfp_options *ob,
                               const struct sl_bfp_lines *lb, const float *b,
                               struct sl_err *err)
{
    s[1] = (struct side){0};
    enum sl_code rc = side_init(&s[0], oa, la, a, err);
    if (rc == SL_OK)
        rc = side_init(&s[1], ob, lb, b, err);
    if (rc == SL_OK)
        rc = sl_bfp_check_product(oa->g, oa->m, ob->m, err);
    if (rc != SL_OK) {
        side_deinit(&s[0]);
        side_deinit(&s[1]);
    }
    return rc;
}

static struct sl_bfp_line line_at(const struct side *s, size_t i0, size_t i1)
{
    size_t line = i0 * s->lines.n1 + i1;
    return (struct sl_bfp_line){
        s->out.mantissa + i0 * s->lines.step0 + i1 * s->lines.step1, s->lines.step_k,
        s->out.exponent + line * sl_bfp_groups(s->lines.k, s->g), s->m};
}

static float add(float acc, const struct side s[2], struct sl_bfp_line a,
                 struct sl_bfp_line b)
{
    return sl_bfp_add_line(acc, s[0].g, s[0].lines.k, &a, &b);
}

struct sl_bfp_lines sl_bfp_lines_channels(size_t n, size_t channels, size_t places)
{
    return (struct sl_bfp_lines){.n0 = n,
                                 .n1 = places,
                                 .k = channels,
                                 .step0 = channels * places,
                                 .step1 = 1,
                                 .step_k = places};
}

struct sl_bfp_lines sl_bfp_lines_images(size_t n, size_t channels, size_t places)
{
    return (struct sl_bfp_lines){.n0 = places,
                                 .n1 = channels,
                                 .k = n,
                                 .step0 = 1,
                                 .step1 = places,
                                 .step_k = channels * places};
}

/* Input row or column of kernel position k at output o; false in the padding. */
static bool input_of(const struct sl_conv_geometry *g, size_t o, size_t k, size_t size,
                     size_t *ret)
{
    size_t padded = o * g->stride + k;
    *ret = padded - g->pad;
    return padded >= g->pad && *ret < size;
}

/* Output row or column whose position k reads input i; false if there is none. */
static bool output_of(const struct sl_conv_geometry *g, size_t i, size_t k, size_t size,
                      size_t *ret)
{
    size_t padded = i + g->pad;
    *ret = (padded - k) / g->stride;
    return padded >= k && (padded - k) % g->stride == 0 && *ret < size;
}

static float forward_at(const struct sl_conv_geometry *g, const struct side s[2],
                        size_t image, size_t o, size_t oy, size_t ox)
{
    float acc = 0.0f;
    size_t y, x;
    for (size_t ky = 0; ky < g->kernel; ky++)
        for (size_t kx = 0; kx < g->kernel; kx++)
            if (input_of(g, oy, ky, g->in_h, &y) && input_of(g, ox, kx, g->in_w, &x))
                acc = add(acc, s, line_at(&s[0], image, y * g->in_w + x),
                          line_at(&s[1], o, ky * g->kernel + kx));
    return acc;
}

enum sl_code sl_bfp_conv_forward(const struct sl_bfp_conv *c, const float *x,
                                 const float *w, float *ret_y, struct sl_err *err)
{
    const struct sl_conv_geometry *g = &c->g;
    struct sl_bfp_lines lx =
        sl_bfp_lines_channels(c->n, g->in_c, (size_t)g->in_h * g->in_w);
    struct sl_bfp_lines lw =
        sl_bfp_lines_channels(g->out_c, g->in_c, (size_t)g->kernel * g->kernel);
    struct side s[2];
    enum sl_code rc = sides_init(s, &c->x, &lx, x, &c->w, &lw, w, err);
    if (rc != SL_OK)
        return rc;
    for (size_t i = 0; i < c->n; i++)
        for (size_t o = 0; o < g->out_c; o++)
            for (size_t oy = 0; oy < g->out_h; oy++)
                for (size_t ox = 0; ox < g->out_w; ox++)
                    *ret_y++ = forward_at(g, s, i, o, oy, ox);
    side_deinit(&s[0]);
    side_deinit(&s[1]);
    return SL_OK;
}

static float data_at(const struct sl_conv_geometry *g, const struct side s[2],
                     size_t image, size_t ch, size_t y, size_t x)
{
    float acc = 0.0f;
    size_t oy, ox;
    for (size_t ky = 0; ky < g->kernel; ky++)
        for (size_t kx = 0; kx < g->kernel; kx++)
            if (output_of(g, y, ky, g->out_h, &oy) && output_of(g, x, kx, g->out_w, &ox))
                acc = add(acc, s, line_at(&s[0], image, oy * g->out_w + ox),
                          line_at(&s[1], 0, (ch * g->kernel + ky) * g->kernel + kx));
    return acc;
}

enum sl_code sl_bfp_conv_data(const struct sl_bfp_conv *c, const float *dy,
                              const float *w, float *ret_dx, struct sl_err *err)
{
    const struct sl_conv_geometry *g = &c->g;
    struct sl_bfp_lines ld =
        sl_bfp_lines_channels(c->n, g->out_c, (size_t)g->out_h * g->out_w);
    struct sl_bfp_lines lw =
        sl_bfp_lines_channels(1, g->out_c, (size_t)g->in_c * g->kernel * g->kernel);
    struct side s[2];
    enum sl_code rc = sides_init(s, &c->dy, &ld, dy, &c->w, &lw, w, err);
    if (rc != SL_OK)
        return rc;
    for (size_t i = 0; i < c->n; i++)
        for (size_t ch = 0; ch < g->in_c; ch++)
            for (size_t y = 0; y < g->in_h; y++)
                for (size_t x = 0; x < g->in_w; x++)
                    *ret_dx++ = data_at(g, s, i, ch, y, x);
    side_deinit(&s[0]);
    side_deinit(&s[1]);
    return SL_OK;
}

static float weight_at(const struct sl_conv_geometry *g, const struct side s[2], size_t o,
                       size_t ch, size_t ky, size_t kx)
{
    float acc = 0.0f;
    size_t y, x;
    for (size_t oy = 0; oy < g->out_h; oy++)
        for (size_t ox = 0; ox < g->out_w; ox++)
            if (input_of(g, oy, ky, g->in_h, &y) && input_of(g, ox, kx, g->in_w, &x))
                acc = add(acc, s, line_at(&s[0], y * g->in_w + x, ch),
                          line_at(&s[1], oy * g->out_w + ox, o));
    return acc;
}

enum sl_code sl_bfp_conv_weights(const struct sl_bfp_conv *c, const float *x,
                                 const float *dy, float *ret_dw, struct sl_err *err)
{
    const struct sl_conv_geometry *g = &c->g;
    struct sl_bfp_lines lx =
        sl_bfp_lines_images(c->n, g->in_c, (size_t)g->in_h * g->in_w);
    struct sl_bfp_lines ld =
        sl_bfp_lines_images(c->n, g->out_c, (size_t)g->out_h * g->out_w);
    struct side s[2];
    enum sl_code rc = sides_init(s, &c->x, &lx, x, &c->dy, &ld, dy, err);
    if (rc != SL_OK)
        return rc;
    for (size_t o = 0; o < g->out_c; o++)
        for (size_t ch = 0; ch < g->in_c; ch++)
            for (size_t ky = 0; ky < g->kernel; ky++)
                for (size_t kx = 0; kx < g->kernel; kx++)
                    *ret_dw++ = weight_at(g, s, o, ch, ky, kx);
    side_deinit(&s[0]);
    side_deinit(&s[1]);
    return SL_OK;
}
