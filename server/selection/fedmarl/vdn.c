/* SPDX-License-Identifier: Apache-2.0 */
#include "server/selection/fedmarl/vdn.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "accel/nn/optim.h"
#include "common/mem.h"
#include "common/rng.h"
#include "server/selection/fedmarl/vdn_state.h"

static enum sl_code check(const struct sl_vdn_options *o, struct sl_err *err)
{
    if (o->n_agents < 1 || o->n_agents > SL_VDN_AGENTS_MAX)
        return sl_err_set(err, SL_E_RANGE, "%u agents (1 to %u)", o->n_agents, SL_VDN_AGENTS_MAX);
    if (!(o->gamma >= 0 && o->gamma <= 1) || !(o->lr > 0) || !(o->clip_norm >= 0))
        return sl_err_set(err, SL_E_RANGE,
                          "gamma %g, lr %g, clip_norm %g (0 to 1, above 0, from 0)", o->gamma,
                          o->lr, o->clip_norm);
    if (o->credit && o->shape.n_actions > SL_QNET_ACTIONS_MAX / 2)
        return sl_err_set(err, SL_E_RANGE, "%u actions (at most %u with credit)",
                          o->shape.n_actions, SL_QNET_ACTIONS_MAX / 2);
    if (o->batch < 1 || o->warmup < o->batch || o->replay < o->warmup || o->target_every < 1)
        return sl_err_set(err, SL_E_RANGE,
                          "batch %u, warmup %u, replay %u, target_every %u (1 <= batch <= warmup "
                          "<= replay, from 1)",
                          o->batch, o->warmup, o->replay, o->target_every);
    return SL_OK;
}

static bool alloc_replay(struct sl_vdn *v)
{
    const struct sl_vdn_options *o = &v->options;
    size_t row = (size_t)o->n_agents * o->shape.n_inputs;
    v->s = sl_calloc(o->replay, row * sizeof(float));
    v->next = sl_calloc(o->replay, row * sizeof(float));
    v->actions = sl_calloc(o->replay, o->n_agents);
    v->own = sl_calloc(o->replay, o->n_agents * sizeof(float));
    v->steps = sl_calloc(o->replay, sizeof(*v->steps));
    v->grads = sl_calloc(v->net.n_values, sizeof(float));
    v->moments = sl_calloc(v->net.n_values, 2 * sizeof(float));
    return v->s != NULL && v->next != NULL && v->actions != NULL && v->own != NULL &&
           v->steps != NULL && v->grads != NULL && v->moments != NULL;
}

enum sl_code sl_vdn_new(const struct sl_vdn_options *o, struct sl_vdn **ret, struct sl_err *err)
{
    enum sl_code rc = check(o, err);
    if (rc != SL_OK)
        return rc;
    struct sl_vdn *v = sl_calloc(1, sizeof(*v));
    if (v == NULL)
        return sl_err_set(err, SL_E_NOMEM, "learner");
    v->options = *o;
    struct sl_qnet_shape shape = o->shape;
    shape.n_actions *= o->credit ? 2 : 1;
    rc = sl_qnet_new(&shape, o->seed, &v->net, err);
    if (rc == SL_OK)
        rc = sl_qnet_new(&shape, o->seed, &v->target, err);
    if (rc == SL_OK && !alloc_replay(v))
        rc = sl_err_set(err, SL_E_NOMEM, "replay of %u transitions", o->replay);
    if (rc != SL_OK) {
        sl_vdn_free(v);
        return rc;
    }
    v->adam = (struct sl_optim){.kind = SL_OPT_ADAM,
                                .lr = o->lr,
                                .beta1 = 0.9,
                                .beta2 = 0.999,
                                .eps = 1e-8,
                                .slots = {v->moments, v->moments + v->net.n_values}};
    sl_optim_start(&v->adam);
    *ret = v;
    return SL_OK;
}

void sl_vdn_free(struct sl_vdn *v)
{
    if (v == NULL)
        return;
    sl_qnet_deinit(&v->net);
    sl_qnet_deinit(&v->target);
    free(v->s);
    free(v->next);
    free(v->actions);
    free(v->own);
    free(v->steps);
    free(v->grads);
    free(v->moments);
    free(v);
}

/* With credit: F is the network in the learner's units, G is 0. */
void sl_vdn_start_from(struct sl_vdn *v, const struct sl_qnet *net)
{
    const size_t actions = v->options.shape.n_actions;
    const size_t rows = actions * v->options.shape.hidden, shared = net->n_values - rows - actions;
    const float scale = v->options.credit ? SL_VDN_CREDIT_SCALE : 1;
    float *w = v->net.values + shared, *b = v->net.values + v->net.n_values - v->net.shape.n_actions;
    memset(w, 0, (v->net.n_values - shared) * sizeof(float));
    memcpy(v->net.values, net->values, shared * sizeof(float));
    for (size_t i = 0; i < rows; i++)
        w[i] = net->values[shared + i] * scale;
    for (size_t a = 0; a < actions; a++)
        b[a] = net->values[shared + rows + a] * scale;
    memcpy(v->target.values, v->net.values, v->net.n_values * sizeof(float));
}

const struct sl_vdn_options *sl_vdn_options_of(const struct sl_vdn *v)
{
    return &v->options;
}

/* The outputs are linear in the last layer, so F + G is a network of half its rows. */
void sl_vdn_acting(const struct sl_vdn *v, struct sl_qnet *ret)
{
    const size_t hidden = v->options.shape.hidden, actions = v->options.shape.n_actions;
    const size_t rows = actions * hidden, from = v->net.n_values - v->net.shape.n_actions;
    if (!v->options.credit) {
        memcpy(ret->values, v->net.values, ret->n_values * sizeof(float));
        return;
    }
    const size_t last = from - 2 * rows; /* everything before it is as it is */
    const float *w = v->net.values + last, *b = v->net.values + from;
    memcpy(ret->values, v->net.values, last * sizeof(float));
    for (size_t i = 0; i < rows; i++)
        ret->values[last + i] = (w[i] + w[rows + i]) / SL_VDN_CREDIT_SCALE;
    for (size_t a = 0; a < actions; a++)
        ret->values[last + rows + a] = (b[a] + b[actions + a]) / SL_VDN_CREDIT_SCALE;
}

uint64_t sl_vdn_updates(const struct sl_vdn *v)
{
    return v->updates;
}

uint32_t sl_vdn_stored(const struct sl_vdn *v)
{
    return v->stored;
}

double sl_vdn_epsilon(const struct sl_vdn_options *o, uint64_t step)
{
    if (step >= o->epsilon_steps)
        return o->epsilon_end;
    return o->epsilon_start +
           (o->epsilon_end - o->epsilon_start) * ((double)step / (double)o->epsilon_steps);
}

void sl_vdn_push(struct sl_vdn *v, const struct sl_vdn_transition *t)
{
    const struct sl_vdn_options *o = &v->options;
    const size_t in = o->shape.n_inputs, row = o->n_agents * in;
    assert(t->n >= 1 && t->n <= o->n_agents);
    assert(t->done || (t->n_next >= 1 && t->n_next <= o->n_agents));
    memcpy(v->s + v->at * row, t->s, t->n * in * sizeof(float));
    if (!t->done)
        memcpy(v->next + v->at * row, t->next, t->n_next * in * sizeof(float));
    memcpy(v->actions + (size_t)v->at * o->n_agents, t->actions, t->n);
    for (uint32_t i = 0; i < t->n; i++)
        v->own[(size_t)v->at * o->n_agents + i] =
            t->own != NULL ? (float)t->own[i] * SL_VDN_CREDIT_SCALE : 0;
    v->steps[v->at] = (struct sl_vdn_step){.reward = (float)t->reward *
                                                     (o->credit ? SL_VDN_CREDIT_SCALE : 1),
                                           .n = t->n,
                                           .n_next = t->done ? 0 : t->n_next};
    v->at = (v->at + 1) % o->replay;
    if (v->stored < o->replay)
        v->stored++;
}

void sl_vdn_greedy(const float *q, uint32_t n, uint32_t n_actions, uint8_t *ret)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t best = 0;
        for (uint32_t a = 1; a < n_actions; a++)
            if (q[i * n_actions + a] > q[i * n_actions + best])
                best = a;
        ret[i] = (uint8_t)best;
    }
}

double sl_vdn_loss(const float *q, const uint8_t *actions, uint32_t n, uint32_t n_actions,
                   double y, bool huber, double scale, float *ret_dq)
{
    double total = 0;
    for (uint32_t i = 0; i < n; i++)
        total += q[i * n_actions + actions[i]];
    const double error = total - y;
    const bool linear = huber && fabs(error) > 1;
    const double slope = linear ? (error > 0 ? 1 : -1) : error;
    memset(ret_dq, 0, (size_t)n * n_actions * sizeof(float));
    for (uint32_t i = 0; i < n; i++)
        ret_dq[i * n_actions + actions[i]] = (float)(scale * slope);
    return linear ? fabs(error) - 0.5 : 0.5 * error * error;
}

/* Actions of the net that acts: by F + G. */
static void greedy(const struct sl_vdn *v, const float *q, uint32_t n, uint8_t *ret)
{
    const uint32_t actions = v->options.shape.n_actions;
    float sums[SL_VDN_AGENTS_MAX * SL_QNET_ACTIONS_MAX];
    if (!v->options.credit) {
        sl_vdn_greedy(q, n, actions, ret);
        return;
    }
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t a = 0; a < actions; a++)
            sums[i * actions + a] = q[2 * i * actions + a] + q[(2 * i + 1) * actions + a];
    sl_vdn_greedy(sums, n, actions, ret);
}

/* What the next state is worth to the team. */
static double value_of_next(const struct sl_vdn *v, uint32_t slot)
{
    const struct sl_vdn_options *o = &v->options;
    const uint32_t n = v->steps[slot].n_next, outputs = v->net.shape.n_actions;
    const float *x = v->next + (size_t)slot * o->n_agents * o->shape.n_inputs;
    float q[SL_VDN_AGENTS_MAX * SL_QNET_ACTIONS_MAX], own[SL_VDN_AGENTS_MAX * SL_QNET_ACTIONS_MAX];
    uint8_t best[SL_VDN_AGENTS_MAX];
    double sum = 0;
    sl_qnet_forward(&v->target, x, n, q);
    if (o->double_q)
        sl_qnet_forward(&v->net, x, n, own);
    greedy(v, o->double_q ? own : q, n, best);
    for (uint32_t i = 0; i < n; i++)
        sum += q[i * outputs + best[i]];
    return sum;
}

/* Squared loss of each agent's G of its action against its own reward; adds to dq. */
static double own_loss(const struct sl_vdn *v, uint32_t slot, const float *q, float *dq)
{
    const struct sl_vdn_options *o = &v->options;
    const uint32_t outputs = v->net.shape.n_actions;
    double loss = 0;
    for (uint32_t i = 0; i < v->steps[slot].n; i++) {
        const size_t at = (size_t)slot * o->n_agents + i;
        const uint32_t place = i * outputs + o->shape.n_actions + v->actions[at];
        const double error = (double)q[place] - v->own[at];
        dq[place] = (float)(error / o->batch);
        loss += 0.5 * error * error;
    }
    return loss;
}

/* Adds the gradient of one transition; returns its loss. */
static double learn_from(struct sl_vdn *v, uint32_t slot)
{
    const struct sl_vdn_options *o = &v->options;
    const struct sl_vdn_step *step = &v->steps[slot];
    const uint32_t outputs = v->net.shape.n_actions;
    const float *x = v->s + (size_t)slot * o->n_agents * o->shape.n_inputs;
    float q[SL_VDN_AGENTS_MAX * SL_QNET_ACTIONS_MAX], dq[SL_VDN_AGENTS_MAX * SL_QNET_ACTIONS_MAX];
    double y = step->reward;
    if (step->n_next > 0)
        y += o->gamma * value_of_next(v, slot);
    sl_qnet_forward(&v->net, x, step->n, q);
    double loss = sl_vdn_loss(q, v->actions + (size_t)slot * o->n_agents, step->n, outputs, y,
                              o->huber, 1.0 / o->batch, dq);
    if (o->credit)
        loss += own_loss(v, slot, q, dq);
    for (uint32_t i = 0; i < step->n; i++)
        sl_qnet_backward(&v->net, x + (size_t)i * o->shape.n_inputs, dq + i * outputs, v->grads);
    return loss;
}

static void clip(struct sl_vdn *v)
{
    double norm = sqrt(v->net.ops.dot(v->grads, v->grads, v->net.n_values));
    if (v->options.clip_norm > 0 && norm > v->options.clip_norm)
        v->net.ops.affine((float)(v->options.clip_norm / norm), 0, v->grads, v->grads,
                          v->net.n_values);
}

bool sl_vdn_update(struct sl_vdn *v, double *ret_loss)
{
    const struct sl_vdn_options *o = &v->options;
    if (v->stored < o->warmup)
        return false;
    struct sl_rng rng;
    sl_rng_init(&rng, &(struct sl_rng_id){.seed = o->seed,
                                          .purpose = SL_RNG_AGENT,
                                          .client = 1,
                                          .round = (uint32_t)v->updates,
                                          .step = (uint32_t)(v->updates >> 32)});
    memset(v->grads, 0, v->net.n_values * sizeof(float));
    double loss = 0;
    for (uint32_t i = 0; i < o->batch; i++)
        loss += learn_from(v, (uint32_t)sl_rng_below(&rng, v->stored));
    clip(v);
    sl_optim_step(&v->adam, &v->net.ops, v->net.values, v->grads, v->net.n_values);
    v->updates++;
    if (v->updates % o->target_every == 0)
        memcpy(v->target.values, v->net.values, v->net.n_values * sizeof(float));
    *ret_loss = loss / o->batch;
    return true;
}
