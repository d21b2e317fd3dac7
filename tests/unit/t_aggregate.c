/* SPDX-License-Identifier: Apache-2.0 */
#include "server/aggregate.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "accel/kernels/cpu.h"
#include "accel/kernels/sum_ops.h"
#include "common/rng.h"

#define N 1000
#define K 12

static float updates[K][N];
static const uint64_t weights[K] = {1, 7, 600, 1000000, 3, 12, 99, 1, 50000, 4, 2, 17};

static void draw(void)
{
    struct sl_rng g;
    sl_rng_init(&g, &(struct sl_rng_id){.seed = 3, .purpose = SL_RNG_TEST});
    for (int k = 0; k < K; k++)
        for (int i = 0; i < N; i++)
            updates[k][i] = (2 * sl_rng_f32(&g) - 1) * (i % 3 == 0 ? 8.0f : 1e-6f);
}

static struct sl_sum new_sum(void)
{
    struct sl_sum s;
    struct sl_err err;
    struct sl_sum_bounds b = {.max_abs = 8, .max_weight = 1000000, .sum_weight = 1100000,
                              .fraction_bits = 32};
    assert_int_equal(sl_sum_bounds_fit(&b, &err), SL_OK);
    assert_int_equal(sl_sum_init(&s, N, &b, &err), SL_OK);
    return s;
}

static void any_order_and_any_tiles_give_the_same_sum(void **state)
{
    draw();
    struct sl_sum a = new_sum(), b = new_sum();
    for (int k = 0; k < K; k++) {
        sl_sum_add_tile(&a, 0, updates[k], N, weights[k], 1.0);
        sl_sum_count(&a, weights[k]);
    }
    for (int k = K - 1; k >= 0; k--) {
        for (size_t at = 0, n; at < N; at += n) {
            n = N - at < 37 ? N - at : 37;
            sl_sum_add_tile(&b, at, updates[k] + at, n, weights[k], 1.0);
        }
        sl_sum_count(&b, weights[k]);
    }
    assert_memory_equal(a.q, b.q, N * sizeof(*a.q));
    float mean_a[N], mean_b[N];
    sl_sum_mean_tile(&a, 0, N, mean_a);
    for (size_t at = 0; at < N; at += 100)
        sl_sum_mean_tile(&b, at, 100, mean_b + at);
    assert_memory_equal(mean_a, mean_b, sizeof(mean_a));
    for (int i = 0; i < N; i++) { /* and it is the weighted mean */
        double want = 0, sum = 0;
        for (int k = 0; k < K; k++) {
            want += (double)weights[k] * updates[k][i];
            sum += (double)weights[k];
        }
        assert_true(fabs(mean_a[i] - want / sum) <= 1e-6 * fabs(want / sum) + 1e-9);
    }
    sl_sum_deinit(&a);
    sl_sum_deinit(&b);
}

static void every_kernel_gives_the_bits_of_the_definition(void **state)
{
    draw();
    for (uint32_t cpu = 0; cpu < 4; cpu++) {
        if ((cpu & ~sl_cpu_detect()) != 0)
            continue;
        const struct sl_sum_ops *ops = sl_sum_ops(cpu);
        for (size_t n = 0; n <= 257; n++) {
            int64_t got[260], want[260];
            float mean_got[260], mean_want[260];
            for (size_t i = 0; i < 260; i++)
                got[i] = want[i] = (int64_t)i * 1000003 - 77;
            const float *x = updates[n % K] + n % 5;
            ops->add(got + 1, x, n, 12345, 0.3, 4294967296.0);
            sl_sum_ops_c.add_wide(want + 1, x, n, 12345, 0.3, 4294967296.0);
            assert_memory_equal(got, want, sizeof(got)); /* guards around it too */
            memset(mean_got, 0x55, sizeof(mean_got));
            memset(mean_want, 0x55, sizeof(mean_want));
            ops->mean(got + 1, n, 3.7e12, mean_got + 1);
            sl_sum_ops_c.mean(want + 1, n, 3.7e12, mean_want + 1);
            assert_memory_equal(mean_got, mean_want, sizeof(mean_got));
            assert_int_equal(ops->check(x, n, 1.0, 8.0), n);
        }
    }
}

/* Near 2^51 (add) and near 2^62 (add_wide), ties included, weights large enough to need all pieces of
 * a 64-bit product; against rint itself. */
static void every_kernel_is_exact_up_to_its_limit(void **state)
{
    struct sl_rng g;
    sl_rng_init(&g, &(struct sl_rng_id){.seed = 8, .purpose = SL_RNG_TEST});
    for (uint32_t cpu = 0; cpu < 4; cpu++) {
        if ((cpu & ~sl_cpu_detect()) != 0)
            continue;
        const struct sl_sum_ops *ops = sl_sum_ops(cpu);
        for (int e = 0; e <= 62; e++) {
            float x[67];
            int64_t wide[67] = {0}, narrow[67] = {0}, want[67] = {0};
            int64_t weight = e <= 30 ? 2147483647 + (int64_t)e : 1;
            for (size_t i = 0; i < 67; i++) { /* |x| < 1; every fifth a multiple of half a unit */
                x[i] = 2 * sl_rng_f32(&g) - 1;
                if (i % 5 == 0 && e < 20)
                    x[i] = (float)ldexp(floor(x[i] * ldexp(1, e)) + 0.5, -e);
                want[i] = weight * (int64_t)rint((double)x[i] * ldexp(1, e));
            }
            ops->add_wide(wide, x, 67, weight, 1.0, ldexp(1, e));
            assert_memory_equal(wide, want, sizeof(want));
            if (e > 51)
                continue;
            ops->add(narrow, x, 67, weight, 1.0, ldexp(1, e));
            assert_memory_equal(narrow, want, sizeof(want));
        }
    }
}

static void every_kernel_finds_the_first_bad_value(void **state)
{
    static float x[600];
    for (uint32_t cpu = 0; cpu < 4; cpu++) {
        if ((cpu & ~sl_cpu_detect()) != 0)
            continue;
        for (size_t at = 0; at < 600; at++) {
            memset(x, 0, sizeof(x));
            x[at] = at % 2 ? NAN : -8.001f;
            x[599] = INFINITY;
            assert_int_equal(sl_sum_ops(cpu)->check(x, 600, 1.0, 8.0), at);
            assert_int_equal(sl_sum_ops(cpu)->check(x, at, 1.0, 8.0), at);
        }
        for (size_t i = 0; i < 600; i++)
            x[i] = i % 2 ? 8.0f : -8.0f; /* the bound itself is allowed */
        assert_int_equal(sl_sum_ops(cpu)->check(x, 600, 1.0, 8.0), 600);
    }
}

/* 8 * 2^50 = 2^53 units: beyond what the narrow kernel rounds. */
static void wide_bounds_are_summed_exactly_too(void **state)
{
    struct sl_sum s;
    struct sl_err err;
    struct sl_sum_bounds b = {.max_abs = 8, .sum_weight = 100, .fraction_bits = 50};
    const float x[] = {8.0f, -8.0f, 7.9999995f, -0.3f, 0.0f};
    assert_int_equal(sl_sum_bounds_fit(&b, &err), SL_OK);
    assert_int_equal(b.fraction_bits, 50);
    assert_int_equal(sl_sum_init(&s, 5, &b, &err), SL_OK);
    sl_sum_add_tile(&s, 0, x, 5, 100, 1.0);
    for (size_t i = 0; i < 5; i++)
        assert_true(s.q[i] == 100 * (int64_t)ldexp(x[i], 50));
    sl_sum_deinit(&s);
}

static void a_cleared_sum_starts_anew(void **state)
{
    draw();
    struct sl_sum s = new_sum();
    sl_sum_add_tile(&s, 0, updates[0], N, 5, 1.0);
    sl_sum_count(&s, 5);
    sl_sum_clear(&s);
    for (size_t i = 0; i < N; i++)
        assert_true(s.q[i] == 0);
    assert_int_equal(s.n_sum, 0);
    sl_sum_deinit(&s);
    sl_sum_deinit(&s);
    sl_sum_deinit(NULL);
}

static void halves_go_to_the_even_neighbour(void **state)
{
    const float x[] = {0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f};
    const int64_t want[] = {0, 2, 2, 0, -2, -2};
    int64_t q[6] = {0};
    sl_sum_ops(sl_cpu_detect())->add(q, x, 6, 1, 1.0, 1.0);
    assert_memory_equal(q, want, sizeof(q));
}

static void the_check_finds_the_first_bad_value(void **state)
{
    static float x[N];
    const float bad[] = {NAN, INFINITY, -INFINITY, 8.0001f, -9.0f};
    for (size_t b = 0; b < 5; b++)
        for (size_t at = 0; at < N; at += 83) {
            memset(x, 0, sizeof(x));
            x[at] = bad[b];
            x[N - 1] = NAN;
            assert_int_equal(sl_update_check(x, N, 1.0, 8.0), at);
        }
    memset(x, 0, sizeof(x));
    x[5] = 8.0f; /* the bound itself is allowed */
    assert_int_equal(sl_update_check(x, N, 1.0, 8.0), N);
    assert_int_equal(sl_update_check(x, N, 1.5, 8.0), 5);
}

static void fraction_bits_give_way_to_heavy_weights(void **state)
{
    struct sl_err err;
    struct sl_sum_bounds b = {.max_abs = 8, .sum_weight = 1u << 30, .fraction_bits = 32};
    assert_int_equal(sl_sum_bounds_fit(&b, &err), SL_OK);
    assert_int_equal(b.fraction_bits, 29);
    assert_true(8.0 * ldexp(1, 29) * (double)(1u << 30) < ldexp(1, 63));
    b = (struct sl_sum_bounds){.max_abs = 1e6, .sum_weight = (uint64_t)1 << 40, .fraction_bits = 32};
    assert_int_equal(sl_sum_bounds_fit(&b, &err), SL_E_RANGE);
    assert_int_equal(b.fraction_bits, 32); /* untouched on failure */
}

static void a_bound_that_is_no_number_is_refused(void **state)
{
    struct sl_err err;
    const double bad[] = {NAN, INFINITY};
    for (int i = 0; i < 2; i++) {
        struct sl_sum_bounds b = {.max_abs = bad[i], .sum_weight = 1, .fraction_bits = 32};
        assert_int_equal(sl_sum_bounds_fit(&b, &err), SL_E_RANGE);
    }
}

/* 2^20 + 3/4 units are rounded up to 2^20 + 1, which this weight would carry beyond 2^63. */
static void the_bound_counts_the_rounding_up(void **state)
{
    struct sl_err err;
    const uint64_t unit = ((uint64_t)1 << 20) + 1;
    struct sl_sum_bounds b = {.max_abs = ldexp((double)unit - 0.25, -16),
                              .sum_weight = ((uint64_t)1 << 63) / unit + 1,
                              .fraction_bits = 16};
    assert_true(ldexp(b.max_abs, 16) * (double)b.sum_weight < 0x1p63);
    assert_int_equal(sl_sum_bounds_fit(&b, &err), SL_E_RANGE);
    b.sum_weight--;
    assert_int_equal(sl_sum_bounds_fit(&b, &err), SL_OK);
}

static void there_is_room_for_every_weight_that_fits(void **state)
{
    struct sl_rng g;
    sl_rng_init(&g, &(struct sl_rng_id){.seed = 9, .purpose = SL_RNG_TEST});
    for (int i = 0; i < 20000; i++) {
        struct sl_err err;
        struct sl_sum_bounds b = {
            .max_abs = ldexp(1 + sl_rng_f32(&g), (int)sl_rng_below(&g, 40) - 10),
            .sum_weight = 1 + sl_rng_below(&g, UINT32_MAX) / (1 + sl_rng_below(&g, 1 << 20)),
            .fraction_bits = 32};
        if (sl_sum_bounds_fit(&b, &err) != SL_OK)
            continue;
        uint64_t room = sl_sum_capacity(&b);
        assert_true(room >= b.sum_weight);
        uint64_t unit = (uint64_t)ceil(ldexp(b.max_abs, (int)b.fraction_bits)), sum;
        assert_false(__builtin_mul_overflow(unit, room, &sum));
        assert_true(sum < (uint64_t)1 << 63);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_order_and_any_tiles_give_the_same_sum),
        cmocka_unit_test(every_kernel_gives_the_bits_of_the_definition),
        cmocka_unit_test(every_kernel_is_exact_up_to_its_limit),
        cmocka_unit_test(every_kernel_finds_the_first_bad_value),
        cmocka_unit_test(wide_bounds_are_summed_exactly_too),
        cmocka_unit_test(a_cleared_sum_starts_anew),
        cmocka_unit_test(halves_go_to_the_even_neighbour),
        cmocka_unit_test(the_check_finds_the_first_bad_value),
        cmocka_unit_test(fraction_bits_give_way_to_heavy_weights),
        cmocka_unit_test(a_bound_that_is_no_number_is_refused),
        cmocka_unit_test(the_bound_counts_the_rounding_up),
        cmocka_unit_test(there_is_room_for_every_weight_that_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
