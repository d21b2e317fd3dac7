/* SPDX-License-Identifier: Apache-2.0 */
#include "common/jobs.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "common/mem.h"

static void run_inline(void *self, struct sl_job *job)
{
    (void)self;
    job->run(job);
    job->done(job, job->ctx);
}

const struct sl_executor sl_inline_executor = {run_inline, NULL};

struct queue {
    struct sl_job *head, *tail;
};

static void push(struct queue *q, struct sl_job *job)
{
    job->next = NULL;
    if (q->tail != NULL)
        q->tail->next = job;
    else
        q->head = job;
    q->tail = job;
}

static struct sl_job *pop(struct queue *q)
{
    struct sl_job *job = q->head;
    if (job != NULL) {
        q->head = job->next;
        if (q->head == NULL)
            q->tail = NULL;
    }
    return job;
}

struct sl_pool {
    struct sl_executor executor;
    pthread_mutex_t lock;
    pthread_cond_t work, over; /* something to run; something to poll */
    struct queue waiting, ended;
    bool stopping;
    void (*wake)(void *ctx);
    void *wake_ctx;
    size_t pending; /* the owner's */
    unsigned n_threads;
    pthread_t threads[];
};

static void *worker(void *arg)
{
    struct sl_pool *p = arg;
    pthread_mutex_lock(&p->lock);
    for (;;) {
        struct sl_job *job = pop(&p->waiting);
        if (job == NULL) {
            if (p->stopping)
                break;
            pthread_cond_wait(&p->work, &p->lock);
            continue;
        }
        pthread_mutex_unlock(&p->lock);
        job->run(job);
        pthread_mutex_lock(&p->lock);
        bool was_empty = p->ended.head == NULL;
        push(&p->ended, job);
        pthread_cond_signal(&p->over);
        if (was_empty && p->wake != NULL) {
            pthread_mutex_unlock(&p->lock);
            p->wake(p->wake_ctx);
            pthread_mutex_lock(&p->lock);
        }
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static void submit(void *self, struct sl_job *job)
{
    struct sl_pool *p = self;
    p->pending++;
    pthread_mutex_lock(&p->lock);
    push(&p->waiting, job);
    pthread_cond_signal(&p->work);
    pthread_mutex_unlock(&p->lock);
}

static void join(struct sl_pool *p)
{
    pthread_mutex_lock(&p->lock);
    p->stopping = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (unsigned i = 0; i < p->n_threads; i++)
        pthread_join(p->threads[i], NULL);
}

enum sl_code sl_pool_new(unsigned n_threads, void (*wake)(void *ctx), void *wake_ctx,
                         struct sl_pool **ret, struct sl_err *err)
{
    if (n_threads < 1 || n_threads > 256)
        return sl_err_set(err, SL_E_RANGE, "%u workers (1 to 256 allowed)", n_threads);
    struct sl_pool *p = sl_calloc(1, sizeof(*p) + n_threads * sizeof(p->threads[0]));
    if (p == NULL)
        return sl_err_set(err, SL_E_NOMEM, "%u workers", n_threads);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work, NULL);
    pthread_cond_init(&p->over, NULL);
    p->executor = (struct sl_executor){submit, p};
    p->wake = wake;
    p->wake_ctx = wake_ctx;
    for (; p->n_threads < n_threads; p->n_threads++)
        if (pthread_create(&p->threads[p->n_threads], NULL, worker, p) != 0) {
            sl_pool_free(p);
            return sl_err_set(err, SL_E_NOMEM, "worker %u of %u can't be started", p->n_threads,
                              n_threads);
        }
    *ret = p;
    return SL_OK;
}

void sl_pool_free(struct sl_pool *p)
{
    if (p == NULL)
        return;
    while (p->pending > 0) /* done may submit more */
        sl_pool_wait(p);
    join(p);
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->work);
    pthread_cond_destroy(&p->over);
    free(p);
}

const struct sl_executor *sl_pool_executor(struct sl_pool *p)
{
    return &p->executor;
}

size_t sl_pool_poll(struct sl_pool *p)
{
    pthread_mutex_lock(&p->lock);
    struct queue ended = p->ended;
    p->ended = (struct queue){0};
    pthread_mutex_unlock(&p->lock);
    size_t n = 0;
    for (struct sl_job *job; (job = pop(&ended)) != NULL; n++) {
        p->pending--;
        job->done(job, job->ctx);
    }
    return n;
}

size_t sl_pool_wait(struct sl_pool *p)
{
    if (p->pending == 0)
        return 0;
    pthread_mutex_lock(&p->lock);
    while (p->ended.head == NULL)
        pthread_cond_wait(&p->over, &p->lock);
    pthread_mutex_unlock(&p->lock);
    return sl_pool_poll(p);
}

size_t sl_pool_pending(const struct sl_pool *p)
{
    return p->pending;
}
