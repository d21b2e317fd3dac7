/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/units/rtn.h"

#include <math.h>
#include <string.h>

static enum sl_code refuse_nan(struct sl_err *err)
{
    return sl_err_set(err, SL_E_INPUT, "ternary: NaN in the tensor");
}

/* --- ternary values ------------------------------------------------------------------
 */

static int8_t ternary(float x, float d)
{
    return (int8_t)((x > d) - (x < -d));
}

enum sl_code sl_rtn_ternarise_before(const float *x, size_t n, float gamma, float beta,
                                     int8_t *ret_t, struct sl_err *err)
{
    if (!(gamma < 0.0f || gamma > 0.0f))
        return sl_err_set(err, SL_E_RANGE, "ternary: gamma %g (not 0)", (double)gamma);
    for (size_t i = 0; i < n; i++)
        if (isnan(x[i]))
            return refuse_nan(err);
    for (size_t i = 0; i < n; i++)
        ret_t[i] = ternary((x[i] - beta) / gamma, SL_RTN_ACTIVATION_D);
    return SL_OK;
}

enum sl_code sl_rtn_ternarise(const struct sl_rtn_ops *ops, const float *x, size_t n,
                              float d, uint64_t *flag, uint64_t *sign, uint64_t *clip,
                              struct sl_err *err)
{
    return ops->ternarise(x, n, d, flag, sign, clip) ? SL_OK : refuse_nan(err);
}

void sl_rtn_unpack(const uint64_t *flag, const uint64_t *sign, size_t n, int8_t *ret_t)
{
    for (size_t i = 0; i < n; i++) {
        int f = (int)(flag[i / 64] >> i % 64 & 1), s = (int)(sign[i / 64] >> i % 64 & 1);
        ret_t[i] = (int8_t)(f * (2 * s - 1));
    }
}

void sl_rtn_levels(float gamma, float beta, float ret_level[3])
{
    for (int t = -1; t <= 1; t++)
        ret_level[t + 1] = gamma * (float)t + beta;
}

enum sl_code sl_rtn_threshold(const struct sl_rtn_weights *w, float *ret_d,
                              float *ret_gamma, struct sl_err *err)
{
    double all = 0.0, above = 0.0;
    size_t n_above = 0;
    for (size_t i = 0; i < w->k; i++)
        for (size_t j = 0; j < w->n; j++)
            all += (double)fabsf(w->w[i * w->step_k + j * w->step_n]);
    if (!isfinite(all)) /* a sum of finite floats is finite in double */
        return sl_err_set(err, SL_E_INPUT, "ternary: Inf or NaN in the weights");
    size_t n = w->k * w->n;
    float d = n == 0 ? 0.0f : SL_RTN_WEIGHT_D * ((float)all / (float)n);
    for (size_t i = 0; i < w->k; i++)
        for (size_t j = 0; j < w->n; j++) {
            float a = fabsf(w->w[i * w->step_k + j * w->step_n]);
            above += a > d ? (double)a : 0.0;
            n_above += a > d;
        }
    *ret_d = d;
    *ret_gamma = n_above == 0 ? 0.0f : (float)above / (float)n_above;
    return SL_OK;
}

/* --- products ------------------------------------------------------------------------
 */

size_t sl_rtn_packed_words(size_t words, size_t n)
{
    return (n + SL_RTN_BLOCK - 1) / SL_RTN_BLOCK * words * 2 * SL_RTN_BLOCK;
}

void sl_rtn_pack_lines(const uint64_t *flag, const uint64_t *sign, size_t n, size_t words,
                       uint64_t *ret_packed)
{
    for (size_t j = 0; j < n; j += SL_RTN_BLOCK)
        for (size_t k = 0; k < words; k++, ret_packed += 2 * SL_RTN_BLOCK)
            for (size_t l = 0; l < SL_RTN_BLOCK; l++) {
                bool there = j + l < n;
                ret_packed[l] = there ? flag[(j + l) * words + k] : 0;
                ret_packed[SL_RTN_BLOCK + l] = there ? sign[(j + l) * words + k] : 0;
            }
}

void sl_rtn_affine(float ga, float ba, const float *gw, const float *bw, size_t n_scales,
                   size_t n, struct sl_rtn_affine *ret)
{
    for (size_t j = 0; j < n; j++) {
        float g = gw[n_scales == 1 ? 0 : j], b = bw[n_scales == 1 ? 0 : j];
        ret[j] = (struct sl_rtn_affine){
            .dot = ga * g, .sum_a = ga * b, .sum_w = ba * g, .count = ba * b};
    }
}

/* --- convolution ---------------------------------------------------------------------
 */

size_t sl_rtn_conv_words(const struct sl_conv_geometry *g)
{
    return SL_RTN_WORDS((size_t)g->in_c * g->kernel * g->kernel);
}

/* The kernel's positions that lie inside a row of `size` values at output o. */
static void valid(const struct sl_conv_geometry *g, uint32_t o, uint32_t size,
                  uint32_t *ret_lo, uint32_t *ret_hi)
{
    uint32_t at = o * g->stride;
    uint32_t lo = at < g->pad ? g->pad - at : 0;
    uint32_t hi = size + g->pad > at ? size + g->pad - at : 0;
    *ret_lo = lo < g->kernel ? lo : g->kernel;
    *ret_hi = hi < g->kernel ? hi : g->kernel;
    if (*ret_hi < *ret_lo)
        *ret_hi = *ret_lo;
}

/* Sums of one filter over its first y rows and x columns: upto[y * (kernel + 1) + x]. */
static void prefix_sums(const struct sl_conv_geometry *g, const int8_t *tw, int32_t *upto)
{
    size_t k = g->kernel, row = k + 1;
    memset(upto, 0, row * row * sizeof(*upto));
    for (size_t y = 0; y < k; y++)
        for (size_t x = 0; x < k; x++) {
            int32_t here = 0;
            for (size_t c = 0; c < g->in_c; c++)
                here += tw[(c * k + y) * k + x];
            upto[(y + 1) * row + x + 1] = here + upto[y * row + x + 1] +
                                          upto[(y + 1) * row + x] - upto[y * row + x];
        }
}

static void place_sums(const struct sl_conv_geometry *g, const int32_t *upto,
                       int32_t *sum_w, int32_t *count)
{
    size_t row = g->kernel + 1;
    uint32_t y0, y1, x0, x1;
    for (uint32_t oy = 0; oy < g->out_h; oy++)
        for (uint32_t ox = 0; ox < g->out_w; ox++, sum_w++, count++) {
            valid(g, oy, g->in_h, &y0, &y1);
            valid(g, ox, g->in_w, &x0, &x1);
            *sum_w = upto[y1 * row + x1] - upto[y0 * row + x1] - upto[y1 * row + x0] +
                     upto[y0 * row + x0];
            *count = (int32_t)(g->in_c * (y1 - y0) * (x1 - x0));
        }
}

void sl_rtn_filters_make(const struct sl_rtn_ops *ops, const struct sl_conv_geometry *g,
                         const int8_t *tw, int8_t *line, struct sl_rtn_filters *f)
{
    size_t kk = (size_t)g->kernel * g->kernel, taps = g->in_c * kk;
    size_t words = sl_rtn_conv_words(g), places = (size_t)g->out_h * g->out_w;
    int32_t upto[(SL_RTN_KERNEL_MAX + 1) * (SL_RTN_KERNEL_MAX + 1)];
    for (size_t o = 0; o < g->out_c; o++, tw += taps) {
        for (size_t c = 0; c < g->in_c; c++)
            for (size_t i = 0; i < kk; i++)
                line[i * g->in_c + c] = tw[c * kk + i];
        ops->pack_bytes(line, taps, f->flag + o * words, f->sign + o * words);
        prefix_sums(g, tw, upto);
        place_sums(g, upto, f->sum_w + o * places, f->count);
    }
}

/* Channels last, with the border of zeros. */
static void pad_image(const struct sl_conv_geometry *g, const int8_t *t, int8_t *padded)
{
    size_t c_count = g->in_c, w = g->in_w + 2 * (size_t)g->pad;
    memset(padded, 0, (g->in_h + 2 * (size_t)g->pad) * w * c_count);
    for (size_t c = 0; c < c_count; c++)
        for (size_t y = 0; y < g->in_h; y++) {
            int8_t *to = padded + ((y + g->pad) * w + g->pad) * c_count + c;
            for (size_t x = 0; x < g->in_w; x++)
                to[x * c_count] = *t++;
        }
}

/* What the kernel sees at each place, as lines of planes. */
static void make_lines(const struct sl_rtn_ops *ops, const struct sl_conv_geometry *g,
                       struct sl_rtn_image *im)
{
    size_t words = sl_rtn_conv_words(g), run = (size_t)g->kernel * g->in_c;
    size_t row = (g->in_w + 2 * (size_t)g->pad) * g->in_c, place = 0;
    for (size_t oy = 0; oy < g->out_h; oy++)
        for (size_t ox = 0; ox < g->out_w; ox++, place++) {
            const int8_t *from =
                im->padded + oy * g->stride * row + ox * g->stride * g->in_c;
            uint64_t *flag = im->flag + place * words, *sign = im->sign + place * words;
            for (size_t ky = 0; ky < g->kernel; ky++)
                memcpy(im->line + ky * run, from + ky * row, run);
            ops->pack_bytes(im->line, g->kernel * run, flag, sign);
            im->sum_a[place] = ops->sum(flag, sign, words);
        }
}

void sl_rtn_conv_image(const struct sl_rtn_ops *ops, const struct sl_conv_geometry *g,
                       const int8_t *t, const struct sl_rtn_filters *f,
                       const struct sl_rtn_affine *affine, const float *bias,
                       struct sl_rtn_image *image, float *r)
{
    size_t words = sl_rtn_conv_words(g), places = (size_t)g->out_h * g->out_w;
    pad_image(g, t, image->padded);
    make_lines(ops, g, image);
    sl_rtn_pack_lines(image->flag, image->sign, places, words, image->packed);
    ops->dots(g->out_c, places, words, f->flag, f->sign, image->packed, image->d, places);
    for (size_t o = 0; o < g->out_c; o++)
        ops->combine_places(places, image->d + o * places, image->sum_a,
                            f->sum_w + o * places, f->count, affine + o,
                            bias == NULL ? NULL : bias + o, r + o * places);
}

/* --- gradients -----------------------------------------------------------------------
 */

void sl_rtn_sums_add(struct sl_rtn_sums *s, const float *g, const uint64_t *flag,
                     const uint64_t *sign, size_t n)
{
    double gamma = s->gamma, beta = s->beta;
    for (size_t i = 0; i < n; i++) {
        uint64_t f = flag[i / 64] >> i % 64 & 1, sg = sign[i / 64] >> i % 64 & 1;
        double v = (double)g[i];
        gamma += f == 0 ? 0.0 : sg != 0 ? v : -v;
        beta += v;
    }
    *s = (struct sl_rtn_sums){gamma, beta};
}

/* --- cost ----------------------------------------------------------------------------
 */

struct sl_rtn_options sl_rtn_defaults(void)
{
    return (struct sl_rtn_options){.word_bits = 64,
                                   .lanes = 64,
                                   .hz = 200e6,
                                   .e_ternary = 1.0 / 46.46,
                                   .e_fp32 = 1.0};
}

enum sl_code sl_rtn_check(const struct sl_rtn_options *o, struct sl_err *err)
{
    if (o->word_bits < 1 || o->word_bits > 4096 || o->lanes < 1 || o->lanes > 65536)
        return sl_err_set(err, SL_E_RANGE,
                          "ternary: word_bits %u, lanes %u (1 to 4096, 1 to 65536)",
                          o->word_bits, o->lanes);
    if (!(o->hz > 0.0 && o->e_ternary >= 0.0 && o->e_fp32 >= 0.0))
        return sl_err_set(
            err, SL_E_RANGE,
            "ternary: hz %g, e_ternary %g, e_fp32 %g (above 0; not below 0)", o->hz,
            o->e_ternary, o->e_fp32);
    return SL_OK;
}

uint64_t sl_rtn_cycles(const struct sl_rtn_options *o, uint64_t m, uint64_t n, uint64_t k)
{
    return ((k + o->word_bits - 1) / o->word_bits * m * n + o->lanes - 1) / o->lanes;
}

double sl_rtn_energy(const struct sl_rtn_options *o, const struct sl_unit_ledger *l)
{
    double macs = 0.0;
    for (int p = 0; p < SL_PASSES; p++)
        macs += (double)l->macs[p];
    double ternary = (double)l->ternary_macs;
    return o->e_ternary * ternary + o->e_fp32 * (macs - ternary);
}
