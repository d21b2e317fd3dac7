/* SPDX-License-Identifier: Apache-2.0 */
/* strategies.c - the synchronous strategies side by side on skewed data: accuracy, rounds
 * to a target, bytes. All train with plain SGD, which FedNova and SCAFFOLD want, so that a
 * seed's clients do the same work under each. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "sim/experiment/experiment.h"
#include "sim/experiment/results.h"
#include "sim/experiment/training.h"

#define ROUNDS 50

static const struct part {
    const char *name;
    double alpha, target;
} parts[] = {{"dirichlet-0.1", 0.1, 0.75}, {"dirichlet-0.3", 0.3, 0.82}};

#define N_PARTS (sizeof(parts) / sizeof(parts[0]))

static const struct setting {
    const char *name, *strategy, *aggregation;
} settings[] = {
    {"fedavg", "name: fedavg", ""},
    {"fedavgm", "name: fedavgm", ""},
    {"fedprox", "name: fedprox, mu: 0.01", ""},
    {"fednova", "name: fednova", ""},
    {"scaffold", "name: scaffold", ""},
    {"fedadam", "name: fedadam", ""},
    {"fedyogi", "name: fedyogi", ""},
    {"fedadagrad", "name: fedadagrad", ""},
    {"median", "name: median", ""},
    {"trimmed-mean", "name: trimmed-mean, trim: 2", ""},
    {"krum", "name: krum, f: 2", ""},
    {"multi-krum", "name: multi-krum, f: 2", ""},
    {"geometric-median", "name: geometric-median", ""},
    {"clipped", "name: fedavg", "clip_norm: 2"},
};

#define N_SETTINGS (sizeof(settings) / sizeof(settings[0]))

static enum sl_code list(const struct sl_experiment_options *o, json_t *cells,
                         struct sl_err *err)
{
    enum sl_code rc = SL_OK;
    for (size_t p = 0; p < N_PARTS; p++)
        for (size_t i = 0; i < N_SETTINGS; i++)
            for (size_t k = 0; k < o->n_seeds && rc == SL_OK; k++)
                rc = sl_cell_add(
                    cells, parts[p].name, settings[i].name, o->seeds[k], err,
                    "run: {name: strategies, rounds: %d}\n"
                    "data: {dataset: fashion-mnist, limit: %d, test_limit: %d,\n"
                    "       partition: {kind: dirichlet, alpha: %g, clients: %d}}\n"
                    "model: {name: mlp}\n"
                    "train: {epochs: %d, batch_size: %d, lr: 0.1}\n"
                    "strategy: {%s}\n"
                    "selection: {clients_per_round: %d}\n"
                    "aggregation: {%s}\n",
                    o->quick ? 8 : ROUNDS, o->quick ? 2000 : 0, o->quick ? 1000 : 0,
                    parts[p].alpha, o->quick ? 10 : 100, o->quick ? 1 : 5,
                    o->quick ? 10 : 32, settings[i].strategy, o->quick ? 5 : 10,
                    settings[i].aggregation);
    return rc;
}

static double target_of(const json_t *cell)
{
    const char *part = json_string_value(json_object_get(cell, "part"));
    for (size_t p = 0; p < N_PARTS; p++)
        if (strcmp(parts[p].name, part) == 0)
            return parts[p].target;
    return 1;
}

/* Adds best, and rounds until the target (none when it was not reached). */
static void add_target(json_t *result, double target)
{
    const json_t *accuracy = json_object_get(result, "accuracy"), *v;
    double best = 0;
    size_t i;
    json_array_foreach(accuracy, i, v)
    {
        double a = json_number_value(v);
        best = fmax(best, a);
        if (a >= target && json_object_get(result, "to_target") == NULL)
            json_object_set_new(result, "to_target", json_integer((json_int_t)i + 1));
    }
    json_object_set_new(result, "best", json_real(best));
}

static enum sl_code run(const json_t *cell, json_t **ret, struct sl_err *err)
{
    struct sl_plan plan = {0};
    json_t *result;
    enum sl_code rc = sl_cell_plan(cell, &plan, err);
    if (rc == SL_OK)
        rc = sl_federated_run(&plan, NULL, NULL, &result, err);
    if (rc == SL_OK) {
        add_target(result, target_of(cell));
        *ret = result;
    }
    sl_plan_deinit(&plan);
    return rc;
}

/* --- report ----------------------------------------------------------------------- */

static void row(const json_t *results, struct sl_page *page, const char *part,
                const char *setting)
{
    struct sl_sample a = sl_results_sample(results, part, setting, "last5");
    struct sl_sample d = sl_results_paired(results, part, setting, "fedavg", "last5");
    struct sl_sample b = sl_results_sample(results, part, setting, "best");
    struct sl_sample t = sl_results_sample(results, part, setting, "to_target");
    struct sl_sample up = sl_results_sample(results, part, setting, "bytes_up");
    struct sl_sample down = sl_results_sample(results, part, setting, "bytes_down");
    char text[SL_SAMPLE_TEXT];
    if (a.n == 0)
        return;
    sl_page_cell(page, "%s", setting);
    sl_page_cell(page, "%s", sl_sample_text(&a, 100, 2, text));
    sl_page_cell(page, "%s", strcmp(setting, "fedavg") == 0
                                 ? ""
                                 : sl_difference_text(&d, 100, 2, text));
    sl_page_cell(page, "%s", sl_sample_text(&b, 100, 2, text));
    sl_page_cell(page, "%s", sl_sample_text(&t, 1, 1, text));
    sl_page_cell(page, "%zu", t.n);
    sl_page_cell(page, "%.1f, %.1f", up.mean * 1e-6, down.mean * 1e-6);
    sl_page_cell(page, "%zu", a.n);
}

static void plot(const json_t *results, struct sl_page *page, const struct part *p)
{
    static const char *const shown[] = {"fedavg",   "fedavgm", "fednova",
                                        "scaffold", "fedadam", "geometric-median"};
    double x[ROUNDS], y[6][ROUNDS];
    struct sl_plot_series series[6];
    char name[64], title[64];
    size_t n = 0;
    for (int i = 0; i < ROUNDS; i++)
        x[i] = i + 1;
    for (size_t i = 0; i < 6; i++) {
        size_t points =
            sl_results_curve(results, p->name, shown[i], "accuracy", y[n], ROUNDS);
        for (size_t k = 0; k < points; k++)
            y[n][k] *= 100;
        if (points > 0) {
            series[n] = (struct sl_plot_series){shown[i], x, y[n], points};
            n++;
        }
    }
    snprintf(name, sizeof(name), "strategies-%s", p->name);
    snprintf(title, sizeof(title), "%s, mean over seeds", p->name);
    if (n > 0)
        sl_page_plot(
            page, name,
            &(struct sl_plot_lines){title, "round", "test accuracy (%)", series, n});
}

static void report(const json_t *results, struct sl_page *page)
{
    static const char *const columns[] = {"strategy",
                                          "accuracy %",
                                          "minus fedavg, paired",
                                          "best round %",
                                          "rounds to the target",
                                          "seeds that reach it",
                                          "MB up, down",
                                          "seeds",
                                          NULL};
    sl_page_paragraph(page, "Accuracy: mean of the last five rounds.");
    for (size_t p = 0; p < N_PARTS; p++) {
        if (sl_results_count(results, parts[p].name) == 0)
            continue;
        sl_page_heading(page, "%s, target %g %%", parts[p].name, 100 * parts[p].target);
        sl_page_table_begin(page, columns);
        for (size_t i = 0; i < N_SETTINGS; i++)
            row(results, page, parts[p].name, settings[i].name);
        sl_page_table_end(page);
        plot(results, page, &parts[p]);
    }
}

const struct sl_experiment sl_experiment_strategies = {
    .name = "strategies",
    .help = "accuracy, rounds to a target and bytes of the synchronous strategies",
    .default_seeds = 3,
    .list = list,
    .run = run,
    .report = report,
};
