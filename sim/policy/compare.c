/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/policy/compare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "sim/policy/learn.h"

struct compare_job {
    struct sl_worker_job job;
    struct sl_game **games;
    struct sl_compare_how how;
    uint64_t seed;
    struct sl_federation_score score;
    enum sl_code rc;
    struct sl_err err;
};

enum sl_code sl_compare_episode(struct sl_game *g, const struct sl_compare_how *how, uint64_t seed,
                                double *ret_accuracy, struct sl_federation_score *ret,
                                struct sl_err *err)
{
    struct sl_decide_work work;
    struct sl_round_facts round;
    struct sl_decide_input in = {.round = &round,
                                 .n = g->n_agents,
                                 .accept = how->accept,
                                 /* power-of-choice: half way between those it keeps and all */
                                 .candidates = (uint32_t)((how->accept + g->n_agents + 1) / 2),
                                 .policy = how->policy,
                                 .rails = {SL_FEDMARL_RAILS_DEFAULTS}};
    uint8_t flags[SL_GAME_AGENTS_MAX];
    bool done = false;
    enum sl_code rc = sl_decide_work_new(g->n_agents, how->policy, &work, err);
    if (rc != SL_OK)
        return rc;
    g->ops->reset(g, seed);
    while (!done) {
        sl_federation_facts(g, &round, &in.rows);
        how->ops->decide(&in, &work, flags);
        sl_oort_observe(&in.oort, in.rows, in.n, flags);
        g->ops->step(g, flags, &done);
        sl_federation_score(g, ret);
        if (ret_accuracy != NULL)
            ret_accuracy[round.round] = ret->accuracy;
    }
    sl_decide_work_free(&work);
    return SL_OK;
}

static void run_job(struct sl_worker_job *job, unsigned worker)
{
    struct compare_job *j = (struct compare_job *)job;
    j->rc = sl_compare_episode(j->games[worker], &j->how, j->seed, NULL, &j->score, &j->err);
}

static enum sl_code play(struct sl_workers *workers, struct compare_job *jobs, uint32_t n,
                         const struct compare_job *like, uint64_t seed, struct sl_err *err)
{
    enum sl_code rc = SL_OK;
    for (uint32_t i = 0; i < n; i++) {
        jobs[i] = *like;
        jobs[i].job = (struct sl_worker_job){.run = run_job};
        jobs[i].seed = sl_learn_test_seed(seed, i);
        sl_workers_submit(workers, &jobs[i].job);
    }
    for (uint32_t i = 0; i < n; i++) {
        sl_workers_wait(workers, &jobs[i].job);
        if (rc == SL_OK && jobs[i].rc != SL_OK) {
            *err = jobs[i].err;
            rc = jobs[i].rc;
        }
    }
    return rc;
}

static struct sl_compare_row summary(const char *name, const struct compare_job *jobs,
                                     const struct compare_job *policy, uint32_t n)
{
    struct sl_compare_row row = {.name = name, .episodes = n};
    double squares = 0;
    for (uint32_t i = 0; i < n; i++) {
        const struct sl_federation_score *s = &jobs[i].score;
        row.reward += s->reward / n;
        row.late_accuracy += s->late_accuracy / n;
        row.latency += s->latency / n;
        row.traffic += s->traffic / n;
        row.accepted += (double)s->accepted / s->rounds / n;
        row.lead += (policy[i].score.reward - s->reward) / n;
    }
    for (uint32_t i = 0; i < n; i++) {
        double d = policy[i].score.reward - jobs[i].score.reward - row.lead;
        squares += d * d;
    }
    row.lead_half = n > 1 ? 1.96 * sqrt(squares / (n - 1) / n) : 0;
    return row;
}

enum sl_code sl_compare(const struct sl_policy_plan *plan, struct sl_workers *workers,
                        struct sl_game **games, const struct sl_fedmarl_policy *policy,
                        uint32_t episodes, struct sl_compare_row ret[SL_COMPARE_ROWS],
                        struct sl_err *err)
{
    struct compare_job *jobs = sl_calloc(episodes, 2 * sizeof(*jobs));
    if (jobs == NULL)
        return sl_err_set(err, SL_E_NOMEM, "%u episodes", episodes);
    struct compare_job *own = jobs + episodes;
    struct compare_job like = {
        .games = games, .how = {.ops = sl_decide_find("fedmarl"), .policy = policy}};
    enum sl_code rc = play(workers, own, episodes, &like, plan->seed, err);
    size_t n = 0;
    if (rc == SL_OK)
        ret[n++] = summary("fedmarl", own, own, episodes);
    const struct sl_decide_ops *ops;
    for (size_t i = 0; rc == SL_OK && (ops = sl_decide_at(i)) != NULL; i++) {
        if (strcmp(ops->name, "fedmarl") == 0)
            continue;
        like.how = (struct sl_compare_how){.ops = ops, .accept = ret[0].accepted};
        rc = play(workers, jobs, episodes, &like, plan->seed, err);
        if (rc == SL_OK)
            ret[n++] = summary(ops->name, jobs, own, episodes);
    }
    free(jobs);
    return rc;
}
