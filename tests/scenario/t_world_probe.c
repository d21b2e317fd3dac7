/* SPDX-License-Identifier: Apache-2.0 */
/* Federations that probe: whom everybody lets go on makes no difference, and whatever a policy decides
 * is decided once, through every storm, and again by the record. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/rng.h"
#include "server/selection/fedmarl/policy.h"
#include "tests/scenario/fixture.h"
#include "tests/storms.h"

#define STORMS SL_STORMS(100)
#define POLICY_FILE "/tmp/t_world_probe_XXXXXX"

static void assert_ok(const struct outcome *o)
{
    if (o->rc != SL_OK)
        fail_msg("%s", o->err.msg);
}

/* small_plan's federation with devices and links of many speeds, and three epochs a round. */
static struct sl_plan uneven_plan(void)
{
    struct sl_plan p = small_plan();
    p.train.epochs = 3;
    p.train.momentum = 0.9;
    p.run.rounds = 4;
    p.run.eval_every = 1;
    p.selection.clients_per_round = 6;
    strcpy(p.sim.world.device, "lognormal");
    p.sim.world.samples_per_s = 20;
    p.sim.world.device_sigma = 1;
    strcpy(p.sim.world.network, "lognormal");
    p.sim.world.up_mbit = 0.01;
    return p;
}

static void use(struct sl_plan *p, const char *policy)
{
    snprintf(p->selection.policy, sizeof(p->selection.policy), "%s", policy);
    p->selection.probe_epochs = 1;
    p->selection.accept = 2.5;
}

/* A team of drawn values that stops about half. */
static int write_policy(void **state)
{
    struct sl_fedmarl_policy p = {.spec = {.n_probe = 3, .n_upload = 3}};
    const struct sl_qnet_shape shape = {.n_inputs = sl_fedmarl_n_inputs(&p.spec),
                                        .hidden = 16,
                                        .layers = 1,
                                        .n_actions = 2};
    struct sl_err err;
    char *path = strdup(POLICY_FILE);
    int fd = path == NULL ? -1 : mkstemp(path);
    if (fd < 0 || sl_qnet_new(&shape, 11, &p.net, &err) != SL_OK ||
        sl_fedmarl_policy_save(&p, NULL, 0, path, &err) != SL_OK)
        return -1;
    close(fd);
    sl_fedmarl_policy_deinit(&p);
    *state = path;
    return 0;
}

static int remove_policy(void **state)
{
    unlink(*state);
    free(*state);
    return 0;
}

static void use_learned(struct sl_plan *p, const char *path)
{
    use(p, "fedmarl");
    p->selection.accept = 0;
    snprintf(p->selection.policy_file, sizeof(p->selection.policy_file), "%s", path);
}

static void draw_faults(struct sl_plan *p, uint64_t seed)
{
    struct sl_rng r;
    sl_rng_init(&r, &(struct sl_rng_id){.seed = seed, .purpose = SL_RNG_TEST});
    p->sim.faults.seed = seed;
    p->sim.faults.drop = 0.1 * sl_rng_f64(&r);
    p->sim.faults.duplicate = p->sim.faults.reorder = 0.2 * sl_rng_f64(&r);
    p->sim.faults.disconnect = 0.03 * sl_rng_f64(&r);
    p->sim.faults.delay = sl_rng_f64(&r);
    p->sim.faults.delay_ms = 5 + 1000 * sl_rng_f64(&r);
    p->sim.faults.coordinator_kills = (uint32_t)sl_rng_below(&r, 5);
    p->sim.faults.client_kills = (uint32_t)sl_rng_below(&r, 5);
    p->sim.faults.power_loss = sl_rng_below(&r, 2) == 0;
}

static void probes_that_let_everybody_go_on_change_nothing(void **state)
{
    static const char *const policies[] = {"all", "random"};
    for (size_t i = 0; i < 2; i++) {
        struct sl_plan p = uneven_plan();
        strcpy(p.selection.policy, policies[i]);
        p.selection.deadline_s = 600;
        struct outcome plain = run_plan(&p, 2);
        p.selection.probe_epochs = 1;
        struct outcome probing = run_plan(&p, 2);
        assert_ok(&plain);
        assert_ok(&probing);
        assert_string_equal(plain.digest, probing.digest);
        for (uint64_t seed = 1; seed <= 6; seed++) {
            draw_faults(&p, seed);
            struct outcome stormy = run_plan(&p, 2);
            assert_ok(&stormy);
            assert_string_equal(plain.digest, stormy.digest);
        }
        sl_plan_deinit(&p);
    }
    (void)state;
}

/* Runs the plan, then its record; both end with the same model, and no decision is another one. */
static struct outcome run_and_replay(const struct sl_plan *plan, const char *what)
{
    json_t *record = json_array();
    struct outcome first = run_recorded(plan, 1, NULL, record);
    if (first.rc == SL_OK) {
        struct sl_plan calm = *plan;
        memset(&calm.sim.faults, 0, sizeof(calm.sim.faults));
        struct outcome second = run_recorded(&calm, 1, record, NULL);
        if (second.rc != SL_OK)
            fail_msg("%s: replay: %s", what, second.err.msg);
        if (strcmp(first.digest, second.digest) != 0 || second.redecided != 0)
            fail_msg("%s: %s, replayed %s, %u decided otherwise", what, first.digest,
                     second.digest, second.redecided);
    }
    json_decref(record);
    return first;
}

static void every_policy_stops_some_and_its_record_decides_the_same(void **state)
{
    static const char *const policies[] = {"drop-slowest", "highest-loss",    "lowest-loss",
                                           "oort",         "power-of-choice", "fedmarl"};
    for (size_t i = 0; i < 6; i++) {
        struct sl_plan p = uneven_plan();
        use(&p, policies[i]);
        if (strcmp(policies[i], "fedmarl") == 0)
            use_learned(&p, *state);
        struct outcome o = run_and_replay(&p, policies[i]);
        assert_ok(&o);
        assert_true(o.stopped >= 4); /* stopped, of 24 */
        sl_plan_deinit(&p);
    }
}

/* A run may fail for want of a quorum, and for nothing else. */
static void storms_are_survived_and_replayed(void **state)
{
    uint32_t kills = 0, done = 0, stopped = 0;
    for (uint64_t seed = 1; seed <= STORMS; seed++) {
        char what[32];
        struct sl_plan p = uneven_plan();
        use_learned(&p, *state);
        draw_faults(&p, seed);
        p.run.seed = seed;
        p.run.max_retries = 1;
        p.selection.quorum = 0.5;
        p.selection.deadline_s = 60;
        p.sim.world.dropout = seed % 3 == 0 ? 0.2 : 0;
        snprintf(what, sizeof(what), "storm %llu", (unsigned long long)seed);
        struct outcome o = run_and_replay(&p, what);
        if (o.rc != SL_OK && (o.rc != SL_E_FAILED || strstr(o.err.msg, "quorum") == NULL))
            fail_msg("%s: %s", what, o.err.msg);
        kills += o.stats.coordinator_kills + o.stats.client_kills;
        done += o.rc == SL_OK;
        stopped += o.rc == SL_OK ? o.stopped : 0;
        sl_plan_deinit(&p);
    }
    printf("%u of %u storms ended, %u kills, %u stopped\n", done, (unsigned)STORMS, kills, stopped);
    assert_true(done >= STORMS / 2 && kills >= STORMS && stopped >= STORMS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(probes_that_let_everybody_go_on_change_nothing),
        cmocka_unit_test(every_policy_stops_some_and_its_record_decides_the_same),
        cmocka_unit_test(storms_are_survived_and_replayed),
    };
    return cmocka_run_group_tests(tests, write_policy, remove_policy);
}
