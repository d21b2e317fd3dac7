/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/policy/tmc_net.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "accel/kernels/fmath.h"
#include "common/mem.h"
#include "common/rng.h"

#define LEAK 0.01f

/* --- values ----------------------------------------------------------------------- */

static struct sl_tmc_block block(struct sl_tmc_net *n, uint32_t out, uint32_t in)
{
    struct sl_tmc_block b = {.w = n->n_values, .out = out, .in = in};
    b.b = b.w + (size_t)out * in;
    n->n_values = b.b + out;
    return b;
}

static void lay_out(struct sl_tmc_net *n)
{
    uint32_t h = n->shape.hidden, a = n->shape.n_actions;
    n->width = n->shape.n_inputs + a + n->shape.n_agents;
    n->fc = block(n, h, n->width);
    n->gru_i = block(n, 3 * h, h);
    n->gru_h = block(n, 3 * h, h);
    n->q = block(n, a, h);
    if (n->shape.message == SL_TMC_MESSAGE_MLP) {
        n->m1 = block(n, h, h);
        n->m2 = block(n, a, h);
    } else {
        n->m1 = block(n, a, h);
        n->cell_i = block(n, 3 * a, a);
        n->cell_h = block(n, 3 * a, a);
    }
}

static void draw(struct sl_tmc_net *n, const struct sl_tmc_block *b, uint32_t fan, struct sl_rng *r)
{
    float bound = 1.0f / sqrtf((float)fan);
    for (size_t i = b->w; i < b->b + b->out; i++)
        n->values[i] = (2.0f * sl_rng_f32(r) - 1.0f) * bound;
}

static void draw_all(struct sl_tmc_net *n, uint64_t seed)
{
    struct sl_rng rng;
    const struct sl_rng_id id = {.seed = seed, .purpose = SL_RNG_AGENT, .tensor = 2};
    uint32_t h = n->shape.hidden, a = n->shape.n_actions;
    sl_rng_init(&rng, &id);
    draw(n, &n->fc, n->width, &rng);
    draw(n, &n->gru_i, h, &rng);
    draw(n, &n->gru_h, h, &rng);
    draw(n, &n->q, h, &rng);
    draw(n, &n->m1, h, &rng);
    if (n->shape.message == SL_TMC_MESSAGE_MLP) {
        draw(n, &n->m2, h, &rng);
    } else {
        draw(n, &n->cell_i, a, &rng);
        draw(n, &n->cell_h, a, &rng);
    }
}

static enum sl_code check(const struct sl_tmc_shape *s, struct sl_err *err)
{
    if (s->n_agents < 2 || s->n_agents > SL_GAME_AGENTS_MAX || s->n_inputs < 1 ||
        s->n_inputs > SL_GAME_INPUTS_MAX || s->n_actions < 2 || s->n_actions > SL_GAME_ACTIONS_MAX)
        return sl_err_set(err, SL_E_RANGE,
                          "team: %u agents (2 to %u), %u inputs (1 to %u), %u actions (2 to %u)",
                          s->n_agents, SL_GAME_AGENTS_MAX, s->n_inputs, SL_GAME_INPUTS_MAX,
                          s->n_actions, SL_GAME_ACTIONS_MAX);
    if (s->hidden < 1 || s->hidden > SL_TMC_HIDDEN_MAX)
        return sl_err_set(err, SL_E_RANGE, "team: hidden width %u (1 to %u)", s->hidden,
                          SL_TMC_HIDDEN_MAX);
    return SL_OK;
}

enum sl_code sl_tmc_net_new(const struct sl_tmc_shape *shape, uint64_t seed,
                            struct sl_tmc_net *ret, struct sl_err *err)
{
    enum sl_code rc = check(shape, err);
    if (rc != SL_OK)
        return rc;
    struct sl_tmc_net n = {.shape = *shape};
    lay_out(&n);
    n.values = sl_calloc(n.n_values, sizeof(*n.values));
    if (n.values == NULL)
        return sl_err_set(err, SL_E_NOMEM, "team: %zu values", n.n_values);
    draw_all(&n, seed);
    *ret = n;
    return SL_OK;
}

void sl_tmc_net_deinit(struct sl_tmc_net *n)
{
    if (n == NULL)
        return;
    free(n->values);
    *n = (struct sl_tmc_net){0};
}

/* --- traces ----------------------------------------------------------------------- */

/* Takes `count` floats from *at, or only counts them while memory is NULL. */
static float *take(float *memory, size_t *at, size_t count)
{
    float *p = memory == NULL ? NULL : memory + *at;
    *at += (count + 15) / 16 * 16;
    return p;
}

static size_t take_gru(float *memory, size_t at, size_t cells, size_t rows, size_t hidden,
                       struct sl_gru_trace *t)
{
    t->gates = take(memory, &at, 3 * cells * hidden);
    t->inner = take(memory, &at, cells * hidden);
    t->h = take(memory, &at, (cells + rows) * hidden);
    t->step = take(memory, &at, 3 * rows * hidden);
    return at;
}

static size_t cut_up(const struct sl_tmc_net *n, struct sl_tmc_trace *t, float *memory, int back)
{
    size_t h = n->shape.hidden, a = n->shape.n_actions, at = 0;
    size_t rows = t->groups * n->shape.n_agents, cells = t->steps * rows;
    bool mlp = n->shape.message == SL_TMC_MESSAGE_MLP;
    t->x = take(memory, &at, cells * n->width);
    t->a = take(memory, &at, cells * h);
    at = take_gru(memory, at, cells, rows, h, &t->gru);
    t->m1 = take(memory, &at, cells * n->m1.out);
    t->local = take(memory, &at, cells * a);
    t->global = take(memory, &at, cells * a);
    if (mlp)
        t->m = take(memory, &at, cells * a);
    else
        at = take_gru(memory, at, cells, rows, a, &t->cell);
    if (!back)
        return at;
    t->dm = take(memory, &at, cells * a);
    t->dm1 = take(memory, &at, cells * n->m1.out);
    t->dc = take(memory, &at, cells * h);
    t->da = take(memory, &at, cells * h);
    t->di = take(memory, &at, 3 * cells * h);
    t->dr = take(memory, &at, 3 * cells * h);
    t->di2 = take(memory, &at, mlp ? 0 : 3 * cells * a);
    t->dr2 = take(memory, &at, mlp ? 0 : 3 * cells * a);
    return at;
}

enum sl_code sl_tmc_trace_new(const struct sl_tmc_net *n, size_t steps, size_t groups, int way_back,
                              struct sl_tmc_trace *ret, struct sl_err *err)
{
    struct sl_tmc_trace t = {.steps = steps, .groups = groups};
    size_t need = cut_up(n, &t, NULL, way_back);
    t.memory = sl_calloc(need, sizeof(*t.memory));
    if (t.memory == NULL)
        return sl_err_set(err, SL_E_NOMEM, "team: a pass of %zu steps, %zu groups", steps, groups);
    cut_up(n, &t, t.memory, way_back);
    *ret = t;
    return SL_OK;
}

void sl_tmc_trace_deinit(struct sl_tmc_trace *t)
{
    if (t == NULL)
        return;
    free(t->memory);
    *t = (struct sl_tmc_trace){0};
}

void sl_tmc_fill_row(const struct sl_tmc_net *n, const float *observation, int last, uint32_t agent,
                     float *ret)
{
    uint32_t inputs = n->shape.n_inputs, actions = n->shape.n_actions;
    memcpy(ret, observation, inputs * sizeof(*ret));
    memset(ret + inputs, 0, (n->width - inputs) * sizeof(*ret));
    if (last >= 0)
        ret[inputs + (uint32_t)last] = 1;
    ret[inputs + actions + agent] = 1;
}

/* The states before step `at` of the trace go to its start; steps 0: zeros. */
static void set_start(const struct sl_tmc_net *n, struct sl_tmc_trace *t, size_t at)
{
    size_t rows = t->groups * n->shape.n_agents;
    float *const states[] = {t->gru.h, t->cell.h};
    const size_t widths[] = {n->shape.hidden, n->shape.n_actions};
    for (int i = 0; i < 2; i++) {
        size_t area = rows * widths[i];
        if (states[i] == NULL)
            continue;
        if (at == 0)
            memset(states[i], 0, area * sizeof(float));
        else
            memcpy(states[i], states[i] + at * area, area * sizeof(float));
    }
}

void sl_tmc_trace_restart(const struct sl_tmc_net *n, struct sl_tmc_trace *t)
{
    set_start(n, t, 0);
}

void sl_tmc_trace_continue(const struct sl_tmc_net *n, struct sl_tmc_trace *t, size_t steps)
{
    set_start(n, t, steps);
}

/* --- forward ---------------------------------------------------------------------- */

static void dense(const struct sl_tmc_net *n, const struct sl_tmc_block *b, size_t cells,
                  const float *x, float *y)
{
    sl_affine_forward(cells, b->in, b->out, n->values + b->w, n->values + b->b, x, y);
}

static struct sl_gru gru_of(const struct sl_tmc_net *n, const struct sl_tmc_block *i,
                            const struct sl_tmc_block *h)
{
    return (struct sl_gru){.in = i->in,
                           .hidden = h->in,
                           .wi = n->values + i->w,
                           .bi = n->values + i->b,
                           .wh = n->values + h->w,
                           .bh = n->values + h->b};
}

static void speak(const struct sl_tmc_net *n, struct sl_tmc_trace *t, size_t steps, size_t rows,
                  const float *c)
{
    size_t cells = steps * rows, count = cells * n->m1.out;
    dense(n, &n->m1, cells, c, t->m1);
    if (n->shape.message == SL_TMC_MESSAGE_MLP) {
        for (size_t i = 0; i < count; i++)
            t->m1[i] = t->m1[i] > 0 ? t->m1[i] : LEAK * t->m1[i];
        dense(n, &n->m2, cells, t->m1, t->m);
        return;
    }
    for (size_t i = 0; i < count; i++)
        t->m1[i] = t->m1[i] > 0 ? t->m1[i] : sl_expf(t->m1[i]) - 1.0f;
    struct sl_gru cell = gru_of(n, &n->cell_i, &n->cell_h);
    sl_gru_forward(&cell, steps, rows, t->m1, &t->cell);
    t->m = t->cell.h + rows * n->shape.n_actions;
}

static float weight_of(const struct sl_tmc_shape *s)
{
    switch (s->listen) {
    case SL_TMC_LISTEN_MEAN:
        return 1.0f / (float)(s->n_agents - 1);
    case SL_TMC_LISTEN_SUM:
        return 1;
    case SL_TMC_LISTEN_MUTE:
        break;
    }
    return 0;
}

/* to[row] += weight * sum of from over the other agents of its group. Its own transpose. */
static void exchange(const struct sl_tmc_shape *s, size_t n_groups, const float *from, float *to)
{
    size_t agents = s->n_agents, a = s->n_actions;
    float weight = weight_of(s);
    for (size_t g = 0; g < n_groups; g++) {
        const float *f = from + g * agents * a;
        float *d = to + g * agents * a;
        for (size_t k = 0; k < a; k++) {
            float sum = 0;
            for (size_t i = 0; i < agents; i++)
                sum += f[i * a + k];
            for (size_t i = 0; i < agents; i++)
                d[i * a + k] += weight * (sum - f[i * a + k]);
        }
    }
}

void sl_tmc_net_forward(const struct sl_tmc_net *n, struct sl_tmc_trace *t, size_t steps)
{
    size_t rows = t->groups * n->shape.n_agents, cells = steps * rows, h = n->shape.hidden;
    struct sl_gru gru = gru_of(n, &n->gru_i, &n->gru_h);
    dense(n, &n->fc, cells, t->x, t->a);
    for (size_t i = 0; i < cells * h; i++)
        t->a[i] = t->a[i] > 0 ? t->a[i] : 0;
    sl_gru_forward(&gru, steps, rows, t->a, &t->gru);
    const float *c = t->gru.h + rows * h;
    dense(n, &n->q, cells, c, t->local);
    speak(n, t, steps, rows, c);
    memcpy(t->global, t->local, cells * n->shape.n_actions * sizeof(float));
    exchange(&n->shape, steps * t->groups, t->m, t->global);
}

/* --- backward --------------------------------------------------------------------- */

static void dense_back(const struct sl_tmc_net *n, const struct sl_tmc_block *b, size_t cells,
                       const float *x, const float *dy, float *grads, float *dx, int add_dx)
{
    sl_affine_backward(cells, b->in, b->out, n->values + b->w, x, dy, grads + b->w, grads + b->b, dx,
                      add_dx);
}

static struct sl_gru_grads grads_of(float *grads, const struct sl_tmc_block *i,
                                    const struct sl_tmc_block *h)
{
    return (struct sl_gru_grads){grads + i->w, grads + i->b, grads + h->w, grads + h->b};
}

/* From t->dm to t->dc (added). */
static void speak_back(const struct sl_tmc_net *n, struct sl_tmc_trace *t, size_t steps,
                       size_t rows, const float *c, float *grads)
{
    size_t cells = steps * rows, count = cells * n->m1.out;
    if (n->shape.message == SL_TMC_MESSAGE_MLP) {
        dense_back(n, &n->m2, cells, t->m1, t->dm, grads, t->dm1, 0);
        for (size_t i = 0; i < count; i++)
            t->dm1[i] *= t->m1[i] > 0 ? 1.0f : LEAK;
    } else {
        struct sl_gru cell = gru_of(n, &n->cell_i, &n->cell_h);
        struct sl_gru_grads g = grads_of(grads, &n->cell_i, &n->cell_h);
        sl_gru_backward(&cell, steps, rows, t->m1, &t->cell, t->dm, t->di2, t->dr2, &g, t->dm1);
        for (size_t i = 0; i < count; i++) /* ELU' = exp(x) = ELU + 1 below 0 */
            t->dm1[i] *= t->m1[i] > 0 ? 1.0f : t->m1[i] + 1.0f;
    }
    dense_back(n, &n->m1, cells, c, t->dm1, grads, t->dc, 1);
}

void sl_tmc_net_backward(const struct sl_tmc_net *n, struct sl_tmc_trace *t, size_t steps,
                         const float *dglobal, const float *dmessage, float *grads)
{
    size_t rows = t->groups * n->shape.n_agents, cells = steps * rows, h = n->shape.hidden;
    size_t messages = cells * n->shape.n_actions;
    const float *c = t->gru.h + rows * h;
    memset(t->dm, 0, messages * sizeof(float));
    exchange(&n->shape, steps * t->groups, dglobal, t->dm);
    for (size_t i = 0; i < messages; i++)
        t->dm[i] += dmessage[i];
    dense_back(n, &n->q, cells, c, dglobal, grads, t->dc, 0);
    speak_back(n, t, steps, rows, c, grads);
    struct sl_gru gru = gru_of(n, &n->gru_i, &n->gru_h);
    struct sl_gru_grads g = grads_of(grads, &n->gru_i, &n->gru_h);
    sl_gru_backward(&gru, steps, rows, t->a, &t->gru, t->dc, t->di, t->dr, &g, t->da);
    for (size_t i = 0; i < cells * h; i++)
        t->da[i] = t->a[i] > 0 ? t->da[i] : 0;
    dense_back(n, &n->fc, cells, t->x, t->da, grads, NULL, 0);
}

uint8_t sl_tmc_best(const float *q, uint32_t n_actions)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < n_actions; i++)
        best = q[i] > q[best] ? i : best;
    return (uint8_t)best;
}
