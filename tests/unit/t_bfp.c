/* SPDX-License-Identifier: Apache-2.0 */
/* Block floating point by its definition: the digest's worked examples, the invariants of
 * the format, the noise sources, the choice of precision, and what is refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "accel/units/bfp.h"
#include "common/rng.h"

#define N 320
#define GROUPS (N / 16)

static struct sl_rng rng;

struct result {
    int16_t mantissa[N], exponent[N];
    uint8_t code[N], noise[N];
    float value[N];
    struct sl_bfp_out out;
};

static void convert_step(const float *x, size_t n, const struct sl_bfp_options *o,
                         struct result *r)
{
    struct sl_bfp_lines l = {.n0 = 1, .n1 = 1, .k = n, .step_k = 1};
    r->out = (struct sl_bfp_out){.mantissa = r->mantissa,
                                 .code = r->code,
                                 .exponent = r->exponent,
                                 .value = r->value,
                                 .noise = r->noise};
    assert_int_equal(sl_bfp_convert(o, &l, x, &r->out, NULL), SL_OK);
}

static struct sl_bfp_options options(uint32_t m, enum sl_bfp_round round)
{
    return (struct sl_bfp_options){.g = 16, .e = 4, .m = m, .round = round, .key = 42};
}

static void random_values(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = ldexpf((float)sl_rng_normal(&rng), -(int)(sl_rng_u32(&rng) % 6));
}

/* --- worked examples
 * ------------------------------------------------------------------------- */

static const float sample[8] = {1.0f,  -0.75f, 0.40625f, 0.09375f,
                                -2.5f, 0.0f,   3.999f,   0.001f};

static void expect_mantissas(const struct sl_bfp_options *o, const int16_t want[8])
{
    struct result r;
    convert_step(sample, 8, o, &r);
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(r.mantissa[i], want[i]);
}

static void worked_examples_come_out(void **state)
{
    static const uint8_t draws[8] = {113, 164, 3, 147, 236, 4, 181, 53};
    struct sl_bfp_options o = options(4, SL_BFP_TRUNCATE);
    expect_mantissas(&o, (int16_t[]){4, -3, 1, 0, -10, 0, 15, 0});
    o.round = SL_BFP_NEAREST;
    expect_mantissas(&o, (int16_t[]){4, -3, 2, 0, -10, 0, 15, 0});
    o.m = 2;
    expect_mantissas(&o, (int16_t[]){1, -1, 0, 0, -3, 0, 3, 0});
    o.round = SL_BFP_TRUNCATE;
    expect_mantissas(&o, (int16_t[]){1, 0, 0, 0, -2, 0, 3, 0});
    o.round = SL_BFP_GIVEN;
    o.given = draws;
    expect_mantissas(&o, (int16_t[]){1, -1, 0, 0, -3, 0, 3, 0});
    o.round = SL_BFP_LFSR;
    expect_mantissas(&o, (int16_t[]){1, -1, 0, 0, -2, 0, 3, 0});
    o.round = SL_BFP_CTR;
    expect_mantissas(&o, (int16_t[]){1, -1, 1, 1, -3, 0, 3, 0});
}

static void noise_sources_draw_what_the_digest_lists(void **state)
{
    static const uint8_t ctr[8] = {189, 186, 251, 247, 186, 123, 4, 28};
    static const uint8_t lfsr[10] = {113, 164, 3, 147, 236, 4, 181, 53, 13, 223};
    uint8_t table[SL_BFP_PERIOD][SL_BFP_LANES];
    uint32_t sum = 0;
    sl_bfp_lfsr_table(table);
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(sl_bfp_noise(42, i), ctr[i]);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(table[i][0], lfsr[i]);
    for (unsigned i = 0; i < SL_BFP_PERIOD; i++) {
        assert_int_not_equal(table[i][5], 0);
        sum += table[i][5];
    }
    assert_int_equal(sum, 128 * SL_BFP_PERIOD);
}

/* --- invariants
 * ------------------------------------------------------------------------------ */

static void encoding_a_decoded_group_changes_nothing(void **state)
{
    float x[N];
    struct result once, again;
    for (uint32_t m = 1; m <= 8; m++)
        for (int round = SL_BFP_TRUNCATE; round <= SL_BFP_LFSR; round++) {
            struct sl_bfp_options o = options(m, (enum sl_bfp_round)round);
            random_values(x, N);
            convert_step(x, N, &o, &once);
            convert_step(once.value, N, &o, &again);
            for (size_t g = 0; g < GROUPS; g++)
                assert_int_equal(once.exponent[g], again.exponent[g]);
            assert_memory_equal(once.mantissa, again.mantissa, sizeof(once.mantissa));
        }
}

static void errors_stay_within_a_step(void **state)
{
    float x[N];
    for (uint32_t m = 2; m <= 8; m++)
        for (int round = SL_BFP_TRUNCATE; round <= SL_BFP_CTR; round++) {
            struct sl_bfp_options o = options(m, (enum sl_bfp_round)round);
            struct result r;
            random_values(x, N);
            convert_step(x, N, &o, &r);
            for (size_t i = 0; i < N; i++) {
                double step = ldexp(1.0, r.exponent[i / 16] - (int)m + 1);
                double error = fabs((double)x[i] - (double)r.value[i]);
                bool full = abs(r.mantissa[i]) == (1 << m) - 1;
                if (round == SL_BFP_NEAREST && !full)
                    assert_true(error <= step / 2 + step / 256);
                else
                    assert_true(error < step);
            }
        }
}

static void two_bits_are_the_upper_ones_of_four(void **state)
{
    float x[N];
    struct result four, two;
    struct sl_bfp_options o4 = options(4, SL_BFP_TRUNCATE), o2 = o4;
    o2.m = 2;
    random_values(x, N);
    convert_step(x, N, &o4, &four);
    convert_step(x, N, &o2, &two);
    for (size_t i = 0; i < N; i++)
        assert_int_equal(abs(two.mantissa[i]), abs(four.mantissa[i]) >> 2);
}

static void largest_of_a_group_uses_its_leading_bit(void **state)
{
    float x[N];
    struct result r;
    for (uint32_t m = 1; m <= 8; m++) {
        struct sl_bfp_options o = options(m, SL_BFP_TRUNCATE);
        random_values(x, N);
        convert_step(x, N, &o, &r);
        for (size_t g = 0; g < GROUPS; g++) {
            int largest = 0;
            for (size_t i = 16 * g; i < 16 * g + 16; i++)
                largest = abs(r.mantissa[i]) > largest ? abs(r.mantissa[i]) : largest;
            assert_true(r.code[g] < 15);
            assert_true(largest >= 1 << (m - 1));
        }
    }
}

static void scaling_moves_exponents_and_negation_signs(void **state)
{
    float x[N], scaled[N], negated[N];
    struct result r, s, n;
    struct sl_bfp_options o = options(4, SL_BFP_CTR);
    random_values(x, N);
    for (size_t i = 0; i < N; i++) {
        scaled[i] = ldexpf(x[i], 7);
        negated[i] = -x[i];
    }
    convert_step(x, N, &o, &r);
    convert_step(scaled, N, &o, &s);
    convert_step(negated, N, &o, &n);
    assert_memory_equal(r.mantissa, s.mantissa, sizeof(r.mantissa));
    assert_memory_equal(r.code, s.code, GROUPS);
    for (size_t i = 0; i < N; i++)
        assert_int_equal(n.mantissa[i], -r.mantissa[i]);
    for (size_t g = 0; g < GROUPS; g++)
        assert_int_equal(s.exponent[g], r.exponent[g] + 7);
}

/* Every t that two bits and eight of noise can hold, in a group whose largest value has
 * the exponent 0; beyond 3 steps the mantissa saturates. */
static void mean_over_all_noise_is_the_value(void **state)
{
    for (uint32_t t = 0; t <= 3 * 256; t++) {
        float x[2] = {1.5f, (float)t / 256.0f * 0.5f};
        uint32_t sum = 0;
        for (unsigned noise = 0; noise < 256; noise++) {
            uint8_t given[2] = {0, (uint8_t)noise};
            struct sl_bfp_options o = options(2, SL_BFP_GIVEN);
            struct result r;
            o.given = given;
            convert_step(x, 2, &o, &r);
            sum += (uint32_t)r.mantissa[1];
        }
        assert_int_equal(sum, t);
    }
}

static void counter_noise_depends_on_key_and_number_only(void **state)
{
    float x[N];
    struct result a, b, part;
    struct sl_bfp_options o = options(4, SL_BFP_CTR);
    random_values(x, N);
    convert_step(x, N, &o, &a);
    convert_step(x, N, &o, &b);
    assert_memory_equal(a.noise, b.noise, N);
    convert_step(x, N / 2, &o, &part);
    assert_memory_equal(a.noise, part.noise, N / 2);
    o.key = 43;
    convert_step(x, N, &o, &b);
    assert_memory_not_equal(a.noise, b.noise, N);
}

static void registers_go_on_where_they_stopped(void **state)
{
    float x[N];
    struct result whole, second;
    struct sl_bfp_options o = options(4, SL_BFP_LFSR);
    random_values(x, N);
    o.lfsr_start = 250; /* beyond the period on the way */
    convert_step(x, N, &o, &whole);
    o.lfsr_start = 250 + 10;
    convert_step(x + 160, N - 160, &o, &second);
    assert_memory_equal(whole.noise + 160, second.noise, N - 160);
}

static void chunks_add_up_to_the_product(void **state)
{
    for (uint32_t mx = 1; mx <= 8; mx++)
        for (uint32_t my = 1; my <= 8; my++) {
            int16_t x[16], y[16];
            int32_t chunks[SL_BFP_CHUNKS][SL_BFP_CHUNKS], sum = 0;
            uint32_t used = 0;
            for (int i = 0; i < 16; i++) {
                x[i] = (int16_t)(sl_rng_below(&rng, 2u << mx) % (1u << mx));
                y[i] = (int16_t)(sl_rng_below(&rng, 2u << my) % (1u << my));
                x[i] = i % 3 ? x[i] : (int16_t)-x[i];
                y[i] = i % 2 ? y[i] : (int16_t)-y[i];
            }
            x[0] = (int16_t)((1 << mx) - 1);
            y[0] = (int16_t)((1 << my) - 1);
            sl_bfp_dot_chunks(x, y, 16, chunks);
            for (int i = 0; i < SL_BFP_CHUNKS; i++)
                for (int j = 0; j < SL_BFP_CHUNKS; j++)
                    sum += chunks[i][j] * (1 << (2 * (i + j)));
            for (uint32_t i = 0; i < (mx + 1) / 2; i++)
                used += (my + 1) / 2;
            assert_int_equal(sum, sl_bfp_dot(x, y, 16));
            assert_int_equal(sl_bfp_passes(mx, my), used);
        }
}

static void threshold_falls_with_layer_and_iteration(void **state)
{
    for (uint32_t l = 1; l < 5; l++)
        for (uint64_t i = 0; i < 99; i++) {
            double here = sl_bfp_threshold(0.6, 0.3, i, 100, l, 5);
            assert_true(sl_bfp_threshold(0.6, 0.3, i + 1, 100, l, 5) < here);
            assert_true(sl_bfp_threshold(0.6, 0.3, i, 100, l + 1, 5) < here);
        }
    assert_int_equal(sl_bfp_pick(1.0, 4.0, 0.25), 4); /* strictly below */
    assert_int_equal(sl_bfp_pick(1.0, 4.0, 0.26), 2);
    assert_int_equal(sl_bfp_pick(0.0, 0.0, INFINITY), 4);
    assert_int_equal(sl_bfp_pick(1.0, 4.0, -INFINITY), 4);
}

/* --- what is refused
 * ------------------------------------------------------------------------- */

static void a_nan_is_refused_and_nothing_written(void **state)
{
    float x[N];
    struct result r;
    struct sl_err err;
    struct sl_bfp_options o = options(4, SL_BFP_TRUNCATE);
    struct sl_bfp_lines l = {.n0 = 1, .n1 = 1, .k = N, .step_k = 1};
    random_values(x, N);
    x[N - 1] = NAN;
    memset(&r, 0x77, sizeof(r));
    r.out = (struct sl_bfp_out){.mantissa = r.mantissa, .exponent_t = 1234};
    assert_int_equal(sl_bfp_convert(&o, &l, x, &r.out, &err), SL_E_INPUT);
    assert_non_null(strstr(err.msg, "NaN at element 319"));
    assert_int_equal(r.mantissa[0], 0x7777);
    assert_int_equal(r.out.exponent_t, 1234);
}

static void options_out_of_range_are_named(void **state)
{
    static const struct {
        uint32_t g, e, m;
        const char *says;
    } bad[] = {{0, 4, 4, "g 0"}, {16, 5, 4, "e 5"}, {16, 4, 0, "m 0"}, {16, 4, 9, "m 9"}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct sl_bfp_options o = {.g = bad[i].g, .e = bad[i].e, .m = bad[i].m};
        struct sl_err err;
        assert_int_equal(sl_bfp_check(&o, &err), SL_E_RANGE);
        assert_non_null(strstr(err.msg, bad[i].says));
    }
    assert_int_equal(sl_bfp_check_product(16, 8, 8, NULL), SL_OK);
    assert_int_equal(sl_bfp_check_product(258, 8, 8, NULL), SL_OK);
    assert_int_equal(sl_bfp_check_product(259, 8, 8, NULL), SL_E_RANGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(worked_examples_come_out),
        cmocka_unit_test(noise_sources_draw_what_the_digest_lists),
        cmocka_unit_test(encoding_a_decoded_group_changes_nothing),
        cmocka_unit_test(errors_stay_within_a_step),
        cmocka_unit_test(two_bits_are_the_upper_ones_of_four),
        cmocka_unit_test(largest_of_a_group_uses_its_leading_bit),
        cmocka_unit_test(scaling_moves_exponents_and_negation_signs),
        cmocka_unit_test(mean_over_all_noise_is_the_value),
        cmocka_unit_test(counter_noise_depends_on_key_and_number_only),
        cmocka_unit_test(registers_go_on_where_they_stopped),
        cmocka_unit_test(chunks_add_up_to_the_product),
        cmocka_unit_test(threshold_falls_with_layer_and_iteration),
        cmocka_unit_test(a_nan_is_refused_and_nothing_written),
        cmocka_unit_test(options_out_of_range_are_named),
    };
    sl_rng_init(&rng, &(struct sl_rng_id){.seed = 17, .purpose = SL_RNG_TEST});
    return cmocka_run_group_tests(tests, NULL, NULL);
}
