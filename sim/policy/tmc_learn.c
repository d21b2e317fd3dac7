/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/policy/tmc_learn.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "common/rng.h"
#include "sim/policy/tmc_replay.h"

struct learner {
    const struct sl_tmc_learn_options *o;
    struct sl_game *const *games;
    uint32_t n_games;
    uint32_t agents, inputs, actions, max_steps;
    struct sl_tmc_net net, target;
    float *squares, *grads; /* [n_values]: RMSprop's running mean of squares */
    struct sl_tmc_replay replay;
    struct sl_tmc_trace acting, online, copy; /* a step of all games; a batch; its target values */
    float *dq, *dm, *y, *seen;
    uint8_t *taken;     /* [max_steps, batch, agents] */
    uint32_t *lengths;  /* [batch] */
    struct sl_rng rng;
    uint32_t played; /* episodes */
    double loss, reward;
    uint32_t n_loss, n_reward;
    uint64_t updates, steps;
};

/* --- playing ---------------------------------------------------------------------- */

static double epsilon_of(const struct sl_tmc_learn_options *o, uint32_t episode)
{
    if (episode >= o->epsilon_episodes)
        return o->epsilon_end;
    return o->epsilon_start +
           (o->epsilon_end - o->epsilon_start) * (double)episode / (double)o->epsilon_episodes;
}

/* Rows of the acting trace from where each game stands; `at[g]` is its step. Games that are over
 * repeat their last inputs, which nobody looks at. */
static void look(struct learner *l, const struct sl_tmc_episode *episodes)
{
    for (uint32_t g = 0; g < l->n_games; g++) {
        uint32_t t = *episodes[g].length;
        const uint8_t *before = t == 0 ? NULL : episodes[g].actions + (size_t)(t - 1) * l->agents;
        l->games[g]->ops->observe(l->games[g], l->seen);
        if (t < l->max_steps)
            memcpy(episodes[g].inputs + (size_t)t * l->agents * l->inputs, l->seen,
                   (size_t)l->agents * l->inputs * sizeof(float));
        for (uint32_t n = 0; n < l->agents; n++)
            sl_tmc_fill_row(&l->net, l->seen + (size_t)n * l->inputs, before ? before[n] : -1, n,
                            l->acting.x + ((size_t)g * l->agents + n) * l->net.width);
    }
}

static bool act(struct learner *l, uint32_t g, const struct sl_tmc_episode *e, double epsilon)
{
    uint32_t t = *e->length;
    uint8_t *actions = e->actions + (size_t)t * l->agents;
    bool done;
    for (uint32_t n = 0; n < l->agents; n++) {
        const float *q = l->acting.global + ((size_t)g * l->agents + n) * l->actions;
        actions[n] = sl_rng_f64(&l->rng) < epsilon ? (uint8_t)sl_rng_below(&l->rng, l->actions)
                                                   : sl_tmc_best(q, l->actions);
    }
    double r = l->games[g]->ops->step(l->games[g], actions, &done);
    e->rewards[t] = (float)r;
    *e->length = t + 1;
    l->steps++;
    if (l->played >= l->o->episodes - l->o->episodes / 10)
        l->reward += r;
    return done || t + 1 == l->max_steps;
}

/* One episode of every game. */
static void play(struct learner *l)
{
    struct sl_tmc_episode episodes[SL_GAME_AGENTS_MAX];
    bool over[SL_GAME_AGENTS_MAX] = {false};
    double epsilon = epsilon_of(l->o, l->played);
    uint32_t running = l->n_games;
    for (uint32_t g = 0; g < l->n_games; g++) {
        episodes[g] = sl_tmc_replay_add(&l->replay);
        l->games[g]->ops->reset(l->games[g], sl_splitmix64_at(l->o->seed, l->played + g));
    }
    sl_tmc_trace_restart(&l->net, &l->acting);
    while (running > 0) {
        look(l, episodes);
        sl_tmc_net_forward(&l->net, &l->acting, 1);
        sl_tmc_trace_continue(&l->net, &l->acting, 1);
        for (uint32_t g = 0; g < l->n_games; g++)
            if (!over[g] && (over[g] = act(l, g, &episodes[g], epsilon)))
                running--;
    }
    if (l->played >= l->o->episodes - l->o->episodes / 10)
        l->n_reward += l->n_games;
    l->played += l->n_games;
}

/* --- updates ---------------------------------------------------------------------- */

static void draw_batch(struct learner *l)
{
    uint32_t batch = l->o->batch;
    size_t rows = (size_t)batch * l->agents;
    for (uint32_t b = 0; b < batch; b++) {
        struct sl_tmc_episode e =
            sl_tmc_replay_at(&l->replay, (uint32_t)sl_rng_below(&l->rng, l->replay.n));
        l->lengths[b] = *e.length;
        for (uint32_t t = 0; t < l->max_steps; t++) {
            float *x = l->online.x + ((size_t)t * rows + (size_t)b * l->agents) * l->net.width;
            uint8_t *taken = l->taken + (size_t)t * rows + (size_t)b * l->agents;
            if (t >= *e.length) {
                memset(x, 0, (size_t)l->agents * l->net.width * sizeof(*x));
                memset(taken, 0, l->agents);
                continue;
            }
            l->y[(size_t)t * batch + b] = e.rewards[t];
            memcpy(taken, e.actions + (size_t)t * l->agents, l->agents);
            for (uint32_t n = 0; n < l->agents; n++)
                sl_tmc_fill_row(&l->net, e.inputs + ((size_t)t * l->agents + n) * l->inputs,
                                t == 0 ? -1 : e.actions[(size_t)(t - 1) * l->agents + n], n,
                                x + (size_t)n * l->net.width);
        }
    }
}

/* y += gamma Q_tot^-(s', best of the online net); the last step of an episode ends it. */
static void add_future(struct learner *l)
{
    uint32_t batch = l->o->batch, a = l->actions;
    size_t rows = (size_t)batch * l->agents;
    memcpy(l->copy.x, l->online.x, l->max_steps * rows * l->net.width * sizeof(float));
    sl_tmc_trace_restart(&l->target, &l->copy);
    sl_tmc_net_forward(&l->target, &l->copy, l->max_steps);
    for (uint32_t b = 0; b < batch; b++)
        for (uint32_t t = 0; t + 1 < l->lengths[b]; t++) {
            double sum = 0;
            for (uint32_t n = 0; n < l->agents; n++) {
                size_t at = ((size_t)(t + 1) * rows + (size_t)b * l->agents + n) * a;
                sum += (double)l->copy.global[at + sl_tmc_best(l->online.global + at, a)];
            }
            l->y[(size_t)t * batch + b] += (float)(l->o->gamma * sum);
        }
}

static bool descend(struct learner *l)
{
    const struct sl_tmc_learn_options *o = l->o;
    double squares = 0, share = (double)l->played / (double)o->episodes;
    for (size_t i = 0; i < l->net.n_values; i++)
        squares += (double)l->grads[i] * (double)l->grads[i];
    double norm = sqrt(squares), clip = o->clip > 0 && norm > o->clip ? o->clip / norm : 1;
    float alpha = (float)o->alpha, eps = (float)o->eps;
    float lr = (float)(o->lr * (1 - (1 - o->lr_end) * (share < 1 ? share : 1)));
    for (size_t i = 0; i < l->net.n_values; i++) {
        float g = l->grads[i] * (float)clip;
        l->squares[i] = alpha * l->squares[i] + (1 - alpha) * g * g;
        l->net.values[i] -= lr * g / (sqrtf(l->squares[i]) + eps);
    }
    return isfinite(norm);
}

static bool update(struct learner *l)
{
    const struct sl_tmc_learn_options *o = l->o;
    const struct sl_tmc_batch_shape shape = {.steps = l->max_steps,
                                             .episodes = o->batch,
                                             .agents = l->agents,
                                             .actions = l->actions,
                                             .lengths = l->lengths};
    size_t count = shape.steps * shape.episodes * shape.agents * shape.actions;
    draw_batch(l);
    sl_tmc_trace_restart(&l->net, &l->online);
    sl_tmc_net_forward(&l->net, &l->online, l->max_steps);
    if (o->gamma > 0)
        add_future(l);
    memset(l->dq, 0, count * sizeof(float));
    memset(l->dm, 0, count * sizeof(float));
    memset(l->grads, 0, l->net.n_values * sizeof(float));
    double loss = sl_tmc_value_loss(&shape, l->online.global, l->taken, l->y, l->dq);
    if (o->confident.lambda > 0)
        sl_tmc_confident_loss(&shape, o->confident.form, o->confident.lambda, l->online.global,
                              NULL, l->dq);
    if (o->smooth.lambda > 0)
        sl_tmc_smooth_loss(&shape, o->smooth.form, o->smooth.lambda, l->online.m, l->dm);
    sl_tmc_net_backward(&l->net, &l->online, l->max_steps, l->dq, l->dm, l->grads);
    if (l->played >= o->episodes - o->episodes / 10) {
        l->loss += loss;
        l->n_loss++;
    }
    l->updates++;
    return descend(l) && isfinite(loss);
}

/* --- the whole -------------------------------------------------------------------- */

static enum sl_code check(const struct sl_tmc_learn_options *o, uint32_t n_games,
                          struct sl_err *err)
{
    if (n_games < 1 || n_games > SL_GAME_AGENTS_MAX || o->episodes < n_games)
        return sl_err_set(err, SL_E_RANGE, "team: %" PRIu32 " episodes on %" PRIu32
                          " games (1 to %u games, an episode each at least)",
                          o->episodes, n_games, SL_GAME_AGENTS_MAX);
    if (o->batch < 1 || o->replay < n_games || o->target_every < 1 || o->updates_per_episode < 1)
        return sl_err_set(err, SL_E_RANGE, "team: batch %" PRIu32 ", target_every %" PRIu32
                          ", updates_per_episode %" PRIu32 " (at least 1), replay %" PRIu32
                          " (at least the games)",
                          o->batch, o->target_every, o->updates_per_episode, o->replay);
    if (!(o->lr > 0) || !(o->alpha >= 0 && o->alpha < 1) || !(o->eps > 0) ||
        !(o->gamma >= 0 && o->gamma <= 1) || !(o->smooth.lambda >= 0) ||
        !(o->confident.lambda >= 0))
        return sl_err_set(err, SL_E_RANGE,
                          "team: lr %g, eps %g (above 0), alpha %g ([0, 1)), gamma %g ([0, 1]), "
                          "lambdas %g, %g (at least 0)",
                          o->lr, o->eps, o->alpha, o->gamma, o->smooth.lambda, o->confident.lambda);
    return SL_OK;
}

static enum sl_code set_up(struct learner *l, struct sl_err *err)
{
    const struct sl_tmc_learn_options *o = l->o;
    const struct sl_tmc_shape shape = {.n_agents = l->agents,
                                       .n_inputs = l->inputs,
                                       .n_actions = l->actions,
                                       .hidden = o->hidden,
                                       .message = o->message,
                                       .listen = o->listen};
    size_t rows = (size_t)l->max_steps * o->batch * l->agents;
    enum sl_code rc = sl_tmc_net_new(&shape, o->seed, &l->net, err);
    if (rc == SL_OK)
        rc = sl_tmc_net_new(&shape, o->seed, &l->target, err);
    if (rc == SL_OK)
        rc = sl_tmc_trace_new(&l->net, 1, l->n_games, 0, &l->acting, err);
    if (rc == SL_OK)
        rc = sl_tmc_trace_new(&l->net, l->max_steps, o->batch, 1, &l->online, err);
    if (rc == SL_OK && o->gamma > 0)
        rc = sl_tmc_trace_new(&l->net, l->max_steps, o->batch, 0, &l->copy, err);
    if (rc == SL_OK)
        rc = sl_tmc_replay_init(&l->replay, l->games[0], o->replay, err);
    if (rc != SL_OK)
        return rc;
    l->squares = sl_calloc(l->net.n_values, sizeof(float));
    l->grads = sl_calloc(l->net.n_values, sizeof(float));
    l->dq = sl_calloc(rows, l->actions * sizeof(float));
    l->dm = sl_calloc(rows, l->actions * sizeof(float));
    l->y = sl_calloc(l->max_steps, o->batch * sizeof(float));
    l->seen = sl_calloc(l->agents, l->inputs * sizeof(float));
    l->taken = sl_calloc(rows, 1);
    l->lengths = sl_calloc(o->batch, sizeof(uint32_t));
    if (l->squares == NULL || l->grads == NULL || l->dq == NULL || l->dm == NULL || l->y == NULL ||
        l->seen == NULL || l->taken == NULL || l->lengths == NULL)
        return sl_err_set(err, SL_E_NOMEM, "team: batches of %" PRIu32 " episodes", o->batch);
    return SL_OK;
}

static void tear_down(struct learner *l)
{
    sl_tmc_net_deinit(&l->net);
    sl_tmc_net_deinit(&l->target);
    sl_tmc_trace_deinit(&l->acting);
    sl_tmc_trace_deinit(&l->online);
    sl_tmc_trace_deinit(&l->copy);
    sl_tmc_replay_deinit(&l->replay);
    free(l->squares);
    free(l->grads);
    free(l->dq);
    free(l->dm);
    free(l->y);
    free(l->seen);
    free(l->taken);
    free(l->lengths);
}

static enum sl_code train(struct learner *l, struct sl_err *err)
{
    const struct sl_rng_id id = {.seed = l->o->seed, .purpose = SL_RNG_AGENT, .tensor = 3};
    uint32_t copied = 0;
    sl_rng_init(&l->rng, &id);
    while (l->played < l->o->episodes) {
        play(l);
        if (l->replay.n < l->o->batch && l->replay.n < l->replay.capacity)
            continue;
        for (uint32_t i = 0; i < l->n_games * l->o->updates_per_episode; i++)
            if (!update(l))
                return sl_err_set(err, SL_E_FAILED,
                                  "team: training diverged in update %" PRIu64, l->updates);
        if (l->played - copied >= l->o->target_every) {
            memcpy(l->target.values, l->net.values, l->net.n_values * sizeof(float));
            copied = l->played;
        }
    }
    return SL_OK;
}

enum sl_code sl_tmc_learn(const struct sl_tmc_learn_options *o, struct sl_game *const *games,
                          uint32_t n_games, struct sl_tmc_net *ret, struct sl_tmc_learned *ret_how,
                          struct sl_err *err)
{
    enum sl_code rc = check(o, n_games, err);
    if (rc != SL_OK)
        return rc;
    struct learner l = {.o = o,
                        .games = games,
                        .n_games = n_games,
                        .agents = games[0]->n_agents,
                        .inputs = games[0]->n_inputs,
                        .actions = games[0]->n_actions,
                        .max_steps = games[0]->max_steps};
    rc = set_up(&l, err);
    if (rc == SL_OK)
        rc = train(&l, err);
    if (rc == SL_OK) {
        *ret_how = (struct sl_tmc_learned){.loss = l.n_loss ? l.loss / l.n_loss : 0,
                                           .reward = l.n_reward ? l.reward / l.n_reward : 0,
                                           .updates = l.updates,
                                           .steps = l.steps};
        *ret = l.net;
        l.net = (struct sl_tmc_net){0};
    }
    tear_down(&l);
    return rc;
}
