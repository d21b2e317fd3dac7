/* SPDX-License-Identifier: Apache-2.0 */
#include "common/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define DRAWS 200000

static struct sl_rng test_stream(uint32_t step)
{
    struct sl_rng r;
    sl_rng_init(&r, &(struct sl_rng_id){.seed = 11, .purpose = SL_RNG_TEST, .step = step});
    return r;
}

/* Known answers of Random123 1.14 (kat_vectors: philox4x32 10). */
static void philox_equals_the_published_vectors(void **state)
{
    static const struct {
        uint32_t counter[4], key[2], out[4];
    } known[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        uint32_t out[4];
        sl_philox(known[i].counter, known[i].key, out);
        assert_memory_equal(out, known[i].out, sizeof(out));
    }
}

/* First outputs of the reference implementation (Vigna, splitmix64.c) for state 1234567. */
static void splitmix_equals_the_reference(void **state)
{
    static const uint64_t known[] = {6457827717110365317u, 3203168211198807973u,
                                     9817491932198370423u, 4593380528125082431u,
                                     16408922859458223821u};
    uint64_t s = 1234567;
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(sl_splitmix64(&s), known[i]);
        assert_int_equal(sl_splitmix64_at(1234567, i), known[i]);
    }
}

static void a_stream_has_the_committed_bits(void **state)
{
    static const uint32_t known[8] = {
        0x3a1e9863, 0xaed35b20, 0x298ed4e1, 0x25aff170,
        0xf3540457, 0x75b4f40b, 0x4a6dde0a, 0xdb3c4abc,
    };
    struct sl_rng r = test_stream(0);
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(sl_rng_u32(&r), known[i]);
}

static void element_access_equals_drawing_in_order(void **state)
{
    struct sl_rng r = test_stream(1);
    const struct sl_rng start = r;
    for (uint64_t i = 0; i < 1000; i++) {
        uint32_t at = sl_rng_at(&r, i);
        assert_int_equal(at, sl_rng_at(&start, i));
        assert_int_equal(at, sl_rng_u32(&r));
    }
    /* far beyond 2^32 blocks the counter's second word takes part */
    assert_int_not_equal(sl_rng_at(&r, 3), sl_rng_at(&r, 3 + ((uint64_t)4 << 32)));
}

static void every_field_of_an_id_makes_another_stream(void **state)
{
    struct sl_rng_id id[13] = {0};
    id[1].seed = 1;
    id[2].seed = (uint64_t)1 << 63;
    id[3].purpose = 1;
    id[4].client = 1;
    id[5].round = 1;
    id[6].step = 1;
    id[7].tensor = 1;
    id[8].client = 1;
    id[8].round = 1;
    id[9].tensor = UINT32_MAX;
    id[10].seed = UINT64_MAX;
    id[11].seed = 0xd1b54a32d192ed03u;
    id[12].step = 2;
    struct sl_rng r[13];
    for (size_t i = 0; i < 13; i++)
        sl_rng_init(&r[i], &id[i]);
    for (size_t i = 0; i < 13; i++)
        for (size_t j = 0; j < i; j++) {
            assert_memory_not_equal(r[i].key, r[j].key, sizeof(r[i].key));
            assert_true(r[i].hi != r[j].hi);
        }
}

static void uniform_numbers_lie_in_their_range_and_are_flat(void **state)
{
    struct sl_rng r = test_stream(2);
    double sum = 0, squares = 0;
    unsigned bin[10] = {0};
    for (int i = 0; i < DRAWS; i++) {
        double u = sl_rng_f64(&r);
        float f = sl_rng_f32(&r);
        assert_true(u >= 0 && u < 1 && f >= 0 && f < 1);
        sum += u;
        squares += u * u;
        bin[(int)(10 * f)]++;
    }
    assert_true(fabs(sum / DRAWS - 0.5) < 0.003);
    assert_true(fabs(squares / DRAWS - 1.0 / 3) < 0.003);
    for (int i = 0; i < 10; i++)
        assert_true(fabs(bin[i] - DRAWS / 10.0) < 5 * sqrt(DRAWS / 10.0));
}

static void below_is_unbiased(void **state)
{
    struct sl_rng r = test_stream(3);
    unsigned count[7] = {0};
    for (int i = 0; i < DRAWS; i++)
        count[sl_rng_below(&r, 7)]++;
    double chi2 = 0, expected = DRAWS / 7.0;
    for (int i = 0; i < 7; i++)
        chi2 += (count[i] - expected) * (count[i] - expected) / expected;
    assert_true(chi2 < 27.86); /* 6 degrees of freedom, p = 1e-4 */
    for (int i = 0; i < 100; i++)
        assert_int_equal(sl_rng_below(&r, 1), 0);
}

/* With n = 3 * 2^62, plain x % n would give the lowest 2^62 values twice the weight. */
static void below_stays_unbiased_where_modulo_is_not(void **state)
{
    struct sl_rng r = test_stream(4);
    uint64_t third = (uint64_t)1 << 62;
    unsigned count[3] = {0};
    for (int i = 0; i < 30000; i++)
        count[sl_rng_below(&r, 3 * third) / third]++;
    for (int i = 0; i < 3; i++)
        assert_true(fabs(count[i] - 10000.0) < 400);
}

static void normal_numbers_have_the_moments_of_the_normal_distribution(void **state)
{
    struct sl_rng r = test_stream(5);
    double m1 = 0, m2 = 0, m3 = 0, m4 = 0;
    for (int i = 0; i < DRAWS; i++) {
        double x = sl_rng_normal(&r);
        m1 += x / DRAWS;
        m2 += x * x / DRAWS;
        m3 += x * x * x / DRAWS;
        m4 += x * x * x * x / DRAWS;
    }
    assert_true(fabs(m1) < 0.011);
    assert_true(fabs(m2 - 1) < 0.016);
    assert_true(fabs(m3) < 0.045);
    assert_true(fabs(m4 - 3) < 0.11);
}

static void exponential_numbers_have_mean_and_variance_one(void **state)
{
    struct sl_rng r = test_stream(6);
    double m1 = 0, m2 = 0;
    for (int i = 0; i < DRAWS; i++) {
        double x = sl_rng_exponential(&r);
        assert_true(x >= 0 && isfinite(x));
        m1 += x / DRAWS;
        m2 += x * x / DRAWS;
    }
    assert_true(fabs(m1 - 1) < 0.012);
    assert_true(fabs(m2 - 2) < 0.05);
}

static void gamma_numbers_have_mean_and_variance_of_their_shape(void **state)
{
    const double shapes[] = {0.05, 0.3, 1.0, 4.5, 1000.0};
    for (size_t s = 0; s < 5; s++) {
        struct sl_rng r = test_stream(10 + (uint32_t)s);
        double shape = shapes[s], m1 = 0, m2 = 0;
        for (int i = 0; i < DRAWS; i++) {
            double x = sl_rng_gamma(&r, shape);
            assert_true(x >= 0 && isfinite(x));
            m1 += x / DRAWS;
            m2 += (x - shape) * (x - shape) / DRAWS;
        }
        double sigma = sqrt(shape / DRAWS);
        assert_true(fabs(m1 - shape) < 5 * sigma);
        /* variance of the squared distance: 2 k^2 + 6 k */
        assert_true(fabs(m2 - shape) < 5 * sqrt((2 * shape * shape + 6 * shape) / DRAWS));
    }
}

static void dirichlet_shares_sum_to_one_for_tiny_and_huge_alpha(void **state)
{
    const double alphas[] = {1e-300, 1e-3, 0.3, 1.0, 1e3, 1e9};
    double p[100];
    for (size_t a = 0; a < 6; a++) {
        struct sl_rng r = test_stream(20 + (uint32_t)a);
        for (int i = 0; i < 100; i++) {
            sl_rng_dirichlet(&r, alphas[a], p, 100);
            double sum = 0;
            for (int k = 0; k < 100; k++) {
                assert_true(p[k] >= 0 && p[k] <= 1);
                sum += p[k];
            }
            assert_true(fabs(sum - 1) < 1e-12);
        }
    }
    struct sl_rng r = test_stream(30);
    sl_rng_dirichlet(&r, 1e9, p, 100);
    for (int k = 0; k < 100; k++)
        assert_true(fabs(p[k] - 0.01) < 1e-5);
    sl_rng_dirichlet(&r, 0.5, p, 1);
    assert_true(p[0] == 1.0);
}

/* Var p_k = (n - 1) / (n^2 (n alpha + 1)) */
static void dirichlet_shares_have_the_variance_of_alpha(void **state)
{
    struct sl_rng r = test_stream(31);
    double p[10], variance = 0;
    for (int i = 0; i < 20000; i++) {
        sl_rng_dirichlet(&r, 0.3, p, 10);
        variance += (p[0] - 0.1) * (p[0] - 0.1) / 20000;
    }
    assert_true(fabs(variance / (9.0 / (100 * 4.0)) - 1) < 0.06);
}

static void distributions_have_the_committed_bits(void **state)
{
    struct sl_rng r = test_stream(0);
    double p[3];
    assert_true(sl_rng_normal(&r) == 0x1.c3cddf3931f1fp-2);
    assert_true(sl_rng_exponential(&r) == 0x1.3b4a5d3bd4a57p-1);
    assert_true(sl_rng_gamma(&r, 0.3) == 0x1.4bb273f15e31cp-7);
    assert_true(sl_rng_gamma(&r, 4.5) == 0x1.6d30de97b0e2fp+2);
    sl_rng_dirichlet(&r, 0.3, p, 3);
    assert_true(p[0] == 0x1.92f45e60c6fe6p-2);
    assert_true(p[1] == 0x1.25e045a26f20cp-1);
    assert_true(p[2] == 0x1.0a58b2d2d6015p-5);
}

static void a_shuffle_is_a_permutation(void **state)
{
    uint32_t v[257];
    bool seen[257] = {false};
    struct sl_rng r = test_stream(40);
    for (uint32_t i = 0; i < 257; i++)
        v[i] = i;
    sl_rng_shuffle_u32(&r, v, 257);
    size_t fixed = 0;
    for (uint32_t i = 0; i < 257; i++) {
        assert_true(v[i] < 257 && !seen[v[i]]);
        seen[v[i]] = true;
        fixed += v[i] == i;
    }
    assert_true(fixed < 10);
    sl_rng_shuffle_u32(&r, v, 0);
    sl_rng_shuffle_u32(&r, v, 1);
}

static void all_orders_of_a_shuffle_are_equally_likely(void **state)
{
    struct sl_rng r = test_stream(41);
    unsigned count[27] = {0};
    for (int i = 0; i < 60000; i++) {
        uint32_t v[3] = {0, 1, 2};
        sl_rng_shuffle_u32(&r, v, 3);
        count[v[0] * 9 + v[1] * 3 + v[2]]++;
    }
    double chi2 = 0;
    unsigned orders = 0;
    for (int i = 0; i < 27; i++)
        if (count[i] > 0) {
            orders++;
            chi2 += (count[i] - 10000.0) * (count[i] - 10000.0) / 10000.0;
        }
    assert_int_equal(orders, 6);
    assert_true(chi2 < 25.74); /* 5 degrees of freedom, p = 1e-4 */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_equals_the_published_vectors),
        cmocka_unit_test(splitmix_equals_the_reference),
        cmocka_unit_test(a_stream_has_the_committed_bits),
        cmocka_unit_test(element_access_equals_drawing_in_order),
        cmocka_unit_test(every_field_of_an_id_makes_another_stream),
        cmocka_unit_test(uniform_numbers_lie_in_their_range_and_are_flat),
        cmocka_unit_test(below_is_unbiased),
        cmocka_unit_test(below_stays_unbiased_where_modulo_is_not),
        cmocka_unit_test(normal_numbers_have_the_moments_of_the_normal_distribution),
        cmocka_unit_test(exponential_numbers_have_mean_and_variance_one),
        cmocka_unit_test(gamma_numbers_have_mean_and_variance_of_their_shape),
        cmocka_unit_test(dirichlet_shares_sum_to_one_for_tiny_and_huge_alpha),
        cmocka_unit_test(dirichlet_shares_have_the_variance_of_alpha),
        cmocka_unit_test(distributions_have_the_committed_bits),
        cmocka_unit_test(a_shuffle_is_a_permutation),
        cmocka_unit_test(all_orders_of_a_shuffle_are_equally_likely),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
