/* SPDX-License-Identifier: Apache-2.0 */
/* What a client says of its update, and of its held-out share, against what the plan allows. The bounds
 * also keep every sum over a cohort finite and within its integers, so that a round can always be
 * reported. */
#include <inttypes.h>

#include "server/core.h"

#define LOSS_MAX 1e30                    /* mean over samples; a trained model's is near 1 */
#define SAMPLES_MAX (UINT64_C(1) << 46)  /* of one update: those of 10^5 clients add up in 63 bits */

static uint64_t product(uint64_t a, uint64_t b)
{
    uint64_t p;
    return __builtin_mul_overflow(a, b, &p) || p > SAMPLES_MAX ? SAMPLES_MAX : p;
}

static bool has_own_data(const struct sl_client_entry *e)
{
    return e != NULL && e->own_samples > 0;
}

/* Samples of a client that it may train on, at most. */
static uint64_t samples_of(const struct run *r, uint32_t client)
{
    const struct sl_client_entry *e = sl_registry_at(&r->c->registry, client);
    return has_own_data(e) ? e->own_samples : r->share[client].train;
}

uint64_t meta_samples(const struct run *r, uint32_t client)
{
    return samples_of(r, client);
}

bool meta_own_data(const struct run *r, uint32_t client)
{
    return has_own_data(sl_registry_at(&r->c->registry, client));
}

static enum sl_code check_weight(const struct run *r, uint32_t client,
                                 const struct sl_update_meta *m, struct sl_err *err)
{
    uint64_t max = r->plan.aggregation.max_weight;
    if (m->weight == 0 || m->weight > max)
        return sl_err_set(err, SL_E_REJECTED, "weight %" PRIu64 " (1 to %" PRIu64 " allowed)",
                          m->weight, max);
    const struct sl_client_entry *e = sl_registry_at(&r->c->registry, client);
    bool own = has_own_data(e) && r->plan.aggregation.weighting == SL_WEIGHT_SAMPLES;
    uint64_t want = own ? e->own_samples : r->share[client].weight;
    if (own ? m->weight > want : m->weight != want)
        return sl_err_set(err, SL_E_REJECTED, "weight %" PRIu64 " (%" PRIu64 " %s)", m->weight, want,
                          own ? "samples registered" : "expected");
    return SL_OK;
}

/* The longest training the plan allows on n samples. A file of steps lies with the clients: only its
 * format bounds them then. */
static void longest(const struct sl_plan *p, uint64_t n, uint64_t *ret_steps, uint64_t *ret_samples)
{
    uint64_t batch = p->train.batch_size == 0 || p->train.batch_size > n ? n : p->train.batch_size;
    bool file = p->train.steps_path[0] != '\0';
    if (p->train.local_steps >= 0 || file) {
        *ret_steps = file ? SL_STEPS_MAX : (uint64_t)p->train.local_steps;
        *ret_samples = product(*ret_steps, batch);
        return;
    }
    uint64_t batches = batch == 0 ? 0 : n / batch + (n % batch != 0);
    *ret_steps = product(p->train.epochs, batches);
    *ret_samples = product(p->train.epochs, n);
}

static enum sl_code check_training(const struct run *r, uint32_t client,
                                   const struct sl_update_meta *m, struct sl_err *err)
{
    uint64_t steps, samples;
    longest(&r->plan, samples_of(r, client), &steps, &samples);
    if (m->steps > steps)
        return sl_err_set(err, SL_E_REJECTED, "%" PRIu32 " steps (at most %" PRIu64 " by the plan)",
                          m->steps, steps);
    if (m->samples > samples)
        return sl_err_set(err, SL_E_REJECTED, "%" PRIu64 " samples (at most %" PRIu64
                          " by the plan)", m->samples, samples);
    return SL_OK;
}

/* Is this a sum of n losses? Never for NaN. */
static bool loss_fits(double sum, uint64_t n)
{
    return sum >= 0 && sum <= LOSS_MAX * (double)n;
}

static enum sl_code check_losses(const struct sl_update_meta *m, struct sl_err *err)
{
    if (!loss_fits(m->loss_sum, m->samples))
        return sl_err_set(err, SL_E_REJECTED,
                          "loss_sum %g of %" PRIu64 " samples (0 to %g each allowed)", m->loss_sum,
                          m->samples, LOSS_MAX);
    if (!loss_fits(m->first_loss, 1))
        return sl_err_set(err, SL_E_REJECTED, "first_loss %g (0 to %g allowed)", m->first_loss,
                          LOSS_MAX);
    return SL_OK;
}

enum sl_code meta_check_eval(const struct run *r, uint32_t client, const struct sl_eval_counts *e,
                             struct sl_err *err)
{
    const struct sl_client_entry *entry = sl_registry_at(&r->c->registry, client);
    uint64_t most = has_own_data(entry) ? entry->own_samples : r->share[client].held;
    most = most < SAMPLES_MAX ? most : SAMPLES_MAX;
    if (e->samples > most)
        return sl_err_set(err, SL_E_REJECTED, "evaluation of %" PRIu64 " samples (at most %" PRIu64
                          " held out)", e->samples, most);
    if (e->correct > e->samples)
        return sl_err_set(err, SL_E_REJECTED, "evaluation: %" PRIu64 " correct of %" PRIu64,
                          e->correct, e->samples);
    if (!loss_fits(e->loss_sum, e->samples))
        return sl_err_set(err, SL_E_REJECTED,
                          "evaluation: loss_sum %g of %" PRIu64 " samples (0 to %g each allowed)",
                          e->loss_sum, e->samples, LOSS_MAX);
    return SL_OK;
}

enum sl_code meta_check(const struct run *r, uint32_t client, const struct sl_update_meta *m,
                        struct sl_err *err)
{
    if (calibrate_under_way(r))
        return calibrate_check_meta(r, client, m, err);
    if (m->encoding != (uint32_t)r->plan.uplink.encoding)
        return sl_err_set(err, SL_E_REJECTED, "encoding %" PRIu32 " (%d expected)", m->encoding,
                          (int)r->plan.uplink.encoding);
    enum sl_code rc = check_weight(r, client, m, err);
    if (rc == SL_OK)
        rc = check_training(r, client, m, err);
    if (rc == SL_OK)
        rc = check_losses(m, err);
    if (rc == SL_OK && m->has_eval && run_asks_eval(r))
        rc = meta_check_eval(r, client, &m->eval, err);
    return rc;
}
