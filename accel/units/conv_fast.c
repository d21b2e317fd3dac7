/* SPDX-License-Identifier: Apache-2.0 */
/* conv_fast.c - convolutions of the unit "fast". A tensor is converted once per use,
 * along its channels or along the images at a pixel, into a grid of pixels with a border
 * of zero groups; products then walk the grid: a row of the product is a place in it and
 * a tap an offset, so nothing is gathered. Border groups add +0, which changes no sum.
 * Forward: rows = output places, taps = kernel positions, columns = output channels.
 * Data: rows = input places, columns = input channels; with a stride, places fall into
 * stride^2 classes that see different kernel positions.
 * Weights: rows = (kernel position, input channel), taps = output places, columns =
 * output channels, reduction over the images. */
#include "accel/units/fast_operand.h"

#include <math.h>
#include <string.h>

#include "common/mem.h"

struct sizes {
    size_t in, out;               /* values of an image */
    size_t in_places, out_places; /* pixels */
    size_t taps, weights;
};

static struct sizes sizes_of(const struct sl_conv_geometry *g)
{
    struct sizes s = {.in_places = (size_t)g->in_h * g->in_w,
                      .out_places = (size_t)g->out_h * g->out_w,
                      .taps = (size_t)g->kernel * g->kernel};
    s.in = g->in_c * s.in_places;
    s.out = g->out_c * s.out_places;
    s.weights = (size_t)g->out_c * g->in_c * s.taps;
    return s;
}

/* Pixels with borders; `groups` of each. */
struct grid {
    size_t h, w;      /* with borders */
    size_t top, left; /* borders before the first pixel */
    size_t groups;
};

static size_t grid_groups(const struct grid *d)
{
    return d->h * d->w * d->groups;
}

static struct grid input_grid(const struct sl_conv_geometry *g, size_t groups)
{
    return (struct grid){.h = g->in_h + 2 * (size_t)g->pad,
                         .w = g->in_w + 2 * (size_t)g->pad,
                         .top = g->pad,
                         .left = g->pad,
                         .groups = groups};
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Output pixel of input place i under kernel position k: (i + pad - k) / stride, from
 * -reach on. */
static struct grid output_grid(const struct sl_conv_geometry *g, size_t groups)
{
    size_t reach = (g->kernel - 1) / g->stride;
    size_t last_y = ((size_t)g->in_h - 1 + g->pad) / g->stride + 1;
    size_t last_x = ((size_t)g->in_w - 1 + g->pad) / g->stride + 1;
    return (struct grid){.h = reach + larger(g->out_h, last_y),
                         .w = reach + larger(g->out_w, last_x),
                         .top = reach,
                         .left = reach,
                         .groups = groups};
}

/* --- memory
 * ---------------------------------------------------------------------------------- */

struct weights {
    struct sl_fast_kept *kept;
    struct sl_fast_columns columns[2]; /* of out_c, of in_c lines; groups of all taps */
    float *values; /* of a direct convolution, instead of columns[0] */
};

/* Few channels: one group a kernel position, which floats add up exactly. */
static bool goes_directly(const struct sl_fast_options *o,
                          const struct sl_conv_geometry *g)
{
    return g->in_c <= SL_BFP_SHALLOW && g->stride == 1 && !sl_fast_is_wide(o);
}

static struct weights take_weights(struct sl_fast_room *r,
                                   const struct sl_fast_options *o,
                                   const struct sl_conv_geometry *g)
{
    struct weights w = {.kept = sl_fast_take(r, sizeof(*w.kept))};
    size_t taps = (size_t)g->kernel * g->kernel;
    w.columns[0] =
        sl_fast_take_columns(r, o, g->out_c, taps * sl_fast_groups(o, g->in_c));
    w.columns[1] =
        sl_fast_take_columns(r, o, g->in_c, taps * sl_fast_groups(o, g->out_c));
    if (goes_directly(o, g))
        w.values = sl_fast_take(r, taps * g->in_c * g->out_c * sizeof(float));
    return w;
}

/* Scratch of a product over images: forward, or of the data's gradient. */
struct image_room {
    struct sl_fast_rows rows;
    struct sl_bfp_tap *tap;
    uint32_t *row, *place;
    float *out;    /* [places][channels] */
    float *w;      /* [out_c][taps][in_c]; [taps][in_c][out_c] of a direct convolution */
    float *planes; /* [in_c][grid], of a direct convolution */
    uint8_t *registers; /* draws for all images */
};

static struct image_room take_image(struct sl_fast_room *r,
                                    const struct sl_fast_options *o,
                                    const struct sl_conv_geometry *g, size_t n,
                                    bool backward)
{
    struct sizes s = sizes_of(g);
    struct grid d = backward ? output_grid(g, sl_fast_groups(o, g->out_c))
                             : input_grid(g, sl_fast_groups(o, g->in_c));
    size_t places = backward ? s.in_places : s.out_places;
    struct image_room room = {.rows = sl_fast_take_rows(r, o, grid_groups(&d))};
    room.tap = sl_fast_take(r, s.taps * sizeof(*room.tap));
    room.row = sl_fast_take(r, places * sizeof(*room.row));
    room.place = sl_fast_take(r, places * sizeof(*room.place));
    room.out = sl_fast_take(r, (backward ? s.in : s.out) * sizeof(float));
    room.w = sl_fast_take(r, s.weights * sizeof(float));
    if (!backward && goes_directly(o, g))
        room.planes =
            sl_fast_take(r, (g->in_c * d.h * d.w + SL_BFP_SLACK) * sizeof(float));
    room.registers = sl_fast_take(r, backward ? sl_fast_noise_bytes(o, n * s.out) : 0);
    return room;
}

/* Scratch of the weights' gradient. */
struct weight_room {
    struct sl_fast_rows x;     /* grid of [in_c][groups] */
    struct sl_fast_columns dy; /* out_c lines, groups of all output places */
    struct sl_fast_rows line;  /* a row of output pixels before it becomes columns */
    struct sl_bfp_tap *tap;
    uint32_t *row;
    float *out; /* [taps][in_c][out_c] */
    uint8_t *registers;
};

static struct weight_room take_weight_room(struct sl_fast_room *r,
                                           const struct sl_fast_options *o,
                                           const struct sl_conv_geometry *g, size_t n)
{
    struct sizes s = sizes_of(g);
    size_t groups = sl_fast_groups(o, n);
    struct grid d = input_grid(g, g->in_c * groups);
    struct weight_room room = {.x = sl_fast_take_rows(r, o, grid_groups(&d))};
    room.dy = sl_fast_take_columns(r, o, g->out_c, s.out_places * groups);
    room.line = sl_fast_take_rows(r, o, (size_t)g->out_w * g->out_c * groups);
    room.tap = sl_fast_take(r, s.out_places * sizeof(*room.tap));
    room.row = sl_fast_take(r, s.taps * g->in_c * sizeof(*room.row));
    room.out = sl_fast_take(r, s.weights * sizeof(float));
    room.registers = sl_fast_take(r, sl_fast_noise_bytes(o, n * s.out));
    return room;
}

void sl_fast_conv_bytes(const struct sl_unit_options *options,
                        const struct sl_conv_geometry *g, size_t n,
                        struct sl_unit_bytes *ret)
{
    struct sl_fast_options o = sl_fast_options_of(options);
    struct sl_fast_room kept = {0}, room[3] = {{0}, {0}, {0}};
    take_weights(&kept, &o, g);
    take_image(&room[0], &o, g, n, false);
    take_image(&room[1], &o, g, n, true);
    take_weight_room(&room[2], &o, g, n);
    for (int i = 0; i < 3; i++)
        ret->scratch = larger(ret->scratch, room[i].used);
    ret->keep = kept.used;
}

/* --- tensors
 * --------------------------------------------------------------------------------- */

/* Exponent and width of images [n][channels][places]; false for a NaN. */
static bool settle_images(const struct sl_fast_call *f, int tensor, size_t n,
                          size_t channels, size_t places, const float *x,
                          struct sl_fast_tensor *t)
{
    struct sl_fast_kept *kept = f->ctx->keep;
    const struct sl_bfp_lines lines = {.n0 = n,
                                       .n1 = places,
                                       .k = channels,
                                       .step0 = channels * places,
                                       .step1 = 1,
                                       .step_k = places};
    if (!sl_fast_measure(f, x, n, channels * places, channels * places, &t->exponent_t))
        return false;
    t->m = sl_fast_width_of(f, tensor, x, &lines, t->exponent_t, &kept->width[tensor]);
    t->round = f->o.round;
    return true;
}

static bool settle_weights(const struct sl_fast_call *f, const struct sl_conv_geometry *g,
                           const float *w, struct sl_fast_tensor *t)
{
    struct sl_fast_kept *kept = f->ctx->keep;
    struct sizes s = sizes_of(g);
    const struct sl_bfp_lines lines = {.n0 = g->out_c,
                                       .n1 = s.taps,
                                       .k = g->in_c,
                                       .step0 = g->in_c * s.taps,
                                       .step1 = 1,
                                       .step_k = s.taps};
    if (!sl_fast_measure(f, w, 1, s.weights, s.weights, &t->exponent_t))
        return false;
    t->m =
        sl_fast_width_of(f, SL_FAST_W, w, &lines, t->exponent_t, &kept->width[SL_FAST_W]);
    t->round = f->o.round;
    return true;
}

/* to [out_c][taps][in_c] from w [out_c][in_c][taps] */
static void taps_before_channels(const struct sl_conv_geometry *g, const float *w,
                                 float *to)
{
    size_t taps = (size_t)g->kernel * g->kernel, channels = g->in_c;
    for (size_t o = 0; o < g->out_c; o++, w += channels * taps, to += channels * taps)
        for (size_t c = 0; c < channels; c++)
            for (size_t t = 0; t < taps; t++)
                to[t * channels + c] = w[c * taps + t];
}

static void pack_weights(const struct sl_fast_call *f, const struct sl_conv_geometry *g,
                         const struct sl_fast_tensor *t, const float *by_taps,
                         bool backward, const struct sl_fast_columns *to)
{
    size_t taps = (size_t)g->kernel * g->kernel;
    size_t groups = sl_fast_groups(&f->o, backward ? g->out_c : g->in_c);
    struct sl_bfp_source s = sl_fast_source(f, t);
    s.lines = backward ? g->in_c : g->out_c;
    s.k = backward ? g->out_c : g->in_c;
    s.line_step = backward ? 1 : taps * g->in_c;
    s.k_step = backward ? taps * g->in_c : 1;
    for (size_t tap = 0; tap < taps; tap++) {
        s.x = by_taps + tap * g->in_c;
        sl_fast_pack_columns(f, &s, to, tap * groups);
    }
}

/* to [taps][in_c][out_c]: the weights' values, as they are decoded. scratch: as many. */
static void decode_weights(const struct sl_fast_call *f, const struct sl_conv_geometry *g,
                           const struct sl_fast_tensor *t, const float *w, float *scratch,
                           float *to)
{
    size_t taps = (size_t)g->kernel * g->kernel, each = (size_t)g->in_c * g->out_c;
    struct sl_bfp_source s = sl_fast_source(f, t);
    for (size_t o = 0; o < g->out_c; o++)
        for (size_t c = 0; c < g->in_c; c++)
            for (size_t tap = 0; tap < taps; tap++)
                scratch[tap * each + c * g->out_c + o] = *w++;
    s.lines = g->out_c;
    s.k = g->in_c;
    s.line_step = 1;
    s.k_step = g->out_c;
    for (size_t tap = 0; tap < taps; tap++) {
        s.x = scratch + tap * each;
        f->ops->values(&s, to + tap * each, g->out_c);
    }
}

/* The layer's weights for this pass; false for a NaN. */
static bool weights_of(const struct sl_fast_call *f, const struct sl_conv_geometry *g,
                       const float *w, float *scratch, struct weights *ret,
                       uint64_t *converted)
{
    bool backward = f->pass == SL_PASS_INPUT_GRADIENT;
    struct sl_fast_room r = {.base = f->ctx->keep};
    *ret = take_weights(&r, &f->o, g);
    struct sl_fast_kept *kept = ret->kept;
    if (kept->w != w || kept->version != f->ctx->version) {
        kept->usable = settle_weights(f, g, w, &kept->tensor);
        kept->w = w;
        kept->version = f->ctx->version;
        kept->packed[0] = kept->packed[1] = false;
    }
    if (!kept->usable)
        return false;
    if (kept->packed[backward])
        return true;
    if (!backward && ret->values != NULL) {
        decode_weights(f, g, &kept->tensor, w, scratch, ret->values);
    } else {
        taps_before_channels(g, w, scratch);
        pack_weights(f, g, &kept->tensor, scratch, backward, &ret->columns[backward]);
    }
    *converted += sizes_of(g).weights;
    kept->packed[backward] = true;
    return true;
}

/* An image [channels][h][w] into the grid, along its channels. first: number of its first
 * line's first value. */
static void pack_image(const struct sl_fast_call *f, const struct sl_fast_tensor *t,
                       const float *x, size_t channels, size_t h, size_t w,
                       uint64_t first, const struct grid *d,
                       const struct sl_fast_rows *to)
{
    struct sl_bfp_source s = sl_fast_source(f, t);
    s.lines = w;
    s.k = channels;
    s.line_step = 1;
    s.k_step = h * w;
    s.number_step = channels;
    for (size_t y = 0; y < h; y++) {
        s.x = x + y * w;
        s.first = first + y * w * channels;
        sl_fast_pack_rows(f, &s, to, ((d->top + y) * d->w + d->left) * d->groups,
                          d->groups);
    }
}

static void fill_nan(float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = NAN;
}

/* --- forward
 * --------------------------------------------------------------------------------- */

static void count_images(const struct sl_fast_call *f, const struct sl_conv_geometry *g,
                         size_t n, uint32_t ma, uint32_t mb, uint64_t converted)
{
    struct sizes s = sizes_of(g);
    bool backward = f->pass == SL_PASS_INPUT_GRADIENT;
    size_t k = backward ? g->out_c : g->in_c, columns = backward ? g->in_c : g->out_c;
    size_t groups = sl_fast_groups(&f->o, k);
    f->ctx->place.calls[f->pass]++;
    sl_fast_add_count(
        f, &(struct sl_fast_count){
               .m = n * (backward ? s.in_places : s.out_places),
               .n = columns,
               .k = s.taps * k,
               .groups = s.taps * groups,
               .ma = ma,
               .mb = mb,
               .converted = converted + n * (backward ? s.out : s.in),
               .groups_a = n * (backward ? s.out_places : s.in_places) * groups,
               .groups_b = columns * s.taps * groups});
}

/* Rows and taps of all output places. */
static void plan_forward(const struct sl_conv_geometry *g, const struct grid *d,
                         const struct image_room *room)
{
    struct sizes s = sizes_of(g);
    for (size_t i = 0; i < s.taps; i++)
        room->tap[i] = (struct sl_bfp_tap){
            (uint32_t)((i / g->kernel * d->w + i % g->kernel) * d->groups),
            (uint32_t)(i * d->groups)};
    for (size_t i = 0; i < s.out_places; i++)
        room->row[i] =
            (uint32_t)((i / g->out_w * g->stride * d->w + i % g->out_w * g->stride) *
                       d->groups);
}

static void forward_packed(const struct sl_fast_call *f, const struct sl_conv_geometry *g,
                           size_t n, const struct sl_fast_tensor *t, const float *x,
                           const struct image_room *room,
                           const struct sl_fast_columns *columns, float *y)
{
    struct sizes s = sizes_of(g);
    struct grid d = input_grid(g, sl_fast_groups(&f->o, g->in_c));
    plan_forward(g, &d, room);
    sl_fast_clear_rows(f, &room->rows, 0, grid_groups(&d));
    for (size_t i = 0; i < n; i++) {
        pack_image(f, t, x + i * s.in, g->in_c, g->in_h, g->in_w, 0, &d, &room->rows);
        sl_fast_multiply(f, &(struct sl_fast_product){.m = s.out_places,
                                                      .n = g->out_c,
                                                      .tap = room->tap,
                                                      .taps = s.taps,
                                                      .k = g->in_c,
                                                      .row = room->row,
                                                      .a = &room->rows,
                                                      .b = columns,
                                                      .alpha = 1.0f,
                                                      .c = room->out,
                                                      .ldc = g->out_c});
        f->ops->transpose(room->out, s.out_places, g->out_c, g->out_c, y + i * s.out,
                          s.out_places);
    }
}

static void forward_directly(const struct sl_fast_call *f,
                             const struct sl_conv_geometry *g, size_t n,
                             const struct sl_fast_tensor *t, const float *x,
                             const struct image_room *room, const float *w, float *y)
{
    struct sizes s = sizes_of(g);
    struct grid d = input_grid(g, 1);
    struct sl_bfp_source src = sl_fast_source(f, t);
    src.lines = g->in_w;
    src.k = g->in_c;
    src.line_step = 1;
    src.k_step = s.in_places;
    memset(room->planes, 0, (g->in_c * d.h * d.w + SL_BFP_SLACK) * sizeof(float));
    for (size_t i = 0; i < n; i++) {
        for (size_t row = 0; row < g->in_h; row++) {
            src.x = x + i * s.in + row * g->in_w;
            f->ops->values(&src, room->planes + (d.top + row) * d.w + d.left, d.h * d.w);
        }
        f->ops->direct(&(struct sl_bfp_direct){.channels = g->in_c,
                                               .kernel = g->kernel,
                                               .out_c = g->out_c,
                                               .out_h = g->out_h,
                                               .out_w = g->out_w,
                                               .width = d.w,
                                               .plane = d.h * d.w,
                                               .x = room->planes,
                                               .w = w,
                                               .y = y + i * s.out});
    }
}

void sl_fast_conv_forward(struct sl_unit_ctx *ctx, const struct sl_conv_geometry *g,
                          size_t n, const float *x, const float *w, float *y)
{
    struct sl_fast_call f = sl_fast_call_of(ctx, SL_PASS_FORWARD);
    struct sizes s = sizes_of(g);
    struct sl_fast_room r = {.base = ctx->scratch};
    struct image_room room = take_image(&r, &f.o, g, n, false);
    struct weights weights = {0};
    struct sl_fast_tensor t = {0};
    uint64_t converted = 0;
    uint32_t mw = 0;
    if (settle_images(&f, SL_FAST_A, n, g->in_c, s.in_places, x, &t) &&
        weights_of(&f, g, w, room.w, &weights, &converted)) {
        mw = weights.kept->tensor.m;
        if (weights.values != NULL)
            forward_directly(&f, g, n, &t, x, &room, weights.values, y);
        else
            forward_packed(&f, g, n, &t, x, &room, &weights.columns[0], y);
    } else {
        fill_nan(y, n * s.out);
    }
    count_images(&f, g, n, t.m, mw, converted);
}

/* --- gradient of the data
 * -------------------------------------------------------------------- */

/* Input places (y, x) with (y + pad) % stride = ry, likewise x, and the kernel positions
 * they see. */
struct class
{
    size_t rows, taps;
};

static struct class class_of(const struct sl_conv_geometry *g, const struct grid *d,
                             size_t ry, size_t rx, const struct image_room *room)
{
    struct class c = {0, 0};
    for (size_t y = 0; y < g->in_h; y++)
        for (size_t x = 0; x < g->in_w; x++) {
            if ((y + g->pad) % g->stride != ry || (x + g->pad) % g->stride != rx)
                continue;
            room->place[c.rows] = (uint32_t)(y * g->in_w + x);
            room->row[c.rows++] =
                (uint32_t)(((y + g->pad) / g->stride * d->w + (x + g->pad) / g->stride) *
                           d->groups);
        }
    for (size_t ky = ry; ky < g->kernel; ky += g->stride)
        for (size_t kx = rx; kx < g->kernel; kx += g->stride)
            room->tap[c.taps++] = (struct sl_bfp_tap){
                (uint32_t)(((d->top - ky / g->stride) * d->w + d->left - kx / g->stride) *
                           d->groups),
                (uint32_t)((ky * g->kernel + kx) * d->groups)};
    return c;
}

/* out [rows][channels] to the class's places of dx [channels][places]. */
static void spread(const struct sl_fast_call *f, const struct class *c,
                   const struct image_room *room, size_t channels, size_t places,
                   float *dx)
{
    if (c->rows == places) { /* all of them, in order */
        f->ops->transpose(room->out, places, channels, channels, dx, places);
        return;
    }
    for (size_t ch = 0; ch < channels; ch++)
        for (size_t i = 0; i < c->rows; i++)
            dx[ch * places + room->place[i]] = room->out[i * channels + ch];
}

static void data_of_image(const struct sl_fast_call *f, const struct sl_conv_geometry *g,
                          const struct grid *d, const struct image_room *room,
                          const struct sl_fast_columns *columns, float *dx)
{
    struct sizes s = sizes_of(g);
    for (size_t i = 0; i < (size_t)g->stride * g->stride; i++) {
        struct class c = class_of(g, d, i / g->stride, i % g->stride, room);
        if (c.rows == 0)
            continue;
        sl_fast_multiply(f, &(struct sl_fast_product){.m = c.rows,
                                                      .n = g->in_c,
                                                      .tap = room->tap,
                                                      .taps = c.taps,
                                                      .k = g->out_c,
                                                      .row = room->row,
                                                      .a = &room->rows,
                                                      .b = columns,
                                                      .alpha = 1.0f,
                                                      .c = room->out,
                                                      .ldc = g->in_c});
        spread(f, &c, room, g->in_c, s.in_places, dx);
    }
}

void sl_fast_conv_data(struct sl_unit_ctx *ctx, const struct sl_conv_geometry *g,
                       size_t n, const float *dy, const float *w, float *dx)
{
    struct sl_fast_call f = sl_fast_call_of(ctx, SL_PASS_INPUT_GRADIENT);
    struct sizes s = sizes_of(g);
    struct sl_fast_room r = {.base = ctx->scratch};
    struct image_room room = take_image(&r, &f.o, g, n, true);
    struct grid d = output_grid(g, sl_fast_groups(&f.o, g->out_c));
    struct weights weights = {0};
    struct sl_fast_tensor t = {0};
    uint64_t converted = 0;
    uint32_t mw = 0;
    bool ok = settle_images(&f, SL_FAST_G, n, g->out_c, s.out_places, dy, &t) &&
              weights_of(&f, g, w, room.w, &weights, &converted);
    if (ok) {
        mw = weights.kept->tensor.m;
        sl_fast_noise(&f, n * s.out_places, g->out_c, room.registers, &t);
        sl_fast_clear_rows(&f, &room.rows, 0, grid_groups(&d));
    } else {
        fill_nan(dx, n * s.in);
    }
    for (size_t i = 0; i < n && ok; i++) {
        pack_image(&f, &t, dy + i * s.out, g->out_c, g->out_h, g->out_w, i * s.out, &d,
                   &room.rows);
        data_of_image(&f, g, &d, &room, &weights.columns[1], dx + i * s.in);
    }
    count_images(&f, g, n, t.m, mw, converted);
}

/* --- gradient of the weights
 * ----------------------------------------------------------------- */

/* Activations along the images: pixel (y, x), channel c at grid place * in_c + c. */
static void pack_activations(const struct sl_fast_call *f,
                             const struct sl_conv_geometry *g, size_t n,
                             const struct sl_fast_tensor *t, const float *x,
                             const struct grid *d, const struct sl_fast_rows *to)
{
    struct sl_bfp_source s = sl_fast_source(f, t);
    size_t groups = sl_fast_groups(&f->o, n);
    s.lines = g->in_w;
    s.k = n;
    s.line_step = 1;
    s.k_step = sizes_of(g).in;
    for (size_t c = 0; c < g->in_c; c++)
        for (size_t y = 0; y < g->in_h; y++) {
            s.x = x + (c * g->in_h + y) * g->in_w;
            sl_fast_pack_rows(f, &s, to,
                              ((d->top + y) * d->w + d->left) * d->groups + c * groups,
                              d->groups);
        }
}

/* Gradients along the images: a line for each output place and channel, numbered
 * (y, x, o). */
static void pack_gradients(const struct sl_fast_call *f, const struct sl_conv_geometry *g,
                           size_t n, const struct sl_fast_tensor *t, const float *dy,
                           const struct weight_room *room)
{
    struct sl_bfp_source s = sl_fast_source(f, t);
    struct sizes size = sizes_of(g);
    size_t groups = sl_fast_groups(&f->o, n);
    s.k = n;
    s.k_step = size.out;
    if (f->wide) { /* channels of one place */
        s.lines = g->out_c;
        s.line_step = size.out_places;
        s.number_step = n;
        for (size_t p = 0; p < size.out_places; p++) {
            s.x = dy + p;
            s.first = p * g->out_c * n;
            sl_fast_pack_columns(f, &s, &room->dy, p * groups);
        }
        return;
    }
    s.lines = g->out_w;
    s.line_step = 1;
    s.number_step = g->out_c * n;
    for (size_t y = 0; y < g->out_h; y++) {
        for (size_t o = 0; o < g->out_c; o++) {
            s.x = dy + (o * g->out_h + y) * g->out_w;
            s.first = (y * g->out_w * g->out_c + o) * n;
            sl_fast_pack_rows(f, &s, &room->line, o * groups, g->out_c * groups);
        }
        for (size_t x = 0; x < g->out_w; x++) {
            size_t at = x * g->out_c * groups;
            f->ops->rows_to_columns(
                &(struct sl_bfp_rows){(uint8_t *)room->line.mantissa + at * SL_BFP_GROUP,
                                      room->line.scale + at, groups},
                g->out_c, groups,
                &(struct sl_bfp_columns){room->dy.mantissa, room->dy.scale,
                                         room->dy.start, room->dy.groups,
                                         (y * g->out_w + x) * groups});
        }
    }
}

/* dw [out_c][in_c][taps] from out [taps][in_c][out_c]. */
static void join_weights(const struct sl_conv_geometry *g, const float *out,
                         bool accumulate, float *dw)
{
    size_t taps = (size_t)g->kernel * g->kernel;
    for (size_t o = 0; o < g->out_c; o++)
        for (size_t c = 0; c < g->in_c; c++)
            for (size_t t = 0; t < taps; t++, dw++) {
                float v = out[(t * g->in_c + c) * g->out_c + o];
                *dw = accumulate ? *dw + v : v;
            }
}

/* The columns of so many output places are multiplied at a time, from the cache. */
#define STRETCH_BYTES ((size_t)128 << 10)

static void multiply_weights(const struct sl_fast_call *f,
                             const struct sl_conv_geometry *g, size_t n,
                             const struct grid *d, const struct weight_room *room)
{
    struct sizes s = sizes_of(g);
    size_t groups = sl_fast_groups(&f->o, n);
    for (size_t i = 0; i < s.out_places; i++)
        room->tap[i] = (struct sl_bfp_tap){
            (uint32_t)((i / g->out_w * g->stride * d->w + i % g->out_w * g->stride) *
                       d->groups),
            (uint32_t)(i * groups)};
    for (size_t i = 0; i < s.taps * g->in_c; i++) {
        size_t tap = i / g->in_c;
        room->row[i] = (uint32_t)((tap / g->kernel * d->w + tap % g->kernel) * d->groups +
                                  i % g->in_c * groups);
    }
    size_t each = (g->out_c + SL_BFP_PANEL - 1) / SL_BFP_PANEL * groups;
    size_t stretch = STRETCH_BYTES / (each * (SL_BFP_PANEL_BYTES + 2 * 64)) + 1;
    for (size_t i = 0; i < s.out_places; i += stretch) {
        size_t taps = s.out_places - i < stretch ? s.out_places - i : stretch;
        sl_fast_multiply(f, &(struct sl_fast_product){.m = s.taps * g->in_c,
                                                      .n = g->out_c,
                                                      .tap = room->tap + i,
                                                      .taps = taps,
                                                      .k = n,
                                                      .row = room->row,
                                                      .a = &room->x,
                                                      .b = &room->dy,
                                                      .alpha = 1.0f,
                                                      .resume = i > 0,
                                                      .c = room->out,
                                                      .ldc = g->out_c});
    }
}

void sl_fast_conv_weights(struct sl_unit_ctx *ctx, const struct sl_conv_geometry *g,
                          size_t n, const float *x, const float *dy, bool accumulate,
                          float *dw)
{
    struct sl_fast_call f = sl_fast_call_of(ctx, SL_PASS_WEIGHT_GRADIENT);
    struct sizes s = sizes_of(g);
    struct sl_fast_room r = {.base = ctx->scratch};
    struct weight_room room = take_weight_room(&r, &f.o, g, n);
    size_t groups = sl_fast_groups(&f.o, n);
    struct grid d = input_grid(g, g->in_c * groups);
    struct sl_fast_tensor tx = {0}, td = {0};
    if (settle_images(&f, SL_FAST_A, n, g->in_c, s.in_places, x, &tx) &&
        settle_images(&f, SL_FAST_G, n, g->out_c, s.out_places, dy, &td)) {
        sl_fast_noise(&f, s.out_places * g->out_c, n, room.registers, &td);
        sl_fast_clear_rows(&f, &room.x, 0, grid_groups(&d));
        pack_activations(&f, g, n, &tx, x, &d, &room.x);
        pack_gradients(&f, g, n, &td, dy, &room);
        multiply_weights(&f, g, n, &d, &room);
        join_weights(g, room.out, accumulate, dw);
    } else {
        fill_nan(dw, s.weights);
    }
    ctx->place.calls[f.pass]++;
    sl_fast_add_count(&f, &(struct sl_fast_count){.m = s.taps * g->in_c,
                                                  .n = g->out_c,
                                                  .k = s.out_places * n,
                                                  .groups = s.out_places * groups,
                                                  .ma = tx.m,
                                                  .mb = td.m,
                                                  .converted = n * (s.in + s.out),
                                                  .groups_a = s.in * groups,
                                                  .groups_b = s.out * groups});
}
