/* SPDX-License-Identifier: Apache-2.0 */
/* What stands between one dishonest client and the decision: each defence alone, and that none of them
 * touches an honest round. */
#include "server/selection/defence/defence.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "accel/accel.h"
#include "common/rng.h"

#define N 6

struct rig {
    struct sl_defence_options o;
    struct sl_fedmarl_policy policy;
    struct sl_fedmarl_rails rails;
    struct sl_round_facts round;
    struct sl_client_facts rows[N];
    double checks[N];
    struct sl_defence_state state;
    struct sl_defence_client client[N], *clients[N];
    float scratch[N * (SL_FEDMARL_INPUTS_MAX + 2)];
    struct sl_fedmarl_decision d[N];
    struct sl_defence_mark marks[N];
    struct sl_defence_outcome outcomes[N];
};

/* Q(go) - Q(stop) = 1 - loss / scale: a client goes on while its claim is below an untrained model's. */
static void open_rig(struct rig *r, uint32_t on)
{
    *r = (struct rig){.o = {SL_DEFENCE_DEFAULTS, .on = on},
                      .policy = {.spec = {.n_probe = 1, .n_upload = 1}},
                      .rails = {SL_FEDMARL_RAILS_DEFAULTS},
                      .round = {.seed = 9,
                                .round = 4,
                                .rounds = 30,
                                .epochs = 5,
                                .probe_epochs = 1,
                                .loss_scale = 2,
                                .median_probe_s = 1,
                                .mean_probe_s = 1,
                                .mean_upload_s = 2,
                                .full_bytes = 4000,
                                .max_samples = 1000}};
    const struct sl_qnet_shape shape = {7, 2, 1, 2};
    assert_int_equal(sl_qnet_new(&shape, 1, &r->policy.net, NULL), SL_OK);
    memset(r->policy.net.values, 0, r->policy.net.n_values * sizeof(float));
    float *v = r->policy.net.values;
    v[0] = 1;                      /* hidden 0 = loss / scale */
    v[2 * 7 + 2] = 1;              /* Q(stop) */
    v[2 * 7 + 2 + 4 + 1] = 1;      /* bias of go */
    for (int i = 0; i < 7; i++) {
        r->policy.usual.lo[i] = 0.1f;
        r->policy.usual.hi[i] = 2;
    }
    r->policy.usual.known = true;
    r->policy.usual.gap = 0.05;
    r->policy.usual.fair = 0.5;
    for (uint32_t i = 0; i < N; i++) {
        r->rows[i] = (struct sl_client_facts){.client = 10 + i,
                                              .reported = true,
                                              .probe_loss = 1 + 0.1 * i,
                                              .samples = 100,
                                              .upload_bytes = 4000,
                                              .n_probe = 1,
                                              .probe_s = {1}};
        r->checks[i] = NAN;
        r->clients[i] = &r->client[i];
        r->outcomes[i] = (struct sl_defence_outcome){.accepted = true, .finish_s = 6};
    }
}

static void close_rig(struct rig *r)
{
    sl_fedmarl_policy_deinit(&r->policy);
}

static struct sl_defence_input input_of(struct rig *r)
{
    return (struct sl_defence_input){.o = &r->o,
                                     .policy = &r->policy,
                                     .rails = &r->rails,
                                     .round = &r->round,
                                     .rows = r->rows,
                                     .checks = r->checks,
                                     .upload_bytes = 4000,
                                     .n = N};
}

static void decide(struct rig *r)
{
    const struct sl_defence_input in = input_of(r);
    sl_defence_decide(&in, &r->state, r->clients, r->scratch, r->d, r->marks);
}

/* What was decided happens, on time unless the outcome says late. */
static bool observe(struct rig *r, double reward)
{
    const struct sl_defence_input in = input_of(r);
    for (int i = 0; i < N; i++)
        r->outcomes[i].accepted = r->d[i].accept;
    bool may = sl_defence_observe(&in, &r->state, r->clients, r->outcomes, r->marks, reward);
    r->round.round++;
    return may;
}

static void with_none_on_decisions_are_the_policys(void **state)
{
    struct rig r;
    open_rig(&r, 0);
    r.rows[2].probe_loss = 3; /* stopped */
    r.rows[3].reported = false;
    r.rows[4].probe_loss = NAN;
    struct sl_fedmarl_decision plain[N];
    float scratch[N * 9], own[N * 9];
    for (int t = 0; t < 10; t++) {
        sl_fedmarl_decide(&r.policy, &r.rails, &r.round, r.rows, N, scratch, plain);
        decide(&r);
        memcpy(own, r.scratch, sizeof(own));
        for (int i = 0; i < N; i++) {
            assert_int_equal(plain[i].accept, r.d[i].accept);
            assert_int_equal(plain[i].why, r.d[i].why);
            assert_true(plain[i].q[0] == r.d[i].q[0] && plain[i].q[1] == r.d[i].q[1]);
            assert_true(r.marks[i].acted == 0 && r.marks[i].deadline_s == 0);
        }
        assert_memory_equal(own, scratch, N * 7 * sizeof(float));
        r.outcomes[1].late = true;
        assert_true(observe(&r, t % 2));
    }
    close_rig(&r);
}

static void samples_and_cost_are_not_the_clients_to_say(void **state)
{
    struct rig r;
    open_rig(&r, SL_DEFENCE_BIT(SL_DEFENCE_OWN));
    decide(&r);
    float before[N * 7];
    memcpy(before, r.scratch, sizeof(before));
    r.rows[0].samples = 1000000;
    r.rows[0].upload_bytes = 1;
    decide(&r);
    assert_memory_equal(before, r.scratch, sizeof(before));
    assert_int_equal(r.marks[0].acted, SL_DEFENCE_BIT(SL_DEFENCE_OWN));
    assert_int_equal(r.marks[1].acted, 0);
    close_rig(&r);
}

static void a_claim_that_does_not_hold_is_replaced_and_checked_from_then_on(void **state)
{
    struct rig r;
    open_rig(&r, SL_DEFENCE_BIT(SL_DEFENCE_CLAIM));
    r.rows[0].probe_loss = 3;
    r.checks[0] = 1; /* would go on */
    r.checks[1] = r.rows[1].probe_loss + 0.05; /* within the floor */
    decide(&r);
    assert_true(r.d[0].accept);
    assert_true(r.marks[0].acted == SL_DEFENCE_BIT(SL_DEFENCE_CLAIM) && r.marks[0].suspect);
    assert_true(r.marks[1].acted == 0 && r.client[1].caught == 0 && !r.marks[1].suspect);
    uint32_t first = 0, second = 0;
    for (uint32_t t = 0; t < 1000; t++) {
        r.round.round = t;
        first += sl_defence_wants_check(&r.o, &r.round, 10, &r.client[0]);
        second += sl_defence_wants_check(&r.o, &r.round, 11, &r.client[1]);
    }
    assert_int_equal(first, 1000);
    assert_in_range(second, 70, 130);
    r.o.on = 0;
    assert_false(sl_defence_wants_check(&r.o, &r.round, 10, &r.client[0]));
    close_rig(&r);
}

static void inputs_stay_in_their_usual_range_and_impossible_losses_are_silence(void **state)
{
    struct rig r;
    open_rig(&r, SL_DEFENCE_BIT(SL_DEFENCE_CLAMP));
    r.rows[0].probe_loss = 1e6;
    r.rows[1].probe_loss = -1;
    r.rows[2].probe_s[0] = 0;
    decide(&r);
    assert_true(r.scratch[0] == 2 && r.scratch[2 * 7 + 1] == 0.1f);
    assert_true(r.d[1].why == SL_WHY_SILENT && !r.d[1].accept);
    r.round.round = 0;
    r.rows[3].probe_loss = 2 * 1.6;
    decide(&r);
    assert_int_equal(r.d[3].why, SL_WHY_SILENT);
    close_rig(&r);
}

static void what_is_too_close_to_call_is_drawn_fairly(void **state)
{
    struct rig r;
    open_rig(&r, SL_DEFENCE_BIT(SL_DEFENCE_MARGIN));
    uint32_t go = 0;
    r.rows[0].probe_loss = 2 * 0.97; /* gap 0.03 */
    for (uint32_t t = 0; t < 1000; t++) {
        r.round.round = t;
        decide(&r);
        assert_int_equal(r.d[0].why, SL_WHY_DRAWN);
        assert_int_equal(r.d[1].why, SL_WHY_POLICY);
        go += r.d[0].accept;
    }
    assert_in_range(go, 450, 550);
    close_rig(&r);
}

static void nobody_has_all_the_rounds_and_nobody_none(void **state)
{
    struct rig r;
    open_rig(&r, SL_DEFENCE_BIT(SL_DEFENCE_CAP));
    uint32_t always = 0, never = 0, run = 0;
    r.rows[1].probe_loss = 9;
    for (int t = 0; t < 60; t++) {
        memset(&r.client[3], 0, 3 * sizeof(r.client[0])); /* newcomers, never bound */
        const int bound = sl_defence_bound(&r.o, &r.client[0]);
        decide(&r);
        if (bound >= 0)
            assert_int_equal(r.d[0].accept, bound);
        always += r.d[0].accept;
        never += r.d[1].accept;
        run = r.d[1].accept ? 0 : run + 1;
        assert_true(run <= r.o.force_after);
        assert_true(__builtin_popcountll(r.client[0].accepted & 0x3ff) <= 5);
        observe(&r, 0);
    }
    assert_in_range(always, 28, 32);
    assert_int_equal(never, 20);
    close_rig(&r);
}

static void who_is_late_is_dropped_and_kept_out_and_cannot_creep(void **state)
{
    struct rig r;
    open_rig(&r, SL_DEFENCE_BIT(SL_DEFENCE_DEADLINE));
    for (int t = 0; t < 4; t++) {
        decide(&r);
        observe(&r, 0);
    }
    decide(&r);
    assert_true(r.marks[0].deadline_s >= 6 && r.marks[0].deadline_s <= 9 + 1e-9);
    r.outcomes[0].late = true;
    r.outcomes[0].finish_s = r.marks[0].deadline_s;
    observe(&r, 0);
    r.outcomes[0].late = false;
    for (uint32_t t = 0; t < r.o.late_out; t++) {
        decide(&r);
        assert_true(!r.d[0].accept && r.d[0].why == SL_WHY_QUARANTINED && r.d[1].accept);
        observe(&r, 0);
    }
    double most = 0;
    for (int t = 0; t < 200; t++) { /* always just in time */
        decide(&r);
        assert_true(r.d[0].accept);
        most = fmax(most, r.marks[0].deadline_s);
        r.outcomes[0].finish_s = 0.98 * r.marks[0].deadline_s;
        observe(&r, 0);
    }
    assert_true(most < 6 * 1.5 * 1.5 + 1e-6);
    close_rig(&r);
}

static void a_client_that_changes_is_quarantined_and_others_are_not(void **state)
{
    for (int what = 0; what < 3; what++) {
        struct rig r;
        struct sl_rng rng;
        open_rig(&r, SL_DEFENCE_BIT(SL_DEFENCE_DETECTOR));
        sl_rng_init(&rng, &(struct sl_rng_id){.seed = 4, .purpose = SL_RNG_TEST});
        int caught = -1;
        for (int t = 0; t < 25; t++) {
            const bool lie = t >= 12;
            for (int i = 0; i < N; i++) {
                r.rows[i].probe_loss = (1 + 0.1 * i) * exp(0.05 * sl_rng_normal(&rng) - 0.02 * t);
                r.outcomes[i].finish_s = 6 * exp(0.2 * sl_rng_normal(&rng));
            }
            if (lie && what == 0)
                r.rows[2].probe_loss = t % 2 ? 0.05 : 8;
            if (lie && what == 1)
                r.outcomes[2].finish_s = 60;
            decide(&r);
            observe(&r, what == 2 ? NAN : 0.1 * sl_rng_f64(&rng));
            for (int i = 0; i < N; i++)
                if (what < 2 && i != 2)
                    assert_int_equal(r.client[i].out, 0);
            if (what == 2)
                assert_int_equal(r.client[2].out, 0);
            else if (r.client[2].out > 0 && caught < 0)
                caught = t;
        }
        if (what < 2)
            assert_in_range(caught, 12, 18);
        close_rig(&r);
    }
}

static void most_of_the_noisy_copies_decide(void **state)
{
    struct rig r;
    open_rig(&r, SL_DEFENCE_BIT(SL_DEFENCE_SMOOTHING));
    struct sl_fedmarl_decision again[N];
    r.rows[0].probe_loss = 3;
    decide(&r);
    memcpy(again, r.d, sizeof(again));
    assert_true(!r.d[0].accept && r.d[1].accept);
    decide(&r);
    for (int i = 0; i < N; i++)
        assert_int_equal(again[i].accept, r.d[i].accept);
    close_rig(&r);
}

static void suspicion_freezes_learning(void **state)
{
    struct rig r;
    open_rig(&r, SL_DEFENCE_BIT(SL_DEFENCE_CLAIM) | SL_DEFENCE_BIT(SL_DEFENCE_FREEZE));
    decide(&r);
    assert_true(observe(&r, 0));
    r.rows[0].probe_loss = 3;
    r.checks[0] = 1;
    decide(&r);
    assert_false(observe(&r, 0));
    r.o.on &= ~SL_DEFENCE_BIT(SL_DEFENCE_FREEZE);
    decide(&r);
    assert_true(observe(&r, 0));
    close_rig(&r);
}

static void states_survive_as_bytes_and_damaged_ones_are_refused(void **state)
{
    struct rig r;
    uint8_t client[SL_DEFENCE_CLIENT_BYTES], run[SL_DEFENCE_STATE_BYTES];
    uint8_t client2[SL_DEFENCE_CLIENT_BYTES], run2[SL_DEFENCE_STATE_BYTES];
    struct sl_defence_client c;
    struct sl_defence_state s;
    struct sl_err err = {.msg = ""};
    open_rig(&r, (1u << SL_DEFENCES) - 1);
    for (int t = 0; t < 9; t++) {
        r.checks[t % N] = 1;
        decide(&r);
        observe(&r, 0.1 * t);
    }
    sl_defence_client_put(&r.client[0], client);
    sl_defence_state_put(&r.state, run);
    assert_int_equal(sl_defence_client_get(client, &c, &err), SL_OK);
    assert_int_equal(sl_defence_state_get(run, &s, &err), SL_OK);
    sl_defence_client_put(&c, client2);
    sl_defence_state_put(&s, run2);
    assert_memory_equal(client, client2, sizeof(client));
    assert_memory_equal(run, run2, sizeof(run));
    assert_int_equal(c.candidacies, 9);
    memset(client, 0xff, sizeof(client));
    memset(run, 0xff, sizeof(run));
    assert_int_equal(sl_defence_client_get(client, &c, &err), SL_E_INPUT);
    assert_int_equal(sl_defence_state_get(run, &s, &err), SL_E_INPUT);
    assert_int_equal(c.candidacies, 9); /* untouched */
    close_rig(&r);
}

static void options_out_of_range_and_a_policy_without_ranges_are_refused(void **state)
{
    struct rig r;
    struct sl_err err = {.msg = ""};
    open_rig(&r, SL_DEFENCE_BIT(SL_DEFENCE_CLAMP));
    assert_int_equal(sl_defence_check(&r.o, &r.policy, &err), SL_OK);
    r.policy.usual.known = false;
    assert_int_equal(sl_defence_check(&r.o, &r.policy, &err), SL_E_INPUT);
    assert_null(strchr(err.msg, '\n'));
    r.o.on = 0;
    assert_int_equal(sl_defence_check(&r.o, &r.policy, &err), SL_OK);
    struct sl_defence_options bad[] = {r.o, r.o, r.o, r.o, r.o};
    bad[0].claim_share = 2;
    bad[1].cap_most = 11;
    bad[2].deadline_factor = 0.5;
    bad[3].limit = 0;
    bad[4].sigma = NAN;
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(sl_defence_check(&bad[i], &r.policy, &err), SL_E_RANGE);
    assert_null(sl_defence_name(SL_DEFENCES));
    assert_string_equal(sl_defence_name(SL_DEFENCE_FREEZE), "freeze");
    close_rig(&r);
}

static void what_is_usual_travels_with_the_policy(void **state)
{
    struct rig r;
    struct sl_fedmarl_policy back;
    struct sl_err err = {.msg = ""};
    char path[] = "/tmp/t_defence.XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    open_rig(&r, 0);
    r.policy.usual.lo[3] = -0.3f;
    assert_int_equal(sl_fedmarl_policy_save(&r.policy, NULL, 0, path, &err), SL_OK);
    assert_int_equal(sl_fedmarl_policy_load(path, &back, &err), SL_OK);
    assert_true(back.usual.known && back.usual.gap == 0.05 && back.usual.fair == 0.5);
    for (int i = 0; i < 7; i++)
        assert_true(back.usual.lo[i] == r.policy.usual.lo[i] &&
                    back.usual.hi[i] == r.policy.usual.hi[i]);
    sl_fedmarl_policy_deinit(&back);
    r.policy.usual.hi[0] = -1; /* below its low */
    assert_int_equal(sl_fedmarl_policy_save(&r.policy, NULL, 0, path, &err), SL_OK);
    assert_int_equal(sl_fedmarl_policy_load(path, &back, &err), SL_E_INPUT);
    assert_non_null(strstr(err.msg, "fedmarl.usual"));
    unlink(path);
    close_rig(&r);
}

int main(void)
{
    sl_accel_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(with_none_on_decisions_are_the_policys),
        cmocka_unit_test(samples_and_cost_are_not_the_clients_to_say),
        cmocka_unit_test(a_claim_that_does_not_hold_is_replaced_and_checked_from_then_on),
        cmocka_unit_test(inputs_stay_in_their_usual_range_and_impossible_losses_are_silence),
        cmocka_unit_test(what_is_too_close_to_call_is_drawn_fairly),
        cmocka_unit_test(nobody_has_all_the_rounds_and_nobody_none),
        cmocka_unit_test(who_is_late_is_dropped_and_kept_out_and_cannot_creep),
        cmocka_unit_test(a_client_that_changes_is_quarantined_and_others_are_not),
        cmocka_unit_test(most_of_the_noisy_copies_decide),
        cmocka_unit_test(suspicion_freezes_learning),
        cmocka_unit_test(states_survive_as_bytes_and_damaged_ones_are_refused),
        cmocka_unit_test(options_out_of_range_and_a_policy_without_ranges_are_refused),
        cmocka_unit_test(what_is_usual_travels_with_the_policy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
