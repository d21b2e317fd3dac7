/* SPDX-License-Identifier: Apache-2.0 */
/* defence.h - between the rows of a round and the decision: one dishonest client (Lin et al. 2020) may say
 * what it likes about its loss, samples and cost, and be as slow as it likes. Each switch alone:
 *   own        samples are those of the enrolment, the cost is what the plan's encoding takes; times are
 *              the coordinator's in any case
 *   claim      a random share of claimed losses, and all of a client that was caught, is compared with the
 *              coordinator's own (`check`: the probed update on held-out samples); what lies further off than
 *              `claim_deviations` robust deviations of all comparisons is replaced by it
 *   clamp      inputs are brought into the 1 to 99 % range of the policy's validation; a negative loss, or
 *              one far above an untrained model's in the first round, is none: the client is silent
 *   margin     where |Q(go) - Q(stop)| is at most the 5 % quantile of validation, a fair draw decides
 *   cap        accepted at most `cap_most` times in its last `cap_window` candidacies, and at the latest after
 *              `force_after` refusals in a row
 *   deadline   the time after the decision ends at `deadline_factor` times a quantile of what the client took
 *              before (the factor twice while that is little), and at the factor twice times the upper
 *              quartile of what all took against what was foretold; who is late is dropped and stays out
 *              for `late_out` candidacies
 *   detector   residuals of what a client claims, takes and brings the team, against its own past, are summed
 *              up (CUSUM); beyond `limit` it is quarantined for `quarantine` candidacies
 *   smoothing  the decision is that of most of `copies` noisy copies of the inputs
 *   freeze     a round with a suspect in it teaches the learner nothing
 * A pure machine: no clock, no I/O; draws are functions of (seed, client, round). A candidacy is a round in
 * which the client probed. Candidacies count, not rounds, so that cohorts of few among many are fair to
 * everybody. Thread: any; states are one caller's at a time. */
#ifndef SL_SERVER_DEFENCE_H
#define SL_SERVER_DEFENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "server/selection/facts.h"
#include "server/selection/fedmarl/policy.h"

enum sl_defence {
    SL_DEFENCE_OWN,
    SL_DEFENCE_CLAIM,
    SL_DEFENCE_CLAMP,
    SL_DEFENCE_MARGIN,
    SL_DEFENCE_CAP,
    SL_DEFENCE_DEADLINE,
    SL_DEFENCE_DETECTOR,
    SL_DEFENCE_SMOOTHING,
    SL_DEFENCE_FREEZE,
    SL_DEFENCES
};
#define SL_DEFENCE_BIT(d) (1u << (d))

/* "own" "claim" ... "freeze"; NULL beyond. */
const char *sl_defence_name(unsigned d);

struct sl_defence_options {
    uint32_t on; /* bits SL_DEFENCE_BIT */
    double claim_share;      /* of probes that are checked, [0, 1] */
    double claim_deviations; /* > 0 */
    double claim_floor;      /* least deviation, in units of the loss scale, > 0 */
    double first_loss;       /* most that a loss of round 0 can be, in units of the loss scale */
    uint32_t cap_window, cap_most, force_after; /* 1..64, 1..window, >= 1 */
    double deadline_factor, deadline_quantile;  /* >= 1; (0, 1] */
    uint32_t late_out;
    double drift, limit; /* of the CUSUM, in deviations */
    uint32_t quarantine;
    uint32_t copies; /* odd or even; go needs more than half */
    double sigma;    /* of the noise on each input */
};

#define SL_DEFENCE_DEFAULTS                                                                        \
    .claim_share = .1, .claim_deviations = 3, .claim_floor = .05, .first_loss = 1.5,               \
    .cap_window = 10, .cap_most = 5, .force_after = 2, .deadline_factor = 1.5,                     \
    .deadline_quantile = .9, .late_out = 5, .drift = 2, .limit = 6, .quarantine = 10,              \
    .copies = 32, .sigma = .1

/* SL_E_RANGE; SL_E_INPUT when clamp or margin is on and the policy does not say what is usual. */
enum sl_code sl_defence_check(const struct sl_defence_options *o,
                              const struct sl_fedmarl_policy *policy, struct sl_err *err);

#define SL_DEFENCE_RING 64

/* A client's state; {0} is a new one. */
struct sl_defence_client {
    uint64_t samples;    /* of its enrolment; 0: the first claim becomes it */
    uint64_t accepted;   /* bit i: at the candidacy i + 1 before */
    uint32_t candidacies;
    uint32_t refused;    /* in a row */
    uint32_t out;        /* candidacies that it is still kept out */
    uint32_t caught;     /* claims that did not hold */
    uint32_t n_finish;   /* entries of finish_s */
    double finish_s[SL_FACTS_HISTORY]; /* from decision to update, in time, newest first */
    double claim;        /* running mean of ln(loss) less the cohort's mean of it */
    uint32_t n_claims;
    double sum_claim, sum_time, sum_team; /* CUSUMs */
};

/* What is known about all together; {0} is a run's start. */
struct sl_defence_state {
    double off[SL_DEFENCE_RING]; /* |claim - check| / loss scale of checks */
    uint32_t n_off;              /* ever; the ring is filled at n % SL_DEFENCE_RING */
    double ratio[SL_DEFENCE_RING]; /* time after the decision / what was foretold */
    uint32_t n_ratio;
    double off_claim, off_time;    /* running mean residuals */
    double reward, off_reward;     /* running mean of the reward, and of its residual */
    uint32_t n_rewards;
};

/* What a decision needs beside the policy. Arrays are [n], row by row. */
struct sl_defence_input {
    const struct sl_defence_options *o;
    const struct sl_fedmarl_policy *policy;
    const struct sl_fedmarl_rails *rails;
    const struct sl_round_facts *round;
    const struct sl_client_facts *rows;
    const double *checks;  /* the coordinator's own loss of each probe; NAN: not checked; NULL = none is */
    uint64_t upload_bytes; /* of an update as the plan encodes it */
    size_t n;
};

/* What was done about a row. */
struct sl_defence_mark {
    uint32_t acted;    /* bits: it changed something */
    bool suspect;      /* caught, kept out, or near the limit */
    double deadline_s; /* after the decision; 0 = the round's own */
};

/* Should this probe be checked? Ask before it is: evaluation costs time. */
bool sl_defence_wants_check(const struct sl_defence_options *o, const struct sl_round_facts *round,
                            uint32_t client, const struct sl_defence_client *c);

/* Decides; clients[i] is the state of rows[i]. scratch[sl_fedmarl_scratch], the features as they were
 * decided upon afterwards; ret[n], marks[n]. Allocates nothing. */
void sl_defence_decide(const struct sl_defence_input *in, struct sl_defence_state *state,
                       struct sl_defence_client *const *clients, float *scratch,
                       struct sl_fedmarl_decision *ret, struct sl_defence_mark *marks);

/* How the round went for a row. */
struct sl_defence_outcome {
    bool accepted;
    bool late;       /* dropped at its deadline, or never there */
    double finish_s; /* from the decision to its update, or to its deadline; accepted only */
};

/* After the round, with the rows as they were reported. reward: of the round; NAN = not known. True when the
 * round may be learned from. */
bool sl_defence_observe(const struct sl_defence_input *in, struct sl_defence_state *state,
                        struct sl_defence_client *const *clients,
                        const struct sl_defence_outcome *outcomes,
                        const struct sl_defence_mark *marks, double reward);

/* The only action that is left to a client before the decision: SL_FEDMARL_STOP, SL_FEDMARL_GO, or -1. */
int sl_defence_bound(const struct sl_defence_options *o, const struct sl_defence_client *c);

/* Seconds from the decision to the update, foretold from the probe and everybody's uploads: what a client
 * cannot stretch by having been slow. */
double sl_defence_foretold_s(const struct sl_round_facts *round, const struct sl_client_facts *row);

/* The deadline that a row would get; 0 = none. */
double sl_defence_deadline_s(const struct sl_defence_options *o, const struct sl_defence_state *state,
                             const struct sl_round_facts *round, const struct sl_client_facts *row,
                             const struct sl_defence_client *c);

/* --- states as bytes, to keep them over a restart: little-endian, fixed size ------------------- */

#define SL_DEFENCE_CLIENT_BYTES 136
#define SL_DEFENCE_STATE_BYTES 1068
void sl_defence_client_put(const struct sl_defence_client *c, uint8_t ret[SL_DEFENCE_CLIENT_BYTES]);
void sl_defence_state_put(const struct sl_defence_state *s, uint8_t ret[SL_DEFENCE_STATE_BYTES]);
/* SL_E_INPUT for a number that is none, or out of its range. */
enum sl_code sl_defence_client_get(const uint8_t bytes[SL_DEFENCE_CLIENT_BYTES],
                                   struct sl_defence_client *ret, struct sl_err *err);
enum sl_code sl_defence_state_get(const uint8_t bytes[SL_DEFENCE_STATE_BYTES],
                                  struct sl_defence_state *ret, struct sl_err *err);

#endif
