/* SPDX-License-Identifier: Apache-2.0 */
#include "common/jobs.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "common/mem.h"

struct list {
    struct sl_job *head, *tail;
};

struct sl_pool {
    struct sl_executor executor; /* first: submit casts back */
    pthread_mutex_t lock;
    pthread_cond_t more, finished;
    struct list queue, completed;
    size_t n_open; /* submitted, not yet handed to done */
    bool stop;
    void (*wake)(void *);
    void *wake_ctx;
    size_t n_threads;
    pthread_t threads[];
};

static void push(struct list *l, struct sl_job *job)
{
    job->next = NULL;
    if (l->tail != NULL)
        l->tail->next = job;
    else
        l->head = job;
    l->tail = job;
}

static struct sl_job *pop(struct list *l)
{
    struct sl_job *job = l->head;
    if (job == NULL)
        return NULL;
    l->head = job->next;
    if (l->head == NULL)
        l->tail = NULL;
    return job;
}

static void *work(void *arg)
{
    struct sl_pool *p = arg;
    pthread_mutex_lock(&p->lock);
    for (;;) {
        while (p->queue.head == NULL && !p->stop)
            pthread_cond_wait(&p->more, &p->lock);
        struct sl_job *job = pop(&p->queue);
        if (job == NULL)
            break;
        pthread_mutex_unlock(&p->lock);
        job->run(job);
        pthread_mutex_lock(&p->lock);
        push(&p->completed, job);
        pthread_cond_signal(&p->finished);
        pthread_mutex_unlock(&p->lock);
        if (p->wake != NULL)
            p->wake(p->wake_ctx);
        pthread_mutex_lock(&p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static void pool_submit(const struct sl_executor *e, struct sl_job *job)
{
    struct sl_pool *p = (struct sl_pool *)e;
    pthread_mutex_lock(&p->lock);
    push(&p->queue, job);
    p->n_open++;
    pthread_cond_signal(&p->more);
    pthread_mutex_unlock(&p->lock);
}

static void join_all(struct sl_pool *p)
{
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_broadcast(&p->more);
    pthread_mutex_unlock(&p->lock);
    for (size_t i = 0; i < p->n_threads; i++)
        pthread_join(p->threads[i], NULL);
    pthread_cond_destroy(&p->finished);
    pthread_cond_destroy(&p->more);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

enum sl_code sl_pool_new(size_t n_threads, void (*wake)(void *), void *wake_ctx,
                         struct sl_pool **ret, struct sl_err *err)
{
    if (n_threads < 1 || n_threads > SL_POOL_THREADS_MAX)
        return sl_err_set(err, SL_E_RANGE, "pool: %zu threads: 1 to %d are allowed", n_threads,
                          SL_POOL_THREADS_MAX);
    struct sl_pool *p = sl_calloc(1, sizeof(*p) + n_threads * sizeof(p->threads[0]));
    if (p == NULL)
        return sl_err_set(err, SL_E_NOMEM, "pool: no memory for %zu threads", n_threads);
    p->executor.submit = pool_submit;
    p->wake = wake;
    p->wake_ctx = wake_ctx;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->more, NULL);
    pthread_cond_init(&p->finished, NULL);
    for (; p->n_threads < n_threads; p->n_threads++) {
        int rc = pthread_create(&p->threads[p->n_threads], NULL, work, p);
        if (rc != 0) {
            join_all(p);
            return sl_err_errno(err, rc, "pool: start a thread");
        }
    }
    *ret = p;
    return SL_OK;
}

void sl_pool_free(struct sl_pool *p)
{
    if (p == NULL)
        return;
    while (sl_pool_wait(p) > 0)
        ;
    join_all(p);
}

const struct sl_executor *sl_pool_executor(struct sl_pool *p)
{
    return &p->executor;
}

static size_t drain(struct sl_pool *p, bool block)
{
    pthread_mutex_lock(&p->lock);
    while (block && p->n_open > 0 && p->completed.head == NULL)
        pthread_cond_wait(&p->finished, &p->lock);
    struct list l = p->completed;
    p->completed = (struct list){0};
    size_t n = 0;
    for (const struct sl_job *j = l.head; j != NULL; j = j->next)
        n++;
    p->n_open -= n;
    pthread_mutex_unlock(&p->lock);
    for (struct sl_job *job = pop(&l); job != NULL; job = pop(&l))
        job->done(job, job->ctx);
    return n;
}

size_t sl_pool_poll(struct sl_pool *p)
{
    return drain(p, false);
}

size_t sl_pool_wait(struct sl_pool *p)
{
    return drain(p, true);
}
