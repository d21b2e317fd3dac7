/* SPDX-License-Identifier: Apache-2.0 */
/* oort.c - Lai, Zhu, Madhyastha, Chowdhury 2021, section 4: statistical utility, staleness bonus,
 * system penalty, pacer. */
#include <math.h>
#include <stdlib.h>

#include "common/fdmath.h"
#include "server/selection/decide.h"

#define STALENESS 0.1

double sl_oort_utility(const struct sl_client_facts *f)
{
    return (double)f->samples * (f->probe_loss > 0 ? f->probe_loss : 0);
}

static int ascending(const void *pa, const void *pb)
{
    double a = *(const double *)pa, b = *(const double *)pb;
    return (a > b) - (a < b);
}

/* The duration that costs nothing yet. */
static double preferred_s(const struct sl_decide_input *in, double *sorted)
{
    double quantile = SL_OORT_QUANTILE + in->oort.relaxed;
    for (size_t i = 0; i < in->n; i++)
        sorted[i] = sl_decide_rest_s(in->round, &in->rows[i]);
    qsort(sorted, in->n, sizeof(sorted[0]), ascending);
    size_t at = (size_t)(quantile * (double)in->n);
    return sorted[at < in->n ? at : in->n - 1];
}

/* (utility - least) / (most - least) + sqrt(0.1 ln R / last), times (preferred / duration)^alpha for the slow.
 * R is this round and last the one that accepted it last, both counted from 1; never: 1. */
void sl_oort_score(const struct sl_decide_input *in, double *sorted, double *ret)
{
    double least = INFINITY, most = 0;
    const double now = in->round->round + 1.0;
    if (in->n == 0)
        return;
    for (size_t i = 0; i < in->n; i++) {
        double u = in->rows[i].reported ? sl_oort_utility(&in->rows[i]) : 0;
        least = u < least ? u : least;
        most = u > most ? u : most;
    }
    const double limit_s = preferred_s(in, sorted);
    for (size_t i = 0; i < in->n; i++) {
        const struct sl_client_facts *f = &in->rows[i];
        double last = now - 1 - f->idle_rounds, rest_s = sl_decide_rest_s(in->round, f);
        double score = most > least ? (sl_oort_utility(f) - least) / (most - least) : 1;
        score += sqrt(STALENESS * sl_log(now) / (last >= 1 ? last : 1));
        if (rest_s > limit_s && limit_s > 0)
            score *= sl_pow(limit_s / rest_s, SL_OORT_PENALTY);
        ret[i] = score;
    }
}

void sl_oort_observe(struct sl_oort *o, const struct sl_client_facts *rows, size_t n,
                     const uint8_t *accept)
{
    for (size_t i = 0; i < n; i++)
        if (accept[i])
            o->window += sl_oort_utility(&rows[i]);
    if (++o->rounds < SL_OORT_WINDOW)
        return;
    if (o->window < o->last_window && o->relaxed < 1 - SL_OORT_QUANTILE)
        o->relaxed += SL_OORT_STEP;
    o->last_window = o->window;
    o->window = 0;
    o->rounds = 0;
}
