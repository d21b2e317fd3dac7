/* SPDX-License-Identifier: Apache-2.0 */
#include "common/jobs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>

#define N 2000

struct square {
    struct sl_job job;
    uint64_t in, out;
    pthread_t owner;
    unsigned n_done;
};

static void run(struct sl_job *job)
{
    struct square *s = (struct square *)job;
    s->out = s->in * s->in;
}

static void done(struct sl_job *job, void *ctx)
{
    struct square *s = (struct square *)job;
    assert_true(pthread_equal(s->owner, pthread_self()));
    s->n_done++;
    *(uint64_t *)ctx += s->out;
}

static void wake(void *ctx)
{
    atomic_fetch_add((atomic_size_t *)ctx, 1);
}

static struct square jobs[N];

static void submit_all(struct sl_pool *p, uint64_t *sum)
{
    for (size_t i = 0; i < N; i++) {
        jobs[i] = (struct square){.job = {.run = run, .done = done, .ctx = sum},
                                  .in = i,
                                  .owner = pthread_self()};
        sl_executor_submit(sl_pool_executor(p), &jobs[i].job);
    }
}

static const uint64_t sum_of_squares = (uint64_t)(N - 1) * N * (2 * N - 1) / 6;

static void every_job_completes_once_on_the_owners_thread(void **state)
{
    struct sl_pool *p = NULL;
    atomic_size_t wakes = 0;
    uint64_t sum = 0;
    assert_int_equal(sl_pool_new(4, wake, &wakes, &p, NULL), SL_OK);
    submit_all(p, &sum);
    size_t n = 0, got;
    while ((got = sl_pool_wait(p)) > 0)
        n += got;
    assert_int_equal(n, N);
    assert_int_equal(sum, sum_of_squares);
    for (size_t i = 0; i < N; i++)
        assert_int_equal(jobs[i].n_done, 1);
    assert_int_equal(sl_pool_poll(p), 0);
    sl_pool_free(p);
    assert_in_range(atomic_load(&wakes), 1, N);
}

static void free_completes_every_job_submitted_before(void **state)
{
    struct sl_pool *p = NULL;
    uint64_t sum = 0;
    assert_int_equal(sl_pool_new(2, NULL, NULL, &p, NULL), SL_OK);
    submit_all(p, &sum);
    sl_pool_free(p);
    assert_int_equal(sum, sum_of_squares);
}

struct chain {
    struct sl_job job;
    struct sl_pool *pool;
    unsigned left, n_run, n_done;
};

static void run_link(struct sl_job *job)
{
    ((struct chain *)job)->n_run++;
}

static void submit_next(struct sl_job *job, void *ctx)
{
    struct chain *c = (struct chain *)job;
    c->n_done++;
    if (c->left-- > 0)
        sl_executor_submit(sl_pool_executor(c->pool), job);
}

static void free_completes_jobs_that_done_submits(void **state)
{
    struct chain c = {.job = {.run = run_link, .done = submit_next}, .left = 20};
    assert_int_equal(sl_pool_new(2, NULL, NULL, &c.pool, NULL), SL_OK);
    sl_executor_submit(sl_pool_executor(c.pool), &c.job);
    sl_pool_free(c.pool);
    assert_int_equal(c.n_run, 21);
    assert_int_equal(c.n_done, 21);
}

static void thread_counts_out_of_range_are_refused(void **state)
{
    struct sl_pool *p = NULL;
    struct sl_err err;
    assert_int_equal(sl_pool_new(0, NULL, NULL, &p, &err), SL_E_RANGE);
    assert_int_equal(sl_pool_new(257, NULL, NULL, &p, &err), SL_E_RANGE);
    assert_null(p);
    sl_pool_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_job_completes_once_on_the_owners_thread),
        cmocka_unit_test(free_completes_every_job_submitted_before),
        cmocka_unit_test(free_completes_jobs_that_done_submits),
        cmocka_unit_test(thread_counts_out_of_range_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
