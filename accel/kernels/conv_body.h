/* SPDX-License-Identifier: Apache-2.0 */
/* conv_body.h - definition of the convolution kernels; OPS_NAME is the table it makes. */
#include <string.h>

#include "accel/kernels/lanes.h"

/* The output columns [*lo, *hi) that read inside a row of in_w values at shift kx. */
static void inside(const struct sl_conv_geometry *g, size_t kx, size_t *lo, size_t *hi)
{
    size_t s = g->stride, first = kx < g->pad ? (g->pad - kx + s - 1) / s : 0;
    size_t end = g->in_w + g->pad > kx ? (g->in_w + g->pad - kx + s - 1) / s : 0;
    *hi = end < g->out_w ? end : g->out_w;
    *lo = first < *hi ? first : *hi;
}

static void gather_row(const struct sl_conv_geometry *g, const float *x, size_t kx,
                       size_t lo, size_t hi, float *out)
{
    for (size_t ox = 0; ox < lo; ox++)
        out[ox] = 0.0f;
    for (size_t ox = hi; ox < g->out_w; ox++)
        out[ox] = 0.0f;
    if (g->stride == 1 && lo < hi) {
        const float *from = x + (lo + kx - g->pad);
        for (size_t i = 0; i < hi - lo; i++)
            out[lo + i] = from[i];
        return;
    }
    for (size_t ox = lo; ox < hi; ox++)
        out[ox] = x[ox * g->stride + kx - g->pad];
}

/* Rows first.. of a plane at shift kx when the output is as wide as the input (stride 1):
 * the rows lie one after another in both, so they are one block moved by kx - pad, of
 * which the columns that ran over the edge are then cleared. n_rows whole rows from x to
 * out. */
static void shift_rows(const struct sl_conv_geometry *g, const float *x, size_t kx,
                       size_t lo, size_t hi, size_t n_rows, float *out)
{
    size_t w = g->in_w, all = n_rows * w;
    if (kx >= g->pad) {
        size_t by = kx - g->pad < all ? kx - g->pad : all;
        memcpy(out, x + by, (all - by) * sizeof(*x));
    } else {
        size_t by = g->pad - kx < all ? g->pad - kx : all;
        memcpy(out + by, x, (all - by) * sizeof(*x));
    }
    for (size_t r = 0; r < n_rows; r++) {
        for (size_t ox = 0; ox < lo; ox++)
            out[r * w + ox] = 0.0f;
        for (size_t ox = hi; ox < w; ox++)
            out[r * w + ox] = 0.0f;
    }
}

/* n values in whole vectors where both arrays go on long enough (up to their ends), so
 * that what is written behind the n belongs to later rows; else one by one. */
static inline void copy_row(const float *from, const float *from_end, size_t n, float *to,
                            const float *to_end)
{
    size_t whole = (n + SL_LANES - 1) / SL_LANES * SL_LANES;
    if ((size_t)(from_end - from) < whole || (size_t)(to_end - to) < whole) {
        for (size_t i = 0; i < n; i++)
            to[i] = from[i];
        return;
    }
    for (size_t i = 0; i < whole; i += SL_LANES)
        lanes_store(to + i, lanes_load(from + i));
}

/* to += from, as copy_row; behind the n, +0 is added. */
static inline void add_row(const float *from, const float *from_end, size_t n, float *to,
                           const float *to_end)
{
    size_t whole = (n + SL_LANES - 1) / SL_LANES * SL_LANES;
    if ((size_t)(from_end - from) < whole || (size_t)(to_end - to) < whole) {
        for (size_t i = 0; i < n; i++)
            to[i] += from[i];
        return;
    }
    for (size_t i = 0; i < whole; i += SL_LANES) {
        lane_bits valid = lanes_below(n - i);
        lanes v = (lanes)((lane_bits)lanes_load(from + i) & valid);
        lanes_store(to + i, lanes_load(to + i) + v);
    }
}

static void im2col_plane(const struct sl_conv_geometry *g, const float *x, size_t ky,
                         size_t kx, float *out)
{
    size_t lo, hi, w = g->out_w;
    inside(g, kx, &lo, &hi);
    if (g->stride == 1 && g->out_w == g->in_w && g->out_h == g->in_h) {
        size_t above = ky < g->pad ? g->pad - ky : 0; /* rows of zeros */
        size_t below = ky > g->pad ? ky - g->pad : 0;
        above = above < g->out_h ? above : g->out_h;
        below = below < g->out_h ? below : g->out_h;
        size_t n_rows = g->out_h - above - below;
        memset(out, 0, above * w * sizeof(*out));
        shift_rows(g, x + below * w, kx, lo, hi, n_rows, out + above * w);
        memset(out + (above + n_rows) * w, 0, below * w * sizeof(*out));
        return;
    }
    for (size_t oy = 0; oy < g->out_h; oy++) {
        size_t py = oy * g->stride + ky;
        if (py < g->pad || py - g->pad >= g->in_h)
            memset(out + oy * w, 0, w * sizeof(*out));
        else
            gather_row(g, x + (py - g->pad) * g->in_w, kx, lo, hi, out + oy * w);
    }
}

/* Stride 1 without padding: every row of an output plane is a piece of an input row. */
static void im2col_inner(const struct sl_conv_geometry *g, const float *x, float *col)
{
    size_t plane = (size_t)g->in_h * g->in_w, places = (size_t)g->out_h * g->out_w;
    size_t k = g->kernel;
    const float *x_end = x + g->in_c * plane, *end = col + g->in_c * k * k * places;
    for (size_t c = 0; c < g->in_c; c++, x += plane)
        for (size_t tap = 0; tap < k * k; tap++) {
            const float *from = x + tap / k * g->in_w + tap % k;
            for (size_t oy = 0; oy < g->out_h; oy++, col += g->out_w)
                copy_row(from + oy * g->in_w, x_end, g->out_w, col, end);
        }
}

static void im2col(const struct sl_conv_geometry *g, const float *x, float *col)
{
    size_t plane = (size_t)g->in_h * g->in_w, places = (size_t)g->out_h * g->out_w;
    if (g->stride == 1 && g->pad == 0) {
        im2col_inner(g, x, col);
        return;
    }
    for (size_t c = 0; c < g->in_c; c++)
        for (size_t ky = 0; ky < g->kernel; ky++)
            for (size_t kx = 0; kx < g->kernel; kx++) {
                im2col_plane(g, x + c * plane, ky, kx, col);
                col += places;
            }
}

/* Row `in` of columns (which go on to in_end) added to row x of an image (to x_end). */
static void scatter_row(const struct sl_conv_geometry *g, const float *in,
                        const float *in_end, size_t kx, size_t lo, size_t hi, float *x,
                        const float *x_end)
{
    if (g->stride == 1 && lo < hi) {
        add_row(in + lo, in_end, hi - lo, x + (lo + kx - g->pad), x_end);
        return;
    }
    for (size_t ox = lo; ox < hi; ox++)
        x[ox * g->stride + kx - g->pad] += in[ox];
}

static void col2im(const struct sl_conv_geometry *g, const float *col, float *x)
{
    size_t plane = (size_t)g->in_h * g->in_w, lo, hi;
    const float *x_end = x + g->in_c * plane;
    const float *end =
        col + (size_t)g->in_c * g->kernel * g->kernel * g->out_h * g->out_w;
    memset(x, 0, g->in_c * plane * sizeof(*x));
    for (size_t c = 0; c < g->in_c; c++)
        for (size_t ky = 0; ky < g->kernel; ky++)
            for (size_t kx = 0; kx < g->kernel; kx++) {
                inside(g, kx, &lo, &hi);
                for (size_t oy = 0; oy < g->out_h; oy++, col += g->out_w) {
                    size_t py = oy * g->stride + ky;
                    if (py >= g->pad && py - g->pad < g->in_h)
                        scatter_row(g, col, end, kx, lo, hi,
                                    x + c * plane + (py - g->pad) * g->in_w, x_end);
                }
            }
}

static void im2band(const struct sl_conv_geometry *g, const float *x, float *band)
{
    size_t edge = (size_t)g->pad * g->out_w, w = g->out_w, lo, hi;
    for (size_t c = 0; c < g->in_c; c++, x += (size_t)g->in_h * g->in_w)
        for (size_t kx = 0; kx < g->kernel; kx++) {
            inside(g, kx, &lo, &hi);
            memset(band, 0, edge * sizeof(*band));
            band += edge;
            if (g->out_w == g->in_w)
                shift_rows(g, x, kx, lo, hi, g->in_h, band);
            else
                for (size_t y = 0; y < g->in_h; y++)
                    gather_row(g, x + y * g->in_w, kx, lo, hi, band + y * w);
            band += g->in_h * w;
            memset(band, 0, edge * sizeof(*band));
            band += edge;
        }
}

static void band2im(const struct sl_conv_geometry *g, const float *band, float *x)
{
    size_t edge = (size_t)g->pad * g->out_w, w = g->out_w, lo, hi;
    size_t values = (size_t)g->in_c * g->in_h * g->in_w;
    const float *x_end = x + values;
    const float *end = band + (size_t)g->in_c * g->kernel * (g->in_h * w + 2 * edge);
    memset(x, 0, values * sizeof(*x));
    for (size_t c = 0; c < g->in_c; c++, x += (size_t)g->in_h * g->in_w)
        for (size_t kx = 0; kx < g->kernel; kx++) {
            inside(g, kx, &lo, &hi);
            band += edge;
            for (size_t y = 0; y < g->in_h; y++)
                scatter_row(g, band + y * w, end, kx, lo, hi, x + y * g->in_w, x_end);
            band += g->in_h * w + edge;
        }
}

static void bias_planes(const float *b, float *y, size_t planes, size_t channels,
                        size_t size)
{
    for (size_t p = 0; p < planes; p++) {
        float value = b[p % channels];
        float *plane = y + p * size;
        for (size_t i = 0; i < size; i++)
            plane[i] += value;
    }
}

static void bias_planes_grad(const float *dy, size_t n, size_t channels, size_t size,
                             bool accumulate, float *db)
{
    for (size_t c = 0; c < channels; c++) {
        float sum = accumulate ? db[c] : 0.0f;
        for (size_t i = 0; i < n; i++)
            sum += lanes_sum(dy + (i * channels + c) * size, size);
        db[c] = sum;
    }
}

const struct sl_conv_ops OPS_NAME = {
    .im2col = im2col,
    .col2im = col2im,
    .im2band = im2band,
    .band2im = band2im,
    .bias_planes = bias_planes,
    .bias_planes_grad = bias_planes_grad,
};
