/* SPDX-License-Identifier: Apache-2.0 */
/* jobs.h - work for other threads. A job owns nothing but what it was handed; `run` is called once on a
 * worker, `done` once afterwards on the owner's thread. An executor is where cores hand jobs in;
 * sl_pool is the one with threads, sl_inline_executor runs a job at once.
 * Thread: submit from the owner's thread only. */
#ifndef SL_COMMON_JOBS_H
#define SL_COMMON_JOBS_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

/* The first member of a caller's struct; lives until done has been called. */
struct sl_job {
    void (*run)(struct sl_job *job);
    void (*done)(struct sl_job *job, void *ctx);
    void *ctx;           /* passed to done */
    struct sl_job *next; /* the executor's */
};

struct sl_executor {
    void (*submit)(void *self, struct sl_job *job);
    void *self;
};

static inline void sl_executor_submit(const struct sl_executor *e, struct sl_job *job)
{
    e->submit(e->self, job);
}

/* Calls run and then done inside submit: for tests, and where virtual time stands still. */
extern const struct sl_executor sl_inline_executor;

struct sl_pool;

/* n_threads workers (1..256) that take jobs in the order of submission. wake (may be NULL) is called
 * from a worker when there is something to poll after there was nothing. */
enum sl_code sl_pool_new(unsigned n_threads, void (*wake)(void *ctx), void *wake_ctx,
                         struct sl_pool **ret, struct sl_err *err);
/* Runs every job submitted, calls done for each, also for those that a done submits meanwhile; then
 * joins the workers. NULL allowed. */
void sl_pool_free(struct sl_pool *p);
const struct sl_executor *sl_pool_executor(struct sl_pool *p);
/* Calls done for the jobs that are over, in the order in which they ended; returns how many. */
size_t sl_pool_poll(struct sl_pool *p);
/* Blocks until at least one job is over (returns at once when none is under way), then polls. */
size_t sl_pool_wait(struct sl_pool *p);
size_t sl_pool_pending(const struct sl_pool *p); /* submitted and not yet done */

#endif
