/* SPDX-License-Identifier: Apache-2.0 */
/* pool_body.h - definition of the pooling kernels; OPS_NAME is the table it makes. */
#include <stdbool.h>
#include <string.h>

/* v takes the place of the best so far: larger, or the first NaN. */
static inline bool wins(float v, float best)
{
    return !(v <= best) & (best == best);
}

static void max_window(const struct sl_pool_geometry *g, const float *x, size_t oy, size_t ox,
                       float *y, uint8_t *where)
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

/* Windows of 2 x 2 side by side; top and bottom are the two input rows. Each row's first maximum,
 * then the lower one only if it wins: the first in row-major order. */
static void max_row_2x2(const float *top, const float *bottom, size_t n, float *restrict y,
                        uint8_t *restrict where)
{
    for (size_t i = 0; i < n; i++) {
        float a = top[2 * i], b = top[2 * i + 1];
        float c = bottom[2 * i], d = bottom[2 * i + 1];
        bool right = wins(b, a), right2 = wins(d, c);
        float upper = right ? b : a, lower = right2 ? d : c;
        uint8_t pu = right ? 1 : 0, pl = right2 ? 3 : 2;
        bool down = wins(lower, upper);
        y[i] = down ? lower : upper;
        where[i] = down ? pl : pu;
    }
}

static bool is_2x2(const struct sl_pool_geometry *g)
{
    return g->kernel == 2 && g->stride == 2 && g->pad == 0;
}

static void pool_max(const struct sl_pool_geometry *g, size_t planes, const float *x, float *y,
                     uint8_t *where)
{
    size_t in = (size_t)g->in_h * g->in_w, w = g->in_w;
    for (size_t p = 0; p < planes; p++, x += in)
        for (size_t oy = 0; oy < g->out_h; oy++, y += g->out_w, where += g->out_w) {
            if (is_2x2(g)) {
                max_row_2x2(x + 2 * oy * w, x + (2 * oy + 1) * w, g->out_w, y, where);
                continue;
            }
            for (size_t ox = 0; ox < g->out_w; ox++)
                max_window(g, x, oy, ox, y + ox, where + ox);
        }
}

static void spread_row_2x2(const float *dy, const uint8_t *where, size_t n,
                           float *restrict top, float *restrict bottom)
{
    for (size_t i = 0; i < n; i++) {
        top[2 * i] = where[i] == 0 ? dy[i] : 0.0f;
        top[2 * i + 1] = where[i] == 1 ? dy[i] : 0.0f;
        bottom[2 * i] = where[i] == 2 ? dy[i] : 0.0f;
        bottom[2 * i + 1] = where[i] == 3 ? dy[i] : 0.0f;
    }
}

static void pool_max_grad(const struct sl_pool_geometry *g, size_t planes, const float *dy,
                          const uint8_t *where, float *dx)
{
    size_t in = (size_t)g->in_h * g->in_w, w = g->in_w;
    bool fast = is_2x2(g);
    if (!fast || g->in_h != 2 * g->out_h || g->in_w != 2 * g->out_w)
        memset(dx, 0, planes * in * sizeof(*dx));
    for (size_t p = 0; p < planes; p++, dx += in)
        for (size_t oy = 0; oy < g->out_h; oy++, dy += g->out_w, where += g->out_w) {
            if (fast) {
                spread_row_2x2(dy, where, g->out_w, dx + 2 * oy * w, dx + (2 * oy + 1) * w);
                continue;
            }
            for (size_t ox = 0; ox < g->out_w; ox++) {
                size_t iy = oy * g->stride + where[ox] / g->kernel - g->pad;
                size_t ix = ox * g->stride + where[ox] % g->kernel - g->pad;
                dx[iy * w + ix] += dy[ox];
            }
        }
}

const struct sl_pool_ops OPS_NAME = {
    .max = pool_max,
    .max_grad = pool_max_grad,
};
