/* SPDX-License-Identifier: Apache-2.0 */
#include "server/strategy/robust.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "accel/kernels/cpu.h"
#include "accel/kernels/order_ops.h"
#include "common/mem.h"
#include "common/rng.h"

#define MOST 64

/* Updates in memory; each stretch ends after `whole` values, as tensors do. */
struct updates {
    size_t k, n, whole;
    size_t fails_at; /* first value whose reading fails */
    float *x;        /* [k][n] */
    double weight[MOST];
    size_t reads;
};

static size_t stretch(void *ctx, size_t first, size_t most)
{
    const struct updates *u = ctx;
    size_t left = u->n - first, tensor = u->whole - first % u->whole;
    size_t n = left < tensor ? left : tensor;
    return n < most ? n : most;
}

static enum sl_code read_values(void *ctx, size_t update, size_t first, size_t n, float *ret,
                                struct sl_err *err)
{
    struct updates *u = ctx;
    if (first + n > u->fails_at)
        return sl_err_set(err, SL_E_IO, "spool: read");
    memcpy(ret, u->x + update * u->n + first, n * sizeof(*ret));
    u->reads++;
    return SL_OK;
}

static struct updates make(size_t k, size_t n, uint64_t seed)
{
    struct updates u = {.k = k, .n = n, .whole = n, .fails_at = n};
    struct sl_rng r;
    sl_rng_init(&r, &(struct sl_rng_id){.seed = seed});
    u.x = sl_calloc(k * n, sizeof(*u.x));
    for (size_t i = 0; i < k * n; i++)
        u.x[i] = (float)(sl_rng_u32(&r) % 17) / 8 - 1; /* with ties */
    for (size_t i = 0; i < k; i++)
        u.weight[i] = 1 + (double)i;
    return u;
}

static enum sl_code run(struct updates *u, const struct sl_rule *rule, const struct sl_plan *plan,
                        size_t most, float *ret, struct sl_err *err)
{
    const struct sl_update_source s = {.ctx = u,
                                       .k = u->k,
                                       .n_values = u->n,
                                       .weight = u->weight,
                                       .stretch = stretch,
                                       .read = read_values};
    struct sl_robust r = {0};
    size_t n = 0;
    enum sl_code rc = sl_robust_init(&r, rule, plan, &s, err);
    for (size_t at = 0; rc == SL_OK && at < u->n; at += n)
        rc = sl_robust_tile(&r, at, most, ret + at, &n, err);
    sl_robust_deinit(&r);
    return rc;
}

static float *result(struct updates *u, const struct sl_rule *rule, const struct sl_plan *plan)
{
    struct sl_err err = {0};
    float *ret = sl_calloc(u->n, sizeof(*ret));
    if (run(u, rule, plan, 4096, ret, &err) != SL_OK)
        fail_msg("%s", err.msg);
    return ret;
}

static int ascending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void column(const struct updates *u, size_t i, float *ret)
{
    for (size_t j = 0; j < u->k; j++)
        ret[j] = u->x[j * u->n + i];
    qsort(ret, u->k, sizeof(*ret), ascending);
}

static void columns_are_sorted_whatever_their_number(void **state)
{
    for (size_t k = 1; k <= MOST; k++) {
        struct updates u = make(k, 37, k);
        float want[MOST];
        float *rows = sl_calloc(k * 40, sizeof(*rows));
        for (size_t j = 0; j < k; j++)
            memcpy(rows + j * 40, u.x + j * 37, 37 * sizeof(*rows));
        sl_robust_sort(rows, k, 40, 37);
        for (size_t i = 0; i < 37; i++) {
            column(&u, i, want);
            for (size_t j = 0; j < k; j++)
                assert_true(rows[j * 40 + i] == want[j]);
        }
        free(rows);
        free(u.x);
    }
}

static void the_median_is_the_middle_or_the_mean_of_the_two_middle_values(void **state)
{
    struct sl_plan plan;
    sl_plan_default(&plan);
    for (size_t k = 1; k <= 12; k++) {
        struct updates u = make(k, 100, 50 + k);
        float *got = result(&u, &sl_rule_median, &plan), want[MOST];
        for (size_t i = 0; i < u.n; i++) {
            column(&u, i, want);
            assert_true(got[i] == (want[(k - 1) / 2] + want[k / 2]) / 2);
        }
        free(got);
        free(u.x);
    }
}

static void the_trimmed_mean_leaves_both_ends_out(void **state)
{
    struct updates u = make(9, 50, 3);
    struct sl_plan plan;
    sl_plan_default(&plan);
    plan.strategy.trim = 3;
    float *got = result(&u, &sl_rule_trimmed_mean, &plan), want[MOST];
    for (size_t i = 0; i < u.n; i++) {
        column(&u, i, want);
        double mean = ((double)want[3] + (double)want[4] + (double)want[5]) / 3;
        assert_true(got[i] == (float)mean);
    }
    free(got);
    free(u.x);
}

static void krum_takes_one_of_the_crowd_and_the_lower_index_of_equals(void **state)
{
    struct updates u = make(6, 4, 1);
    static const float x[6][4] = {{9, 9, 9, 9}, {1, 1, 0, 0}, {1, 1, 0, 0},
                                  {1, 1, 0, 1}, {1, 2, 0, 0}, {-9, 9, 9, 0}};
    struct sl_plan plan;
    memcpy(u.x, x, sizeof(x));
    sl_plan_default(&plan);
    plan.strategy.f = 2; /* the 2 nearest count: 1 and 2 score 0 + 1 */
    float *got = result(&u, &sl_rule_krum, &plan);
    assert_memory_equal(got, x[1], sizeof(x[1]));
    free(got);
    plan.strategy.m = 4;
    got = result(&u, &sl_rule_multi_krum, &plan);
    const float mean[] = {1, 1.25f, 0, 0.25f};
    assert_memory_equal(got, mean, sizeof(mean));
    free(got);
    plan.strategy.m = 0; /* all but f */
    got = result(&u, &sl_rule_multi_krum, &plan);
    assert_memory_equal(got, mean, sizeof(mean));
    free(got);
    free(u.x);
}

/* Weiszfeld on the vectors themselves. */
static void weiszfeld(const struct updates *u, const struct sl_plan *plan, double *z)
{
    double a[MOST], total = 0;
    for (size_t j = 0; j < u->k; j++)
        a[j] = u->weight[j];
    for (uint32_t t = 0; t <= plan->strategy.iterations; t++) {
        for (size_t j = 0; t > 0 && j < u->k; j++) {
            double d = 0;
            for (size_t i = 0; i < u->n; i++)
                d += pow(z[i] - (double)u->x[j * u->n + i], 2);
            a[j] = u->weight[j] / fmax(plan->strategy.nu, sqrt(d));
        }
        total = 0;
        for (size_t j = 0; j < u->k; j++)
            total += a[j];
        for (size_t i = 0; i < u->n; i++) {
            z[i] = 0;
            for (size_t j = 0; j < u->k; j++)
                z[i] += a[j] / total * (double)u->x[j * u->n + i];
        }
    }
}

static void the_geometric_median_follows_weiszfelds_steps(void **state)
{
    static const uint32_t iterations[] = {1, 2, 8, 300};
    struct sl_plan plan;
    sl_plan_default(&plan);
    for (size_t t = 0; t < 4; t++) {
        struct updates u = make(7, 60, 9);
        double want[60];
        for (size_t i = 0; i < u.n; i++)
            u.x[2 * u.n + i] *= 50; /* an attacker */
        plan.strategy.iterations = iterations[t];
        weiszfeld(&u, &plan, want);
        float *got = result(&u, &sl_rule_geometric_median, &plan);
        for (size_t i = 0; i < u.n; i++)
            assert_true(fabs((double)got[i] - want[i]) < 1e-6);
        free(got);
        free(u.x);
    }
}

static void the_geometric_median_stays_where_an_update_is_the_median(void **state)
{
    struct updates u = make(3, 1, 1);
    struct sl_plan plan;
    const float x[] = {0, 1, 100};
    memcpy(u.x, x, sizeof(x));
    for (size_t i = 0; i < 3; i++)
        u.weight[i] = 1;
    sl_plan_default(&plan);
    plan.strategy.iterations = 2000;
    float *got = result(&u, &sl_rule_geometric_median, &plan);
    assert_true(fabs((double)got[0] - 1) < 1e-5);
    free(got);
    free(u.x);
}

static void results_do_not_depend_on_tiles_and_stretches(void **state)
{
    static const struct sl_rule *const rules[] = {&sl_rule_median, &sl_rule_trimmed_mean,
                                                  &sl_rule_multi_krum, &sl_rule_krum};
    struct sl_plan plan;
    sl_plan_default(&plan);
    for (size_t i = 0; i < 4; i++) {
        struct updates u = make(8, 3000, 5);
        struct sl_err err = {0};
        float *whole = result(&u, rules[i], &plan), *parts = sl_calloc(u.n, sizeof(*parts));
        u.whole = 77;
        assert_int_equal(run(&u, rules[i], &plan, 16, parts, &err), SL_OK);
        assert_memory_equal(whole, parts, u.n * sizeof(*parts));
        free(whole);
        free(parts);
        free(u.x);
    }
}

static void too_few_updates_fail_with_what_is_needed(void **state)
{
    static const struct {
        const struct sl_rule *rule;
        const char *msg;
    } cases[] = {
        {&sl_rule_trimmed_mean, "trimmed-mean needs 5 updates, the round has 4"},
        {&sl_rule_krum, "krum needs 5 updates, the round has 4"},
        {&sl_rule_multi_krum, "multi-krum needs 6 updates, the round has 4"},
    };
    struct sl_plan plan;
    sl_plan_default(&plan);
    plan.strategy.trim = 2;
    plan.strategy.f = 2;
    plan.strategy.m = 6;
    for (size_t i = 0; i < 3; i++) {
        struct updates u = make(4, 10, 1);
        struct sl_err err = {0};
        float ret[10];
        assert_int_equal(run(&u, cases[i].rule, &plan, 16, ret, &err), SL_E_FAILED);
        assert_string_equal(err.msg, cases[i].msg);
        free(u.x);
    }
}

static void what_cannot_be_read_is_passed_on(void **state)
{
    static const struct sl_rule *const rules[] = {&sl_rule_median, &sl_rule_krum};
    struct sl_plan plan;
    sl_plan_default(&plan);
    for (size_t i = 0; i < 2; i++) {
        struct updates u = make(5, 100, 1);
        struct sl_err err = {0};
        float ret[100];
        u.whole = 20;
        u.fails_at = 50;
        assert_int_equal(run(&u, rules[i], &plan, 4096, ret, &err), SL_E_IO);
        free(u.x);
    }
}

static void krum_reads_no_update_twice_but_the_one_it_takes(void **state)
{
    struct updates u = make(6, 100, 1);
    struct sl_plan plan;
    sl_plan_default(&plan);
    free(result(&u, &sl_rule_krum, &plan));
    assert_int_equal(u.reads, 7);
    free(u.x);
}

static void every_variant_gives_the_bits_of_plain_c(void **state)
{
    const struct sl_order_ops *plain = sl_order_ops(0), *best = sl_order_ops(sl_cpu_usable());
    for (size_t n = 0; n <= 257; n++) {
        struct updates u = make(2, 257, 100 + n);
        float a[258], b[258], c[258], d[258];
        memcpy(a, u.x, 257 * 4);
        memcpy(b, u.x + 257, 257 * 4);
        a[257] = b[257] = 7;
        a[0] = -0.0f;
        b[0] = 0.0f;
        memcpy(c, a, sizeof(a));
        memcpy(d, b, sizeof(b));
        double x = plain->distance(a, b, n), y = best->distance(a, b, n);
        assert_memory_equal(&x, &y, sizeof(x));
        plain->exchange(a, b, n);
        best->exchange(c, d, n);
        assert_memory_equal(a, c, sizeof(a));
        assert_memory_equal(b, d, sizeof(b));
        free(u.x);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_are_sorted_whatever_their_number),
        cmocka_unit_test(the_median_is_the_middle_or_the_mean_of_the_two_middle_values),
        cmocka_unit_test(the_trimmed_mean_leaves_both_ends_out),
        cmocka_unit_test(krum_takes_one_of_the_crowd_and_the_lower_index_of_equals),
        cmocka_unit_test(the_geometric_median_follows_weiszfelds_steps),
        cmocka_unit_test(the_geometric_median_stays_where_an_update_is_the_median),
        cmocka_unit_test(results_do_not_depend_on_tiles_and_stretches),
        cmocka_unit_test(too_few_updates_fail_with_what_is_needed),
        cmocka_unit_test(what_cannot_be_read_is_passed_on),
        cmocka_unit_test(krum_reads_no_update_twice_but_the_one_it_takes),
        cmocka_unit_test(every_variant_gives_the_bits_of_plain_c),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
