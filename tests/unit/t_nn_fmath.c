/* SPDX-License-Identifier: Apache-2.0 */
/* Float functions of the kernels against double precision: errors in units of the last
 * place. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "accel/kernels/fmath.h"

/* Distance in ulp of the float nearest to `want`. */
static double ulps(float got, double want)
{
    float nearest = (float)want;
    double ulp = (double)nextafterf(fabsf(nearest), INFINITY) - (double)fabsf(nearest);
    return fabs((double)got - want) / ulp;
}

/* Largest error over floats lo..hi, dense in their bits' order. */
static double worst(float (*f)(float), double (*g)(double), float lo, float hi,
                    double floor)
{
    double w = 0.0;
    for (double i = 0; i < 400000; i++) {
        float x = (float)((double)lo + ((double)hi - (double)lo) * i / 400000.0);
        double want = g((double)x);
        if (fabs(want) < floor)
            continue;
        double e = ulps(f(x), want);
        w = e > w ? e : w;
    }
    return w;
}

static float f_exp(float x)
{
    return sl_expf(x);
}

static float f_tanh(float x)
{
    return sl_tanhf(x);
}

static float f_erf(float x)
{
    return sl_erff(x);
}

static void exp_is_within_two_ulp(void **state)
{
    assert_true(worst(f_exp, exp, -87.0f, 88.7f, 0.0) <= 2.0);
    assert_true(worst(f_exp, exp, -1.0f, 1.0f, 0.0) <= 2.0);
    assert_true(worst(f_exp, exp, -103.0f, -87.0f, 0.0) <= 2.0); /* denormal results */
}

static void tanh_is_within_two_ulp(void **state)
{
    assert_true(worst(f_tanh, tanh, -10.0f, 10.0f, 1e-30) <= 2.0);
    assert_true(worst(f_tanh, tanh, -0.01f, 0.01f, 1e-30) <= 2.0);
}

static void erf_is_within_three_ulp(void **state)
{
    assert_true(worst(f_erf, erf, -5.0f, 5.0f, 1e-30) <= 3.0);
    assert_true(worst(f_erf, erf, -0.01f, 0.01f, 1e-30) <= 3.0);
}

static void ends_of_the_range_are_exact(void **state)
{
    assert_true(sl_expf(0.0f) == 1.0f);
    assert_true(isinf(sl_expf(88.8f)) && isinf(sl_expf(INFINITY)));
    assert_true(sl_expf(-104.1f) == 0.0f && sl_expf(-INFINITY) == 0.0f);
    assert_true(isnan(sl_expf(NAN)) && isnan(sl_tanhf(NAN)) && isnan(sl_erff(NAN)));
    assert_true(sl_tanhf(INFINITY) == 1.0f && sl_tanhf(-INFINITY) == -1.0f);
    assert_true(sl_erff(INFINITY) == 1.0f && sl_erff(-INFINITY) == -1.0f);
    assert_true(sl_tanhf(0.0f) == 0.0f && sl_erff(0.0f) == 0.0f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exp_is_within_two_ulp),
        cmocka_unit_test(tanh_is_within_two_ulp),
        cmocka_unit_test(erf_is_within_three_ulp),
        cmocka_unit_test(ends_of_the_range_are_exact),
    };
    return cmocka_run_group_tests_name("nn_fmath", tests, NULL, NULL);
}
