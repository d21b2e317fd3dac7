/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "server/selection/decide.h"
#include "sim/experiment/fedmarl.h"
#include "sim/experiment/results.h"

#define KEY 64
#define NAMES 8
#define ROUNDS_MAX 256

/* Quantile 0.975 of Student's t for n - 1 degrees of freedom. */
static double t_quantile(size_t n)
{
    static const double t[] = {12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262,
                               2.228,  2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101,
                               2.093,  2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052,
                               2.048,  2.045};
    const size_t known = sizeof(t) / sizeof(t[0]);
    return n < 2 ? 0 : n - 2 < known ? t[n - 2] : 1.96;
}

/* Half of the 95 % interval of a mean over n seeds. */
static double half(const struct sl_sample *s)
{
    return s->n < 2 ? 0 : t_quantile(s->n) * s->sd / sqrt((double)s->n);
}

static struct sl_sample sample_of(const double *v, size_t n)
{
    struct sl_sample s = {.n = n};
    for (size_t i = 0; i < n; i++)
        s.mean += v[i] / (double)n;
    for (size_t i = 0; i < n; i++)
        s.sd += (v[i] - s.mean) * (v[i] - s.mean);
    s.sd = n > 1 ? sqrt(s.sd / (double)(n - 1)) : 0;
    return s;
}

/* What two policies of a part make of each seed: a, b of policy.key. */
enum relation { DIFFERENCE, RATIO };
static struct sl_sample compared(const json_t *results, const char *part, const char *a,
                                 const char *b, const char *key, enum relation how)
{
    double v[64];
    size_t n = 0, i;
    json_t *line;
    char ka[KEY], kb[KEY];
    snprintf(ka, sizeof(ka), "%s.%s", a, key);
    snprintf(kb, sizeof(kb), "%s.%s", b, key);
    json_array_foreach(results, i, line)
    {
        const json_t *cell = json_object_get(line, "cell"), *r = json_object_get(line, "result");
        const char *p = json_string_value(json_object_get(cell, "part"));
        double x = sl_result_number(r, ka), y = sl_result_number(r, kb);
        if (p != NULL && strcmp(p, part) == 0 && isfinite(x) && isfinite(y) && n < 64)
            v[n++] = how == RATIO ? x / y : x - y;
    }
    return sample_of(v, n);
}

static struct sl_sample plain(const json_t *results, const char *part, const char *setting,
                              const char *policy, const char *key)
{
    char k[KEY];
    snprintf(k, sizeof(k), "%s.%s", policy, key);
    return sl_results_sample(results, part, setting, k);
}

/* --- real training ---------------------------------------------------------------- */

/* fedmarl first. */
static size_t names_of(const struct sl_fedmarl_part *p, const char *ret[NAMES])
{
    size_t n = 0;
    const struct sl_decide_ops *ops;
    ret[n++] = "fedmarl";
    for (size_t i = 0; (ops = sl_decide_at(i)) != NULL && n < NAMES; i++)
        if (strcmp(ops->name, "fedmarl") != 0 && (p->rivals || strcmp(ops->name, "all") == 0))
            ret[n++] = ops->name;
    return n;
}

static void row(const json_t *results, const char *part, const char *name, struct sl_page *page)
{
    const bool own = strcmp(name, "fedmarl") == 0, all = strcmp(name, "all") == 0;
    struct sl_sample late = plain(results, part, SL_FEDMARL_SETTING, name, "late");
    struct sl_sample accepted = plain(results, part, SL_FEDMARL_SETTING, name, "accepted");
    struct sl_sample worst = plain(results, part, SL_FEDMARL_SETTING, name, "worst");
    struct sl_sample back = plain(results, part, SL_FEDMARL_SETTING, name, "return");
    struct sl_sample less = compared(results, part, name, "all", "late", DIFFERENCE);
    struct sl_sample latency = compared(results, part, name, "all", "latency", RATIO);
    struct sl_sample traffic = compared(results, part, name, "all", "traffic", RATIO);
    struct sl_sample lead = compared(results, part, "fedmarl", name, "return", DIFFERENCE);
    char text[SL_SAMPLE_TEXT];
    sl_page_cell(page, "%s", name);
    sl_page_cell(page, "%s", sl_sample_text(&late, 100, 2, text));
    if (all)
        sl_page_cell(page, "%s", "");
    else
        sl_page_cell(page, "%+.2f (%+.2f to %+.2f)", 100 * less.mean,
                     100 * (less.mean - half(&less)), 100 * (less.mean + half(&less)));
    sl_page_cell(page, "%.3f", latency.mean);
    sl_page_cell(page, "%.3f", traffic.mean);
    sl_page_cell(page, "%.2f", accepted.mean);
    sl_page_cell(page, "%s", sl_sample_text(&worst, 100, 1, text));
    sl_page_cell(page, "%s", sl_sample_text(&back, 1, 2, text));
    if (own)
        sl_page_cell(page, "%s", "");
    else
        sl_page_cell(page, "%+.3f (%+.3f to %+.3f)", lead.mean, lead.mean - half(&lead),
                     lead.mean + half(&lead));
}

static const char *holds(bool yes)
{
    return yes ? "holds" : "does not hold";
}

static void verdict(const json_t *results, const struct sl_fedmarl_part *p, struct sl_page *page)
{
    const char *names[NAMES], *nearest = "all";
    const size_t n = names_of(p, names);
    struct sl_sample less = compared(results, p->name, "fedmarl", "all", "late", DIFFERENCE);
    struct sl_sample latency = compared(results, p->name, "fedmarl", "all", "latency", RATIO);
    struct sl_sample traffic = compared(results, p->name, "fedmarl", "all", "traffic", RATIO);
    double least = INFINITY;
    for (size_t i = 1; i < n; i++) {
        double lead =
            compared(results, p->name, "fedmarl", names[i], "return", DIFFERENCE).mean;
        if (lead < least) {
            least = lead;
            nearest = names[i];
        }
    }
    sl_page_paragraph(page, "Return above %s: %s (nearest: %s, %+.3f).",
                      p->rivals ? "every rival's at equal bytes" : "accept-all's", holds(least > 0),
                      nearest, least);
    sl_page_paragraph(page,
                      "Against accepting everybody: latency %.3f (at most 0.7: %s), uplink %.3f (at "
                      "most 0.7: %s), accuracy %+.2f points, 95 %% interval %+.2f to %+.2f (at "
                      "least -1: %s).",
                      latency.mean, holds(latency.mean <= 0.7), traffic.mean,
                      holds(traffic.mean <= 0.7), 100 * less.mean,
                      100 * (less.mean - half(&less)), 100 * (less.mean + half(&less)),
                      holds(less.mean >= -0.01));
}

/* A point a policy. */
static void pareto(const json_t *results, const struct sl_fedmarl_part *p, const char *key,
                   const char *says, struct sl_page *page)
{
    const char *names[NAMES];
    const size_t n = names_of(p, names);
    struct sl_plot_series series[NAMES];
    double x[NAMES], y[NAMES];
    char file[64], title[96];
    for (size_t i = 0; i < n; i++) {
        x[i] = compared(results, p->name, names[i], "all", key, RATIO).mean;
        y[i] = 100 * plain(results, p->name, SL_FEDMARL_SETTING, names[i], "late").mean;
        series[i] = (struct sl_plot_series){names[i], &x[i], &y[i], 1};
    }
    snprintf(file, sizeof(file), "fedmarl-%s-%s", p->name, key);
    snprintf(title, sizeof(title), "%s, mean over seeds", p->says);
    sl_page_plot(page, file,
                 &(struct sl_plot_lines){title, says, "accuracy of the last 10 rounds (%)", series,
                                         n});
}

static void curves(const json_t *results, const struct sl_fedmarl_part *p, struct sl_page *page)
{
    const char *names[NAMES];
    const size_t n = names_of(p, names);
    struct sl_plot_series series[NAMES];
    double x[ROUNDS_MAX], y[NAMES][ROUNDS_MAX];
    char file[64], title[96], key[KEY];
    for (int t = 0; t < ROUNDS_MAX; t++)
        x[t] = t + 1;
    for (size_t i = 0; i < n; i++) {
        snprintf(key, sizeof(key), "%s.accuracy", names[i]);
        const size_t points =
            sl_results_curve(results, p->name, SL_FEDMARL_SETTING, key, y[i], ROUNDS_MAX);
        for (size_t t = 0; t < points; t++)
            y[i][t] *= 100;
        series[i] = (struct sl_plot_series){names[i], x, y[i], points};
    }
    snprintf(file, sizeof(file), "fedmarl-%s-rounds", p->name);
    snprintf(title, sizeof(title), "%s, mean over seeds", p->says);
    sl_page_plot(page, file,
                 &(struct sl_plot_lines){title, "round", "test accuracy (%)", series, n});
}

static void real_part(const json_t *results, const struct sl_fedmarl_part *p, struct sl_page *page)
{
    static const char *const columns[] = {"policy",        "accuracy %",     "minus all (95 %)",
                                          "latency / all", "uplink / all",   "accepted",
                                          "worst class %", "return",         "fedmarl's lead (95 %)",
                                          NULL};
    const char *names[NAMES];
    const size_t n = names_of(p, names), seeds = sl_results_count(results, p->name);
    if (seeds == 0)
        return;
    sl_page_heading(page, "%s, %zu seeds", p->says, seeds);
    sl_page_table_begin(page, columns);
    for (size_t i = 0; i < n; i++)
        row(results, p->name, names[i], page);
    sl_page_table_end(page);
    verdict(results, p, page);
    pareto(results, p, "latency", "sum of latencies / that of accepting everybody", page);
    pareto(results, p, "traffic", "uplink / that of accepting everybody", page);
    curves(results, p, page);
}

/* --- cached updates --------------------------------------------------------------- */

static void prices(const json_t *results, struct sl_page *page)
{
    static const char *const columns[] = {"price",        "accepted",   "latency / all",
                                          "uplink / all", "accuracy %", NULL};
    size_t i;
    json_t *line;
    if (sl_results_count(results, SL_FEDMARL_PRICES) == 0)
        return;
    sl_page_heading(page, "Other prices, cached updates");
    sl_page_table_begin(page, columns);
    json_array_foreach(results, i, line)
    {
        const json_t *cell = json_object_get(line, "cell"), *r = json_object_get(line, "result");
        if (strcmp(json_string_value(json_object_get(cell, "part")), SL_FEDMARL_PRICES) != 0)
            continue;
        sl_page_cell(page, "%s", json_string_value(json_object_get(cell, "setting")));
        sl_page_cell(page, "%.2f", sl_result_number(r, "fedmarl.accepted"));
        sl_page_cell(page, "%.3f",
                     sl_result_number(r, "fedmarl.latency") / sl_result_number(r, "all.latency"));
        sl_page_cell(page, "%.3f",
                     sl_result_number(r, "fedmarl.traffic") / sl_result_number(r, "all.traffic"));
        sl_page_cell(page, "%.2f", 100 * sl_result_number(r, "fedmarl.late"));
    }
    sl_page_table_end(page);
}

/* Gains over random-k at equal bytes. */
static void ablation(const json_t *results, struct sl_page *page)
{
    static const char *const columns[] = {"without",           "accepted", "accuracy minus random's",
                                          "latency / random's", "return",   "seeds",
                                          NULL};
    static const char *const settings[] = {"nothing", "loss", "times"};
    char text[SL_SAMPLE_TEXT];
    if (sl_results_count(results, SL_FEDMARL_ABLATION) == 0)
        return;
    sl_page_heading(page, "Policies without a part of their state, cached updates");
    sl_page_table_begin(page, columns);
    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
        const char *s = settings[i];
        struct sl_sample own = plain(results, SL_FEDMARL_ABLATION, s, "fedmarl", "late");
        struct sl_sample random = plain(results, SL_FEDMARL_ABLATION, s, "random", "late");
        struct sl_sample h = plain(results, SL_FEDMARL_ABLATION, s, "fedmarl", "latency");
        struct sl_sample h_random = plain(results, SL_FEDMARL_ABLATION, s, "random", "latency");
        struct sl_sample accepted = plain(results, SL_FEDMARL_ABLATION, s, "fedmarl", "accepted");
        struct sl_sample back = plain(results, SL_FEDMARL_ABLATION, s, "fedmarl", "return");
        if (own.n == 0)
            continue;
        sl_page_cell(page, "%s", s);
        sl_page_cell(page, "%.2f", accepted.mean);
        sl_page_cell(page, "%+.2f", 100 * (own.mean - random.mean));
        sl_page_cell(page, "%.3f", h.mean / h_random.mean);
        sl_page_cell(page, "%s", sl_sample_text(&back, 1, 2, text));
        sl_page_cell(page, "%zu", own.n);
    }
    sl_page_table_end(page);
}

void sl_fedmarl_report(const json_t *results, struct sl_page *page)
{
    sl_page_paragraph(page, "Accuracy: test set, mean of the last 10 rounds. Intervals: Student's t over "
                            "paired seeds. Rivals keep as many clients on average as fedmarl "
                            "does on the same seed.");
    for (size_t i = 0; i < sl_fedmarl_n_parts; i++)
        real_part(results, &sl_fedmarl_parts[i], page);
    prices(results, page);
    ablation(results, page);
}
