/* SPDX-License-Identifier: Apache-2.0 */
/* pool_body.h - definition of the pooling kernels; OPS_NAME is the table it makes. */
#include <stdbool.h>
#include <string.h>

#include "accel/kernels/lanes.h"

/* v takes the place of the best so far: larger, or the first NaN. */
static inline bool wins(float v, float best)
{
    return !(v <= best) & (best == best);
}

static void max_window(const struct sl_pool_geometry *g, const float *x, size_t oy,
                       size_t ox, float *y, uint8_t *where)
{
    float best = 0.0f;
    size_t place = 0;
    bool any = false;
    for (size_t ky = 0; ky < g->kernel; ky++)
        for (size_t kx = 0; kx < g->kernel; kx++) {
            size_t py = oy * g->stride + ky, px = ox * g->stride + kx;
            if (py < g->pad || py - g->pad >= g->in_h || px < g->pad ||
                px - g->pad >= g->in_w)
                continue;
            float v = x[(py - g->pad) * g->in_w + px - g->pad];
            if (!any || wins(v, best)) {
                best = v;
                place = ky * g->kernel + kx;
                any = true;
            }
        }
    *y = best;
    *where = (uint8_t)place;
}

/* Windows of 2 x 2 side by side; top and bottom are the two input rows. Each row's first
 * maximum, then the lower one only if it wins: the first in row-major order. */
static void max_row_2x2(const float *top, const float *bottom, size_t n, float *y,
                        uint8_t *where)
{
    for (size_t i = 0; i < n; i++) {
        float a = top[2 * i], b = top[2 * i + 1];
        float c = bottom[2 * i], d = bottom[2 * i + 1];
        bool right = wins(b, a), right2 = wins(d, c);
        float upper = right ? b : a, lower = right2 ? d : c;
        bool down = wins(lower, upper);
        y[i] = down ? lower : upper;
        where[i] = (uint8_t)(down ? 2 + right2 : right);
    }
}

static inline lane_bits lanes_win(lanes v, lanes best)
{
    return ~(v <= best) & (best == best);
}

#define EVEN(a, b)                                                                       \
    __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, \
                            30)
#define ODD(a, b)                                                                        \
    __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, \
                            31)
#define LOW(a, b)                                                                        \
    __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define HIGH(a, b)                                                                       \
    __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30,  \
                            15, 31)

/* The same for 16 windows: reads 32 values of each row. */
static inline void max_lanes_2x2(const float *top, const float *bottom, float *y,
                                 uint8_t *where)
{
    lanes t0 = lanes_load(top), t1 = lanes_load(top + SL_LANES);
    lanes b0 = lanes_load(bottom), b1 = lanes_load(bottom + SL_LANES);
    lanes a = EVEN(t0, t1), b = ODD(t0, t1), c = EVEN(b0, b1), d = ODD(b0, b1);
    lane_bits right = lanes_win(b, a), right2 = lanes_win(d, c);
    lanes upper = lanes_pick(right, b, a), lower = lanes_pick(right2, d, c);
    lane_bits down = lanes_win(lower, upper);
    lanes_store(y, lanes_pick(down, lower, upper));
    lane_bits place = (down & (2 - right2)) | (~down & -right);
    lane_bytes bytes = __builtin_convertvector(place, lane_bytes);
    memcpy(where, &bytes, sizeof(bytes));
}

static bool is_2x2(const struct sl_pool_geometry *g)
{
    return g->kernel == 2 && g->stride == 2 && g->pad == 0;
}

/* All planes of 2 x 2 windows. 16 windows at a time, past the end of a row where the
 * arrays go on: what is written there belongs to the next row, which comes after. */
static void pool_max_2x2(const struct sl_pool_geometry *g, size_t planes, const float *x,
                         float *y, uint8_t *where)
{
    size_t in = (size_t)g->in_h * g->in_w, w = g->in_w, rows = planes * g->out_h;
    const float *x_end = x + planes * in, *y_end = y + rows * g->out_w;
    for (size_t r = 0; r < rows; r++, y += g->out_w, where += g->out_w) {
        const float *top = x + r / g->out_h * in + r % g->out_h * 2 * w,
                    *bottom = top + w;
        size_t i = 0;
        for (; i < g->out_w; i += SL_LANES) {
            if (x_end - (bottom + 2 * i) < 2 * SL_LANES || y_end - (y + i) < SL_LANES)
                break;
            max_lanes_2x2(top + 2 * i, bottom + 2 * i, y + i, where + i);
        }
        if (i < g->out_w)
            max_row_2x2(top + 2 * i, bottom + 2 * i, g->out_w - i, y + i, where + i);
    }
}

static void pool_max(const struct sl_pool_geometry *g, size_t planes, const float *x,
                     float *y, uint8_t *where)
{
    size_t in = (size_t)g->in_h * g->in_w;
    if (is_2x2(g)) {
        pool_max_2x2(g, planes, x, y, where);
        return;
    }
    for (size_t p = 0; p < planes; p++, x += in)
        for (size_t oy = 0; oy < g->out_h; oy++, y += g->out_w, where += g->out_w)
            for (size_t ox = 0; ox < g->out_w; ox++)
                max_window(g, x, oy, ox, y + ox, where + ox);
}

static void spread_row_2x2(const float *dy, const uint8_t *where, size_t n, float *top,
                           float *bottom)
{
    for (size_t i = 0; i < n; i++) {
        top[2 * i] = where[i] == 0 ? dy[i] : 0.0f;
        top[2 * i + 1] = where[i] == 1 ? dy[i] : 0.0f;
        bottom[2 * i] = where[i] == 2 ? dy[i] : 0.0f;
        bottom[2 * i + 1] = where[i] == 3 ? dy[i] : 0.0f;
    }
}

/* The same for 16 windows: writes 32 values of each row, the upper one first. */
static inline void spread_lanes_2x2(const float *dy, const uint8_t *where, float *top,
                                    float *bottom)
{
    const lanes zero = {0};
    lane_bytes bytes;
    memcpy(&bytes, where, sizeof(bytes));
    lane_bits place = __builtin_convertvector(bytes, lane_bits);
    lanes d = lanes_load(dy), part[4];
    for (int i = 0; i < 4; i++)
        part[i] = lanes_pick(place == i, d, zero);
    lanes_store(top, LOW(part[0], part[1]));
    lanes_store(top + SL_LANES, HIGH(part[0], part[1]));
    lanes_store(bottom, LOW(part[2], part[3]));
    lanes_store(bottom + SL_LANES, HIGH(part[2], part[3]));
}

/* All planes of 2 x 2 windows that cover their input: as pool_max_2x2, past the ends of
 * rows. */
static void pool_max_grad_2x2(const struct sl_pool_geometry *g, size_t planes,
                              const float *dy, const uint8_t *where, float *dx)
{
    size_t w = g->in_w, rows = planes * g->out_h;
    const float *dx_end = dx + rows * 2 * w, *dy_end = dy + rows * g->out_w;
    for (size_t r = 0; r < rows; r++, dy += g->out_w, where += g->out_w, dx += 2 * w) {
        size_t i = 0;
        bool wide =
            w <= 2 * SL_LANES || g->out_w % SL_LANES == 0; /* one step, or whole ones */
        for (; wide && i < g->out_w; i += SL_LANES) {
            if (dx_end - (dx + w + 2 * i) < 2 * SL_LANES || dy_end - (dy + i) < SL_LANES)
                break;
            spread_lanes_2x2(dy + i, where + i, dx + 2 * i, dx + w + 2 * i);
        }
        if (i < g->out_w)
            spread_row_2x2(dy + i, where + i, g->out_w - i, dx + 2 * i, dx + w + 2 * i);
    }
}

static void pool_max_grad(const struct sl_pool_geometry *g, size_t planes,
                          const float *dy, const uint8_t *where, float *dx)
{
    size_t in = (size_t)g->in_h * g->in_w, w = g->in_w;
    if (is_2x2(g) && g->in_h == 2 * g->out_h && w == 2 * (size_t)g->out_w) {
        pool_max_grad_2x2(g, planes, dy, where, dx);
        return;
    }
    memset(dx, 0, planes * in * sizeof(*dx));
    for (size_t p = 0; p < planes; p++, dx += in)
        for (size_t oy = 0; oy < g->out_h; oy++, dy += g->out_w, where += g->out_w)
            for (size_t ox = 0; ox < g->out_w; ox++) {
                size_t iy = oy * g->stride + where[ox] / g->kernel - g->pad;
                size_t ix = ox * g->stride + where[ox] % g->kernel - g->pad;
                dx[iy * w + ix] += dy[ox];
            }
}

const struct sl_pool_ops OPS_NAME = {
    .max = pool_max,
    .max_grad = pool_max_grad,
};
