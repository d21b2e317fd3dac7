/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/attack/cmarl/craft.h"

#include <math.h>
#include <string.h>

#include "sim/attack/cmarl/jacobian.h"

struct crafting {
    const struct sl_qnet *net;
    const struct sl_craft_options *o;
    const struct sl_craft_range *range;
    const float *from;
    uint32_t target, n;
    float x[SL_QNET_INPUTS_MAX];
    double of_target[SL_QNET_INPUTS_MAX], of_others[SL_QNET_INPUTS_MAX];
    double of_lead[SL_QNET_INPUTS_MAX];
    float *best;
    struct sl_craft_result *result;
};

double sl_craft_lead(const struct sl_qnet *net, const float *x, uint32_t target)
{
    float q[SL_QNET_ACTIONS_MAX];
    double other = -INFINITY;
    sl_qnet_forward(net, x, 1, q);
    for (uint32_t a = 0; a < net->shape.n_actions; a++)
        if (a != target && q[a] > other)
            other = q[a];
    return q[target] - other;
}

static void slopes(struct crafting *c)
{
    const uint32_t n_actions = c->net->shape.n_actions;
    double x[SL_QNET_INPUTS_MAX], j[SL_QNET_ACTIONS_MAX * SL_QNET_INPUTS_MAX];
    double q[SL_QNET_ACTIONS_MAX];
    uint32_t rival = c->target == 0 ? 1 : 0;
    for (uint32_t i = 0; i < c->n; i++)
        x[i] = c->x[i];
    sl_cmarl_jacobian(c->net, x, q, j);
    for (uint32_t a = 0; a < n_actions; a++)
        if (a != c->target && q[a] > q[rival])
            rival = a;
    for (uint32_t i = 0; i < c->n; i++) {
        c->of_lead[i] = j[c->target * c->n + i] - j[rival * c->n + i];
        c->of_target[i] = j[c->target * c->n + i];
        c->of_others[i] = 0;
        for (uint32_t a = 0; a < n_actions; a++)
            c->of_others[i] += a == c->target ? 0 : j[a * c->n + i];
    }
}

/* Can input i move that way? */
static bool is_free(const struct crafting *c, uint32_t i, bool up)
{
    return c->range->lo[i] < c->range->hi[i] &&
           (up ? c->x[i] < c->range->hi[i] : c->x[i] > c->range->lo[i]);
}

/* Moves by at most theta, and not beyond the legal range. */
static void move(struct crafting *c, uint32_t i, bool up, double theta)
{
    if (!is_free(c, i, up))
        return;
    float x = (float)(c->x[i] + (up ? theta : -theta));
    const float lo = c->range->lo[i], hi = c->range->hi[i];
    c->x[i] = x < lo ? lo : x > hi ? hi : x;
}

/* Every free input by theta along the sign of its slope. */
static void sign_step(struct crafting *c, const double *slope, double theta)
{
    for (uint32_t i = 0; i < c->n; i++)
        if (slope[i] != 0)
            move(c, i, slope[i] > 0, theta);
}

static void jsma_step(struct crafting *c, double theta)
{
    double most = 0;
    uint32_t p = 0, q = 0;
    bool up = false;
    for (uint32_t i = 0; i < c->n; i++)
        for (uint32_t k = i + 1; k < c->n; k++) {
            const double alpha = c->of_target[i] + c->of_target[k];
            const double beta = c->of_others[i] + c->of_others[k];
            const double saliency = alpha * beta < 0 ? fabs(alpha) * fabs(beta) : 0;
            if (saliency > most && is_free(c, i, alpha > 0) && is_free(c, k, alpha > 0)) {
                most = saliency;
                p = i;
                q = k;
                up = alpha > 0;
            }
        }
    if (most == 0) {
        sign_step(c, c->of_target, theta);
        return;
    }
    move(c, p, up, theta);
    move(c, q, up, theta);
}

/* Takes over x when it is the best so far; true when it is enough. */
static bool judge(struct crafting *c, uint32_t iterations, double theta)
{
    const double lead = sl_craft_lead(c->net, c->x, c->target);
    const bool hit = lead > c->o->margin;
    if (!hit && lead <= c->result->lead)
        return false;
    double l1 = 0;
    for (uint32_t i = 0; i < c->n; i++)
        l1 += fabs((double)c->x[i] - c->from[i]);
    memcpy(c->best, c->x, c->n * sizeof(float));
    *c->result = (struct sl_craft_result){
        .hit = hit, .lead = lead, .iterations = iterations, .theta = theta, .l1 = l1};
    return hit;
}

static bool attempt(struct crafting *c, enum sl_craft_method method, double theta)
{
    memcpy(c->x, c->from, c->n * sizeof(float));
    for (uint32_t k = 1; k <= c->o->iterations; k++) {
        slopes(c);
        if (method == SL_CRAFT_FGSM)
            sign_step(c, c->of_target, theta);
        else if (method == SL_CRAFT_ANY)
            sign_step(c, c->of_lead, theta);
        else
            jsma_step(c, theta);
        if (judge(c, k, theta))
            return true;
    }
    return false;
}

void sl_craft(const struct sl_qnet *net, const struct sl_craft_options *o,
              const struct sl_craft_range *range, const float *from, uint32_t target, float *ret_x,
              struct sl_craft_result *ret)
{
    struct crafting c = {.net = net,
                         .o = o,
                         .range = range,
                         .from = from,
                         .target = target,
                         .n = net->shape.n_inputs,
                         .best = ret_x,
                         .result = ret};
    *ret = (struct sl_craft_result){.lead = -INFINITY};
    memcpy(c.x, from, c.n * sizeof(float));
    if (judge(&c, 0, 0))
        return;
    const bool fixed = o->method == SL_CRAFT_FGSM || o->method == SL_CRAFT_JSMA;
    const double most = fixed ? o->step : o->step_most;
    const enum sl_craft_method first = o->method == SL_CRAFT_ANY ? SL_CRAFT_DJSMA : o->method;
    for (double theta = o->step; theta <= most; theta *= 2)
        if (attempt(&c, first, theta))
            return;
    for (double theta = o->step; o->method == SL_CRAFT_ANY && theta <= most; theta *= 2)
        if (attempt(&c, SL_CRAFT_ANY, theta))
            return;
}
