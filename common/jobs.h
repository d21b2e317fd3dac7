/* SPDX-License-Identifier: Apache-2.0 */
/* jobs.h - work done beside the owner's thread, and its completion on the owner's thread.
 * Owns: worker threads, never the jobs. A job is embedded in the caller's struct, belongs to the
 * executor from submit until `done` is entered, and may be freed or submitted again in there.
 * Thread: `run` on any thread; submit, poll, wait and free on the owner's thread. */
#ifndef SL_COMMON_JOBS_H
#define SL_COMMON_JOBS_H

#include <stddef.h>

#include "common/error.h"

struct sl_job {
    void (*run)(struct sl_job *job);
    void (*done)(struct sl_job *job, void *ctx); /* on the owner's thread */
    void *ctx;                                   /* handed to done */
    struct sl_job *next;                         /* the executor's */
};

struct sl_executor {
    void (*submit)(const struct sl_executor *e, struct sl_job *job); /* never blocks or fails */
};

static inline void sl_executor_submit(const struct sl_executor *e, struct sl_job *job)
{
    e->submit(e, job);
}

#define SL_POOL_THREADS_MAX 256

struct sl_pool;

/* Starts n_threads workers (1 to SL_POOL_THREADS_MAX, else SL_E_RANGE). They take jobs in the
 * order of submission and call wake(wake_ctx) after each (from the worker; NULL allowed). */
enum sl_code sl_pool_new(size_t n_threads, void (*wake)(void *), void *wake_ctx,
                         struct sl_pool **ret, struct sl_err *err);

/* Runs every job still queued, calls each `done`, then joins the workers. Jobs
 * submitted from there run too. NULL allowed. */
void sl_pool_free(struct sl_pool *p);

const struct sl_executor *sl_pool_executor(struct sl_pool *p);

/* Calls `done` of the jobs finished so far, in the order they finished; returns their number. */
size_t sl_pool_poll(struct sl_pool *p);

/* As poll, after blocking until at least one job is finished; 0 when none is under way. */
size_t sl_pool_wait(struct sl_pool *p);

#endif
