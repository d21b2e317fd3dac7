/* SPDX-License-Identifier: Apache-2.0 */
/* The rivals: what each keeps, by hand. */
#include "server/selection/decide.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "common/rng.h"

#define N 6

static const struct sl_round_facts facts = {.seed = 11,
                                            .round = 4,
                                            .rounds = 30,
                                            .epochs = 5,
                                            .probe_epochs = 1,
                                            .loss_scale = 2.3,
                                            .median_probe_s = 1,
                                            .mean_probe_s = 1,
                                            .mean_upload_s = 2,
                                            .full_bytes = 100,
                                            .max_samples = 600};

/* Client 10 + i; rest + upload: 4 probe + upload. Row 4 is silent, row 5 reported NaN. */
static struct sl_client_facts rows[N];

static void fill(void)
{
    static const double loss[N] = {0.5, 2.0, 1.0, 1.5, 9, NAN};
    static const double probe[N] = {1, 8, 2, 4, 0.1, 0.1};
    for (uint32_t i = 0; i < N; i++)
        rows[i] = (struct sl_client_facts){.client = 10 + i,
                                           .reported = i != 4,
                                           .probe_loss = loss[i],
                                           .samples = 100 * (i + 1),
                                           .upload_bytes = 100,
                                           .n_probe = 1,
                                           .n_upload = i == 0 ? 0 : 1,
                                           .probe_s = {probe[i]},
                                           .upload_s = {3},
                                           .idle_rounds = 4};
}

/* Bit i: row i is accepted. */
static unsigned kept(const char *name, double accept, const struct sl_oort *oort)
{
    const struct sl_decide_ops *ops = sl_decide_find(name);
    struct sl_decide_input in = {.round = &facts, .rows = rows, .n = N, .accept = accept};
    struct sl_decide_work w;
    uint8_t flags[N];
    unsigned set = 0;
    assert_non_null(ops);
    if (oort != NULL)
        in.oort = *oort;
    assert_int_equal(sl_decide_work_new(N, NULL, &w, NULL), SL_OK);
    memset(flags, 7, sizeof(flags));
    ops->decide(&in, &w, flags);
    for (unsigned i = 0; i < N; i++) {
        assert_true(flags[i] <= 1);
        set |= (unsigned)flags[i] << i;
    }
    sl_decide_work_free(&w);
    return set;
}

static void the_names_are_those_of_plans(void **state)
{
    size_t n = 0;
    while (sl_decide_at(n) != NULL) {
        assert_ptr_equal(sl_decide_find(sl_decide_at(n)->name), sl_decide_at(n));
        n++;
    }
    assert_int_equal(n, 8);
    assert_null(sl_decide_find("best"));
}

static void each_rival_keeps_what_its_name_says(void **state)
{
    fill();
    assert_int_equal(kept("all", 1, NULL), 0xf);
    assert_int_equal(kept("highest-loss", 2, NULL), 0xa);  /* 2.0, 1.5 */
    assert_int_equal(kept("lowest-loss", 2, NULL), 0x5);   /* 0.5, 1.0 */
    assert_int_equal(kept("drop-slowest", 3, NULL), 0xd);  /* without 4 x 8 + 3 */
    assert_int_equal(kept("drop-slowest", 1, NULL), 0x1);
    assert_int_equal(kept("power-of-choice", 2, NULL), 0xa); /* all four are candidates */
}

static void more_than_there_are_is_all_and_less_than_one_is_one(void **state)
{
    fill();
    for (size_t i = 0; i < 7; i++) {
        const char *name = sl_decide_at(i)->name;
        assert_int_equal(kept(name, 40, NULL), 0xf);
        if (sl_decide_at(i)->sized)
            assert_int_equal(__builtin_popcount(kept(name, 0.01, NULL)), 1);
    }
    for (size_t i = 0; i < N; i++)
        rows[i].reported = false;
    for (size_t i = 0; i < 7; i++)
        assert_int_equal(kept(sl_decide_at(i)->name, 3, NULL), 0);
}

static void a_mean_of_two_and_a_half_is_two_or_three(void **state)
{
    struct sl_round_facts round = facts;
    struct sl_decide_work w;
    struct sl_decide_input in = {.round = &round, .rows = rows, .n = 4, .accept = 2.5};
    int sum = 0, per_client[4] = {0};
    fill();
    assert_int_equal(sl_decide_work_new(N, NULL, &w, NULL), SL_OK);
    for (round.round = 0; round.round < 2000; round.round++) {
        uint8_t flags[N];
        sl_decide_find("random")->decide(&in, &w, flags);
        int k = 0;
        for (int i = 0; i < 4; i++) {
            k += flags[i];
            per_client[i] += flags[i];
        }
        assert_true(k == 2 || k == 3);
        sum += k;
    }
    sl_decide_work_free(&w);
    assert_in_range(sum, 4900, 5100);
    for (int i = 0; i < 4; i++) /* 1250 expected, sigma about 22 */
        assert_in_range(per_client[i], 1140, 1360);
}

static void decisions_follow_the_client_not_the_row(void **state)
{
    struct sl_rng r;
    sl_rng_init(&r, &(struct sl_rng_id){.seed = 3, .purpose = SL_RNG_TEST});
    for (size_t p = 0; p < 7; p++)
        for (int round = 0; round < 20; round++) {
            struct sl_client_facts kept_rows[N];
            uint32_t order[N] = {0, 1, 2, 3, 4, 5};
            fill();
            rows[3].probe_loss = rows[1].probe_loss; /* a tie */
            unsigned plain = kept(sl_decide_at(p)->name, 2, NULL), moved = 0;
            memcpy(kept_rows, rows, sizeof(rows));
            sl_rng_shuffle_u32(&r, order, N);
            for (int i = 0; i < N; i++)
                rows[i] = kept_rows[order[i]];
            unsigned shuffled = kept(sl_decide_at(p)->name, 2, NULL);
            for (int i = 0; i < N; i++)
                moved |= (shuffled >> i & 1) << order[i];
            assert_int_equal(moved, plain);
        }
}

static void power_of_choice_draws_its_candidates_by_samples(void **state)
{
    struct sl_round_facts round = facts;
    struct sl_decide_work w;
    struct sl_decide_input in = {
        .round = &round, .rows = rows, .n = 2, .accept = 1, .candidates = 1};
    int large = 0;
    fill();
    rows[0].samples = 100;
    rows[1].samples = 300;
    rows[1].probe_loss = 0.1; /* the loss has no say among one candidate */
    assert_int_equal(sl_decide_work_new(N, NULL, &w, NULL), SL_OK);
    for (round.round = 0; round.round < 2000; round.round++) {
        uint8_t flags[N];
        sl_decide_find("power-of-choice")->decide(&in, &w, flags);
        large += flags[1];
    }
    sl_decide_work_free(&w);
    assert_in_range(large, 1420, 1580); /* 1500 expected, sigma 19 */
}

static void oort_weighs_utility_against_time_and_staleness(void **state)
{
    double sorted[N], score[N];
    struct sl_decide_input in = {.round = &facts, .rows = rows, .n = 4, .accept = 1};
    fill();
    for (int i = 0; i < 4; i++) {
        rows[i].samples = 100;
        rows[i].probe_loss = 1;
        rows[i].probe_s[0] = 1;
        rows[i].n_upload = 1;
        rows[i].idle_rounds = 0;
    }
    sl_oort_score(&in, sorted, score);
    for (int i = 1; i < 4; i++) /* equal clients, equal scores */
        assert_true(score[i] == score[0]);
    rows[2].idle_rounds = 4;  /* long ago */
    rows[3].probe_s[0] = 100; /* slow */
    rows[0].probe_loss = 3;
    sl_oort_score(&in, sorted, score);
    assert_true(score[0] > score[1] && score[2] > score[1] && score[3] < score[1]);
    assert_true(score[0] > 1 && score[0] < 2);
    in.oort.relaxed = 0.7; /* nobody is slow any more */
    sl_oort_score(&in, sorted, score);
    assert_true(score[3] == score[1]);
}

static void the_pacer_relaxes_when_utility_falls(void **state)
{
    struct sl_oort o = {0};
    uint8_t flags[N] = {1, 1, 1, 1, 0, 0};
    fill();
    for (uint32_t t = 0; t < SL_OORT_WINDOW; t++)
        sl_oort_observe(&o, rows, N, flags);
    assert_true(o.relaxed == 0 && o.last_window > 0 && o.rounds == 0);
    flags[1] = flags[3] = 0; /* less from now on */
    for (uint32_t t = 0; t < SL_OORT_WINDOW; t++)
        sl_oort_observe(&o, rows, N, flags);
    assert_true(o.relaxed == SL_OORT_STEP);
    for (uint32_t t = 0; t < SL_OORT_WINDOW; t++)
        sl_oort_observe(&o, rows, N, flags); /* equal is not less */
    assert_true(o.relaxed == SL_OORT_STEP);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_names_are_those_of_plans),
        cmocka_unit_test(each_rival_keeps_what_its_name_says),
        cmocka_unit_test(more_than_there_are_is_all_and_less_than_one_is_one),
        cmocka_unit_test(a_mean_of_two_and_a_half_is_two_or_three),
        cmocka_unit_test(decisions_follow_the_client_not_the_row),
        cmocka_unit_test(power_of_choice_draws_its_candidates_by_samples),
        cmocka_unit_test(oort_weighs_utility_against_time_and_staleness),
        cmocka_unit_test(the_pacer_relaxes_when_utility_falls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
