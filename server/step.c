/* SPDX-License-Identifier: Apache-2.0 */
/* The next model: the mean of the exact sum, or what a robust rule makes of the single updates, then
 * the strategy's step, tile by tile.
 *
 * Floats of the sum's memory afterwards: n_all values of the model (those that travel, then a fixed head),
 * then n_values control variates, if the strategy has them. A tile is written where sums have been
 * read: its floats end before the sums of later tiles begin. */
#include <stdlib.h>
#include <string.h>

#include "server/core.h"

float *step_next(const struct run *r)
{
    return (float *)r->sum.q;
}

static bool has_variates(const struct run *r)
{
    return r->strategy->vectors > 1;
}

/* In member order: sums in double have one order. */
static struct sl_step facts(const struct run *r)
{
    struct sl_step s = {.plan = &r->plan, .round = r->round.number};
    double weight = 0;
    for (size_t i = 0; i < r->round.n_members; i++) {
        const struct sl_update_meta *m = &r->uploads[i].meta;
        if (r->round.members[i].state != SL_MEMBER_ACCEPTED)
            continue;
        weight += (double)m->weight;
        s.mean_steps += (double)m->weight * (double)m->steps;
    }
    s.mean_steps = weight > 0 ? s.mean_steps / weight : 0;
    s.share = weight < (double)r->all_weight ? weight / (double)r->all_weight : 1;
    return s;
}

static void step_tile(struct run *r, const struct sl_step *s, size_t at, size_t n, const float *mean)
{
    float *next = step_next(r) + at;
    float *state = r->state == NULL ? NULL : r->state + at * r->strategy->state_per_value;
    memcpy(next, r->values + at, n * sizeof(*next));
    r->strategy->step(s, next, mean, n, state);
}

static void step_variates(struct run *r, const struct sl_step *s, size_t at, size_t n,
                          const float *mean)
{
    float *next = step_next(r) + r->n_all + at;
    memcpy(next, r->sent + r->n_values + at, n * sizeof(*next));
    r->strategy->step_variates(s, next, mean, n);
}

static size_t tile_at(const struct run *r, size_t at)
{
    return r->n_values - at < TILE_VALUES ? r->n_values - at : TILE_VALUES;
}

static void step_by_sum(struct run *r, const struct sl_step *s, float *mean)
{
    for (size_t at = 0; at < r->n_values; at += TILE_VALUES) {
        size_t n = tile_at(r, at);
        sl_sum_mean_tile(&r->sum, at, n, mean);
        step_tile(r, s, at, n, mean);
    }
    for (size_t at = 0; has_variates(r) && at < r->n_values; at += TILE_VALUES) {
        size_t n = tile_at(r, at);
        sl_sum_mean_tile(&r->sum, r->n_values + at, n, mean);
        step_variates(r, s, at, n, mean);
    }
}

static enum sl_code step_by_rule(struct run *r, const struct sl_step *s, float *mean,
                                 struct sl_err *err)
{
    struct spooled updates = {0};
    struct sl_robust robust = {0};
    size_t n = 0;
    enum sl_code rc = spooled_open(r, &updates, err);
    if (rc == SL_OK)
        rc = sl_robust_init(&robust, r->strategy->rule, &r->plan, &updates.source, err);
    for (size_t at = 0; rc == SL_OK && at < r->n_values; at += n) {
        rc = sl_robust_tile(&robust, at, TILE_VALUES, mean, &n, err);
        if (rc == SL_OK)
            step_tile(r, s, at, n, mean);
    }
    sl_robust_deinit(&robust);
    spooled_close(&updates);
    return rc;
}

enum sl_code step_model(struct run *r, struct sl_err *err)
{
    if (r->work.stepped)
        return SL_OK;
    float *mean = malloc(TILE_VALUES * sizeof(*mean));
    if (mean == NULL)
        return sl_err_set(err, SL_E_NOMEM, "tile");
    struct sl_step s = facts(r);
    enum sl_code rc = SL_OK;
    if (r->strategy->rule != NULL)
        rc = step_by_rule(r, &s, mean, err);
    else
        step_by_sum(r, &s, mean);
    free(mean);
    if (rc != SL_OK)
        return rc;
    memcpy(step_next(r) + r->n_values, r->values + r->n_values,
           (r->n_all - r->n_values) * sizeof(float));
    r->work.stepped = true;
    return SL_OK;
}

void step_name_next(const struct run *r, struct sl_blob_id *ret)
{
    const float *next = step_next(r);
    struct sl_xxh3 hash;
    sl_xxh3_init(&hash);
    sl_xxh3_update(&hash, next, r->n_values * sizeof(*next));
    if (has_variates(r))
        sl_xxh3_update(&hash, next + r->n_all, r->n_values * sizeof(*next));
    sl_xxh3_final(&hash, ret);
}

void step_adopt(struct run *r)
{
    const float *next = step_next(r);
    memcpy(r->values, next, r->n_all * sizeof(*next));
    if (!has_variates(r))
        return;
    memcpy(r->sent, next, r->n_values * sizeof(*next));
    memcpy(r->sent + r->n_values, next + r->n_all, r->n_values * sizeof(*next));
}

const float *step_next_state(const struct run *r, size_t *ret_n)
{
    *ret_n = has_variates(r) ? r->n_values : r->n_state;
    return has_variates(r) ? step_next(r) + r->n_all : r->state;
}

float *step_state(const struct run *r, size_t *ret_n)
{
    *ret_n = has_variates(r) ? r->n_values : r->n_state;
    return has_variates(r) ? r->sent + r->n_values : r->state;
}
