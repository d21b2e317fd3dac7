/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/experiment/experiment.h"

#include <fnmatch.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/mem.h"
#include "sim/experiment/log.h"
#include "sim/workers.h"

struct bench;

struct cell_job {
    struct sl_worker_job job;
    struct bench *bench;
    const json_t *cell;
};

/* What the cells of a run share; everything below `lock` is guarded by it. */
struct bench {
    const struct sl_experiment_job *job;
    struct sl_results_log log;
    size_t n_cells;
    struct cell_job *pending; /* [n_pending] */
    size_t n_pending;
    pthread_mutex_t lock;
    size_t n_done; /* of those pending */
    struct sl_err failure;
};

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* --- progress --------------------------------------------------------------------- */

static const char *part_of(const json_t *cell)
{
    return json_string_value(json_object_get(cell, "part"));
}

static double work_of(const struct bench *b, const json_t *cell)
{
    const struct sl_experiment *e = b->job->experiment;
    return e->work == NULL ? 1 : e->work(cell);
}

/* Time a unit of work took in finished cells of this part, of any part if there is none;
 * 0 if none at all. */
static double expected_s(const struct bench *b, const char *part)
{
    double sum[2] = {0, 0}, work[2] = {0, 0};
    const char *key;
    json_t *line;
    json_object_foreach(b->log.by_cell, key, line)
    {
        const json_t *cell = json_object_get(line, "cell");
        const char *p = part_of(cell);
        bool same = p != NULL && strcmp(p, part) == 0;
        for (int any = same ? 0 : 1; any < 2 && p != NULL; any++) {
            sum[any] += json_number_value(json_object_get(line, "wall_s"));
            work[any] += work_of(b, cell);
        }
    }
    int any = work[0] > 0 ? 0 : 1;
    return work[any] > 0 ? sum[any] / work[any] : 0;
}

static double left_s(const struct bench *b)
{
    double sum = 0;
    for (size_t i = 0; i < b->n_pending; i++)
        if (sl_results_log_find(&b->log, b->pending[i].cell) == NULL)
            sum += expected_s(b, part_of(b->pending[i].cell)) *
                   work_of(b, b->pending[i].cell);
    return sum / b->job->jobs;
}

static void print_duration(FILE *to, double s)
{
    if (s < 90)
        fprintf(to, "%.1f s", s);
    else if (s < 5400)
        fprintf(to, "%.0f min", s / 60);
    else
        fprintf(to, "%.1f h", s / 3600);
}

static void show_progress(const struct bench *b, const json_t *cell, double wall_s)
{
    char name[SL_CELL_NAME];
    sl_cell_name(cell, name);
    flockfile(stderr);
    fprintf(stderr, "[%zu/%zu] %s ", b->n_cells - b->n_pending + b->n_done, b->n_cells,
            name);
    print_duration(stderr, wall_s);
    if (b->n_done < b->n_pending) {
        fputs(", about ", stderr);
        print_duration(stderr, left_s(b));
        fputs(" left", stderr);
    }
    fputc('\n', stderr);
    funlockfile(stderr);
}

/* --- cells ------------------------------------------------------------------------ */

static void keep_failure(struct bench *b, const json_t *cell, enum sl_code rc,
                         const struct sl_err *err)
{
    char name[SL_CELL_NAME];
    sl_cell_name(cell, name);
    if (b->failure.code != SL_OK)
        return;
    b->failure = *err;
    sl_err_wrap(&b->failure, rc, "%s", name);
}

static void run_cell(struct sl_worker_job *job, unsigned worker)
{
    struct cell_job *c = (struct cell_job *)job;
    struct bench *b = c->bench;
    struct sl_err err = {.msg = ""};
    json_t *result = NULL;
    pthread_mutex_lock(&b->lock);
    bool failed = b->failure.code != SL_OK;
    pthread_mutex_unlock(&b->lock);
    if (failed)
        return;
    double from = now_s();
    enum sl_code rc = b->job->experiment->run(c->cell, &result, &err);
    double wall_s = now_s() - from;
    pthread_mutex_lock(&b->lock);
    if (rc == SL_OK)
        rc = sl_results_log_append(&b->log, c->cell, result, wall_s, &err);
    if (rc == SL_OK) {
        b->n_done++;
        if (!b->job->quiet)
            show_progress(b, c->cell, wall_s);
    } else {
        keep_failure(b, c->cell, rc, &err);
    }
    pthread_mutex_unlock(&b->lock);
    json_decref(result);
}

static bool is_wanted(const struct sl_experiment_job *job, const json_t *cell)
{
    char name[SL_CELL_NAME];
    sl_cell_name(cell, name);
    for (size_t i = 0; i < job->n_only; i++)
        if (fnmatch(job->only[i], name, 0) == 0)
            return true;
    return job->n_only == 0;
}

static enum sl_code list_cells(const struct sl_experiment_job *job, json_t **ret,
                               struct sl_err *err)
{
    json_t *all = json_array(), *wanted = json_array(), *cell;
    enum sl_code rc = all == NULL || wanted == NULL
                          ? sl_err_set(err, SL_E_NOMEM, "cells of the experiment")
                          : job->experiment->list(&job->options, all, err);
    size_t i;
    json_array_foreach(all, i, cell) if (rc == SL_OK && is_wanted(job, cell) &&
                                         json_array_append(wanted, cell) != 0) rc =
        sl_err_set(err, SL_E_NOMEM, "cells of the experiment");
    if (rc == SL_OK && json_array_size(wanted) == 0)
        rc = sl_err_set(err, SL_E_USAGE,
                        "--only %.60s: no such cell of %s (--list shows them)",
                        job->only[0], job->experiment->name);
    json_decref(all);
    if (rc == SL_OK)
        *ret = wanted;
    else
        json_decref(wanted);
    return rc;
}

static void print_names(const json_t *cells)
{
    size_t i;
    json_t *cell;
    json_array_foreach(cells, i, cell)
    {
        char name[SL_CELL_NAME];
        sl_cell_name(cell, name);
        puts(name);
    }
}

static enum sl_code find_pending(struct bench *b, const json_t *cells, struct sl_err *err)
{
    size_t i;
    json_t *cell;
    b->n_cells = json_array_size(cells);
    b->pending = sl_calloc(b->n_cells, sizeof(*b->pending));
    if (b->pending == NULL)
        return sl_err_set(err, SL_E_NOMEM, "cells of the experiment");
    json_array_foreach(cells, i, cell) if (sl_results_log_find(&b->log, cell) == NULL)
        b->pending[b->n_pending++] = (struct cell_job){{.run = run_cell}, b, cell};
    return SL_OK;
}

static enum sl_code run_pending(struct bench *b, struct sl_err *err)
{
    struct sl_workers *workers;
    if (b->n_pending == 0)
        return SL_OK;
    enum sl_code rc = sl_workers_new(b->job->jobs, &workers, err);
    if (rc != SL_OK)
        return rc;
    for (size_t i = 0; i < b->n_pending; i++)
        sl_workers_submit(workers, &b->pending[i].job);
    for (size_t i = 0; i < b->n_pending; i++)
        sl_workers_wait(workers, &b->pending[i].job);
    sl_workers_free(workers);
    if (b->failure.code != SL_OK)
        *err = b->failure;
    return b->failure.code;
}

/* --- the report ------------------------------------------------------------------- */

static json_t *finished(const struct bench *b, const json_t *cells)
{
    json_t *results = json_array(), *cell;
    size_t i;
    json_array_foreach(cells, i, cell)
    {
        const json_t *line = sl_results_log_find(&b->log, cell);
        if (line != NULL)
            json_array_append_new(results, json_pack("{s:O, s:O}", "cell", cell, "result",
                                                     json_object_get(line, "result")));
    }
    return results;
}

static enum sl_code write_report(const struct bench *b, const json_t *cells,
                                 struct sl_err *err)
{
    const struct sl_experiment *e = b->job->experiment;
    struct sl_page *page;
    char title[128];
    snprintf(title, sizeof(title), "%s: %s%s", e->name, e->help,
             b->job->options.quick ? " (short form)" : "");
    enum sl_code rc = sl_page_new(stdout, b->job->dir, title, &page, err);
    if (rc != SL_OK)
        return rc;
    json_t *results = finished(b, cells);
    size_t n = json_array_size(results);
    if (n < b->n_cells)
        sl_page_paragraph(page, "%zu of %zu cells are finished.", n, b->n_cells);
    if (n > 0)
        e->report(results, page);
    json_decref(results);
    rc = sl_page_finish(page, err);
    sl_page_free(page);
    if (rc == SL_OK)
        printf("\nreport %s/report.html\n", b->job->dir);
    return rc;
}

enum sl_code sl_experiment_run(const struct sl_experiment_job *job, struct sl_err *err)
{
    struct bench b = {.job = job};
    json_t *cells;
    enum sl_code rc = list_cells(job, &cells, err);
    if (rc != SL_OK)
        return rc;
    if (job->list_only) {
        print_names(cells);
        json_decref(cells);
        return SL_OK;
    }
    pthread_mutex_init(&b.lock, NULL);
    rc = sl_results_log_open(&b.log, job->dir, err);
    if (rc == SL_OK)
        rc = find_pending(&b, cells, err);
    if (rc == SL_OK && !job->no_run)
        rc = run_pending(&b, err);
    if (rc == SL_OK)
        rc = write_report(&b, cells, err);
    sl_results_log_close(&b.log);
    pthread_mutex_destroy(&b.lock);
    free(b.pending);
    json_decref(cells);
    return rc;
}
