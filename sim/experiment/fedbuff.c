/* SPDX-License-Identifier: Apache-2.0 */
/* fedbuff.c - asynchronous buffers against rounds in virtual time: how long until a target accuracy, on devices
 * whose speeds are lognormal with sigma 1. As many clients are under way as a round has, training is the same,
 * and both are evaluated after the same number of updates, so neither meets the target by looking more
 * often. A buffer of 5 makes twice as many steps of the server as rounds do: a step of twice the length is the
 * rounds' answer. A part is a client's learning rate. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "sim/experiment/experiment.h"
#include "sim/experiment/results.h"
#include "sim/experiment/training.h"

#define COHORT 10
#define LOOK 20      /* updates from one evaluation to the next */
#define UPDATES 2000 /* at most */
#define TARGET 0.8
#define QUICK_TARGET 0.55

static const struct setting {
    const char *name, *strategy;
    int updates; /* that make a version */
} settings[] = {
    {"fedavg", "name: fedavg", COHORT},
    {"fedavg,eta=2", "name: fedavgm, beta: 0, eta: 2", COHORT},
    {"fedbuff-K10", "name: fedbuff, buffer: 10", 10},
    {"fedbuff-K5", "name: fedbuff, buffer: 5", 5},
};

#define N_SETTINGS (sizeof(settings) / sizeof(settings[0]))

static const char *const rates[] = {"0.05", "0.1", "0.2"};

#define N_RATES (sizeof(rates) / sizeof(rates[0]))

static enum sl_code list(const struct sl_experiment_options *o, json_t *cells,
                         struct sl_err *err)
{
    enum sl_code rc = SL_OK;
    for (size_t l = 0; l < (o->quick ? 1 : N_RATES); l++)
        for (size_t k = 0; k < o->n_seeds; k++)
            for (size_t i = 0; i < N_SETTINGS && rc == SL_OK; i++) {
                char part[32];
                snprintf(part, sizeof(part), "lr-%s", rates[l]);
                rc = sl_cell_add(
                    cells, part, settings[i].name, o->seeds[k], err,
                    "run: {name: fedbuff, rounds: %d, eval_every: %d, target_accuracy: %g}\n"
                    "data: {dataset: fashion-mnist, limit: %d, test_limit: %d,\n"
                    "       partition: {kind: dirichlet, alpha: 0.3, clients: %d}}\n"
                    "model: {name: mlp}\n"
                    "train: {epochs: 1, batch_size: 20, lr: %s}\n"
                    "strategy: {%s}\n"
                    "selection: {clients_per_round: %d, deadline_s: 100000}\n"
                    "sim: {device: {kind: lognormal, samples_per_s: 100, sigma: 1}}\n",
                    (o->quick ? 400 : UPDATES) / settings[i].updates,
                    LOOK / settings[i].updates, o->quick ? QUICK_TARGET : TARGET,
                    o->quick ? 4000 : 20000, o->quick ? 1000 : 0, o->quick ? 40 : 100, rates[l],
                    settings[i].strategy, COHORT);
            }
    return rc;
}

/* Adds how many updates and how much virtual time it took, if the target was met. */
static void add_target(json_t *result, const struct sl_plan *plan)
{
    const json_t *accuracy = json_object_get(result, "accuracy");
    size_t n = json_array_size(accuracy);
    double last = n == 0 ? 0 : json_number_value(json_array_get(accuracy, n - 1));
    bool met = last >= plan->run.target_accuracy;
    json_object_set_new(result, "met", json_integer(met));
    double s = sl_result_number(result, "virtual_s");
    json_object_set_new(result, "target_s", met ? json_real(s) : json_null());
    json_object_set_new(result, "target_log", met ? json_real(log(s)) : json_null());
    json_object_set_new(result, "target_updates",
                        met ? json_real(sl_result_number(result, "updates")) : json_null());
}

static enum sl_code run(const json_t *cell, json_t **ret, struct sl_err *err)
{
    struct sl_plan plan = {0};
    enum sl_code rc = sl_cell_plan(cell, &plan, err);
    if (rc == SL_OK)
        rc = sl_federated_run(&plan, NULL, NULL, ret, err);
    if (rc == SL_OK)
        add_target(*ret, &plan);
    sl_plan_deinit(&plan);
    return rc;
}

/* Virtual time against fedavg's of the same seed: geometric mean of the ratios, and the range of them. */
static void ratio_cell(const json_t *results, struct sl_page *page, const char *part,
                       const char *setting)
{
    struct sl_sample s = sl_results_paired(results, part, setting, "fedavg", "target_log");
    if (s.n == 0)
        sl_page_cell(page, "%s", "-");
    else
        sl_page_cell(page, "%.2f (%.2f to %.2f)", exp(s.mean), exp(s.lo), exp(s.hi));
}

static void table(const json_t *results, struct sl_page *page, const char *part)
{
    static const char *const columns[] = {"setting", "virtual s to the target", "of fedavg's, by seed",
                                          "updates to the target", "met", "seeds", NULL};
    char text[2][SL_SAMPLE_TEXT];
    sl_page_table_begin(page, columns);
    for (size_t i = 0; i < N_SETTINGS; i++) {
        const char *name = settings[i].name;
        struct sl_sample all = sl_results_sample(results, part, name, "met");
        struct sl_sample s = sl_results_sample(results, part, name, "target_s");
        struct sl_sample u = sl_results_sample(results, part, name, "target_updates");
        if (all.n == 0)
            continue;
        sl_page_cell(page, "%s", name);
        sl_page_cell(page, "%s", sl_sample_text(&s, 1, 0, text[0]));
        if (i == 0)
            sl_page_cell(page, "%s", "");
        else
            ratio_cell(results, page, part, name);
        sl_page_cell(page, "%s", sl_sample_text(&u, 1, 0, text[1]));
        sl_page_cell(page, "%zu", s.n);
        sl_page_cell(page, "%zu", all.n);
    }
    sl_page_table_end(page);
}

static void report(const json_t *results, struct sl_page *page)
{
    sl_page_paragraph(page, "Virtual time until an evaluation, one every %d updates, reaches the target.",
                      LOOK);
    for (size_t l = 0; l < N_RATES; l++) {
        char part[32];
        snprintf(part, sizeof(part), "lr-%s", rates[l]);
        if (sl_results_count(results, part) == 0)
            continue;
        sl_page_heading(page, "lr %s", rates[l]);
        table(results, page, part);
    }
}

const struct sl_experiment sl_experiment_fedbuff = {
    .name = "fedbuff",
    .help = "virtual time to an accuracy, asynchronous against rounds",
    .default_seeds = 3,
    .list = list,
    .run = run,
    .report = report,
};
