/* SPDX-License-Identifier: Apache-2.0 */
/* Every entry of the tables of Term Revealing and ternary kernels against the plain C
 * one: lengths 0 to 257, odd offsets, numbers of all kinds, guard bytes around each
 * output. Usage: t_kernels_units LEVEL; exit 77 where the CPU has not got it; without a
 * level, C against itself, and a table with an entry damaged must be caught. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "accel/kernels/cpu.h"
#include "accel/kernels/rtn_ops.h"
#include "accel/kernels/tr_ops.h"
#include "common/rng.h"

#define LENGTHS 258
#define OFFSETS 3
#define ROOM 300000
#define GUARD 64
#define GUARD_BYTE 0x5b

static uint32_t level;
static struct sl_tr_ops tr[2]; /* C, and the variant */
static struct sl_rtn_ops rtn[2];
static struct sl_rng rng;

/* --- buffers -------------------------------------------------------------------------
 */

static uint8_t space[4][2][GUARD + ROOM + GUARD];

/* Output `which` of side 0 (C) or 1, `offset` bytes off the alignment; guards all over.
 */
static void *output(int which, int side, size_t offset)
{
    memset(space[which][side], GUARD_BYTE, sizeof(space[which][side]));
    return space[which][side] + GUARD + offset;
}

static bool equal(int which, size_t offset, size_t bytes)
{
    return memcmp(space[which][0] + GUARD + offset, space[which][1] + GUARD + offset,
                  bytes) == 0;
}

static bool outside_untouched(int which, size_t offset, size_t bytes)
{
    const uint8_t *p = space[which][1];
    for (size_t i = 0; i < GUARD + ROOM + GUARD; i++)
        if ((i < GUARD + offset || i >= GUARD + offset + bytes) && p[i] != GUARD_BYTE)
            return false;
    return true;
}

static void compare(const char *entry, int which, size_t n, size_t offset, size_t bytes)
{
    if (!equal(which, offset, bytes))
        fail_msg("%s: n %zu, offset %zu: another result than C", entry, n, offset);
    if (!outside_untouched(which, offset, bytes))
        fail_msg("%s: n %zu, offset %zu: wrote outside", entry, n, offset);
}

static float number(bool finite)
{
    static const float special[] = {0.0f,    -0.0f,    1e-41f,   -1e-41f, 0.5f,
                                    -0.5f,   1.0f,     -1.0f,    3e38f,   -3e38f,
                                    FLT_MIN, INFINITY, -INFINITY};
    uint32_t dice = sl_rng_u32(&rng) % 64;
    if (dice < (finite ? 11u : 13u))
        return special[dice];
    return 4.0f * sl_rng_f32(&rng) - 2.0f;
}

static const float *numbers(size_t n, size_t offset, bool finite)
{
    static float x[ROOM + OFFSETS];
    for (size_t i = 0; i < n; i++)
        x[offset + i] = number(finite);
    return x + offset;
}

static const int16_t *random_codes(int which, size_t n, size_t offset, int limit)
{
    static int16_t q[2][ROOM + OFFSETS];
    for (size_t i = 0; i < n; i++) {
        uint32_t dice = sl_rng_u32(&rng);
        q[which][offset + i] = (int16_t)((int)(dice % (uint32_t)(2 * limit + 1)) - limit);
        if (i > 0 && dice >> 28 == 0)
            q[which][offset + i] = q[which][offset + i - 1];
    }
    return q[which] + offset;
}

static const uint64_t *random_words(int which, size_t n)
{
    static uint64_t w[4][ROOM / 8];
    for (size_t i = 0; i < n; i++)
        w[which][i] = (uint64_t)sl_rng_u32(&rng) << 32 | sl_rng_u32(&rng);
    return w[which];
}

#define EACH_LENGTH(n, at)                                                               \
    for (size_t n = 0; n < LENGTHS; n++)                                                 \
        for (size_t at = 0; at < OFFSETS; at++)

/* --- Term Revealing ------------------------------------------------------------------
 */

static void the_largest_magnitude_is_found(void **state)
{
    EACH_LENGTH(n, at)
    {
        const float *x = numbers(n, at, n % 2 == 0);
        assert_int_equal(tr[0].max_bits(x, n), tr[1].max_bits(x, n));
        if (n > 0) { /* a NaN anywhere is seen */
            ((float *)x)[sl_rng_u32(&rng) % n] = NAN;
            assert_true(tr[1].max_bits(x, n) > 0x7f800000u);
        }
    }
}

static void floats_become_codes(void **state)
{
    static const float scales[] = {0x1p-7f, 0.013f, 1e-38f, 3e37f, 0x1p-126f};
    EACH_LENGTH(n, at)
    {
        const float *x = numbers(n, at, true);
        float sf = scales[n % 5];
        int16_t limit = (int16_t)(1 << (1 + n % 14));
        for (int side = 0; side < 2; side++)
            tr[side].quantise(x, n, sf, limit, output(0, side, 2 * at));
        compare("quantise", 0, n, 2 * at, n * sizeof(int16_t));
    }
}

static void codes_become_digits(void **state)
{
    EACH_LENGTH(n, at)
    {
        enum sl_tr_encoder enc = (enum sl_tr_encoder)(n % 3);
        const int16_t *q = random_codes(0, n, at, 16384);
        for (int side = 0; side < 2; side++)
            tr[side].encode(enc, q, n, output(0, side, 2 * at), output(1, side, 2 * at));
        compare("encode plus", 0, n, 2 * at, n * sizeof(uint16_t));
        compare("encode minus", 1, n, 2 * at, n * sizeof(uint16_t));
    }
}

static void values_are_capped(void **state)
{
    EACH_LENGTH(n, at)
    {
        for (unsigned s = 1; s <= 5; s++) {
            enum sl_tr_encoder enc = (enum sl_tr_encoder)(n % 3);
            unsigned bits = 8 + n % 8;
            const int16_t *q = random_codes(0, n, at, 1 << (bits - 1));
            for (int side = 0; side < 2; side++)
                tr[side].cap(enc, bits, q, n, s, output(0, side, 2 * at));
            compare("cap", 0, n, 2 * at, n * sizeof(int16_t));
            for (int side = 0; side < 2; side++) { /* in place */
                int16_t *v = output(0, side, 2 * at);
                memcpy(v, q, n * sizeof(*v));
                tr[side].cap(enc, bits, v, n, s, v);
            }
            compare("cap in place", 0, n, 2 * at, n * sizeof(int16_t));
        }
    }
}

static void groups_are_revealed(void **state)
{
    for (size_t g = 0; g <= SL_TR_G_MAX; g += g < 20 ? 1 : 13)
        for (size_t at = 0; at < OFFSETS; at++)
            for (unsigned k = 1; k < 200; k = 2 * k + 1) {
                const int16_t *q = random_codes(0, g * SL_TR_TILE, 0, 128);
                size_t bytes = g * SL_TR_TILE * sizeof(uint16_t);
                uint64_t terms[2];
                for (int side = 0; side < 2; side++) {
                    uint16_t *p = output(0, side, 2 * at), *m = output(1, side, 2 * at);
                    tr[0].encode(SL_TR_NAF, q, g * SL_TR_TILE, p, m);
                    terms[side] = tr[side].reveal(g, k, p, m);
                }
                assert_int_equal(terms[0], terms[1]);
                compare("reveal plus", 0, g, 2 * at, bytes);
                compare("reveal minus", 1, g, 2 * at, bytes);
            }
}

/* m x n x (2 pairs) with operands an odd number of elements off. */
static void one_product(size_t m, size_t n, size_t pairs, size_t at)
{
    size_t lda = 2 * pairs + 4;
    size_t panels = (n + SL_TR_TILE - 1) / SL_TR_TILE;
    const int16_t *a = random_codes(0, m * lda, at, 128);
    const int16_t *b = random_codes(1, panels * pairs * SL_TR_TILE * 2, at, 128);
    const float *bias = numbers(n, at, true);
    for (int side = 0; side < 2; side++)
        tr[side].product_int(m, n, pairs, a, lda, b, output(0, side, 4 * at));
    compare("product_int", 0, n, 4 * at, m * n * sizeof(int32_t));
    for (int form = 0; form < 4; form++) {
        for (int side = 0; side < 2; side++) {
            struct sl_tr_finish f = {.scale = 0.37f,
                                     .alpha = form % 2 == 0 ? 1.0f : 0.7f,
                                     .bias = form < 2 ? bias : NULL,
                                     .accumulate = form == 3,
                                     .ldc = n + 1};
            f.c = output(0, side, 4 * at);
            tr[side].product(m, n, pairs, a, lda, b, &f);
        }
        /* between rows stand guards, which compare() finds equal on both sides */
        size_t bytes = m == 0 ? 0 : ((m - 1) * (n + 1) + n) * sizeof(float);
        compare("product", 0, n, 4 * at, bytes);
        for (size_t i = 0; i + 1 < m; i++)
            assert_int_equal(space[0][1][GUARD + 4 * at + (i * (n + 1) + n) * 4],
                             GUARD_BYTE);
    }
}

static void codes_multiply(void **state)
{
    for (size_t n = 1; n < LENGTHS; n += n < 70 ? 1 : 17)
        one_product(1 + n % 14, n, 1 + sl_rng_u32(&rng) % 20, n % OFFSETS);
    for (size_t pairs = 0; pairs < 130; pairs++)
        one_product(7, 30 + pairs % 50, pairs, pairs % OFFSETS);
    for (size_t m = 0; m < 20; m++)
        one_product(m, 70, 9, m % OFFSETS);
}

/* --- ternary -------------------------------------------------------------------------
 */

static void floats_become_planes(void **state)
{
    EACH_LENGTH(n, at)
    {
        const float *x = numbers(n, at, false);
        float d = n % 3 == 0 ? 0.5f : sl_rng_f32(&rng);
        size_t bytes = SL_RTN_WORDS(n) * 8;
        for (int side = 0; side < 2; side++)
            assert_true(rtn[side].ternarise(x, n, d, output(0, side, 8 * at),
                                            output(1, side, 8 * at),
                                            output(2, side, 8 * at)));
        compare("ternarise flag", 0, n, 8 * at, bytes);
        compare("ternarise sign", 1, n, 8 * at, bytes);
        compare("ternarise clip", 2, n, 8 * at, bytes);
        for (int side = 0; side < 2; side++)
            rtn[side].ternarise(x, n, d, output(0, side, 8 * at), output(1, side, 8 * at),
                                NULL);
        compare("ternarise flag", 0, n, 8 * at, bytes);
        if (n > 0) {
            ((float *)x)[sl_rng_u32(&rng) % n] = NAN;
            assert_false(
                rtn[1].ternarise(x, n, d, output(0, 1, 0), output(1, 1, 0), NULL));
        }
    }
}

static void bytes_become_planes(void **state)
{
    static int8_t t[LENGTHS + OFFSETS];
    EACH_LENGTH(n, at)
    {
        for (size_t i = 0; i < n; i++)
            t[at + i] = (int8_t)(sl_rng_u32(&rng) % 3) - 1;
        for (int side = 0; side < 2; side++)
            rtn[side].pack_bytes(t + at, n, output(0, side, 8 * at),
                                 output(1, side, 8 * at));
        compare("pack_bytes flag", 0, n, 8 * at, SL_RTN_WORDS(n) * 8);
        compare("pack_bytes sign", 1, n, 8 * at, SL_RTN_WORDS(n) * 8);
    }
}

static void planes_become_floats(void **state)
{
    EACH_LENGTH(n, at)
    {
        const uint64_t *flag = random_words(0, SL_RTN_WORDS(n) + 1);
        const uint64_t *sign = random_words(1, SL_RTN_WORDS(n) + 1);
        const float levels[3] = {-1.7f, -0.0f, 0.3f};
        const float *g = numbers(n, at, false);
        for (int side = 0; side < 2; side++)
            rtn[side].decode(flag, sign, n, levels, output(0, side, 4 * at));
        compare("decode", 0, n, 4 * at, n * sizeof(float));
        for (int side = 0; side < 2; side++)
            rtn[side].clip_grad(flag, -0.6f, g, n, output(0, side, 4 * at));
        compare("clip_grad", 0, n, 4 * at, n * sizeof(float));
        for (int side = 0; side < 2; side++) { /* in place */
            float *v = output(0, side, 4 * at);
            memcpy(v, g, n * sizeof(*v));
            rtn[side].clip_grad(flag, 1.5f, v, n, v);
        }
        compare("clip_grad in place", 0, n, 4 * at, n * sizeof(float));
        assert_int_equal(rtn[0].sum(flag, sign, SL_RTN_WORDS(n)),
                         rtn[1].sum(flag, sign, SL_RTN_WORDS(n)));
    }
}

static void one_dots(size_t m, size_t n, size_t words, size_t at)
{
    size_t packed = (n + SL_RTN_BLOCK - 1) / SL_RTN_BLOCK * words * 2 * SL_RTN_BLOCK;
    const uint64_t *flag = random_words(0, m * words), *sign = random_words(1, m * words);
    const uint64_t *w = random_words(2, packed);
    size_t ldd = n + 3;
    for (int side = 0; side < 2; side++)
        rtn[side].dots(m, n, words, flag, sign, w, output(0, side, 4 * at), ldd);
    size_t bytes = m == 0 || n == 0 ? 0 : ((m - 1) * ldd + n) * sizeof(int32_t);
    compare("dots", 0, n, 4 * at, bytes);
}

static void planes_multiply(void **state)
{
    for (size_t n = 0; n < LENGTHS; n++)
        one_dots(n % 11, n, 1 + n % 7, n % OFFSETS);
    for (size_t words = 0; words < 70; words++)
        one_dots(1 + words % 9, 1 + words % 40, words, words % OFFSETS);
}

static void dots_are_combined(void **state)
{
    static struct sl_rtn_affine affine[LENGTHS];
    static int32_t d[LENGTHS], sum_a[LENGTHS], sum_w[LENGTHS], count[LENGTHS];
    EACH_LENGTH(n, at)
    {
        const float *bias = numbers(n + 1, at, true);
        for (size_t i = 0; i < n; i++) {
            affine[i] = (struct sl_rtn_affine){sl_rng_f32(&rng) - 0.5f, sl_rng_f32(&rng),
                                               -sl_rng_f32(&rng), 0.1f};
            d[i] = (int32_t)sl_rng_u32(&rng) >> 4;
            sum_a[i] = (int32_t)sl_rng_u32(&rng) >> 9;
            sum_w[i] = (int32_t)sl_rng_u32(&rng) >> 9;
            count[i] = (int32_t)(sl_rng_u32(&rng) >> 9);
        }
        affine[0].dot = 0.77f;
        for (int with = 0; with < 2; with++) {
            for (int side = 0; side < 2; side++)
                rtn[side].combine_line(n, d, -77, sum_w, 1031, affine, with ? bias : NULL,
                                       output(0, side, 4 * at));
            compare("combine_line", 0, n, 4 * at, n * sizeof(float));
            for (int side = 0; side < 2; side++)
                rtn[side].combine_places(n, d, sum_a, sum_w, count, affine,
                                         with ? bias : NULL, output(0, side, 4 * at));
            compare("combine_places", 0, n, 4 * at, n * sizeof(float));
        }
    }
}

/* --- the harness itself --------------------------------------------------------------
 */

static void damaged_cap(enum sl_tr_encoder enc, unsigned bits, const int16_t *q, size_t n,
                        unsigned s, int16_t *v)
{
    sl_tr_ops_c.cap(enc, bits, q, n, s, v);
    if (n == 257)
        v[256] ^= 1;
}

static void damaged_pack(const int8_t *t, size_t n, uint64_t *flag, uint64_t *sign)
{
    sl_rtn_ops_c.pack_bytes(t, n, flag, sign);
    if (n == 200)
        flag[SL_RTN_WORDS(n)] = 0; /* one word too many */
}

static void damage_is_caught(void **state)
{
    const int16_t *q = random_codes(0, 257, 0, 128);
    int8_t t[200] = {1, 0, -1};
    sl_tr_ops_c.cap(SL_TR_NAF, 8, q, 257, 3, output(0, 0, 0));
    damaged_cap(SL_TR_NAF, 8, q, 257, 3, output(0, 1, 0));
    assert_false(equal(0, 0, 257 * sizeof(int16_t)));
    damaged_pack(t, 200, output(0, 1, 0), output(1, 1, 0));
    assert_false(outside_untouched(0, 0, SL_RTN_WORDS(200) * 8));
    assert_true(outside_untouched(1, 0, SL_RTN_WORDS(200) * 8));
}

static bool wanted_level(const char *names, uint32_t *ret)
{
    /* the bits that names switch off are those to test */
    return sl_cpu_off_parse(names, ret) && (*ret & ~sl_cpu_detect()) == 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_largest_magnitude_is_found),
        cmocka_unit_test(floats_become_codes),
        cmocka_unit_test(codes_become_digits),
        cmocka_unit_test(values_are_capped),
        cmocka_unit_test(groups_are_revealed),
        cmocka_unit_test(codes_multiply),
        cmocka_unit_test(floats_become_planes),
        cmocka_unit_test(bytes_become_planes),
        cmocka_unit_test(planes_become_floats),
        cmocka_unit_test(planes_multiply),
        cmocka_unit_test(dots_are_combined),
        cmocka_unit_test(damage_is_caught),
    };
    if (argc > 1 && !wanted_level(argv[1], &level))
        return 77;
    sl_rng_init(&rng, &(struct sl_rng_id){.seed = 20, .purpose = SL_RNG_TEST});
    sl_tr_ops_init(&tr[0], 0);
    sl_tr_ops_init(&tr[1], level);
    sl_rtn_ops_init(&rtn[0], 0);
    sl_rtn_ops_init(&rtn[1], level);
    return cmocka_run_group_tests_name("kernels_units", tests, NULL, NULL);
}
