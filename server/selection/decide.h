/* SPDX-License-Identifier: Apache-2.0 */
/* decide.h - who goes on after the probe: one const ops table a policy, all over the same facts.
 * selection.h draws the cohort before anybody trains; these decide among those who have probed. Two
 * of them have a part in both: power-of-choice draws its d candidates with a chance in proportion
 * to samples (a cohort, or here a subset of one) and then keeps the highest losses; Oort's
 * exploration of clients never seen is the cohort's, its utility, staleness and pacer are here.
 *
 * Policies that keep k of n take k from `accept`, a mean: round t keeps floor(accept + u_t), u_t drawn
 * from the run's stream, so that rivals spend equal bytes on average. Silent clients (no valid report)
 * are never accepted; fewer than k are when fewer reported, and one at least when anybody did.
 * Decisions do not depend on the order of rows; equal scores go to the smaller index. Pure. */
#ifndef SL_SERVER_SELECTION_DECIDE_H
#define SL_SERVER_SELECTION_DECIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "server/selection/facts.h"
#include "server/selection/fedmarl/policy.h"

/* Oort (Lai et al. 2021): the preferred duration is a quantile of the candidates' durations, which
 * the pacer relaxes when utility stops growing. {0} is a run's start; part of the run's state. */
struct sl_oort {
    double relaxed;              /* quantile added so far */
    double window, last_window;  /* utility of the accepted in this and the previous window */
    uint32_t rounds;             /* of this window */
};

#define SL_OORT_WINDOW 5u         /* rounds between two looks of the pacer */
#define SL_OORT_QUANTILE 0.3      /* of durations, at the start */
#define SL_OORT_STEP 0.1          /* added by the pacer */
#define SL_OORT_PENALTY 2.0       /* alpha: (preferred / duration)^alpha beyond it */

struct sl_decide_input {
    const struct sl_round_facts *round;
    const struct sl_client_facts *rows;
    size_t n;
    double accept;              /* mean number kept, > 0 */
    uint32_t candidates;        /* power-of-choice: d; 0 = all rows */
    struct sl_oort oort;        /* oort */
    const struct sl_fedmarl_policy *policy; /* fedmarl; else NULL */
    struct sl_fedmarl_rails rails;          /* fedmarl */
};

/* Workspace for n rows. */
struct sl_decide_work {
    double *score;   /* [n], of the last decision */
    uint32_t *order; /* [n] */
    float *net;      /* [sl_fedmarl_scratch]; NULL without fedmarl */
    struct sl_fedmarl_decision *decisions; /* [n]; filled by fedmarl */
    size_t capacity;
};
enum sl_code sl_decide_work_new(size_t n, const struct sl_fedmarl_policy *policy,
                                struct sl_decide_work *ret, struct sl_err *err);
void sl_decide_work_free(struct sl_decide_work *w); /* NULL and {0} allowed */

struct sl_decide_ops {
    const char *name;
    bool sized; /* keeps k */
    /* ret_accept[in->n]: 1 = goes on. */
    void (*decide)(const struct sl_decide_input *in, struct sl_decide_work *w,
                   uint8_t *ret_accept);
};

/* all random drop-slowest highest-loss lowest-loss power-of-choice oort fedmarl; NULL for others. */
const struct sl_decide_ops *sl_decide_find(const char *name);
const struct sl_decide_ops *sl_decide_at(size_t i); /* NULL beyond the last */

/* Seconds from the decision to the end of the upload, as the histories foretell them. */
double sl_decide_rest_s(const struct sl_round_facts *round, const struct sl_client_facts *f);

/* Samples x loss: Oort's statistical utility, where a mean loss is what is reported. */
double sl_oort_utility(const struct sl_client_facts *f);
/* The pacer's state after a round with these decisions. */
void sl_oort_observe(struct sl_oort *o, const struct sl_client_facts *rows, size_t n,
                     const uint8_t *accept);
/* Writes the scores of oort, ret[n]. sorted: workspace [n]. */
void sl_oort_score(const struct sl_decide_input *in, double *sorted, double *ret);

#endif
