/* SPDX-License-Identifier: Apache-2.0 */
/* fault.h - what goes wrong, drawn from one seed: messages lost, late, twice or out of
 * order, jobs of the coordinator that take their time, connections cut, coordinator and clients killed. Draws follow the order of
 * events, which the seed fixes too, so a failing run can be repeated from its seed.
 * Thread: one. */
#ifndef SL_SIM_FAULT_H
#define SL_SIM_FAULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/plan.h"
#include "common/rng.h"

struct sl_message_fault {
    bool drop, duplicate, disconnect;
    uint64_t late_us; /* delay or overtaking, on top of the link's time */
};

/* A kill: after so many steps of the given round. */
struct sl_kill {
    uint32_t round, steps;
    bool coordinator;
};

struct sl_faults {
    struct sl_rng rng;
    double drop, delay, duplicate, reorder, disconnect, delay_us;
    double dropout;
    uint64_t seed;
    bool power_loss;
    struct sl_kill *kills; /* owned, ascending by round */
    size_t n_kills, next_kill;
    uint64_t steps_in_round;
};

/* rounds: of the run; kills are spread over them. */
enum sl_code sl_faults_init(struct sl_faults *f, const struct sl_plan *plan,
                            struct sl_err *err);
void sl_faults_deinit(struct sl_faults *f); /* NULL and {0} allowed */

struct sl_message_fault sl_faults_message(struct sl_faults *f, uint64_t rtt_us);

/* How long a job of the coordinator takes: none, or up to twice the mean delay. */
struct sl_job_fault {
    bool runs_late; /* at the end of its time, not at the beginning */
    uint64_t late_us;
};
struct sl_job_fault sl_faults_job(struct sl_faults *f);

/* One step of the world went by in `round`; the kill that is due, or NULL. */
const struct sl_kill *sl_faults_step(struct sl_faults *f, uint32_t round);
void sl_faults_new_round(struct sl_faults *f);

/* Does the selected client stay away from this attempt of the round? Pure. */
bool sl_faults_dropout(const struct sl_faults *f, uint32_t client, uint32_t round,
                       uint32_t attempt);

/* A draw in [lo, hi): restart times, victims, reconnects. */
uint64_t sl_faults_between(struct sl_faults *f, uint64_t lo, uint64_t hi);

#endif
