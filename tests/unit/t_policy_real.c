/* SPDX-License-Identifier: Apache-2.0 */
/* Federations under a policy with real training (sim/policy/update_source.h): accept-all is FedAvg as the
 * simulator runs it, bit for bit, and a decision reaches the client whose row it was made for. */
#include "sim/policy/update_source.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "accel/accel.h"
#include "sim/experiment/training.h"
#include "sim/policy/compare.h"
#include "sim/policy/federation_game.h"

#define COHORT 4
#define ROUNDS 3

static const char text[] =
    "run: {name: real, seed: 5, rounds: 3}\n"
    "data: {dataset: synthetic, limit: 400, partition: {kind: dirichlet, alpha: 0.5, clients: 12}}\n"
    "model: {name: tiny}\n"
    "train: {epochs: 3, batch_size: 8, lr: 0.02, momentum: 0.9}\n"
    "selection: {policy: random, clients_per_round: 4}\n";

static struct sl_plan plan;

static int load_plan(void **state)
{
    struct sl_err err = {.msg = ""};
    sl_accel_init();
    if (sl_plan_parse(text, strlen(text), "plan", NULL, 0, &plan, &err) != SL_OK)
        fail_msg("%s", err.msg);
    return 0;
}

static int unload_plan(void **state)
{
    sl_plan_deinit(&plan);
    return 0;
}

static struct sl_update_source *open_source(void)
{
    struct sl_update_source *s;
    struct sl_err err = {.msg = ""};
    if (sl_real_updates_new(&plan, SL_POLICY_PARTITIONS, COHORT, &s, &err) != SL_OK)
        fail_msg("%s", err.msg);
    return s;
}

/* The model after one round of that cohort and those accepted; the caller frees it. */
static float *after_round(struct sl_update_source *s, const uint32_t *cohort, const uint8_t *in,
                          size_t *ret_n)
{
    double loss[COHORT];
    s->ops->begin(s, 0);
    s->ops->probe(s, 0, cohort, COHORT, loss);
    s->ops->reach(s, in, NULL);
    s->ops->keep(s);
    assert_int_equal(s->failure.code, SL_OK);
    const float *model = sl_real_updates_model(s, ret_n);
    float *ret = malloc(*ret_n * sizeof(float));
    assert_non_null(ret);
    memcpy(ret, model, *ret_n * sizeof(float));
    return ret;
}

/* F5, F6: the probe epoch and the rest, accepted by everybody, against straight training in a run. */
static void accept_all_is_fedavg_bit_for_bit(void **state)
{
    char path[] = "/tmp/t_policy_real_XXXXXX", sets[2][96];
    const struct sl_compare_how all = {.ops = sl_decide_find("all")};
    struct sl_policy_plan p;
    struct sl_federated_end end;
    struct sl_federation_score score;
    struct sl_round_facts round;
    const struct sl_client_facts *rows;
    struct sl_game *g;
    struct sl_plan run;
    struct sl_err err = {.msg = ""};
    json_t *result = NULL;
    bool done = false;
    size_t n;
    sl_policy_plan_default(&p);
    p.federation.cohort = COHORT;
    p.federation.rounds = ROUNDS;
    p.learner.credit = false;
    sl_policy_plan_complete(&p);
    assert_int_equal(sl_federation_game_over(&p, open_source(), &g, NULL), SL_OK);
    FILE *f = fdopen(mkstemp(path), "w");
    g->ops->reset(g, 8);
    while (!done) {
        sl_federation_facts(g, &round, &rows);
        fprintf(f, "%u", round.round);
        for (int i = 0; i < COHORT; i++)
            fprintf(f, " %u", rows[i].client);
        fputc('\n', f);
        g->ops->step(g, (const uint8_t[COHORT]){1, 1, 1, 1}, &done);
    }
    fclose(f);
    assert_int_equal(sl_compare_episode(g, &all, 8, NULL, &score, NULL), SL_OK);
    snprintf(sets[0], sizeof(sets[0]), "selection.policy=file");
    snprintf(sets[1], sizeof(sets[1]), "selection.path=%s", path);
    const struct sl_plan_override set[] = {{sets[0]}, {sets[1]}};
    if (sl_plan_parse(text, strlen(text), "plan", set, 2, &run, &err) != SL_OK ||
        sl_federated_run(&run, NULL, &end, &result, &err) != SL_OK)
        fail_msg("%s", err.msg);
    const float *model = sl_real_updates_model(sl_federation_source(g), &n);
    assert_int_equal(n, end.n_values);
    assert_memory_equal(model, end.trained, n * sizeof(float));
    json_decref(result);
    sl_federated_end_deinit(&end);
    sl_plan_deinit(&run);
    sl_game_free(g);
    unlink(path);
}

/* F7 */
static void the_order_of_the_cohort_changes_nothing(void **state)
{
    struct sl_update_source *s = open_source();
    size_t n;
    float *a = after_round(s, (const uint32_t[]){1, 5, 7, 9}, (const uint8_t[]){1, 0, 1, 1}, &n);
    float *b = after_round(s, (const uint32_t[]){9, 7, 1, 5}, (const uint8_t[]){1, 1, 1, 0}, &n);
    assert_memory_equal(a, b, n * sizeof(float));
    free(a);
    free(b);
    sl_update_source_free(s);
}

/* F12 */
static void a_decision_reaches_the_client_of_its_row(void **state)
{
    struct sl_update_source *s = open_source();
    size_t n;
    float *second = after_round(s, (const uint32_t[]){1, 5, 7, 9}, (const uint8_t[]){0, 1, 0, 0}, &n);
    float *first = after_round(s, (const uint32_t[]){5, 1, 7, 9}, (const uint8_t[]){1, 0, 0, 0}, &n);
    float *other = after_round(s, (const uint32_t[]){1, 5, 7, 9}, (const uint8_t[]){1, 0, 0, 0}, &n);
    assert_memory_equal(first, second, n * sizeof(float));
    assert_memory_not_equal(other, second, n * sizeof(float));
    free(first);
    free(second);
    free(other);
    sl_update_source_free(s);
}

static void nobody_accepted_leaves_the_model(void **state)
{
    struct sl_update_source *s = open_source();
    const double before = s->ops->begin(s, 0);
    size_t n;
    float *a = after_round(s, (const uint32_t[]){1, 5, 7, 9}, (const uint8_t[]){0, 0, 0, 0}, &n);
    s->ops->begin(s, 0);
    assert_memory_equal(a, sl_real_updates_model(s, &n), n * sizeof(float));
    assert_true(before >= 0 && before <= 1);
    free(a);
    sl_update_source_free(s);
}

static void a_factor_scales_what_a_client_sends(void **state)
{
    struct sl_update_source *s = open_source();
    const uint32_t cohort[] = {1, 5, 7, 9};
    const uint8_t one[] = {1, 0, 0, 0};
    double loss[COHORT];
    size_t n;
    s->ops->begin(s, 0);
    float *whole = after_round(s, cohort, one, &n);
    s->ops->begin(s, 0);
    float *start = malloc(n * sizeof(float));
    memcpy(start, sl_real_updates_model(s, &n), n * sizeof(float));
    s->ops->probe(s, 0, cohort, COHORT, loss);
    s->ops->reach(s, one, (const float[]){-1, 1, 1, 1});
    s->ops->keep(s);
    const float *back = sl_real_updates_model(s, &n);
    for (size_t i = 0; i < n; i++)
        assert_float_equal(back[i] - start[i], start[i] - whole[i], 1e-6);
    free(whole);
    free(start);
    sl_update_source_free(s);
}

static void hits_of_the_classes_add_up_to_the_accuracy(void **state)
{
    struct sl_update_source *s = open_source();
    uint32_t hits[16], of[16], sum[2] = {0};
    const double accuracy = s->ops->begin(s, 0);
    assert_true(s->n_classes <= 16);
    assert_int_equal(sl_real_updates_classes(s, hits, of, NULL), SL_OK);
    for (uint32_t c = 0; c < s->n_classes; c++) {
        sum[0] += hits[c];
        sum[1] += of[c];
    }
    assert_float_equal((double)sum[0] / sum[1], accuracy, 1e-12);
    sl_update_source_free(s);
}

static void plans_beyond_fedavg_are_refused(void **state)
{
    static const char *const sets[] = {"strategy.name=fedavgm", "uplink.encoding=bf16",
                                       "train.local_steps=3", "train.batch_size=0",
                                       "train.epochs=1", "model.head=sphere"};
    for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++) {
        const struct sl_plan_override set = {sets[i]};
        struct sl_plan other;
        struct sl_update_source *s;
        struct sl_err err = {.msg = ""};
        if (sl_plan_parse(text, strlen(text), "plan", &set, 1, &other, &err) != SL_OK)
            fail_msg("%s", err.msg);
        assert_int_equal(sl_real_updates_new(&other, SL_POLICY_PARTITIONS, COHORT, &s, &err),
                         SL_E_INPUT);
        assert_null(strchr(err.msg, '\n'));
        sl_plan_deinit(&other);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accept_all_is_fedavg_bit_for_bit),
        cmocka_unit_test(the_order_of_the_cohort_changes_nothing),
        cmocka_unit_test(a_decision_reaches_the_client_of_its_row),
        cmocka_unit_test(nobody_accepted_leaves_the_model),
        cmocka_unit_test(a_factor_scales_what_a_client_sends),
        cmocka_unit_test(hits_of_the_classes_add_up_to_the_accuracy),
        cmocka_unit_test(plans_beyond_fedavg_are_refused),
    };
    return cmocka_run_group_tests(tests, load_plan, unload_plan);
}
