/* SPDX-License-Identifier: Apache-2.0 */
/* uplink.c - encodings of updates: bits a value on the wire, and what they cost in
 * accuracy. Ten clients, all of them in every round, so that nothing but the encoding
 * differs between the settings of a seed. */
#include <stdio.h>
#include <string.h>

#include "sim/experiment/experiment.h"
#include "sim/experiment/results.h"
#include "sim/experiment/training.h"

#define ROUNDS 20

static const struct setting {
    const char *name, *uplink;
} settings[] = {
    {"fp32", "encoding: fp32"},
    {"bf16", "encoding: bf16"},
    {"bfp-m4", "encoding: bfp, m: 4"},
    {"bfp-m2", "encoding: bfp, m: 2"},
    {"ternary", "encoding: ternary"},
    {"ternary-no-feedback", "encoding: ternary, error_feedback: false"},
};

#define N_SETTINGS (sizeof(settings) / sizeof(settings[0]))

static const struct part {
    const char *model;
    int limit; /* training images; 0 = all */
} parts[] = {{"mlp", 0}, {"lenet", 20000}};

#define N_PARTS (sizeof(parts) / sizeof(parts[0]))

static enum sl_code list(const struct sl_experiment_options *o, json_t *cells,
                         struct sl_err *err)
{
    enum sl_code rc = SL_OK;
    for (size_t p = 0; p < N_PARTS; p++)
        for (size_t k = 0; k < o->n_seeds; k++)
            for (size_t i = 0; i < N_SETTINGS && rc == SL_OK; i++)
                rc = sl_cell_add(
                    cells, parts[p].model, settings[i].name, o->seeds[k], err,
                    "run: {name: uplink, rounds: %d}\n"
                    "data: {dataset: fashion-mnist, limit: %d, test_limit: %d,\n"
                    "       partition: {kind: dirichlet, alpha: 0.3, clients: 10}}\n"
                    "model: {name: %s}\n"
                    "train: {epochs: 1, batch_size: %d, lr: 0.05}\n"
                    "selection: {policy: all}\n"
                    "uplink: {%s}\n",
                    o->quick ? 4 : ROUNDS, o->quick ? 2000 : parts[p].limit,
                    o->quick ? 1000 : 0, parts[p].model, o->quick ? 10 : 32,
                    settings[i].uplink);
    return rc;
}

static enum sl_code run(const json_t *cell, json_t **ret, struct sl_err *err)
{
    struct sl_plan plan = {0};
    enum sl_code rc = sl_cell_plan(cell, &plan, err);
    if (rc == SL_OK)
        rc = sl_federated_run(&plan, NULL, NULL, ret, err);
    sl_plan_deinit(&plan);
    return rc;
}

static void table(const json_t *results, struct sl_page *page, const char *part)
{
    static const char *const columns[] = {
        "uplink", "bits a value", "accuracy %", "minus fp32, paired", "seeds", NULL};
    char text[3][SL_SAMPLE_TEXT];
    sl_page_table_begin(page, columns);
    for (size_t i = 0; i < N_SETTINGS; i++) {
        const char *name = settings[i].name;
        struct sl_sample b = sl_results_sample(results, part, name, "wire_bits");
        struct sl_sample a = sl_results_sample(results, part, name, "last5");
        struct sl_sample d = sl_results_paired(results, part, name, "fp32", "last5");
        if (a.n == 0)
            continue;
        sl_page_cell(page, "%s", name);
        sl_page_cell(page, "%s", sl_sample_text(&b, 1, 3, text[0]));
        sl_page_cell(page, "%s", sl_sample_text(&a, 100, 2, text[1]));
        sl_page_cell(page, "%s", i == 0 ? "" : sl_difference_text(&d, 100, 2, text[2]));
        sl_page_cell(page, "%zu", a.n);
    }
    sl_page_table_end(page);
}

static void plot(const json_t *results, struct sl_page *page)
{
    static const char *const shown[] = {"ternary", "bfp-m2", "bfp-m4", "bf16", "fp32"};
    double x[N_PARTS][5], y[N_PARTS][5];
    struct sl_plot_series series[N_PARTS];
    size_t n = 0;
    for (size_t p = 0; p < N_PARTS; p++) {
        size_t points = 0;
        for (size_t i = 0; i < 5; i++) {
            struct sl_sample a =
                sl_results_sample(results, parts[p].model, shown[i], "last5");
            if (a.n == 0)
                continue;
            x[n][points] =
                sl_results_sample(results, parts[p].model, shown[i], "wire_bits").mean;
            y[n][points++] = 100 * a.mean;
        }
        if (points > 0) {
            series[n] = (struct sl_plot_series){parts[p].model, x[n], y[n], points};
            n++;
        }
    }
    sl_page_plot(page, "uplink-bits",
                 &(struct sl_plot_lines){
                     "accuracy against bits: ternary, bfp m = 2, m = 4, bf16, fp32",
                     "bits a value on the wire", "test accuracy (%)", series, n});
}

static void report(const json_t *results, struct sl_page *page)
{
    sl_page_paragraph(page, "Bits: all bytes up with framing and sealing, by update and "
                            "parameter. Accuracy: mean of the last five rounds.");
    for (size_t p = 0; p < N_PARTS; p++) {
        if (sl_results_count(results, parts[p].model) == 0)
            continue;
        sl_page_heading(page, "%s", parts[p].model);
        table(results, page, parts[p].model);
    }
    plot(results, page);
}

const struct sl_experiment sl_experiment_uplink = {
    .name = "uplink",
    .help = "accuracy and bits of encoded updates",
    .default_seeds = 3,
    .list = list,
    .run = run,
    .report = report,
};
