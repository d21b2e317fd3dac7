/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/policy/usual.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "common/mem.h"
#include "common/rng.h"
#include "server/selection/fedmarl/vdn.h"

#define USUAL 0x757375616cull /* keeps the seeds apart from other uses */
#define LOW 0.01              /* quantiles of inputs, and of the gap */
#define HIGH 0.99
#define GAP 0.05

struct gathering {
    float *values; /* [n_inputs + 1, capacity]: inputs, then gaps */
    size_t n, capacity;
    size_t go;
};

static int ascending(const void *pa, const void *pb)
{
    float a = *(const float *)pa, b = *(const float *)pb;
    return (a > b) - (a < b);
}

static void gather(struct gathering *r, const struct sl_game *g, const float *x, const float *q)
{
    for (uint32_t i = 0; i < g->n_agents && r->n < r->capacity; i++, r->n++) {
        for (uint32_t k = 0; k < g->n_inputs; k++)
            r->values[k * r->capacity + r->n] = x[i * g->n_inputs + k];
        r->values[g->n_inputs * r->capacity + r->n] = fabsf(q[2 * i + 1] - q[2 * i]);
        r->go += q[2 * i + 1] > q[2 * i];
    }
}

static void play(struct sl_game *g, const struct sl_qnet *net, uint64_t seed, struct gathering *r)
{
    float x[SL_GAME_AGENTS_MAX * SL_FEDMARL_INPUTS_MAX], q[SL_GAME_AGENTS_MAX * 2];
    uint8_t actions[SL_GAME_AGENTS_MAX];
    bool done = false;
    g->ops->reset(g, seed);
    while (!done) {
        g->ops->observe(g, x);
        sl_qnet_forward(net, x, g->n_agents, q);
        sl_vdn_greedy(q, g->n_agents, 2, actions);
        gather(r, g, x, q);
        g->ops->step(g, actions, &done);
    }
}

/* Of a column, which is sorted then. */
static float quantile(struct gathering *r, uint32_t column, double q)
{
    float *x = r->values + column * r->capacity;
    qsort(x, r->n, sizeof(float), ascending);
    return x[(size_t)(q * (double)(r->n - 1))];
}

enum sl_code sl_policy_usual(struct sl_game *g, const struct sl_qnet *net, uint64_t seed,
                             uint32_t episodes, struct sl_fedmarl_usual *ret, struct sl_err *err)
{
    assert(g->n_actions == 2 && g->n_inputs <= SL_FEDMARL_INPUTS_MAX && episodes > 0);
    struct gathering r = {.capacity = (size_t)episodes * g->max_steps * g->n_agents};
    struct sl_fedmarl_usual u = {.known = true};
    r.values = sl_calloc(r.capacity, (g->n_inputs + 1) * sizeof(float));
    if (r.values == NULL)
        return sl_err_set(err, SL_E_NOMEM, "states of %u episodes", episodes);
    for (uint32_t e = 0; e < episodes; e++)
        play(g, net, sl_splitmix64_at(seed ^ USUAL, e), &r);
    for (uint32_t k = 0; k < g->n_inputs; k++) {
        u.lo[k] = quantile(&r, k, LOW);
        u.hi[k] = quantile(&r, k, HIGH);
    }
    u.gap = quantile(&r, g->n_inputs, GAP);
    u.fair = (double)r.go / (double)r.n;
    free(r.values);
    *ret = u;
    return SL_OK;
}
