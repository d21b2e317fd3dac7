/* SPDX-License-Identifier: Apache-2.0 */
/* Every entry of every kernel table against the plain C one: lengths 0 to 257, odd
 * offsets, NaN, infinities, denormals, ties, and guard values around each output. Usage:
 * t_kernels LEVEL with avx2 or avx512; exit 77 where the CPU has not got it. Without a
 * level, C against itself checks the harness, and a table with one entry damaged must be
 * caught. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "accel/kernels/cpu.h"
#include "accel/kernels/kernels.h"
#include "common/rng.h"

#define LENGTHS 258
#define OFFSETS 3
#define ROOM 40000
#define GUARD 64
#define GUARD_BITS 0x7fc0dead /* a NaN nobody computes */

static uint32_t level;
static struct sl_kernels want, got;

/* --- buffers
 * -------------------------------------------------------------------------------- */

struct buffer {
    float v[GUARD + ROOM + GUARD];
};

static struct buffer in[4], out[2][2]; /* out[k]: as C leaves it, as the variant does */
static uint8_t keep[GUARD + ROOM + GUARD], places[2][GUARD + ROOM + GUARD];

static float special(uint32_t i)
{
    static const float values[] = {0.0f,     -0.0f,     1.0f,  -1.0f,  1e-41f, -1e-41f,
                                   INFINITY, -INFINITY, 3e38f, -3e38f, 1e-38f, 0.5f};
    return i % 13 == 12 ? NAN : values[i % 13];
}

/* Numbers of all kinds: mostly plain, some special, many equal to a neighbour. */
static void fill(struct buffer *b, uint32_t seed, bool with_specials)
{
    struct sl_rng r;
    sl_rng_init(&r, &(struct sl_rng_id){.seed = seed, .purpose = SL_RNG_TEST});
    for (size_t i = 0; i < GUARD + ROOM + GUARD; i++) {
        uint32_t dice = sl_rng_u32(&r);
        b->v[i] = 8.0f * sl_rng_f32(&r) - 4.0f;
        if (with_specials && dice % 7 == 0)
            b->v[i] = special(dice / 7);
        else if (i > 0 && dice % 5 == 0)
            b->v[i] = b->v[i - 1];
    }
}

static void guard(struct buffer *b)
{
    uint32_t bits = GUARD_BITS;
    for (size_t i = 0; i < GUARD + ROOM + GUARD; i++)
        memcpy(&b->v[i], &bits, sizeof(bits));
}

static bool equal_bits(const void *a, const void *b, size_t n)
{
    const float *x = a, *y = b;
    for (size_t i = 0; i < n; i++)
        if (memcmp(&x[i], &y[i], sizeof(float)) != 0 && !(isnan(x[i]) && isnan(y[i])))
            return false;
    return true;
}

static bool outside_untouched(const struct buffer *b, size_t at, size_t n)
{
    uint32_t bits;
    for (size_t i = 0; i < GUARD + ROOM + GUARD; i++) {
        memcpy(&bits, &b->v[i], sizeof(bits));
        if ((i < GUARD + at || i >= GUARD + at + n) && bits != GUARD_BITS)
            return false;
    }
    return true;
}

/* Where a test has got to; compared outputs begin at `at`. */
struct place {
    const char *entry;
    size_t n, at;
};

static float *input(int i, const struct place *p)
{
    return in[i].v + GUARD + p->at;
}

static float *output(int which, int side, const struct place *p)
{
    return out[which][side].v + GUARD + p->at;
}

/* Both outputs start as guards with `seed_from` (an input, for what is updated) in the
 * middle. */
static void ready(int which, const struct place *p, const float *seed_from)
{
    for (int side = 0; side < 2; side++) {
        guard(&out[which][side]);
        if (seed_from != NULL)
            memcpy(output(which, side, p), seed_from, p->n * sizeof(float));
    }
}

static void compare(int which, const struct place *p, size_t n)
{
    if (!equal_bits(output(which, 0, p), output(which, 1, p), n))
        fail_msg("%s: n %zu, offset %zu: another result than C", p->entry, p->n, p->at);
    if (!outside_untouched(&out[which][1], p->at, n))
        fail_msg("%s: n %zu, offset %zu: wrote outside", p->entry, p->n, p->at);
}

/* --- elementwise
 * ---------------------------------------------------------------------------- */

#define EACH(name, seed, call)                                                           \
    do {                                                                                 \
        p.entry = #name;                                                                 \
        ready(0, &p, seed);                                                              \
        for (int side = 0; side < 2; side++) {                                           \
            const struct sl_elem_ops *e = side == 0 ? &want.elem : &got.elem;            \
            float *y = output(0, side, &p);                                              \
            e->name call;                                                                \
        }                                                                                \
        compare(0, &p, p.n);                                                             \
    } while (0)

static void elementwise(struct place p)
{
    const float *a = input(0, &p), *b = input(1, &p), *c = input(2, &p);
    size_t n = p.n;
    EACH(relu, NULL, (a, y, n));
    EACH(relu, a, (y, y, n));
    EACH(relu_grad, NULL, (a, b, y, n));
    EACH(relu_grad, b, (a, y, y, n));
    EACH(gelu_erf, NULL, (a, y, n));
    EACH(gelu_erf_grad, NULL, (a, b, y, n));
    EACH(gelu_tanh, NULL, (a, y, n));
    EACH(gelu_tanh_grad, NULL, (a, b, y, n));
    EACH(add, NULL, (a, b, y, n));
    EACH(add, a, (y, b, y, n));
    EACH(axpy, b, (0.3f, a, y, n));
    EACH(affine, NULL, (1.7f, -0.2f, a, y, n));
    EACH(normalise, NULL, (0.1f, 2.3f, a, y, n));
    EACH(mul_add, NULL, (a, b, c, y, n));
    EACH(mul, NULL, (a, b, y, n));
    EACH(mul_acc, c, (a, b, y, n));
    EACH(norm_grad, NULL, (0.7f, 0.1f, -0.3f, a, b, y, n));
    EACH(norm_grad, a, (0.7f, 0.1f, -0.3f, y, b, y, n));
    EACH(mask_scale, NULL, (keep + GUARD + p.at, 2.0f, a, y, n));
    EACH(proximal, c, (0.3f, a, b, y, n));
    EACH(sgd, a, (&((struct sl_sgd_step){.lr = 0.1f}), y, b, n));
    EACH(sgd, a, (&((struct sl_sgd_step){.lr = 0.1f, .decay = 0.01f}), y, b, n));
}

/* Two vectors change: w in out[0], the state in out[1] (and a second moment in `spare`).
 */
static void optimisers(struct place p)
{
    static struct buffer spare[2];
    for (int first = 0; first < 2; first++) {
        struct sl_sgd_step s = {
            .lr = 0.1f, .momentum = 0.9f, .decay = 0.01f, .first = first};
        p.entry = "sgd_momentum";
        ready(0, &p, input(0, &p));
        ready(1, &p, input(2, &p));
        want.elem.sgd_momentum(&s, output(0, 0, &p), input(1, &p), output(1, 0, &p), p.n);
        got.elem.sgd_momentum(&s, output(0, 1, &p), input(1, &p), output(1, 1, &p), p.n);
        compare(0, &p, p.n);
        compare(1, &p, p.n);
    }
    struct sl_adam_step s = {0.01f, 0.9f,   0.999f, 1e-8f,  0.01f,
                             0.1f,  0.001f, 10.0f,  1000.0f};
    p.entry = "adam";
    ready(0, &p, input(0, &p));
    ready(1, &p, input(2, &p));
    for (int side = 0; side < 2; side++)
        for (size_t i = 0; i < p.n; i++)
            spare[side].v[i] = fabsf(input(1, &p)[i]);
    want.elem.adam(&s, output(0, 0, &p), input(1, &p), output(1, 0, &p), spare[0].v, p.n);
    got.elem.adam(&s, output(0, 1, &p), input(1, &p), output(1, 1, &p), spare[1].v, p.n);
    compare(0, &p, p.n);
    compare(1, &p, p.n);
    assert_true(equal_bits(spare[0].v, spare[1].v, p.n));
}

static void same_number(const struct place *p, float a, float b)
{
    if (!equal_bits(&a, &b, 1))
        fail_msg("%s: n %zu, offset %zu: %a, C says %a", p->entry, p->n, p->at, (double)b,
                 (double)a);
}

static void sums(struct place p)
{
    const float *a = input(0, &p), *b = input(1, &p);
    p.entry = "sum";
    same_number(&p, want.elem.sum(a, p.n), got.elem.sum(a, p.n));
    p.entry = "dot";
    same_number(&p, want.elem.dot(a, b, p.n), got.elem.dot(a, b, p.n));
    p.entry = "square_deviation";
    same_number(&p, want.elem.square_deviation(a, 0.3f, p.n),
                got.elem.square_deviation(a, 0.3f, p.n));
    p.entry = "all_finite";
    if (want.elem.all_finite(a, p.n) != got.elem.all_finite(a, p.n))
        fail_msg("all_finite: n %zu", p.n);
}

static void rows(struct place p)
{
    size_t cols = p.n;
    for (size_t r = 0; r <= 3; r++) {
        p.n = r * cols;
        EACH(bias_rows, input(0, &p), (input(1, &p), y, r, cols));
        if (cols > 0)
            EACH(softmax_rows, NULL, (input(0, &p), y, r, cols, NULL, NULL));
        p.n = cols;
        for (int add = 0; add < 2; add++)
            EACH(bias_rows_grad, input(2, &p), (input(0, &p), r, cols, add != 0, y));
    }
}

static void over_lengths(void (*test)(struct place p), bool with_specials)
{
    for (int i = 0; i < 4; i++)
        fill(&in[i], (uint32_t)(i + 1), with_specials);
    for (size_t n = 0; n < LENGTHS; n++)
        for (size_t at = 0; at < OFFSETS; at++)
            test((struct place){.n = n, .at = at});
}

static void elementwise_entries_equal_c(void **state)
{
    over_lengths(elementwise, true);
    over_lengths(elementwise, false);
}

static void optimiser_steps_equal_c(void **state)
{
    over_lengths(optimisers, true);
    over_lengths(optimisers, false);
}

static void sums_equal_c(void **state)
{
    over_lengths(sums, false);
    over_lengths(sums, true);
}

static void row_entries_equal_c(void **state)
{
    over_lengths(rows, false);
    over_lengths(rows, true);
}

/* The definition itself: 16 partial sums, folded in halves. */
static void sums_fold_sixteen_lanes(void **state)
{
    fill(&in[0], 9, false);
    for (size_t n = 0; n < LENGTHS; n++) {
        float lane[16] = {0};
        for (size_t i = 0; i < n; i++)
            lane[i % 16] += in[0].v[i];
        for (size_t half = 8; half > 0; half /= 2)
            for (size_t i = 0; i < half; i++)
                lane[i] += lane[i + half];
        same_number(&(struct place){"sum", n, 0}, lane[0], got.elem.sum(in[0].v, n));
    }
}

/* --- convolution
 * ---------------------------------------------------------------------------- */

static const struct sl_conv_geometry *geometry(size_t i)
{
    static struct sl_conv_geometry g;
    static const struct {
        uint32_t c, h, w, k, s, p;
    } list[] = {{1, 28, 28, 5, 1, 2}, {6, 14, 14, 5, 1, 0}, {3, 9, 7, 3, 1, 1},
                {2, 9, 7, 3, 2, 1},   {2, 5, 17, 4, 3, 2},  {3, 6, 6, 1, 1, 0},
                {2, 3, 3, 5, 1, 4},   {1, 1, 1, 1, 1, 0},   {1, 1, 33, 3, 1, 2},
                {2, 33, 1, 3, 1, 1},  {4, 7, 7, 1, 2, 0},   {2, 2, 2, 5, 1, 2}};
    if (i >= sizeof(list) / sizeof(list[0]))
        return NULL;
    uint32_t oh = (list[i].h + 2 * list[i].p - list[i].k) / list[i].s + 1;
    uint32_t ow = (list[i].w + 2 * list[i].p - list[i].k) / list[i].s + 1;
    g = (struct sl_conv_geometry){list[i].c, list[i].h, list[i].w, 3,        oh,
                                  ow,        list[i].k, list[i].s, list[i].p};
    return &g;
}

static float pixel(const struct sl_conv_geometry *g, const float *x, size_t c, long y,
                   long col)
{
    if (y < 0 || col < 0 || y >= (long)g->in_h || col >= (long)g->in_w)
        return 0.0f;
    return x[(c * g->in_h + (size_t)y) * g->in_w + (size_t)col];
}

/* im2col and im2band by their contracts, element by element. */
static void columns_read_the_right_pixels(void **state)
{
    const struct sl_conv_geometry *g;
    fill(&in[0], 3, true);
    for (size_t i = 0; (g = geometry(i)) != NULL; i++) {
        struct place p = {"im2col", 0, 1};
        size_t k = g->kernel, places_n = (size_t)g->out_h * g->out_w;
        size_t bands_h = (size_t)g->in_h + 2 * g->pad;
        size_t n = g->in_c * k * k * places_n, bands = g->in_c * k * bands_h * g->out_w;
        p.n = n;
        ready(0, &p, NULL);
        for (size_t at = 0; at < n; at++) {
            size_t ox = at % g->out_w, oy = at / g->out_w % g->out_h, row = at / places_n;
            output(0, 0, &p)[at] =
                pixel(g, input(0, &p), row / k / k,
                      (long)(oy * g->stride + row / k % k) - (long)g->pad,
                      (long)(ox * g->stride + row % k) - (long)g->pad);
        }
        got.conv.im2col(g, input(0, &p), output(0, 1, &p));
        compare(0, &p, n);
        if (g->stride != 1)
            continue;
        p = (struct place){"im2band", bands, 1};
        ready(0, &p, NULL);
        for (size_t at = 0; at < bands; at++) {
            size_t ox = at % g->out_w, y = at / g->out_w % bands_h;
            size_t row = at / g->out_w / bands_h;
            output(0, 0, &p)[at] = pixel(g, input(0, &p), row / k, (long)y - (long)g->pad,
                                         (long)(ox + row % k) - (long)g->pad);
        }
        got.conv.im2band(g, input(0, &p), output(0, 1, &p));
        compare(0, &p, bands);
    }
}

static void images_from_columns_equal_c(void **state)
{
    const struct sl_conv_geometry *g;
    fill(&in[0], 3, false);
    for (size_t i = 0; (g = geometry(i)) != NULL; i++) {
        struct place p = {"col2im", (size_t)g->in_c * g->in_h * g->in_w, 1};
        ready(0, &p, NULL);
        want.conv.col2im(g, input(0, &p), output(0, 0, &p));
        got.conv.col2im(g, input(0, &p), output(0, 1, &p));
        compare(0, &p, p.n);
        if (g->stride != 1)
            continue;
        p.entry = "band2im";
        ready(0, &p, NULL);
        want.conv.band2im(g, input(0, &p), output(0, 0, &p));
        got.conv.band2im(g, input(0, &p), output(0, 1, &p));
        compare(0, &p, p.n);
    }
}

/* <im2col(x), c> = <x, col2im(c)>: one is the transpose of the other. */
static void columns_and_images_are_transposes(void **state)
{
    const struct sl_conv_geometry *g;
    fill(&in[0], 3, false);
    fill(&in[1], 4, false);
    for (size_t i = 0; (g = geometry(i)) != NULL; i++) {
        size_t n = (size_t)g->in_c * g->in_h * g->in_w;
        size_t cols = (size_t)g->in_c * g->kernel * g->kernel * g->out_h * g->out_w;
        size_t bands = (size_t)g->in_c * g->kernel * (g->in_h + 2 * g->pad) * g->out_w;
        for (int band = 0; band < (g->stride == 1 ? 2 : 1); band++) {
            double left = 0.0, right = 0.0;
            (band ? got.conv.im2band : got.conv.im2col)(g, in[0].v, out[0][0].v);
            (band ? got.conv.band2im : got.conv.col2im)(g, in[1].v, out[0][1].v);
            for (size_t j = 0; j < (band ? bands : cols); j++)
                left += (double)out[0][0].v[j] * (double)in[1].v[j];
            for (size_t j = 0; j < n; j++)
                right += (double)in[0].v[j] * (double)out[0][1].v[j];
            assert_true(fabs(left - right) < 1e-4 * (1.0 + fabs(left)));
        }
    }
}

static void plane_biases_equal_c(void **state)
{
    for (int specials = 0; specials < 2; specials++) {
        fill(&in[0], 3, specials != 0);
        fill(&in[1], 4, specials != 0);
        for (size_t size = 1; size < 70; size++) {
            struct place p = {"bias_planes", 6 * size, size % OFFSETS};
            ready(0, &p, input(0, &p));
            want.conv.bias_planes(input(1, &p), output(0, 0, &p), 6, 3, size);
            got.conv.bias_planes(input(1, &p), output(0, 1, &p), 6, 3, size);
            compare(0, &p, p.n);
            p = (struct place){"bias_planes_grad", 3, size % OFFSETS};
            ready(0, &p, input(1, &p));
            want.conv.bias_planes_grad(input(0, &p), 2, 3, size, size & 1,
                                       output(0, 0, &p));
            got.conv.bias_planes_grad(input(0, &p), 2, 3, size, size & 1,
                                      output(0, 1, &p));
            compare(0, &p, 3);
        }
    }
}

/* --- pooling
 * -------------------------------------------------------------------------------- */

static void naive_window(const struct sl_pool_geometry *g, const float *x, size_t oy,
                         size_t ox, float *y, uint8_t *place)
{
    bool any = false;
    for (size_t at = 0; at < (size_t)g->kernel * g->kernel; at++) {
        long r = (long)(oy * g->stride + at / g->kernel) - (long)g->pad;
        long c = (long)(ox * g->stride + at % g->kernel) - (long)g->pad;
        if (r < 0 || c < 0 || r >= (long)g->in_h || c >= (long)g->in_w)
            continue;
        float v = x[(size_t)r * g->in_w + (size_t)c];
        if (!any || v > *y || (isnan(v) && !isnan(*y))) {
            *y = v;
            *place = (uint8_t)at;
        }
        any = true;
    }
}

static void check_pool(const struct sl_pool_geometry *g, size_t planes)
{
    size_t n_out = planes * g->out_h * g->out_w, n_in = planes * g->in_h * g->in_w;
    struct place p = {"max", n_out, 1};
    ready(0, &p, NULL);
    memset(places, 0xee, sizeof(places));
    for (size_t i = 0; i < n_out; i++) {
        size_t plane = i / g->out_w / g->out_h;
        naive_window(g, input(0, &p) + plane * g->in_h * g->in_w, i / g->out_w % g->out_h,
                     i % g->out_w, output(0, 0, &p) + i, places[0] + GUARD + i);
    }
    got.pool.max(g, planes, input(0, &p), output(0, 1, &p), places[1] + GUARD);
    compare(0, &p, n_out);
    assert_memory_equal(places[0], places[1], sizeof(places[0]));
    p = (struct place){"max_grad", n_in, 1};
    ready(0, &p, NULL);
    want.pool.max_grad(g, planes, input(1, &p), places[0] + GUARD, output(0, 0, &p));
    got.pool.max_grad(g, planes, input(1, &p), places[0] + GUARD, output(0, 1, &p));
    compare(0, &p, n_in);
}

static void maxima_and_their_gradients_hold(void **state)
{
    static const uint32_t kinds[][3] = {{2, 2, 0}, {3, 2, 1}, {3, 1, 0}, {2, 1, 1},
                                        {1, 1, 0}, {2, 3, 0}, {5, 5, 2}};
    for (int specials = 0; specials < 2; specials++) {
        fill(&in[0], 5, specials != 0);
        fill(&in[1], 6, specials != 0);
        for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++)
            for (uint32_t h = 5; h < 8; h++)
                for (uint32_t w = 5; w < 72; w++) {
                    struct sl_pool_geometry g = {h,           w,           0,          0,
                                                 kinds[k][0], kinds[k][1], kinds[k][2]};
                    g.out_h = (h + 2 * g.pad - g.kernel) / g.stride + 1;
                    g.out_w = (w + 2 * g.pad - g.kernel) / g.stride + 1;
                    check_pool(&g, 2);
                }
    }
}

/* --- the harness and the mask
 * --------------------------------------------------------------- */

static void damaged_relu(const float *x, float *y, size_t n)
{
    sl_elem_ops_c.relu(x, y, n);
    if (n > 200)
        y[n - 1] += 1.0f;
}

static void a_damaged_entry_is_noticed(void **state)
{
    struct place p = {"relu", 201, 0};
    fill(&in[0], 1, false);
    ready(0, &p, NULL);
    want.elem.relu(input(0, &p), output(0, 0, &p), p.n);
    damaged_relu(input(0, &p), output(0, 1, &p), p.n);
    assert_false(equal_bits(output(0, 0, &p), output(0, 1, &p), p.n));
    output(0, 1, &p)[p.n] = 0.0f;
    assert_false(outside_untouched(&out[0][1], p.at, p.n));
}

static void masks_are_read_by_name(void **state)
{
    uint32_t off = 99;
    assert_true(sl_cpu_off_parse(NULL, &off) && off == 0);
    assert_true(sl_cpu_off_parse("avx512", &off) && off == SL_CPU_AVX512);
    assert_true(sl_cpu_off_parse("avx2,avx512", &off) &&
                off == (SL_CPU_AVX2 | SL_CPU_AVX512));
    assert_true(sl_cpu_off_parse("all", &off) && (off & sl_cpu_detect()) == sl_cpu_detect());
    assert_true(sl_cpu_off_parse("vnni", &off) && off == SL_CPU_AVX512_VNNI);
    off = 99;
    assert_false(sl_cpu_off_parse("sse9", &off));
    assert_false(sl_cpu_off_parse("avx2,", &off));
    assert_false(sl_cpu_off_parse("avx2,,avx512", &off));
    assert_int_equal(off, 99);
    assert_string_equal(sl_cpu_name(SL_CPU_AVX2), "avx2");
    assert_null(sl_cpu_name(1u << 31));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elementwise_entries_equal_c),
        cmocka_unit_test(optimiser_steps_equal_c),
        cmocka_unit_test(sums_equal_c),
        cmocka_unit_test(row_entries_equal_c),
        cmocka_unit_test(sums_fold_sixteen_lanes),
        cmocka_unit_test(columns_read_the_right_pixels),
        cmocka_unit_test(images_from_columns_equal_c),
        cmocka_unit_test(columns_and_images_are_transposes),
        cmocka_unit_test(plane_biases_equal_c),
        cmocka_unit_test(maxima_and_their_gradients_hold),
        cmocka_unit_test(a_damaged_entry_is_noticed),
        cmocka_unit_test(masks_are_read_by_name),
    };
    if (argc > 1 && !sl_cpu_off_parse(argv[1], &level))
        return 2;
    if ((sl_cpu_detect() & level) != level)
        return 77;
    sl_kernels_init(&want, 0);
    sl_kernels_init(&got, level);
    for (size_t i = 0; i < sizeof(keep); i++)
        keep[i] = (uint8_t)(sl_splitmix64_at(8, i) & 1);
    return cmocka_run_group_tests_name("kernels", tests, NULL, NULL);
}
