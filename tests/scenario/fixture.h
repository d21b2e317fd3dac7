/* SPDX-License-Identifier: Apache-2.0 */
/* fixture.h - one run of a world with its invariants watched: plan in, what came out
 * back. */
#ifndef SL_TESTS_SCENARIO_FIXTURE_H
#define SL_TESTS_SCENARIO_FIXTURE_H

#include <stdint.h>

#include "common/error.h"
#include "common/plan.h"
#include "sim/invariants.h"
#include "sim/world.h"

#define ROUNDS_SEEN 64

struct outcome {
    enum sl_code rc;
    struct sl_err err;
    char digest[SL_DIGEST_HEX]; /* of the last run_end */
    uint32_t n_rounds, n_runs;  /* lines seen */
    uint32_t selected[ROUNDS_SEEN], completed[ROUNDS_SEEN];
    double latency_s[ROUNDS_SEEN];
    char round_digest[SL_DIGEST_HEX]; /* of the last round */
    uint32_t stopped, redecided; /* members, in all rounds with probes */
    uint32_t n_calibrations, calibrated; /* lines; clients of the last one */
    double share;                        /* of samples, in the last one */
    double gained;                       /* accuracy, by the last one */
    double accuracy; /* of the last run_end; -1 = null */
    struct sl_world_stats stats;
    struct sl_world_holdings holdings;
};

/* A small federation on synthetic data that learns in milliseconds: 8 clients, 4 a round,
 * 3 rounds. */
struct sl_plan small_plan(void);
/* The same with a model of more than one chunk (68,003 parameters). */
struct sl_plan wide_plan(void);
/* Any plan from text; a bad one fails the test. */
struct sl_plan plan_of(const char *text);

/* Runs the plans to the end. rc is the world's, or SL_E_BUG when an invariant did not
 * hold. */
struct outcome run_plans(const struct sl_plan *plans, size_t n, unsigned jobs);
struct outcome run_plan(const struct sl_plan *plan, unsigned jobs);
/* The same; lines of the report go to record (an array, NULL = nowhere), replay as --replay. */
struct outcome run_recorded(const struct sl_plan *plan, unsigned jobs, const json_t *replay,
                            json_t *record);

#endif
