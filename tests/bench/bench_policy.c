/* SPDX-License-Identifier: Apache-2.0 */
/* Selection after the probe: milliseconds of a decision about 10,000 candidates, and client-rounds a second
 * and core of the game that policies are trained on (cached updates), of the learner alone, and of
 * both together, as one worker trains. CPU time; medians of turns. bench_policy [PLAN] */
#include <stdio.h>
#include <string.h>

#include "accel/accel.h"
#include "common/rng.h"
#include "sim/policy/train.h"
#include "tests/bench/bench.h"

#define TURNS 15
#define CANDIDATES 10000
#define UPDATES 200

static void fill(struct sl_client_facts *rows, size_t n)
{
    struct sl_rng r;
    sl_rng_init(&r, &(struct sl_rng_id){.seed = 1, .purpose = SL_RNG_TEST});
    for (size_t i = 0; i < n; i++) {
        rows[i] = (struct sl_client_facts){.client = (uint32_t)i,
                                           .reported = true,
                                           .probe_loss = 3 * sl_rng_f64(&r),
                                           .samples = 50 + sl_rng_below(&r, 900),
                                           .upload_bytes = 4000,
                                           .n_probe = 8,
                                           .n_upload = 8};
        for (uint32_t k = 0; k < SL_FACTS_HISTORY; k++) {
            rows[i].probe_s[k] = 5 * sl_rng_f64(&r);
            rows[i].upload_s[k] = 9 * sl_rng_f64(&r);
        }
    }
}

/* Milliseconds. */
static double time_decisions(const struct sl_fedmarl_policy *p)
{
    static struct sl_client_facts rows[CANDIDATES];
    static uint8_t accept[CANDIDATES];
    const struct sl_round_facts round = {.seed = 1,
                                         .round = 3,
                                         .rounds = 30,
                                         .epochs = 5,
                                         .probe_epochs = 1,
                                         .loss_scale = 2.3,
                                         .median_probe_s = 2,
                                         .mean_probe_s = 3,
                                         .mean_upload_s = 8,
                                         .full_bytes = 4000,
                                         .max_samples = 1000};
    const struct sl_decide_input in = {.round = &round,
                                       .rows = rows,
                                       .n = CANDIDATES,
                                       .policy = p,
                                       .rails = {SL_FEDMARL_RAILS_DEFAULTS}};
    struct sl_decide_work work;
    double ms[TURNS];
    fill(rows, CANDIDATES);
    if (sl_decide_work_new(CANDIDATES, p, &work, NULL) != SL_OK)
        return -1;
    for (int t = 0; t < TURNS; t++) {
        double from = now_s();
        sl_decide_find("fedmarl")->decide(&in, &work, accept);
        ms[t] = (now_s() - from) * 1e3;
    }
    sl_decide_work_free(&work);
    return median(ms, TURNS);
}

/* Client-rounds a second of playing whole episodes as training does. */
static double time_game(struct sl_game *g, const struct sl_qnet *net)
{
    double rate[TURNS];
    for (int t = 0; t < TURNS; t++) {
        float x[SL_GAME_AGENTS_MAX * SL_FEDMARL_INPUTS_MAX], q[2 * SL_GAME_AGENTS_MAX];
        double own[SL_GAME_AGENTS_MAX];
        uint8_t actions[SL_GAME_AGENTS_MAX];
        bool done = false;
        double from = now_s();
        g->ops->reset(g, (uint64_t)t);
        while (!done) {
            g->ops->observe(g, x);
            sl_qnet_forward(net, x, g->n_agents, q);
            sl_vdn_greedy(q, g->n_agents, 2, actions);
            g->ops->step(g, actions, &done);
            g->ops->credit(g, own);
        }
        rate[t] = (double)g->n_agents * g->max_steps / (now_s() - from);
    }
    return median(rate, TURNS);
}

/* Client-rounds a second of one update a step. */
static double time_learner(const struct sl_policy_plan *p, struct sl_game *g)
{
    struct sl_vdn *v;
    float x[SL_GAME_AGENTS_MAX * SL_FEDMARL_INPUTS_MAX];
    const uint8_t actions[SL_GAME_AGENTS_MAX] = {1};
    double loss, rate[TURNS];
    if (sl_vdn_new(&p->learner, &v, NULL) != SL_OK)
        return -1;
    g->ops->observe(g, x);
    for (uint32_t i = 0; i < p->learner.warmup; i++)
        sl_vdn_push(v, &(struct sl_vdn_transition){.s = x,
                                                   .actions = actions,
                                                   .n = g->n_agents,
                                                   .reward = 0.1,
                                                   .next = x,
                                                   .n_next = g->n_agents});
    for (int t = 0; t < TURNS; t++) {
        double from = now_s();
        for (int i = 0; i < UPDATES; i++)
            sl_vdn_update(v, &loss);
        rate[t] = (double)UPDATES * g->n_agents / (now_s() - from);
    }
    sl_vdn_free(v);
    return median(rate, TURNS);
}

int main(int argc, char **argv)
{
    struct sl_policy_plan p;
    struct sl_fedmarl_policy policy = {0};
    struct sl_workers *workers = NULL;
    struct sl_update_table *table = NULL;
    struct sl_game *g = NULL;
    struct sl_err err = {.msg = ""};
    const char *path = argc > 1 ? argv[1] : "plans/policies/fedmarl.yaml";
    sl_accel_init();
    enum sl_code rc = sl_policy_plan_load(path, NULL, 0, &p, &err);
    if (rc == SL_OK)
        rc = sl_workers_new(1, &workers, &err);
    double from = process_s();
    if (rc == SL_OK)
        rc = sl_update_table_new(&p, workers, NULL, NULL, &table, &err);
    double table_s = process_s() - from;
    if (rc == SL_OK)
        rc = sl_federation_game_new(&p, table, SL_FEDERATION_POOL, &g, &err);
    if (rc == SL_OK)
        rc = sl_qnet_new(&p.learner.shape, 1, &policy.net, &err);
    if (rc != SL_OK) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    policy.spec = p.features;
    const double game = time_game(g, &policy.net), learner = time_learner(&p, g);
    printf("decision about %d candidates: %.2f ms\n", CANDIDATES, time_decisions(&policy));
    printf("client-rounds a second and core: game %.0f, learner %.0f, both %.0f\n", game, learner,
           1 / (1 / game + 1 / learner));
    printf("table of updates: %.1f s of CPU; %u episodes: %.1f s\n", table_s, p.training.episodes,
           (double)p.training.episodes * p.federation.rounds * g->n_agents *
               (1 / game + 1 / learner));
    sl_game_free(g);
    sl_fedmarl_policy_deinit(&policy);
    sl_update_table_free(table);
    sl_workers_free(workers);
    return 0;
}
