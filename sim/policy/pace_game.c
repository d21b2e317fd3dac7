/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/policy/pace_game.h"

#include <math.h>
#include <stdlib.h>

#include "common/mem.h"
#include "common/rng.h"

struct pace {
    struct sl_game game; /* first: what the table's functions get */
    struct sl_pace_options o;
    struct sl_rng rng;
    uint32_t step;
    double common, own[SL_GAME_AGENTS_MAX];
    double delay[SL_GAME_AGENTS_MAX]; /* y_n of the next step */
};

static struct pace *of(struct sl_game *g)
{
    return (struct pace *)g;
}

static const struct pace *of_const(const struct sl_game *g)
{
    return (const struct pace *)g;
}

static void measure(struct pace *p)
{
    double limit = (double)SL_GAME_INPUT_LIMIT;
    for (uint32_t n = 0; n < p->o.n_agents; n++) {
        double y = p->common + p->own[n] + p->o.jitter * sl_rng_normal(&p->rng);
        p->delay[n] = y > limit ? limit : y < -limit ? -limit : y;
    }
}

static double drift(struct pace *p, double x, double sd)
{
    double m = p->o.memory;
    return m * x + sqrt(1 - m * m) * sd * sl_rng_normal(&p->rng);
}

static void move(struct pace *p)
{
    if (sl_rng_f64(&p->rng) < p->o.jump)
        p->common = p->o.common * sl_rng_normal(&p->rng);
    else
        p->common = drift(p, p->common, p->o.common);
    for (uint32_t n = 0; n < p->o.n_agents; n++)
        p->own[n] = drift(p, p->own[n], p->o.own);
}

static void pace_reset(struct sl_game *g, uint64_t seed)
{
    struct pace *p = of(g);
    const struct sl_rng_id id = {.seed = seed, .purpose = SL_RNG_AGENT, .tensor = 1};
    sl_rng_init(&p->rng, &id);
    p->step = 0;
    p->common = p->o.common * sl_rng_normal(&p->rng);
    for (uint32_t n = 0; n < p->o.n_agents; n++)
        p->own[n] = p->o.own * sl_rng_normal(&p->rng);
    measure(p);
}

static void pace_observe(const struct sl_game *g, float *ret)
{
    const struct pace *p = of_const(g);
    for (uint32_t n = 0; n < p->o.n_agents; n++)
        ret[n] = (float)p->delay[n];
}

static double mean_delay(const struct pace *p)
{
    double sum = 0;
    for (uint32_t n = 0; n < p->o.n_agents; n++)
        sum += p->delay[n];
    return sum / p->o.n_agents;
}

static double pace_step(struct sl_game *g, const uint8_t *actions, bool *ret_done)
{
    struct pace *p = of(g);
    double mean = mean_delay(p), sum = 0;
    for (uint32_t n = 0; n < p->o.n_agents; n++)
        sum += actions[n] == 1 ? mean - p->delay[n] : 0;
    move(p);
    measure(p);
    *ret_done = ++p->step == p->o.steps;
    return p->o.gain * sum;
}

double sl_pace_best(const struct sl_game *g)
{
    const struct pace *p = of_const(g);
    double mean = mean_delay(p), sum = 0;
    for (uint32_t n = 0; n < p->o.n_agents; n++)
        sum += p->delay[n] < mean ? mean - p->delay[n] : 0;
    return p->o.gain * sum;
}

static void pace_free(struct sl_game *g)
{
    free(g);
}

static const struct sl_game_ops ops = {.name = "pace",
                                       .reset = pace_reset,
                                       .observe = pace_observe,
                                       .step = pace_step,
                                       .free = pace_free};

static enum sl_code check(const struct sl_pace_options *o, struct sl_err *err)
{
    if (o->n_agents < 2 || o->n_agents > SL_GAME_AGENTS_MAX)
        return sl_err_set(err, SL_E_RANGE, "pace game: %u agents (2 to %u)", o->n_agents,
                          SL_GAME_AGENTS_MAX);
    if (o->steps < 1)
        return sl_err_set(err, SL_E_RANGE, "pace game: 0 steps (at least 1)");
    if (!(o->common >= 0 && o->own >= 0 && o->jitter >= 0 && o->gain > 0))
        return sl_err_set(err, SL_E_RANGE,
                          "pace game: common %g, own %g, jitter %g (at least 0), gain %g (above 0)",
                          o->common, o->own, o->jitter, o->gain);
    if (!(o->memory >= 0 && o->memory < 1 && o->jump >= 0 && o->jump <= 1))
        return sl_err_set(err, SL_E_RANGE, "pace game: memory %g ([0, 1)), jump %g ([0, 1])",
                          o->memory, o->jump);
    return SL_OK;
}

enum sl_code sl_pace_game_new(const struct sl_pace_options *o, struct sl_game **ret,
                              struct sl_err *err)
{
    enum sl_code rc = check(o, err);
    if (rc != SL_OK)
        return rc;
    struct pace *p = sl_calloc(1, sizeof(*p));
    if (p == NULL)
        return sl_err_set(err, SL_E_NOMEM, "pace game");
    p->game = (struct sl_game){
        .ops = &ops, .n_agents = o->n_agents, .n_actions = 2, .n_inputs = 1, .max_steps = o->steps};
    p->o = *o;
    pace_reset(&p->game, 0);
    *ret = &p->game;
    return SL_OK;
}
