/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/progress.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/plot_term.h"

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void sl_progress_init(struct sl_progress *p, FILE *out, bool quiet, uint32_t rounds)
{
    *p = (struct sl_progress){.out = out,
                              .live = isatty(fileno(out)) != 0,
                              .quiet = quiet,
                              .rounds = rounds,
                              .started_s = now_s()};
}

void sl_progress_deinit(struct sl_progress *p)
{
    free(p->accuracy);
    free(p->at_round);
    json_decref(p->end);
    *p = (struct sl_progress){0};
}

static void keep_accuracy(struct sl_progress *p, double round, double accuracy)
{
    if (p->n == p->cap) {
        size_t cap = p->cap == 0 ? 64 : 2 * p->cap;
        double *a = realloc(p->accuracy, cap * sizeof(*a));
        if (a != NULL)
            p->accuracy = a;
        double *r = a == NULL ? NULL : realloc(p->at_round, cap * sizeof(*r));
        if (r == NULL)
            return;
        p->at_round = r;
        p->cap = cap;
    }
    p->at_round[p->n] = round;
    p->accuracy[p->n++] = accuracy;
}

static void print_time(FILE *out, double s)
{
    if (s < 60)
        fprintf(out, "%.1f s", s);
    else
        fprintf(out, "%.0f min %02.0f s", (s - (double)((long)s % 60)) / 60,
                (double)((long)s % 60));
}

static void print_number(FILE *out, const char *name, const json_t *line, const char *key,
                         double scale, const char *unit)
{
    const json_t *v = json_object_get(line, key);
    if (json_is_number(v))
        fprintf(out, ", %s %.4g%s", name, json_number_value(v) * scale, unit);
}

static void round_line(struct sl_progress *p, const json_t *line)
{
    double round = json_number_value(json_object_get(line, "round"));
    const json_t *accuracy = json_object_get(line, "accuracy");
    if (json_is_number(accuracy))
        keep_accuracy(p, round, json_number_value(accuracy));
    if (p->quiet)
        return;
    double spent = now_s() - p->started_s, done = round + 1;
    fprintf(p->out, "%sround %.0f/%u", p->live ? "\r\033[K" : "", done, p->rounds);
    print_number(p->out, "updates", line, "completed", 1, "");
    print_number(p->out, "loss", line, "train_loss", 1, "");
    print_number(p->out, "accuracy", line, "accuracy", 100, " %");
    print_number(p->out, "virtual", line, "latency_s", 1, " s");
    if (p->live && done < p->rounds) {
        fprintf(p->out, ", about ");
        print_time(p->out, spent / done * (p->rounds - done));
        fprintf(p->out, " left");
    }
    if (!p->live)
        fputc('\n', p->out);
    p->line_open = p->live;
    fflush(p->out);
}

void sl_progress_line(struct sl_progress *p, const json_t *line)
{
    const char *event = json_string_value(json_object_get(line, "event"));
    if (event == NULL)
        return;
    if (strcmp(event, "round") == 0) {
        round_line(p, line);
    } else if (strcmp(event, "run_end") == 0) {
        json_decref(p->end);
        p->end = json_deep_copy(line);
    }
}

static void print_bytes(FILE *out, const char *name, const json_t *line, const char *key)
{
    double b = json_number_value(json_object_get(line, key));
    fprintf(out, "%-10s %.2f %s\n", name, b >= 1e6 ? b * 1e-6 : b * 1e-3,
            b >= 1e6 ? "MB" : "kB");
}

void sl_progress_summary(struct sl_progress *p, double virtual_s, const char *report,
                         const char *model)
{
    if (p->line_open)
        fputc('\n', p->out);
    p->line_open = false;
    if (p->quiet || p->end == NULL)
        return;
    const json_t *accuracy = json_object_get(p->end, "accuracy");
    const char *digest = json_string_value(json_object_get(p->end, "model_digest"));
    fputc('\n', p->out);
    if (p->n > 1)
        sl_plot_term_curve(p->out, "test accuracy by round", p->at_round, p->accuracy, p->n, 72, 14);
    if (json_is_number(accuracy))
        fprintf(p->out, "accuracy   %.2f %%\n", 100 * json_number_value(accuracy));
    if (digest != NULL)
        fprintf(p->out, "digest     %s\n", digest);
    print_bytes(p->out, "up", p->end, "bytes_up");
    print_bytes(p->out, "down", p->end, "bytes_down");
    fprintf(p->out, "virtual    ");
    print_time(p->out, virtual_s);
    fprintf(p->out, "\nwall       ");
    print_time(p->out, now_s() - p->started_s);
    fputc('\n', p->out);
    if (model != NULL)
        fprintf(p->out, "model      %s\n", model);
    if (report != NULL)
        fprintf(p->out, "report     %s\n", report);
}
