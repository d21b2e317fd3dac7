/* SPDX-License-Identifier: Apache-2.0 */
/* Every entry of the block floating point tables against the definition (units/bfp.h):
 * lines of 0 to 257 elements, both directions, odd offsets, all widths and roundings,
 * numbers of all kinds, guards around each output. Usage: t_kernels_bfp LEVEL; exit 77
 * where the CPU has not got it; without a level, plain C. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "accel/kernels/bfp_ops.h"
#include "accel/kernels/cpu.h"
#include "accel/kernels/kernels.h"
#include "accel/units/fast.h"
#include "common/rng.h"

#define LINES_MAX 50
#define K_MAX 257
#define GROUPS_MAX 17 /* of 16 */
#define ROOM 70000
#define GUARD 64
#define GUARD_BYTE 0x5b

static uint32_t level;
static struct sl_bfp_ops ops;
static struct sl_rng rng;

/* --- data
 * ------------------------------------------------------------------------------------ */

static float source[2][GUARD + LINES_MAX * K_MAX + GUARD];
static uint8_t given[LINES_MAX * K_MAX];
static int16_t mantissa[2][LINES_MAX * K_MAX];
static int16_t exponent[2][LINES_MAX * K_MAX];

/* Mostly Gaussian, with zeros, denormals, groups far below and, in the wild kind, limits
 * and infinities. */
static float number(int wild)
{
    static const float extremes[] = {0x1p60f,   -0x1.8p60f, 0x1p61f,  -0x1p100f,
                                     INFINITY,  -INFINITY,  0x1p-60f, -0x1.8p-61f,
                                     0x1p-100f, 1e-42f};
    uint32_t dice = sl_rng_u32(&rng) % 64;
    if (dice == 0)
        return 0.0f;
    if (dice == 1)
        return -0.0f;
    if (dice == 2)
        return 1e-41f;
    if (wild && dice < 12)
        return extremes[dice - 2];
    return ldexpf((float)sl_rng_normal(&rng),
                  dice < 20 ? -(int)(sl_rng_u32(&rng) % 12) : 0);
}

static void fill(int which, int wild)
{
    for (size_t i = 0; i < GUARD + LINES_MAX * K_MAX + GUARD; i++)
        source[which][i] = number(wild);
    size_t quiet = sl_rng_u32(&rng) % (LINES_MAX * K_MAX);
    memset(source[which] + quiet, 0, 40 * sizeof(float)); /* groups of zeros */
}

/* An operand as the definition and as the kernels see it. */
struct operand {
    struct sl_bfp_options o;
    struct sl_bfp_lines lines;
    struct sl_bfp_out out;
    struct sl_bfp_source s;
    size_t n, k; /* lines, elements */
};

static void describe(struct operand *p, int which, size_t n, size_t k, int across,
                     const struct sl_bfp_options *o)
{
    *p = (struct operand){.o = *o, .n = n, .k = k};
    p->lines = (struct sl_bfp_lines){.n0 = 1, .n1 = n, .k = k};
    p->lines.step1 = across ? 1 : K_MAX;
    p->lines.step_k = across ? LINES_MAX : 1;
    p->out.mantissa = mantissa[which];
    p->out.exponent = exponent[which];
    const float *x = source[which] + GUARD + 1;
    p->o.given = given;
    /* given noise stands in the places of the values; kernels read it by number */
    if (o->round == SL_BFP_GIVEN)
        p->o.round = SL_BFP_TRUNCATE;
    assert_int_equal(sl_bfp_convert(&p->o, &p->lines, x, &p->out, NULL), SL_OK);
    p->s = (struct sl_bfp_source){.x = x,
                                  .lines = n,
                                  .k = k,
                                  .line_step = p->lines.step1,
                                  .k_step = p->lines.step_k,
                                  .exponent_t = p->out.exponent_t,
                                  .code_max = sl_bfp_code_max(o->e),
                                  .m = o->m,
                                  .round = o->round,
                                  .key = o->key,
                                  .given = given,
                                  .number_step = k};
}

static int16_t want_mantissa(const struct operand *p, size_t line, size_t k)
{
    return p->out.mantissa[line * p->lines.step1 + k * p->lines.step_k];
}

static float want_scale(const struct operand *p, size_t line, size_t group)
{
    uint32_t g = p->o.g;
    bool any = false;
    for (size_t k = group * g; k < (group + 1) * g && k < p->k; k++)
        any |= fabsf(p->s.x[line * p->lines.step1 + k * p->lines.step_k]) >= 0x1p-60f;
    int e = p->out.exponent[line * sl_bfp_groups(p->k, g) + group];
    return any ? ldexpf(1.0f, e - (int)p->o.m + 1) : 0.0f;
}

/* --- outputs
 * --------------------------------------------------------------------------------- */

struct output {
    uint8_t bytes[GUARD + ROOM * 4 + GUARD];
};
static struct output out[8];

static void *guarded(int i, size_t offset)
{
    memset(&out[i], GUARD_BYTE, sizeof(out[i]));
    return out[i].bytes + GUARD + offset;
}

static void check_guards(int i, size_t offset, size_t bytes)
{
    for (size_t b = 0; b < GUARD + offset; b++)
        assert_int_equal(out[i].bytes[b], GUARD_BYTE);
    for (size_t b = GUARD + offset + bytes; b < GUARD + offset + bytes + GUARD; b++)
        assert_int_equal(out[i].bytes[b], GUARD_BYTE);
}

static void check_rows(const struct operand *p, const struct sl_bfp_rows *r)
{
    size_t groups = sl_bfp_groups(p->k, 16);
    for (size_t i = 0; i < p->n; i++)
        for (size_t j = 0; j < groups * 16; j++) {
            int want = j < p->k ? want_mantissa(p, i, j) : 0;
            size_t at = i * r->step + j / 16;
            if (r->mantissa[at * 16 + j % 16] != want + 16)
                fail_msg("row %zu of %zu, k %zu of %zu: %d, want %d", i, p->n, j, p->k,
                         r->mantissa[at * 16 + j % 16] - 16, want);
            assert_float_equal(r->scale[at], want_scale(p, i, j / 16), 0.0f);
        }
}

static void check_columns(const struct operand *p, const struct sl_bfp_columns *c)
{
    size_t groups = sl_bfp_groups(p->k, 16);
    for (size_t i = 0; i < (p->n + 15) / 16 * 16; i++)
        for (size_t g = 0; g < groups; g++) {
            size_t at = i / 16 * c->groups + c->first + g;
            int sum = 0;
            for (size_t j = 0; j < 16; j++) {
                size_t k = g * 16 + j;
                int want = i < p->n && k < p->k ? want_mantissa(p, i, k) : 0;
                assert_int_equal(c->mantissa[at * 256 + j / 4 * 64 + i % 16 * 4 + j % 4],
                                 want);
                sum += want;
            }
            assert_int_equal(c->start[at * 16 + i % 16], -16 * sum);
            float scale = i < p->n ? want_scale(p, i, g) : 0.0f;
            assert_float_equal(c->scale[at * 16 + i % 16], scale, 0.0f);
        }
}

static void pack_and_check(struct operand *p)
{
    size_t groups = sl_bfp_groups(p->k, 16), panels = (p->n + 15) / 16;
    size_t odd = sl_rng_u32(&rng) % 3;
    struct sl_bfp_rows r = {guarded(0, odd), guarded(1, 4 * odd), groups};
    ops.pack_rows(&p->s, &r);
    check_rows(p, &r);
    check_guards(0, odd, p->n * groups * 16);
    check_guards(1, 4 * odd, p->n * groups * 4);
    struct sl_bfp_columns c = {guarded(2, odd), guarded(3, 4 * odd), guarded(4, 4 * odd),
                               groups, 0};
    ops.pack_columns(&p->s, &c);
    check_columns(p, &c);
    check_guards(2, odd, panels * groups * 256);
    check_guards(3, 4 * odd, panels * groups * 64);
    check_guards(4, 4 * odd, panels * groups * 64);
    c = (struct sl_bfp_columns){guarded(2, odd), guarded(3, 4 * odd), guarded(4, 4 * odd),
                                groups, 0};
    ops.rows_to_columns(&r, p->n, groups, &c);
    check_columns(p, &c);
    check_guards(2, odd, panels * groups * 256);
}

static struct sl_bfp_options any_options(uint32_t m_max)
{
    static const uint32_t widths[] = {3, 4, 8, 0};
    return (struct sl_bfp_options){.g = 16,
                                   .e = widths[sl_rng_u32(&rng) % 4],
                                   .m = 1 + sl_rng_u32(&rng) % m_max,
                                   .round = (enum sl_bfp_round)(sl_rng_u32(&rng) % 3),
                                   .key = sl_rng_u64(&rng)};
}

static void packed_forms_hold_the_definition(void **state)
{
    for (size_t k = 0; k <= K_MAX; k++)
        for (int across = 0; across < 2; across++) {
            struct operand p;
            struct sl_bfp_options o = any_options(4);
            fill(0, k % 3 == 0);
            describe(&p, 0, 1 + sl_rng_u32(&rng) % (LINES_MAX - 2), k, across, &o);
            pack_and_check(&p);
        }
}

static void given_noise_is_read_by_number(void **state)
{
    for (size_t i = 0; i < sizeof(given); i++)
        given[i] = (uint8_t)sl_rng_u32(&rng);
    for (size_t k = 1; k <= K_MAX; k += 16) {
        struct operand p;
        struct sl_bfp_options o = {.g = 16, .e = 4, .m = 4, .round = SL_BFP_GIVEN};
        fill(0, 0);
        describe(&p, 0, 1, k, 0, &o); /* one line: numbers are places */
        p.o.round = SL_BFP_GIVEN;
        assert_int_equal(sl_bfp_convert(&p.o, &p.lines, p.s.x, &p.out, NULL), SL_OK);
        pack_and_check(&p);
    }
}

static void sums_equal_the_improvement(void **state)
{
    for (size_t k = 1; k <= K_MAX; k += 3)
        for (int across = 0; across < 2; across++) {
            struct operand p;
            struct sl_bfp_options o = any_options(4);
            struct sl_bfp_sums got[2] = {{0, 0}, {0, 0}};
            double num, den;
            o.e = k % 2 ? 3 : 4;
            fill(0, k % 5 == 0);
            describe(&p, 0, 1 + sl_rng_u32(&rng) % (LINES_MAX - 2), k, across, &o);
            assert_int_equal(
                sl_bfp_improvement(16, o.e, &p.lines, p.s.x, &num, &den, NULL), SL_OK);
            p.s.sums = &got[0];
            ops.pack_rows(&p.s, &(struct sl_bfp_rows){NULL, NULL, 0});
            p.s.sums = &got[1];
            ops.pack_columns(&p.s, &(struct sl_bfp_columns){guarded(2, 0), guarded(3, 0),
                                                            guarded(4, 0),
                                                            sl_bfp_groups(k, 16), 0});
            for (int i = 0; i < 2; i++) {
                int step = p.s.exponent_t - (int)p.s.code_max - 3;
                assert_true(ldexp((double)got[i].difference, step) == num);
                assert_true(ldexp((double)got[i].coarse, step) == den);
            }
        }
}

static void largest_is_the_largest_magnitude(void **state)
{
    for (size_t n = 0; n < 258; n++) {
        fill(0, 1);
        const float *x = source[0] + GUARD + n % 5;
        uint32_t want = 0, bits;
        for (size_t i = 0; i < n; i++) {
            memcpy(&bits, &x[i], sizeof(bits));
            bits &= 0x7fffffff;
            want = bits > want ? bits : want;
        }
        assert_int_equal(ops.largest(x, n), want);
    }
    source[0][GUARD + 100] = NAN;
    assert_true(ops.largest(source[0] + GUARD, 257) > 0x7f800000u);
}

/* --- products
 * -------------------------------------------------------------------------------- */

static float product_want[LINES_MAX * LINES_MAX];

static void define_product(const struct operand *a, const struct operand *b)
{
    struct sl_bfp_gemm p = {.rows = a->n, .cols = b->n, .k = a->k, .g = a->o.g};
    p.a = (struct sl_bfp_operand){a->out.mantissa, a->lines.step1,    a->lines.step_k,
                                  a->out.exponent, a->out.exponent_t, a->o.m,
                                  a->o.e};
    p.b = (struct sl_bfp_operand){b->out.mantissa, b->lines.step1,    b->lines.step_k,
                                  b->out.exponent, b->out.exponent_t, b->o.m,
                                  b->o.e};
    assert_int_equal(sl_bfp_gemm(&p, product_want, NULL), SL_OK);
}

static void check_product(const float *c, size_t ldc, size_t m, size_t n)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++)
            if (memcmp(&c[i * ldc + j], &product_want[i * n + j], sizeof(float)) != 0)
                fail_msg("%zu x %zu, at %zu, %zu: %a, want %a", m, n, i, j,
                         (double)c[i * ldc + j], (double)product_want[i * n + j]);
}

static void narrow_product(const struct operand *a, const struct operand *b)
{
    size_t groups = sl_bfp_groups(a->k, 16), ldc = b->n + 3, bytes;
    struct sl_bfp_rows r = {guarded(0, 1), guarded(1, 4), groups};
    struct sl_bfp_columns c = {guarded(2, 3), guarded(3, 4), guarded(4, 4), groups, 0};
    float *y = guarded(5, 4);
    size_t tail = a->k % 16;
    const struct sl_bfp_tap tap = {0, 0};
    struct sl_bfp_product p = {.m = a->n,
                               .n = b->n,
                               .tap = &tap,
                               .taps = 1,
                               .groups = groups,
                               .last_quads = tail == 0 ? 4 : (tail + 3) / 4,
                               .row_step = groups,
                               .a = r,
                               .b = c,
                               .alpha = 1.0f,
                               .c = y,
                               .ldc = ldc};
    ops.pack_rows(&a->s, &r);
    ops.pack_columns(&b->s, &c);
    ops.product(&p);
    check_product(y, ldc, a->n, b->n);
    bytes = ((a->n - 1) * ldc + b->n) * sizeof(float);
    check_guards(5, 4, bytes);
    for (size_t i = 0; i + 1 < a->n; i++)
        assert_int_equal(((uint8_t *)(y + i * ldc + b->n))[0], GUARD_BYTE);
    float first = y[0];
    p.accumulate = true;
    p.alpha = 0.5f;
    ops.product(&p);
    assert_true(y[0] == first + 0.5f * first || isnan(y[0]) || isinf(first));
}

static void products_equal_the_definition(void **state)
{
    for (size_t k = 0; k <= K_MAX; k++) {
        struct operand a, b;
        struct sl_bfp_options oa = any_options(4), ob = any_options(4);
        fill(0, k % 4 == 0);
        fill(1, k % 8 == 0);
        describe(&a, 0, 1 + sl_rng_u32(&rng) % 31, k, k % 2, &oa);
        describe(&b, 1, 1 + sl_rng_u32(&rng) % 49, k, k / 2 % 2, &ob);
        define_product(&a, &b);
        narrow_product(&a, &b);
    }
}

static void wide_product(const struct operand *a, const struct operand *b)
{
    size_t groups = sl_bfp_groups(a->k, a->o.g), g = a->o.g;
    struct sl_bfp_wide wa = {guarded(0, 2), guarded(1, 4), groups};
    struct sl_bfp_wide wb = {guarded(2, 2), guarded(3, 4), groups};
    float *y = guarded(5, 4);
    const struct sl_bfp_tap tap = {0, 0};
    ops.pack_wide(&a->s, a->o.g, &wa);
    ops.pack_wide(&b->s, b->o.g, &wb);
    check_guards(0, 2, a->n * groups * g * 2);
    check_guards(3, 4, b->n * groups * 4);
    for (size_t i = 0; i < a->n; i++)
        for (size_t j = 0; j < groups * g; j++)
            assert_int_equal(wa.mantissa[i * groups * g + j],
                             j < a->k ? want_mantissa(a, i, j) : 0);
    ops.product_wide(&(struct sl_bfp_wide_product){.m = a->n,
                                                   .n = b->n,
                                                   .tap = &tap,
                                                   .taps = 1,
                                                   .groups = groups,
                                                   .g = a->o.g,
                                                   .row_step = groups,
                                                   .a = wa,
                                                   .b = wb,
                                                   .alpha = 1.0f,
                                                   .c = y,
                                                   .ldc = b->n});
    check_product(y, b->n, a->n, b->n);
    check_guards(5, 4, a->n * b->n * sizeof(float));
}

static void wide_products_equal_the_definition(void **state)
{
    static const uint32_t sizes[] = {1, 8, 9, 16, 32, 100};
    for (size_t k = 0; k <= K_MAX; k += 3) {
        struct operand a, b;
        struct sl_bfp_options oa = any_options(8), ob = any_options(8);
        oa.g = ob.g = sizes[sl_rng_u32(&rng) % 6];
        fill(0, k % 4 == 0);
        fill(1, k % 8 == 0);
        describe(&a, 0, 1 + sl_rng_u32(&rng) % 15, k, k % 2, &oa);
        describe(&b, 1, 1 + sl_rng_u32(&rng) % 15, k, k / 2 % 2, &ob);
        define_product(&a, &b);
        wide_product(&a, &b);
    }
}

/* A row's taps may lie anywhere: a product of rows that are picked equals one of rows
 * that were copied together. */
static void taps_and_picked_rows_are_followed(void **state)
{
    struct operand a, b;
    struct sl_bfp_options o = {.g = 16, .e = 4, .m = 4};
    enum { ROWS = 13, COLS = 21, GROUPS = 2 };
    fill(0, 0);
    fill(1, 0);
    describe(&a, 0, 40, 16 * GROUPS, 0, &o);
    describe(&b, 1, COLS, 3 * 16 * GROUPS, 0, &o);
    struct sl_bfp_rows r = {guarded(0, 1), guarded(1, 4), GROUPS};
    struct sl_bfp_columns c = {guarded(2, 3), guarded(3, 4), guarded(4, 4), 3 * GROUPS,
                               0};
    ops.pack_rows(&a.s, &r);
    ops.pack_columns(&b.s, &c);
    static const struct sl_bfp_tap taps[2] = {{5 * GROUPS, 2 * GROUPS}, {0, 0}};
    uint32_t row[ROWS];
    float y[ROWS * COLS];
    for (size_t i = 0; i < ROWS; i++)
        row[i] = (uint32_t)(i * 7 % 33 * GROUPS);
    struct sl_bfp_product p = {.m = ROWS,
                               .n = COLS,
                               .tap = taps,
                               .taps = 2,
                               .groups = GROUPS,
                               .last_quads = 4,
                               .row = row,
                               .a = r,
                               .b = c,
                               .alpha = 1.0f,
                               .c = y,
                               .ldc = COLS};
    float halves[ROWS * COLS];
    ops.product(&p);
    p.c = halves;
    p.taps = 1;
    ops.product(&p);
    p.tap++;
    p.resume = true;
    ops.product(&p); /* goes on where the first tap ended */
    assert_memory_equal(y, halves, sizeof(y));
    for (size_t i = 0; i < ROWS; i++)
        for (size_t j = 0; j < COLS; j++) {
            float acc = 0.0f;
            for (size_t t = 0; t < 2; t++) {
                size_t la = (row[i] + taps[t].a) / GROUPS;
                struct sl_bfp_line x = {a.out.mantissa + la * K_MAX, 1,
                                        a.out.exponent + la * GROUPS, 4};
                struct sl_bfp_line w = {b.out.mantissa + j * K_MAX + taps[t].b * 16, 1,
                                        b.out.exponent + j * 3 * GROUPS + taps[t].b, 4};
                acc = sl_bfp_add_line(acc, 16, 16 * GROUPS, &x, &w);
            }
            assert_memory_equal(&y[i * COLS + j], &acc, sizeof(acc));
        }
}

/* --- weights that a layer keeps
 * ------------------------------------------------------------------ */

enum { BATCH = 9, IN = 50, OUT = 37, UNIT_BYTES = 1 << 17 };

/* y [BATCH, OUT] and then dx [BATCH, IN] of weights w [OUT, IN]. */
static void forward_and_back(struct sl_unit_ctx *c, const float *x, const float *w,
                             const float *dy, float *y, float *dx)
{
    c->place.calls[SL_PASS_FORWARD] = c->place.calls[SL_PASS_INPUT_GRADIENT] = 0;
    sl_matmul(c, &(struct sl_matmul){.pass = SL_PASS_FORWARD,
                                     .m = BATCH,
                                     .n = OUT,
                                     .k = IN,
                                     .a = {x, IN, false, SL_ROLE_ACTIVATION},
                                     .b = {w, IN, true, SL_ROLE_WEIGHT},
                                     .alpha = 1.0f,
                                     .c = y,
                                     .ldc = OUT});
    sl_matmul(c, &(struct sl_matmul){.pass = SL_PASS_INPUT_GRADIENT,
                                     .m = BATCH,
                                     .n = IN,
                                     .k = OUT,
                                     .a = {dy, OUT, false, SL_ROLE_GRADIENT},
                                     .b = {w, IN, false, SL_ROLE_WEIGHT},
                                     .alpha = 1.0f,
                                     .c = dx,
                                     .ldc = IN});
}

static void kept_weights_multiply_as_weights_packed_each_time(void **state)
{
    static _Alignas(64) uint8_t memory[3][UNIT_BYTES];
    struct sl_kernels kernels;
    struct sl_unit_bytes bytes = {0, 0};
    float y[2][BATCH * OUT], dx[2][BATCH * IN];
    sl_kernels_init(&kernels, level);
    sl_matmul_fast.matmul_bytes(&(struct sl_unit_options){0}, BATCH, OUT, IN, true,
                                &bytes);
    assert_true(bytes.scratch <= UNIT_BYTES && bytes.keep <= UNIT_BYTES);
    memset(memory, 0, sizeof(memory));
    struct sl_unit_ctx each = {.unit = &sl_matmul_fast,
                               .kernels = &kernels,
                               .scratch = memory[0],
                               .place = {.n_layers = 2, .n_iterations = 10}};
    struct sl_unit_ctx keeps = each;
    keeps.scratch = memory[1];
    keeps.keep = memory[2];
    for (uint32_t step = 0; step < 8; step++) {
        const float *w = source[0] + step, *x = source[1] + step, *dy = x + BATCH * IN;
        if (step % 2 == 0) {
            fill(0, 0);
            keeps.version = each.version = step + 1;
        }
        fill(1, 0);
        each.place.layer = keeps.place.layer = 1 + step % 4 / 2;
        each.place.iteration = keeps.place.iteration = step == 6 ? 10 : step;
        forward_and_back(&each, x, w, dy, y[0], dx[0]);
        forward_and_back(&keeps, x, w, dy, y[1], dx[1]);
        assert_memory_equal(y[0], y[1], sizeof(y[0]));
        assert_memory_equal(dx[0], dx[1], sizeof(dx[0]));
    }
    assert_int_equal(keeps.ledger.conversions[SL_PASS_FORWARD],
                     each.ledger.conversions[SL_PASS_FORWARD]);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packed_forms_hold_the_definition),
        cmocka_unit_test(given_noise_is_read_by_number),
        cmocka_unit_test(sums_equal_the_improvement),
        cmocka_unit_test(largest_is_the_largest_magnitude),
        cmocka_unit_test(products_equal_the_definition),
        cmocka_unit_test(wide_products_equal_the_definition),
        cmocka_unit_test(taps_and_picked_rows_are_followed),
        cmocka_unit_test(kept_weights_multiply_as_weights_packed_each_time),
    };
    if (argc > 1 && !sl_cpu_off_parse(argv[1], &level))
        return 2;
    if ((sl_cpu_detect() & level) != level)
        return 77;
    sl_bfp_ops_init(&ops, level);
    sl_rng_init(&rng, &(struct sl_rng_id){.seed = 3, .purpose = SL_RNG_TEST});
    return cmocka_run_group_tests(tests, NULL, NULL);
}
