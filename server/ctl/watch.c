/* SPDX-License-Identifier: Apache-2.0 */
/* The live view: reads status and report of the coordinator twice a second and shows one line a round.
 * On a terminal the line of the round under way is redrawn. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/mem.h"
#include "common/plot_term.h"
#include "server/ctl/ctl.h"

#define PERIOD_NS (300 * 1000 * 1000L)

struct view {
    const struct sl_ctl_options *options;
    bool terminal, head_shown, live_shown;
    size_t shown; /* report lines shown */
    double *round, *accuracy;
    size_t n, cap;
    double bytes, wall_s;
    json_t *end; /* run_end, owned */
};

static double real(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

static void human(double bytes, char out[32])
{
    static const char *const unit[] = {"B", "KB", "MB", "GB", "TB"};
    int u = 0;
    while (bytes >= 1000 && u < 4) {
        bytes /= 1000;
        u++;
    }
    snprintf(out, 32, u == 0 ? "%.0f %s" : "%.1f %s", bytes, unit[u]);
}

static void clear_live(struct view *v)
{
    if (v->live_shown)
        fputs("\r\033[K", stdout);
    v->live_shown = false;
}

static void head(struct view *v)
{
    if (v->head_shown || v->options->quiet)
        return;
    printf("%6s  %7s  %9s  %10s  %10s  %10s  %10s  %8s\n", "round", "clients", "accuracy",
           "loss", "train loss", "up", "down", "time");
    v->head_shown = true;
}

static void keep_point(struct view *v, double round, double accuracy)
{
    if (v->n == v->cap) {
        size_t cap = v->cap == 0 ? 64 : v->cap * 2;
        double *r = realloc(v->round, cap * sizeof(double));
        if (r != NULL)
            v->round = r;
        double *a = realloc(v->accuracy, cap * sizeof(double));
        if (a != NULL)
            v->accuracy = a;
        if (r == NULL || a == NULL)
            return; /* the curve stays shorter */
        v->cap = cap;
    }
    v->round[v->n] = round;
    v->accuracy[v->n++] = accuracy;
}

static void show_round(struct view *v, const json_t *line)
{
    char up[32], down[32], acc[16] = "-", loss[16] = "-";
    const json_t *a = json_object_get(line, "accuracy");
    if (json_is_number(a)) {
        snprintf(acc, sizeof(acc), "%.4f", json_number_value(a));
        snprintf(loss, sizeof(loss), "%.4f", real(line, "loss"));
        keep_point(v, real(line, "round"), json_number_value(a));
    }
    human(real(line, "bytes_up"), up);
    human(real(line, "bytes_down"), down);
    v->bytes += real(line, "bytes_up") + real(line, "bytes_down");
    v->wall_s += real(line, "wall_s");
    if (v->options->quiet)
        return;
    clear_live(v);
    head(v);
    printf("%6.0f  %3.0f/%-3.0f  %9s  %10s  %10.4f  %10s  %10s  %6.2f s\n", real(line, "round"),
           real(line, "completed"), real(line, "selected"), acc, loss,
           real(line, "train_loss"), up, down, real(line, "latency_s"));
    fflush(stdout);
}

static void show_live(struct view *v, const json_t *status)
{
    const json_t *run = json_object_get(status, "run");
    if (!v->terminal || v->options->quiet || !json_is_object(run))
        return;
    head(v);
    const char *phase = json_string_value(json_object_get(run, "phase"));
    printf("\r\033[K%6.0f  %3.0f/%-3.0f  %s", real(run, "round"), real(run, "accepted"),
           real(run, "members"), phase != NULL ? phase : "");
    fflush(stdout);
    v->live_shown = true;
}

static void take_lines(struct view *v, const json_t *report)
{
    for (size_t i = v->shown; i < json_array_size(report); i++) {
        json_t *line = json_array_get(report, i);
        const char *event = json_string_value(json_object_get(line, "event"));
        if (event == NULL)
            continue;
        if (strcmp(event, "round") == 0)
            show_round(v, line);
        if (strcmp(event, "run_end") == 0) {
            json_decref(v->end);
            v->end = json_incref(line);
        }
    }
    v->shown = json_array_size(report);
}

static int64_t newest_run(const json_t *status)
{
    int64_t newest = 0;
    size_t i;
    json_t *r;
    json_array_foreach(json_object_get(status, "runs"), i, r)
    {
        int64_t id = json_integer_value(json_object_get(r, "id"));
        newest = id > newest ? id : newest;
    }
    return newest;
}

static enum sl_code look(struct sl_ctl_link *l, struct view *v, int64_t *run, struct sl_err *err)
{
    json_t *status, *report;
    enum sl_code rc = sl_ctl_ask(l, json_pack("{s:s}", "cmd", "status"), &status, err);
    if (rc != SL_OK)
        return rc;
    if (*run <= 0)
        *run = newest_run(json_object_get(status, "status"));
    if (*run <= 0) {
        json_decref(status);
        return sl_err_set(err, SL_E_NOTFOUND, "no run yet (see starlingctl submit)");
    }
    rc = sl_ctl_ask(l, json_pack("{s:s, s:I}", "cmd", "report", "run", (json_int_t)*run),
                    &report, err);
    if (rc == SL_OK) {
        take_lines(v, json_object_get(report, "report"));
        json_decref(report);
        if (v->end == NULL)
            show_live(v, json_object_get(status, "status"));
    }
    json_decref(status);
    return rc;
}

static enum sl_code finish(struct view *v, struct sl_err *err)
{
    clear_live(v);
    char bytes[32];
    human(v->bytes, bytes);
    const char *reason = json_string_value(json_object_get(v->end, "reason"));
    const char *digest = json_string_value(json_object_get(v->end, "model_digest"));
    if (v->n > 1 && !v->options->quiet)
        sl_plot_term_curve(stdout, "test accuracy by round", v->round, v->accuracy, v->n, 72, 14);
    printf("accuracy %.4f, loss %.4f, %s moved, %.1f s: %s\nmodel %s\n",
           real(v->end, "accuracy"), real(v->end, "loss"), bytes, real(v->end, "wall_s"),
           reason != NULL ? reason : "ended", digest != NULL ? digest : "-");
    if (json_is_true(json_object_get(v->end, "failed")))
        return sl_err_set(err, SL_E_FAILED, "the run failed: %s",
                          reason != NULL ? reason : "no reason given");
    return SL_OK;
}

enum sl_code sl_ctl_watch(struct sl_ctl_link *l, const struct sl_ctl_options *o,
                          struct sl_err *err)
{
    struct view v = {.options = o, .terminal = isatty(STDOUT_FILENO) == 1};
    int64_t run = o->run;
    enum sl_code rc;
    while ((rc = look(l, &v, &run, err)) == SL_OK && v.end == NULL) {
        struct timespec period = {0, PERIOD_NS};
        nanosleep(&period, NULL);
    }
    if (rc == SL_OK)
        rc = finish(&v, err);
    json_decref(v.end);
    free(v.round);
    free(v.accuracy);
    return rc;
}
