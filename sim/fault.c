/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/fault.h"

#include <stdlib.h>

#include "common/mem.h"

static int by_round(const void *a, const void *b)
{
    const struct sl_kill *x = a, *y = b;
    if (x->round != y->round)
        return x->round < y->round ? -1 : 1;
    return (x->steps > y->steps) - (x->steps < y->steps);
}

/* Steps of a round before its kill: a round of n clients takes about 10 n steps, and the
 * beginning of a round is as likely to be hit as its end. */
static void draw_kills(struct sl_faults *f, const struct sl_plan *plan)
{
    uint64_t span = 10 * (uint64_t)sl_plan_cohort_size(plan) + 10;
    for (size_t i = 0; i < f->n_kills; i++)
        f->kills[i] = (struct sl_kill){
            .round = (uint32_t)sl_rng_below(&f->rng, plan->run.rounds),
            .steps = (uint32_t)sl_rng_below(&f->rng, span),
            .coordinator = i < plan->sim.faults.coordinator_kills,
        };
    qsort(f->kills, f->n_kills, sizeof(*f->kills), by_round);
}

enum sl_code sl_faults_init(struct sl_faults *f, const struct sl_plan *plan,
                            struct sl_err *err)
{
    uint64_t seed = plan->sim.faults.seed != 0 ? plan->sim.faults.seed : plan->run.seed;
    *f = (struct sl_faults){.drop = plan->sim.faults.drop,
                            .delay = plan->sim.faults.delay,
                            .duplicate = plan->sim.faults.duplicate,
                            .reorder = plan->sim.faults.reorder,
                            .disconnect = plan->sim.faults.disconnect,
                            .delay_us = plan->sim.faults.delay_ms * 1000,
                            .dropout = plan->sim.world.dropout,
                            .power_loss = plan->sim.faults.power_loss,
                            .seed = seed};
    sl_rng_init(&f->rng, &(struct sl_rng_id){.seed = seed, .purpose = SL_RNG_FAULT});
    f->n_kills = (size_t)plan->sim.faults.coordinator_kills +
                 (size_t)plan->sim.faults.client_kills;
    f->kills = sl_calloc(f->n_kills + 1, sizeof(*f->kills));
    if (f->kills == NULL)
        return sl_err_set(err, SL_E_NOMEM, "%zu kills", f->n_kills);
    draw_kills(f, plan);
    return SL_OK;
}

void sl_faults_deinit(struct sl_faults *f)
{
    if (f == NULL)
        return;
    free(f->kills);
    *f = (struct sl_faults){0};
}

static bool happens(struct sl_faults *f, double chance)
{
    return chance > 0 && sl_rng_f64(&f->rng) < chance;
}

struct sl_message_fault sl_faults_message(struct sl_faults *f, uint64_t rtt_us)
{
    struct sl_message_fault m = {.drop = happens(f, f->drop),
                                 .duplicate = happens(f, f->duplicate),
                                 .disconnect = happens(f, f->disconnect)};
    if (happens(f, f->delay))
        m.late_us += (uint64_t)(f->delay_us * sl_rng_exponential(&f->rng));
    if (happens(f, f->reorder))
        m.late_us += sl_rng_below(&f->rng, 4 * rtt_us + 20000);
    return m;
}

struct sl_job_fault sl_faults_job(struct sl_faults *f)
{
    struct sl_job_fault j = {0};
    if (happens(f, f->delay)) {
        j.runs_late = sl_rng_below(&f->rng, 2) == 0;
        j.late_us = (uint64_t)(2 * f->delay_us * sl_rng_f64(&f->rng));
    }
    return j;
}

void sl_faults_new_round(struct sl_faults *f)
{
    f->steps_in_round = 0;
}

const struct sl_kill *sl_faults_step(struct sl_faults *f, uint32_t round)
{
    f->steps_in_round++;
    if (f->next_kill >= f->n_kills)
        return NULL;
    const struct sl_kill *k = &f->kills[f->next_kill];
    if (k->round > round || (k->round == round && k->steps > f->steps_in_round))
        return NULL;
    f->next_kill++;
    return k;
}

bool sl_faults_dropout(const struct sl_faults *f, uint32_t client, uint32_t round,
                       uint32_t attempt)
{
    if (f->dropout <= 0)
        return false;
    struct sl_rng r;
    sl_rng_init(&r, &(struct sl_rng_id){.seed = f->seed,
                                        .purpose = SL_RNG_FAULT,
                                        .client = client + 1,
                                        .round = round,
                                        .step = attempt});
    return sl_rng_f64(&r) < f->dropout;
}

uint64_t sl_faults_between(struct sl_faults *f, uint64_t lo, uint64_t hi)
{
    return lo + (hi > lo ? sl_rng_below(&f->rng, hi - lo) : 0);
}
