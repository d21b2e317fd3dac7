/* SPDX-License-Identifier: Apache-2.0 */
#include "server/selection/selection.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/index_file.h"
#include "common/rng.h"

#define N 20

static uint32_t enrolled[N]; /* 1, 4, 7, ...: indices with gaps */
static struct sl_plan plan;

static struct sl_selection_input input(uint32_t round, size_t wanted)
{
    for (uint32_t i = 0; i < N; i++)
        enrolled[i] = 1 + 3 * i;
    plan.run.seed = 42;
    snprintf(plan.selection.path, sizeof(plan.selection.path), "cohorts.txt");
    return (struct sl_selection_input){.plan = &plan,
                                       .round = round,
                                       .candidates = enrolled,
                                       .n_candidates = N,
                                       .n_wanted = wanted};
}

static size_t draw(const struct sl_selection_input *in, uint32_t ret[N])
{
    struct sl_err err;
    size_t n = 0;
    assert_int_equal(sl_selection_random.select(in, ret, &n, &err), SL_OK);
    return n;
}

static void random_cohorts_are_ascending_distinct_candidates(void **state)
{
    for (uint32_t round = 0; round < 200; round++) {
        uint32_t got[N];
        struct sl_selection_input in = input(round, round % (N + 1));
        assert_int_equal(draw(&in, got), in.n_wanted);
        for (size_t i = 0; i < in.n_wanted; i++) {
            assert_true(got[i] % 3 == 1 && got[i] <= enrolled[N - 1]);
            assert_true(i == 0 || got[i] > got[i - 1]);
        }
    }
}

static void random_cohorts_follow_seed_and_round_alone(void **state)
{
    uint32_t a[N], b[N], other_round[N], other_seed[N];
    struct sl_selection_input in = input(3, 8);
    draw(&in, a);
    draw(&in, b);
    assert_memory_equal(a, b, 8 * sizeof(a[0]));
    in.round = 4;
    draw(&in, other_round);
    assert_memory_not_equal(a, other_round, 8 * sizeof(a[0]));
    in = input(3, 8);
    plan.run.seed = 43;
    draw(&in, other_seed);
    assert_memory_not_equal(a, other_seed, 8 * sizeof(a[0]));
}

/* The stream is part of the reproducibility contract: drawn here by removal from a list in the order that
 * swapping leaves it. */
static void random_cohorts_are_the_first_steps_of_a_shuffle(void **state)
{
    struct sl_selection_input in = input(9, 5);
    uint32_t got[N], pool[N];
    struct sl_rng r;
    sl_rng_init(&r, &(struct sl_rng_id){.seed = 42, .purpose = SL_RNG_COHORT, .round = 9});
    memcpy(pool, enrolled, sizeof(pool));
    bool in_cohort[3 * N + 1] = {false};
    for (size_t i = 0; i < 5; i++) {
        size_t j = i + (size_t)sl_rng_below(&r, N - i);
        in_cohort[pool[j]] = true;
        pool[j] = pool[i];
    }
    draw(&in, got);
    for (size_t i = 0; i < 5; i++)
        assert_true(in_cohort[got[i]]);
}

/* Each of 20 clients is in a cohort of 5 with probability 1/4: over 4000 rounds 1000 times, standard
 * deviation 27; the bound is six of them. */
static void random_cohorts_favour_nobody(void **state)
{
    size_t times[3 * N + 1] = {0};
    for (uint32_t round = 0; round < 4000; round++) {
        uint32_t got[N];
        struct sl_selection_input in = input(round, 5);
        draw(&in, got);
        for (size_t i = 0; i < 5; i++)
            times[got[i]]++;
    }
    for (size_t i = 0; i < N; i++)
        assert_in_range(times[enrolled[i]], 836, 1164);
}

static void all_takes_every_candidate(void **state)
{
    struct sl_err err;
    uint32_t got[N];
    size_t n = 0;
    struct sl_selection_input in = input(0, 3);
    assert_int_equal(sl_selection_all.select(&in, got, &n, &err), SL_OK);
    assert_int_equal(n, N);
    assert_memory_equal(got, enrolled, sizeof(got));
}

static enum sl_code pick_line(const char *text, uint32_t round, uint32_t ret[N], size_t *ret_n,
                              struct sl_err *err)
{
    struct sl_index_table t = {0};
    struct sl_selection_input in = input(round, 1);
    assert_int_equal(sl_index_parse(SL_INDEX_SELECTION, "cohorts.txt", text, strlen(text), &t, err),
                     SL_OK);
    in.file = &t;
    enum sl_code rc = sl_selection_file.select(&in, ret, ret_n, err);
    sl_index_table_deinit(&t);
    return rc;
}

static void file_takes_the_line_of_the_round_in_ascending_order(void **state)
{
    struct sl_err err;
    uint32_t got[N];
    size_t n = 0;
    const uint32_t want[] = {1, 7, 58};
    assert_int_equal(pick_line("0 4\n2 58 1 7\n", 2, got, &n, &err), SL_OK);
    assert_int_equal(n, 3);
    assert_memory_equal(got, want, sizeof(want));
}

static void file_without_the_round_or_with_a_stranger_is_an_error(void **state)
{
    struct sl_err err;
    uint32_t got[N] = {77};
    size_t n = 99;
    assert_int_equal(pick_line("0 4\n2 1 7\n", 1, got, &n, &err), SL_E_INPUT);
    assert_non_null(strstr(err.msg, "cohorts.txt"));
    assert_non_null(strstr(err.msg, "round 1"));
    assert_int_equal(pick_line("0 4 5\n", 0, got, &n, &err), SL_E_INPUT);
    assert_non_null(strstr(err.msg, "client 5 "));
    assert_int_equal(got[0], 77); /* untouched on failure */
    assert_int_equal(n, 99);
}

static void policies_are_found_by_name(void **state)
{
    assert_ptr_equal(sl_selection_find("random"), &sl_selection_random);
    assert_ptr_equal(sl_selection_find("all"), &sl_selection_all);
    assert_ptr_equal(sl_selection_find("file"), &sl_selection_file);
    assert_null(sl_selection_find("randomly"));
    assert_null(sl_selection_find(""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_cohorts_are_ascending_distinct_candidates),
        cmocka_unit_test(random_cohorts_follow_seed_and_round_alone),
        cmocka_unit_test(random_cohorts_are_the_first_steps_of_a_shuffle),
        cmocka_unit_test(random_cohorts_favour_nobody),
        cmocka_unit_test(all_takes_every_candidate),
        cmocka_unit_test(file_takes_the_line_of_the_round_in_ascending_order),
        cmocka_unit_test(file_without_the_round_or_with_a_stranger_is_an_error),
        cmocka_unit_test(policies_are_found_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
