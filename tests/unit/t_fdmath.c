/* SPDX-License-Identifier: Apache-2.0 */
#include "common/fdmath.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/rng.h"

#define DRAWS 200000

/* Distance of got from want in units of want's last place as a double. */
static double ulps(double got, long double want)
{
    double w = fabs((double)want);
    double ulp = nextafter(w, INFINITY) - w;
    return (double)(fabsl((long double)got - want) / ulp);
}

static struct sl_rng test_stream(uint32_t step)
{
    struct sl_rng r;
    sl_rng_init(&r, &(struct sl_rng_id){.seed = 7, .purpose = SL_RNG_TEST, .step = step});
    return r;
}

static void log_is_within_two_ulps_of_libm(void **state)
{
    struct sl_rng r = test_stream(1);
    double worst = 0;
    for (int i = 0; i < DRAWS; i++) {
        double m = 1 + sl_rng_f64(&r);
        double x = ldexp(m, (int)sl_rng_below(&r, 2098) - 1074); /* subnormals too */
        double near_one = 0.5 + sl_rng_f64(&r);
        double u = ulps(sl_log(x), logl(x)), v = ulps(sl_log(near_one), logl(near_one));
        worst = fmax(worst, fmax(u, v));
    }
    assert_true(worst < 2.0);
}

static void log_next_to_one_keeps_its_last_bit(void **state)
{
    for (int e = 1; e <= 52; e++) {
        double up = 1 + ldexp(1, -e), down = 1 - ldexp(1, -e - 1);
        assert_true(ulps(sl_log(up), logl(up)) < 1.0);
        assert_true(ulps(sl_log(down), logl(down)) < 1.0);
    }
    assert_true(sl_log(1.0) == 0.0);
}

static void exp_is_within_two_ulps_of_libm(void **state)
{
    struct sl_rng r = test_stream(2);
    double worst = 0;
    for (int i = 0; i < DRAWS; i++) {
        double x = -708.3 + 1418.0 * sl_rng_f64(&r);
        double small = (sl_rng_f64(&r) - 0.5) * ldexp(1, -(int)sl_rng_below(&r, 60));
        worst = fmax(worst, fmax(ulps(sl_exp(x), expl(x)), ulps(sl_exp(small), expl(small))));
    }
    assert_true(worst < 2.0);
}

static void exp_below_the_normal_range_rounds_once(void **state)
{
    struct sl_rng r = test_stream(3);
    for (int i = 0; i < 20000; i++) {
        double x = -745.1 + 36.8 * sl_rng_f64(&r);
        long double want = expl(x);
        assert_true(fabsl((long double)sl_exp(x) - want) <= 0x1.1p-1074L + 0x1p-52L * want);
    }
}

static void pow_is_within_four_ulps_of_libm(void **state)
{
    struct sl_rng r = test_stream(4);
    double worst = 0;
    for (int i = 0; i < DRAWS; i++) {
        double x = ldexp(1 + sl_rng_f64(&r), (int)sl_rng_below(&r, 120) - 60);
        double y = (sl_rng_f64(&r) - 0.5) * 32;
        worst = fmax(worst, ulps(sl_pow(x, y), powl(x, y)));
        x = 1 + (sl_rng_f64(&r) - 0.5) * 0x1p-20; /* close to 1, large powers */
        y = (sl_rng_f64(&r) - 0.5) * 0x1p30;
        worst = fmax(worst, ulps(sl_pow(x, y), powl(x, y)));
    }
    assert_true(worst < 4.0);
}

static void special_values_follow_ieee_754(void **state)
{
    assert_true(sl_log(0.0) == -INFINITY);
    assert_true(sl_log(-0.0) == -INFINITY);
    assert_true(isnan(sl_log(-1.0)));
    assert_true(isnan(sl_log(NAN)));
    assert_true(sl_log(INFINITY) == INFINITY);

    assert_true(sl_exp(0.0) == 1.0);
    assert_true(sl_exp(710.0) == INFINITY);
    assert_true(sl_exp(INFINITY) == INFINITY);
    assert_true(sl_exp(-746.0) == 0.0);
    assert_true(sl_exp(-INFINITY) == 0.0);
    assert_true(isnan(sl_exp(NAN)));
    assert_true(isfinite(sl_exp(709.7)));
    assert_true(sl_exp(-745.1) > 0.0);
}

static void special_powers_are_those_of_libm(void **state)
{
    const double v[] = {0.0, 0x1p-1074, 0.5, 1.0, 2.0, 1e308, INFINITY, NAN};
    const double w[] = {0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1e300, -1e300, INFINITY, -INFINITY,
                        NAN};
    for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++) {
        for (size_t j = 0; j < sizeof(w) / sizeof(w[0]); j++) {
            double got = sl_pow(v[i], w[j]), want = pow(v[i], w[j]);
            if (isnan(want))
                assert_true(isnan(got));
            else if (isfinite(want) && want != 0)
                assert_true(ulps(got, want) < 4.0);
            else
                assert_true(got == want);
        }
    }
    assert_true(isnan(sl_pow(-2.0, 3.0)));
}

static void powers_of_small_integers_are_exact(void **state)
{
    double want = 1;
    for (int n = 0; n <= 33; n++, want *= 3)
        assert_true(sl_pow(3.0, n) == want);
    for (int n = -1022; n <= 1023; n++)
        assert_true(sl_pow(2.0, n) == ldexp(1, n));
}

struct bit_row {
    double x, y;
    uint64_t log_x, exp_y, pow_xy;
};

/* Bits on every machine, whatever compiler, level of optimisation or C library. */
static const struct bit_row bit_rows[] = {
    {0x0.0000000000001p-1022, -0x1p-1, 0xc0874385446d71c3,
     0x3fe368b2fc6f960a, 0x6180000000000000},
    {0x1p-1022, 0x1.6666666666666p-1, 0xc086232bdd7abcd2,
     0x40001c2a61268987, 0x1338406003b2af33},
    {0x1.56e1fc2f8f359p-997, -0x1p+0, 0xc085963447f87fb5,
     0x3fd78b56362cef38, 0x7e37e43c8800759c},
    {0x1.4f8b588e368f1p-17, 0x1.ap+1, 0xc027069e2aa2aa5b,
     0x4039ca53b781114b, 0x3c903558bafbcb1a},
    {0x1.999999999999ap-4, -0x1.4p+1, 0xc0026bb1bbb55515,
     0x3fb50385c094f425, 0x4073c3a4edfa9758},
    {0x1p-1, 0x1.b7cdfd9d7bdbbp-34, 0xbfe62e42fefa39ef,
     0x3ff000000006df38, 0x3feffffffff67935},
    {0x1.fffffffffffffp-1, 0x1.dcd65p+29, 0xbca0000000000000,
     0x7ff0000000000000, 0x3fefffffc4653638},
    {0x1.0000000000001p+0, -0x1.dcd65p+29, 0x3cafffffffffffff,
     0x0000000000000000, 0x3fefffff88ca6cde},
    {0x1.6a09e667f3bcdp+0, -0x1.1p+4, 0x3fd62e42fefa39f0,
     0x3e6639e3175a689d, 0x3f66a09e667f3bc5},
    {0x1p+1, 0x1.5555555555555p-2, 0x3fe62e42fefa39ef,
     0x3ff6546db1ba2d13, 0x3ff428a2f98d728b},
    {0x1.5bf0a8b145769p+1, 0x1.4p+4, 0x3ff0000000000000,
     0x41bceb088b68e804, 0x41bceb088b68e7fb},
    {0x1.4p+3, -0x1.2c2p+8, 0x40026bb1bbb55516,
     0x24e01fc80984719d, 0x01a012033e65e2cf},
    {0x1.d4cp+15, 0x1.999999999999ap-5, 0x402601133afa9916,
     0x3ff0d201a422a433, 0x3ffbbc2658130001},
    {0x1.6345785d8ap+56, -0x1.98p+3, 0x4043926cd770aa67,
     0x3ec858af84b74310, 0x12ef6304747a08bb},
    {0x1.7e43c8800759cp+996, 0x1p+0, 0x4085963447f87fb5,
     0x4005bf0a8b145769, 0x7e37e43c8800759c},
    {0x1.fffffffffffffp+1023, -0x1.ff7ced916872bp-1, 0x40862e42fefa39ef,
     0x3fd7915dfb498dfe, 0x0008225ac2898534},
    {0x1.5574cdfaf183cp+9, -0x1.74082c75b59e5p+3, 0x401a1affe583a8d4,
     0x3ee2bab82ce77e2a, 0x39172ddc4bb135f5},
    {0x1.ac31c1f7c15e9p+9, 0x1.06f27b67d50f6p+3, 0x401b02ca2f54d8fe,
     0x40acef7da6925313, 0x44f0964bde16f06d},
    {0x1.93f7f39a3aec2p+9, 0x1.b10e09303ca9ep+2, 0x401ac726e020bca2,
     0x408b22038a722fce, 0x4404697e280e3a04},
    {0x1.7b0370d0d1109p+9, 0x1.defc1c778e622p+2, 0x401a85db295754c2,
     0x409bce5b018cddd2, 0x446826d08e03ae84},
    {0x1.eb1ca9d8b2fb9p+7, -0x1.f317fab6d2cf6p+3, 0x4016039c0c025ccc,
     0x3e869b9b578c236c, 0x3831ec871694fd10},
    {0x1.fce1b410b6a48p+6, -0x1.25abcb7e67627p+0, 0x401362392579e7d8,
     0x3fd45291c3743788, 0x3f6f8f745293aca6},
    {0x1.e870f55954d07p+9, 0x1.4cc25835d6497p+4, 0x401b8997562c011e,
     0x41d00c701847d78f, 0x4cd79b3b9a1ae9fa},
    {0x1.28ef6e31227dfp+9, 0x1.3b5770f0fd3e1p+3, 0x40198bf0f5144b5d,
     0x40d2989a5b59077b, 0x459bd52b62073b63},
};

static uint64_t bits(double x)
{
    uint64_t u;
    memcpy(&u, &x, sizeof(u));
    return u;
}

static void bits_are_those_of_the_table(void **state)
{
    for (size_t i = 0; i < sizeof(bit_rows) / sizeof(bit_rows[0]); i++) {
        const struct bit_row *b = &bit_rows[i];
        assert_int_equal(bits(sl_log(b->x)), b->log_x);
        assert_int_equal(bits(sl_exp(b->y)), b->exp_y);
        assert_int_equal(bits(sl_pow(b->x, b->y)), b->pow_xy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(log_is_within_two_ulps_of_libm),
        cmocka_unit_test(log_next_to_one_keeps_its_last_bit),
        cmocka_unit_test(exp_is_within_two_ulps_of_libm),
        cmocka_unit_test(exp_below_the_normal_range_rounds_once),
        cmocka_unit_test(pow_is_within_four_ulps_of_libm),
        cmocka_unit_test(special_values_follow_ieee_754),
        cmocka_unit_test(special_powers_are_those_of_libm),
        cmocka_unit_test(powers_of_small_integers_are_exact),
        cmocka_unit_test(bits_are_those_of_the_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
