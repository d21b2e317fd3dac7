/* SPDX-License-Identifier: Apache-2.0 */
/* workers.h - threads that train for virtual clients. Jobs start in the order in which
 * they were handed over; whoever needs a result waits for that job. Which thread does a
 * job, and when, never shows in a result. Owns: its threads. Borrows: jobs, until they
 * are done. */
#ifndef SL_SIM_WORKERS_H
#define SL_SIM_WORKERS_H

#include <stdbool.h>

#include "common/error.h"

struct sl_worker_job {
    void (*run)(struct sl_worker_job *job,
                unsigned worker); /* worker: 0..n-1, one job at a time */
    struct sl_worker_job *next;
    bool done; /* guarded by the workers' lock */
};

struct sl_workers;

/* n: 1..256 threads. */
enum sl_code sl_workers_new(unsigned n, struct sl_workers **ret, struct sl_err *err);
/* Finishes what was handed over, then ends the threads. NULL allowed. */
void sl_workers_free(struct sl_workers *w);
unsigned sl_workers_count(const struct sl_workers *w);
void sl_workers_submit(struct sl_workers *w, struct sl_worker_job *job);
void sl_workers_wait(struct sl_workers *w, struct sl_worker_job *job);

#endif
