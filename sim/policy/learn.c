/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/policy/learn.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/mem.h"
#include "common/rng.h"

#define VALIDATION 0x76616c6964ull /* keep the seeds of the three uses apart */
#define TEST 0x74657374ull

/* An episode under way on a worker, and what it was. */
struct episode {
    struct sl_worker_job job;
    struct learning *l;
    const struct sl_qnet *net;
    uint64_t seed;
    uint64_t first_step; /* of all training: what exploration follows */
    bool explore;
    uint32_t steps;
    float *s;         /* [max_steps + 1, n_agents, n_inputs] */
    uint8_t *actions; /* [max_steps, n_agents] */
    double *rewards;  /* [max_steps]; the team's part where the game gives credit */
    double *own;      /* [max_steps, n_agents] */
    double sum;       /* of whole rewards */
};

struct learning {
    const struct sl_learn_options *o;
    const struct sl_learn_env *env;
    struct sl_vdn *v;
    struct sl_qnet acting, candidate, *best;
    double best_return;
    uint32_t batch, n_batches; /* next to be learned from */
    struct episode *sets[2];   /* [batch_episodes] each */
    struct episode *validation; /* [validation_episodes] */
};

uint64_t sl_learn_test_seed(uint64_t seed, uint32_t episode)
{
    return sl_splitmix64_at(seed ^ TEST, episode);
}

/* --- playing ---------------------------------------------------------------------------------- */

static void explore(const struct episode *e, const struct sl_game *g, uint8_t *actions)
{
    double epsilon = sl_vdn_epsilon(sl_vdn_options_of(e->l->v), e->first_step + e->steps);
    struct sl_rng rng;
    sl_rng_init(&rng, &(struct sl_rng_id){.seed = e->seed,
                                          .purpose = SL_RNG_AGENT,
                                          .round = e->steps,
                                          .tensor = 40});
    for (uint32_t i = 0; i < g->n_agents; i++) {
        bool random = sl_rng_f64(&rng) < epsilon;
        uint8_t action = (uint8_t)sl_rng_below(&rng, g->n_actions);
        if (random)
            actions[i] = action;
    }
}

static void play(struct sl_worker_job *job, unsigned worker)
{
    struct episode *e = (struct episode *)job;
    struct sl_game *g = e->l->env->games[worker];
    const size_t row = (size_t)g->n_agents * g->n_inputs;
    float q[SL_GAME_AGENTS_MAX * SL_GAME_ACTIONS_MAX];
    bool done = false;
    e->steps = 0;
    e->sum = 0;
    g->ops->reset(g, e->seed);
    g->ops->observe(g, e->s);
    while (!done) {
        uint8_t *actions = e->actions + (size_t)e->steps * g->n_agents;
        sl_qnet_forward(e->net, e->s + e->steps * row, g->n_agents, q);
        sl_vdn_greedy(q, g->n_agents, g->n_actions, actions);
        if (e->explore)
            explore(e, g, actions);
        double reward = g->ops->step(g, actions, &done);
        e->sum += reward;
        if (g->ops->credit != NULL && sl_vdn_options_of(e->l->v)->credit)
            reward = g->ops->credit(g, e->own + (size_t)e->steps * g->n_agents);
        e->rewards[e->steps] = reward;
        e->steps++;
        g->ops->observe(g, e->s + e->steps * row);
    }
}

static void start(struct learning *l, struct episode *set, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        set[i].job = (struct sl_worker_job){.run = play};
        sl_workers_submit(l->env->workers, &set[i].job);
    }
}

static void finish(struct learning *l, struct episode *set, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        sl_workers_wait(l->env->workers, &set[i].job);
}

static void start_batch(struct learning *l, uint32_t batch)
{
    struct episode *set = l->sets[batch % 2];
    const uint32_t n = l->o->batch_episodes, max_steps = l->env->games[0]->max_steps;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t number = batch * n + i;
        set[i].net = &l->acting;
        set[i].explore = true;
        set[i].seed = sl_splitmix64_at(l->o->seed, number);
        set[i].first_step = (uint64_t)number * max_steps;
    }
    start(l, set, n);
}

static double validate(struct learning *l)
{
    const uint32_t n = l->o->validation_episodes;
    double sum = 0;
    sl_vdn_acting(l->v, &l->candidate);
    for (uint32_t i = 0; i < n; i++) {
        l->validation[i].net = &l->candidate;
        l->validation[i].explore = false;
        l->validation[i].seed = sl_splitmix64_at(l->o->seed ^ VALIDATION, i);
    }
    start(l, l->validation, n);
    finish(l, l->validation, n);
    for (uint32_t i = 0; i < n; i++)
        sum += l->validation[i].sum;
    return sum / n;
}

/* --- learning --------------------------------------------------------------------------------- */

/* The team's reward of step t and of those that lookahead adds; *ret_next: the step after them. */
static double ahead(const struct learning *l, const struct episode *e, uint32_t t,
                    uint32_t *ret_next)
{
    double sum = 0;
    const uint32_t steps = l->o->lookahead > 0 ? l->o->lookahead : 1;
    uint32_t k = t;
    for (; k < e->steps && k < t + steps; k++)
        sum += e->rewards[k];
    *ret_next = k;
    return sum;
}

/* Pushes an episode step by step and updates after each. */
static double learn_episode(struct learning *l, const struct episode *e, uint32_t *ret_updates)
{
    const struct sl_game *g = l->env->games[0];
    const size_t row = (size_t)g->n_agents * g->n_inputs;
    double sum = 0, loss;
    for (uint32_t t = 0; t < e->steps; t++) {
        uint32_t next;
        const double reward = ahead(l, e, t, &next);
        sl_vdn_push(l->v, &(struct sl_vdn_transition){
                              .s = e->s + t * row,
                              .actions = e->actions + (size_t)t * g->n_agents,
                              .n = g->n_agents,
                              .reward = reward,
                              .own = e->own + (size_t)t * g->n_agents,
                              .next = e->s + next * row,
                              .n_next = g->n_agents,
                              .done = next == e->steps});
        for (uint32_t u = 0; u < l->o->updates_per_step; u++)
            if (sl_vdn_update(l->v, &loss)) {
                sum += loss;
                ++*ret_updates;
            }
    }
    return sum;
}

static struct sl_learn_event learn_batch(struct learning *l, uint32_t batch)
{
    const struct episode *set = l->sets[batch % 2];
    const uint32_t n = l->o->batch_episodes, agents = l->env->games[0]->n_agents;
    struct sl_learn_event ev = {.episodes = (batch + 1) * n,
                                .of = l->n_batches * n,
                                .validation = NAN};
    uint32_t updates = 0;
    size_t actions = 0, go = 0;
    for (uint32_t i = 0; i < n; i++) {
        ev.loss += learn_episode(l, &set[i], &updates);
        ev.mean_return += set[i].sum / n;
        actions += (size_t)set[i].steps * agents;
        for (size_t a = 0; a < (size_t)set[i].steps * agents; a++)
            go += set[i].actions[a] != 0;
    }
    ev.loss = updates > 0 ? ev.loss / updates : NAN;
    ev.go_share = (double)go / (double)actions;
    ev.updates = sl_vdn_updates(l->v);
    ev.epsilon = sl_vdn_epsilon(sl_vdn_options_of(l->v), set[n - 1].first_step);
    return ev;
}

/* --- state ------------------------------------------------------------------------------------ */

static enum sl_code save(struct learning *l, struct sl_err *err)
{
    char batch[16], best[40];
    const struct sl_vdn_extra nets[] = {{"acting", &l->acting}, {"best", l->best}};
    if (l->env->state_path == NULL)
        return SL_OK;
    snprintf(batch, sizeof(batch), "%u", l->batch);
    snprintf(best, sizeof(best), "%a", l->best_return);
    const struct sl_safetensors_note notes[] = {
        {"learn.batch", batch}, {"learn.best", best}, {"learn.identity", l->env->identity}};
    return sl_vdn_save(l->v, nets, 2, notes, 3, l->env->state_path, err);
}

static enum sl_code resume(struct learning *l, struct sl_err *err)
{
    const char *path = l->env->state_path;
    const struct sl_vdn_extra nets[] = {{"acting", &l->acting}, {"best", l->best}};
    struct sl_safetensors file;
    uint8_t *bytes;
    if (path == NULL || access(path, F_OK) != 0)
        return SL_OK;
    enum sl_code rc = sl_vdn_load(l->v, nets, 2, path, &file, &bytes, err);
    if (rc != SL_OK)
        return rc;
    const char *batch = sl_safetensors_note(&file, "learn.batch");
    const char *best = sl_safetensors_note(&file, "learn.best");
    const char *identity = sl_safetensors_note(&file, "learn.identity");
    if (batch == NULL || best == NULL || identity == NULL ||
        sscanf(batch, "%9u", &l->batch) != 1 || sscanf(best, "%la", &l->best_return) != 1 ||
        l->batch > l->n_batches)
        rc = sl_err_set(err, SL_E_INPUT, "%s: not the state of a training", path);
    else if (strcmp(identity, l->env->identity) != 0)
        rc = sl_err_set(err, SL_E_INPUT,
                        "%s: of another plan (remove it, or choose another output)", path);
    sl_safetensors_deinit(&file);
    free(bytes);
    return rc;
}

/* --- the loop --------------------------------------------------------------------------------- */

static enum sl_code after_batch(struct learning *l, struct sl_learn_event *ev, struct sl_err *err)
{
    enum sl_code rc = SL_OK;
    if (l->batch % l->o->validate_every == 0 || l->batch == l->n_batches) {
        ev->validation = validate(l);
        if (ev->validation > l->best_return) {
            l->best_return = ev->validation;
            memcpy(l->best->values, l->candidate.values, l->best->n_values * sizeof(float));
        }
        rc = save(l, err);
    }
    ev->best = l->best_return;
    if (rc == SL_OK && l->env->event != NULL)
        l->env->event(l->env->ctx, ev);
    return rc;
}

static enum sl_code run(struct learning *l, struct sl_err *err)
{
    const uint32_t n = l->o->batch_episodes;
    enum sl_code rc = resume(l, err);
    if (rc != SL_OK || l->batch == l->n_batches)
        return rc;
    if (l->batch == 0)
        sl_vdn_acting(l->v, &l->acting);
    start_batch(l, l->batch);
    finish(l, l->sets[l->batch % 2], n);
    while (rc == SL_OK && l->batch < l->n_batches) {
        const uint32_t batch = l->batch++;
        sl_vdn_acting(l->v, &l->acting);
        if (l->batch < l->n_batches)
            start_batch(l, l->batch);
        struct sl_learn_event ev = learn_batch(l, batch);
        if (l->batch < l->n_batches)
            finish(l, l->sets[l->batch % 2], n);
        rc = after_batch(l, &ev, err);
    }
    return rc;
}

static struct episode *new_set(struct learning *l, uint32_t n)
{
    const struct sl_game *g = l->env->games[0];
    const size_t row = (size_t)g->n_agents * g->n_inputs;
    struct episode *set = sl_calloc(n, sizeof(*set));
    for (uint32_t i = 0; set != NULL && i < n; i++) {
        set[i].l = l;
        set[i].s = sl_calloc((size_t)g->max_steps + 1, row * sizeof(float));
        set[i].actions = sl_calloc(g->max_steps, g->n_agents);
        set[i].rewards = sl_calloc(g->max_steps, sizeof(double));
        set[i].own = sl_calloc(g->max_steps, g->n_agents * sizeof(double));
    }
    return set;
}

static bool set_is_whole(const struct episode *set, uint32_t n)
{
    for (uint32_t i = 0; set != NULL && i < n; i++)
        if (set[i].s == NULL || set[i].actions == NULL || set[i].rewards == NULL ||
            set[i].own == NULL)
            return false;
    return set != NULL;
}

static void free_set(struct episode *set, uint32_t n)
{
    for (uint32_t i = 0; set != NULL && i < n; i++) {
        free(set[i].s);
        free(set[i].actions);
        free(set[i].rewards);
        free(set[i].own);
    }
    free(set);
}

enum sl_code sl_learn(const struct sl_learn_options *o, const struct sl_learn_env *env,
                      struct sl_vdn *v, struct sl_qnet *ret_best, struct sl_err *err)
{
    const uint32_t n = o->batch_episodes, n_validation = o->validation_episodes;
    struct learning l = {.o = o,
                         .env = env,
                         .v = v,
                         .best = ret_best,
                         .best_return = -INFINITY,
                         .n_batches = (o->episodes + n - 1) / n};
    enum sl_code rc =
        sl_qnet_new(&sl_vdn_options_of(v)->shape, sl_vdn_options_of(v)->seed, &l.acting, err);
    if (rc == SL_OK)
        rc = sl_qnet_new(&sl_vdn_options_of(v)->shape, 0, &l.candidate, err);
    l.sets[0] = new_set(&l, n);
    l.sets[1] = new_set(&l, n);
    l.validation = new_set(&l, n_validation);
    if (rc == SL_OK && !(set_is_whole(l.sets[0], n) && set_is_whole(l.sets[1], n) &&
                         set_is_whole(l.validation, n_validation)))
        rc = sl_err_set(err, SL_E_NOMEM, "%u episodes", 2 * n + n_validation);
    if (rc == SL_OK)
        rc = run(&l, err);
    free_set(l.sets[0], n);
    free_set(l.sets[1], n);
    free_set(l.validation, n_validation);
    sl_qnet_deinit(&l.acting);
    sl_qnet_deinit(&l.candidate);
    return rc;
}
