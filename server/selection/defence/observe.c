/* SPDX-License-Identifier: Apache-2.0 */
/* observe.c - what a round teaches about its clients. The detector's three residuals, each in units of its
 * own running mean, so that a CUSUM with a drift above 1 stays near 0 for who is as ever:
 *   claim  |ln(loss) - the cohort's mean of it, less the client's own mean of that|
 *   time   ln(time after the decision / what was foretold), upwards only
 *   team   what the round's reward fell short of the running mean, charged to everybody accepted */
#include <math.h>
#include <string.h>

#include "common/fdmath.h"
#include "server/selection/defence/defence.h"

#define RATE 0.1           /* of running means */
#define CLAIMS_LEAST 2     /* of a client, before its mean says anything */
#define REWARDS_LEAST 3
#define RESIDUAL_MOST 6.0  /* one round convicts nobody alone */
#define OFF_CLAIM 0.2      /* where the running means start: ln units, ln units, rewards */
#define OFF_TIME 0.3
#define OFF_REWARD 0.05

static bool is_on(const struct sl_defence_options *o, enum sl_defence d)
{
    return (o->on & SL_DEFENCE_BIT(d)) != 0;
}

static bool has_claim(const struct sl_client_facts *f)
{
    return f->reported && isfinite(f->probe_loss) && f->probe_loss > 0;
}

/* Mean of ln(loss) over the claims. */
static double mean_claim(const struct sl_client_facts *rows, size_t n)
{
    double sum = 0;
    size_t k = 0;
    for (size_t i = 0; i < n; i++)
        if (has_claim(&rows[i])) {
            sum += sl_log(rows[i].probe_loss);
            k++;
        }
    return k > 0 ? sum / (double)k : 0;
}

/* Moves a CUSUM by a residual in units of its running mean, and that mean. */
static void add(const struct sl_defence_options *o, double residual, double start, double *mean,
                double *sum)
{
    if (*mean == 0)
        *mean = start;
    double units = residual / *mean;
    units = units > RESIDUAL_MOST ? RESIDUAL_MOST : units;
    *sum += units - o->drift;
    *sum = *sum > 0 ? *sum : 0;
    double seen = fabs(residual) < RESIDUAL_MOST * *mean ? fabs(residual) : RESIDUAL_MOST * *mean;
    *mean += RATE * (seen - *mean);
    *mean = *mean > start / 4 ? *mean : start / 4;
}

static void watch_claim(const struct sl_defence_input *in, size_t i, double mean,
                        struct sl_defence_state *s, struct sl_defence_client *c)
{
    if (!has_claim(&in->rows[i]))
        return;
    const double y = sl_log(in->rows[i].probe_loss) - mean;
    if (c->n_claims >= CLAIMS_LEAST)
        add(in->o, fabs(y - c->claim), OFF_CLAIM, &s->off_claim, &c->sum_claim);
    c->n_claims++;
    c->claim += (y - c->claim) / (c->n_claims < 10 ? c->n_claims : 10);
}

static void watch_time(const struct sl_defence_input *in, size_t i,
                       const struct sl_defence_outcome *out, struct sl_defence_state *s,
                       struct sl_defence_client *c)
{
    const double foretold_s = sl_defence_foretold_s(in->round, &in->rows[i]);
    if (!out->accepted || !(foretold_s > 0) || !(out->finish_s > 0))
        return;
    const double ratio = out->finish_s / foretold_s;
    const double up = ratio > 1 ? sl_log(ratio) : 0;
    add(in->o, up, OFF_TIME, &s->off_time, &c->sum_time);
    s->ratio[s->n_ratio % SL_DEFENCE_RING] = ratio;
    s->n_ratio++;
    if (out->late)
        return;
    memmove(c->finish_s + 1, c->finish_s, (SL_FACTS_HISTORY - 1) * sizeof(double));
    c->finish_s[0] = out->finish_s;
    c->n_finish += c->n_finish < SL_FACTS_HISTORY;
}

/* The running mean is of rounds before this one. */
static void watch_team(const struct sl_defence_input *in, const struct sl_defence_outcome *outcomes,
                       double reward, struct sl_defence_state *s,
                       struct sl_defence_client *const *clients)
{
    if (!isfinite(reward))
        return;
    const double short_of = s->reward - reward;
    double mean = s->off_reward;
    for (size_t i = 0; s->n_rewards >= REWARDS_LEAST && i < in->n; i++) {
        mean = s->off_reward; /* once a round, not once a client */
        if (outcomes[i].accepted)
            add(in->o, short_of, OFF_REWARD, &mean, &clients[i]->sum_team);
    }
    s->off_reward = mean;
    s->n_rewards++;
    s->reward += (reward - s->reward) / (s->n_rewards < 10 ? s->n_rewards : 10);
}

static void count(const struct sl_defence_options *o, const struct sl_defence_outcome *out,
                  struct sl_defence_client *c)
{
    c->candidacies++;
    c->accepted = c->accepted << 1 | out->accepted;
    if (c->out > 0) {
        c->out--;
        return;
    }
    c->refused = out->accepted ? 0 : c->refused + 1;
    if (is_on(o, SL_DEFENCE_DEADLINE) && out->accepted && out->late)
        c->out = o->late_out;
    if (is_on(o, SL_DEFENCE_DETECTOR) &&
        (c->sum_claim > o->limit || c->sum_time > o->limit || c->sum_team > o->limit)) {
        c->out = o->quarantine;
        c->sum_claim = c->sum_time = c->sum_team = o->limit / 2; /* on probation */
    }
}

bool sl_defence_observe(const struct sl_defence_input *in, struct sl_defence_state *state,
                        struct sl_defence_client *const *clients,
                        const struct sl_defence_outcome *outcomes,
                        const struct sl_defence_mark *marks, double reward)
{
    const double mean = mean_claim(in->rows, in->n);
    bool clean = true;
    for (size_t i = 0; i < in->n; i++) {
        watch_claim(in, i, mean, state, clients[i]);
        watch_time(in, i, &outcomes[i], state, clients[i]);
    }
    watch_team(in, outcomes, reward, state, clients);
    for (size_t i = 0; i < in->n; i++) {
        count(in->o, &outcomes[i], clients[i]);
        clean = clean && !marks[i].suspect && clients[i]->out == 0;
    }
    return clean || !is_on(in->o, SL_DEFENCE_FREEZE);
}
