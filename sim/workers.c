/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/workers.h"

#include <pthread.h>
#include <stdlib.h>

#include "common/mem.h"

struct thread {
    struct sl_workers *w;
    unsigned number;
    pthread_t id;
};

struct sl_workers {
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    struct sl_worker_job *first, **last;
    bool stop;
    unsigned n; /* threads that run */
    struct thread *threads;
};

static void *serve(void *arg)
{
    struct thread *t = arg;
    struct sl_workers *w = t->w;
    pthread_mutex_lock(&w->lock);
    for (;;) {
        while (w->first == NULL && !w->stop)
            pthread_cond_wait(&w->work, &w->lock);
        struct sl_worker_job *job = w->first;
        if (job == NULL)
            break;
        w->first = job->next;
        if (w->first == NULL)
            w->last = &w->first;
        pthread_mutex_unlock(&w->lock);
        job->run(job, t->number);
        pthread_mutex_lock(&w->lock);
        job->done = true;
        pthread_cond_broadcast(&w->done);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

enum sl_code sl_workers_new(unsigned n, struct sl_workers **ret, struct sl_err *err)
{
    if (n < 1 || n > 256)
        return sl_err_set(err, SL_E_RANGE, "%u worker threads (1 to 256 allowed)", n);
    struct sl_workers *w = sl_calloc(1, sizeof(*w));
    if (w == NULL)
        return sl_err_set(err, SL_E_NOMEM, "worker threads");
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->work, NULL);
    pthread_cond_init(&w->done, NULL);
    w->last = &w->first;
    w->threads = sl_calloc(n, sizeof(*w->threads));
    while (w->threads != NULL && w->n < n) {
        struct thread *t = &w->threads[w->n];
        *t = (struct thread){.w = w, .number = w->n};
        if (pthread_create(&t->id, NULL, serve, t) != 0)
            break;
        w->n++;
    }
    if (w->n < n) {
        sl_workers_free(w);
        return sl_err_set(err, SL_E_FAILED, "can't start %u worker threads", n);
    }
    *ret = w;
    return SL_OK;
}

void sl_workers_free(struct sl_workers *w)
{
    if (w == NULL)
        return;
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    pthread_cond_broadcast(&w->work);
    pthread_mutex_unlock(&w->lock);
    for (unsigned i = 0; i < w->n; i++)
        pthread_join(w->threads[i].id, NULL);
    pthread_cond_destroy(&w->done);
    pthread_cond_destroy(&w->work);
    pthread_mutex_destroy(&w->lock);
    free(w->threads);
    free(w);
}

unsigned sl_workers_count(const struct sl_workers *w)
{
    return w->n;
}

void sl_workers_submit(struct sl_workers *w, struct sl_worker_job *job)
{
    job->next = NULL;
    job->done = false;
    pthread_mutex_lock(&w->lock);
    *w->last = job;
    w->last = &job->next;
    pthread_cond_signal(&w->work);
    pthread_mutex_unlock(&w->lock);
}

void sl_workers_wait(struct sl_workers *w, struct sl_worker_job *job)
{
    pthread_mutex_lock(&w->lock);
    while (!job->done)
        pthread_cond_wait(&w->done, &w->lock);
    pthread_mutex_unlock(&w->lock);
}
