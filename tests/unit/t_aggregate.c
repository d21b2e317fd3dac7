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
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_order_and_any_tiles_give_the_same_sum),
        cmocka_unit_test(every_kernel_gives_the_bits_of_the_definition),
        cmocka_unit_test(halves_go_to_the_even_neighbour),
        cmocka_unit_test(the_check_finds_the_first_bad_value),
        cmocka_unit_test(fraction_bits_give_way_to_heavy_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
