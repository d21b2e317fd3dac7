/* SPDX-License-Identifier: Apache-2.0 */
/* fast.c - accuracy and passes of block floating point with chosen widths (Zhang,
 * McDanel, Kung: FAST, 2021). Part "central": the digest's reference, an MLP on the first
 * 20,000 images. Part "federated": the same settings in a federation of 100 clients,
 * paired: a seed has one partition, cohorts and order of samples in all settings. */
#include <stdio.h>
#include <string.h>

#include "sim/experiment/experiment.h"
#include "sim/experiment/results.h"
#include "sim/experiment/training.h"

#define CENTRAL "central"
#define FEDERATED "federated"
#define LAYERS 3
#define ROUNDS 20

/* W, A: weights and activations, truncated unless said; G: gradients, stochastically
 * rounded unless said. */
static const struct setting {
    const char *name, *accelerator;
    bool federated;
} settings[] = {
    {"fp32", "matmul: fp32", true},
    {"m=4", "matmul: fast, precision: 4", true},
    {"m=4,W+A-nearest", "matmul: fast, precision: 4, round: nearest", false},
    {"m=4,G-nearest", "matmul: fast, precision: 4, round_gradient: nearest", false},
    {"m=4,e=3", "matmul: fast, precision: 4, e: 3", false},
    {"m=4,e=unlimited", "matmul: fast, precision: 4, e: unlimited", false},
    {"m=3", "matmul: fast, precision: 3", false},
    {"adaptive", "matmul: fast, precision: adaptive", true},
    {"adaptive,W+A-nearest", "matmul: fast, precision: adaptive, round: nearest", false},
    {"m=2", "matmul: fast, precision: 2", true},
    {"m=2,W+A-nearest", "matmul: fast, precision: 2, round: nearest", false},
    {"m=2,G-nearest", "matmul: fast, precision: 2, round_gradient: nearest", true},
    {"m=2,G-truncated", "matmul: fast, precision: 2, round_gradient: truncate", false},
};

#define N_SETTINGS (sizeof(settings) / sizeof(settings[0]))

static enum sl_code add_central(json_t *cells, const struct setting *s, uint64_t seed,
                                bool quick, struct sl_err *err)
{
    return sl_cell_add(
        cells, CENTRAL, s->name, seed, err,
        "run: {name: fast, rounds: 1}\n"
        "data: {dataset: fashion-mnist, limit: %d, test_limit: %d, partition: {clients: "
        "1}}\n"
        "model: {layers: [flatten, {dense: 128}, relu, {dense: 64}, relu, {dense: 10}]}\n"
        "train: {epochs: 5, batch_size: 100, lr: 0.05, momentum: 0.9,\n"
        "        lr_schedule: {kind: cosine}}\n"
        "accelerator: {%s}\n",
        quick ? 4000 : 20000, quick ? 2000 : 0, s->accelerator);
}

static enum sl_code add_federated(json_t *cells, const struct setting *s, uint64_t seed,
                                  bool quick, struct sl_err *err)
{
    return sl_cell_add(cells, FEDERATED, s->name, seed, err,
                       "run: {name: fast, rounds: %d}\n"
                       "data: {dataset: fashion-mnist, limit: %d, test_limit: %d,\n"
                       "       partition: {kind: dirichlet, alpha: 0.3, clients: %d}}\n"
                       "model: {name: %s}\n"
                       "train: {epochs: 1, batch_size: %d, lr: 0.05}\n"
                       "selection: {clients_per_round: %d}\n"
                       "accelerator: {%s}\n",
                       quick ? 6 : ROUNDS, quick ? 2000 : 0, quick ? 1000 : 0,
                       quick ? 10 : 100, quick ? "mlp" : "cnn", quick ? 10 : 32,
                       quick ? 5 : 10, s->accelerator);
}

static enum sl_code list(const struct sl_experiment_options *o, json_t *cells,
                         struct sl_err *err)
{
    enum sl_code rc = SL_OK;
    for (size_t k = 0; k < o->n_seeds && rc == SL_OK; k++)
        for (size_t i = 0; i < N_SETTINGS && rc == SL_OK; i++)
            rc = add_central(cells, &settings[i], o->seeds[k], o->quick, err);
    for (size_t k = 0; k < o->n_seeds && rc == SL_OK; k++)
        for (size_t i = 0; i < N_SETTINGS && rc == SL_OK; i++)
            if (settings[i].federated)
                rc = add_federated(cells, &settings[i], o->seeds[k], o->quick, err);
    return rc;
}

static enum sl_code run(const json_t *cell, json_t **ret, struct sl_err *err)
{
    struct sl_plan plan = {0};
    enum sl_code rc = sl_cell_plan(cell, &plan, err);
    if (rc != SL_OK)
        return rc;
    if (strcmp(json_string_value(json_object_get(cell, "part")), FEDERATED) == 0) {
        rc = sl_federated_run(&plan, NULL, NULL, ret, err);
    } else {
        struct sl_central c;
        rc = sl_central_train(&c, &plan, ret, err);
        sl_central_deinit(&c);
    }
    sl_plan_deinit(&plan);
    return rc;
}

/* --- report ----------------------------------------------------------------------- */

static void accuracy_table(const json_t *results, struct sl_page *page, const char *part,
                           const char *key)
{
    static const char *const columns[] = {"setting",
                                          "accuracy %",
                                          "minus fp32, paired",
                                          "passes a multiply-add",
                                          "lowest",
                                          "highest",
                                          "seeds",
                                          NULL};
    char text[3][SL_SAMPLE_TEXT];
    sl_page_table_begin(page, columns);
    for (size_t i = 0; i < N_SETTINGS; i++) {
        const char *name = settings[i].name;
        struct sl_sample a = sl_results_sample(results, part, name, key);
        struct sl_sample d = sl_results_paired(results, part, name, "fp32", key);
        struct sl_sample p = sl_results_sample(results, part, name, "passes");
        if (a.n == 0)
            continue;
        sl_page_cell(page, "%s", name);
        sl_page_cell(page, "%s", sl_sample_text(&a, 100, 2, text[0]));
        sl_page_cell(page, "%s", i == 0 ? "" : sl_difference_text(&d, 100, 2, text[1]));
        sl_page_cell(page, "%s", i == 0 ? "" : sl_sample_text(&p, 1, 2, text[2]));
        sl_page_cell(page, "%.2f", 100 * a.lo);
        sl_page_cell(page, "%.2f", 100 * a.hi);
        sl_page_cell(page, "%zu", a.n);
    }
    sl_page_table_end(page);
}

static void share_table(const json_t *results, struct sl_page *page)
{
    static const char *const columns[] = {
        "layer", "weights", "activations", "gradients", "passes a multiply-add", NULL};
    static const char *const keys[] = {"w", "a", "g", "passes"};
    char key[32], text[SL_SAMPLE_TEXT];
    sl_page_paragraph(page, "Adaptive: share of choices that took 4 bits, by layer.");
    sl_page_table_begin(page, columns);
    for (int layer = 0; layer < LAYERS; layer++) {
        sl_page_cell(page, "%d", layer + 1);
        for (int k = 0; k < 4; k++) {
            snprintf(key, sizeof(key), "layers.%d.%s", layer, keys[k]);
            struct sl_sample s = sl_results_sample(results, CENTRAL, "adaptive", key);
            sl_page_cell(page, "%s", sl_sample_text(&s, 1, 2, text));
        }
    }
    sl_page_table_end(page);
}

static void plot_passes(const json_t *results, struct sl_page *page, const char *part,
                        const char *key, const char *name, const char *title)
{
    static const char *const shown[] = {"m=2", "adaptive", "m=4"};
    double x[3], y[3], line_x[2] = {1, 4}, line_y[2];
    for (int i = 0; i < 3; i++) {
        x[i] = sl_results_sample(results, part, shown[i], "passes").mean;
        y[i] = 100 * sl_results_sample(results, part, shown[i], key).mean;
        if (sl_results_sample(results, part, shown[i], key).n == 0)
            return;
    }
    line_y[0] = line_y[1] = 100 * sl_results_sample(results, part, "fp32", key).mean;
    const struct sl_plot_series series[] = {{"fp32", line_x, line_y, 2},
                                            {"FAST: m = 2, adaptive, m = 4", x, y, 3}};
    sl_page_plot(page, name,
                 &(struct sl_plot_lines){title, "passes a multiply-add",
                                         "test accuracy (%)", series, 2});
}

static void plot_curves(const json_t *results, struct sl_page *page)
{
    double x[ROUNDS], y[N_SETTINGS][ROUNDS];
    struct sl_plot_series series[N_SETTINGS];
    size_t n = 0;
    for (int i = 0; i < ROUNDS; i++)
        x[i] = i;
    for (size_t i = 0; i < N_SETTINGS; i++) {
        size_t points = sl_results_curve(results, FEDERATED, settings[i].name, "accuracy",
                                         y[n], ROUNDS);
        for (size_t k = 0; k < points; k++)
            y[n][k] *= 100;
        if (points > 0) {
            series[n] = (struct sl_plot_series){settings[i].name, x, y[n], points};
            n++;
        }
    }
    if (n > 0)
        sl_page_plot(page, "fast-federated-rounds",
                     &(struct sl_plot_lines){"federated, mean over seeds", "round",
                                             "test accuracy (%)", series, n});
}

static void report_central(const json_t *results, struct sl_page *page)
{
    sl_page_heading(page, "Central");
    sl_page_paragraph(page, "Weights and activations (W, A) are truncated and gradients "
                            "(G) rounded stochastically unless said; e = 4.");
    accuracy_table(results, page, CENTRAL, "final");
    share_table(results, page);
    plot_passes(results, page, CENTRAL, "final", "fast-central-passes",
                "central: accuracy against passes");
}

static void report_federated(const json_t *results, struct sl_page *page)
{
    sl_page_heading(page, "Federated");
    sl_page_paragraph(page, "Accuracy: mean of the last five rounds.");
    accuracy_table(results, page, FEDERATED, "last5");
    plot_curves(results, page);
    plot_passes(results, page, FEDERATED, "last5", "fast-federated-passes",
                "federated: accuracy against passes");
}

static void report(const json_t *results, struct sl_page *page)
{
    if (sl_results_count(results, CENTRAL) > 0)
        report_central(results, page);
    if (sl_results_count(results, FEDERATED) > 0)
        report_federated(results, page);
}

const struct sl_experiment sl_experiment_fast = {
    .name = "fast",
    .help = "accuracy and passes of block floating point, central and federated",
    .default_seeds = 3,
    .list = list,
    .run = run,
    .report = report,
};
