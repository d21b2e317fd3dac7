/* SPDX-License-Identifier: Apache-2.0 */
/* tr.c - Term Revealing (Kung, McDanel, Zhang 2020): one MLP trained in single precision,
 * then evaluated at many budgets of term pairs without another training, against uniform
 * quantisation of its weights. A cell is a trained model with all its evaluations. */
#include <stdio.h>
#include <string.h>

#include "sim/experiment/experiment.h"
#include "sim/experiment/results.h"
#include "sim/experiment/training.h"

#define PART "mlp-784-512-512-10"
#define SETTING "budgets"
#define GROUP 8
#define CODE_BITS 8 /* of data, and of weights but for the quantised ones */
#define BITS_LO 2
#define BITS_HI 8
#define EVERY_DIGIT 16 /* no cap on a value */
#define BATCH 250

static const struct encoder {
    const char *name;
    enum sl_tr_encoder enc;
} encoders[] = {{"naf", SL_TR_NAF}, {"window", SL_TR_WINDOW}, {"binary", SL_TR_BINARY}};

static const unsigned budgets_k[] = {4, 6, 8, 10, 12}, caps[] = {1, 2, 3};
static const unsigned groups[] = {1, 2, 4, 8, 16, 32}, alphas[] = {1, 2};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static enum sl_code list(const struct sl_experiment_options *o, json_t *cells,
                         struct sl_err *err)
{
    enum sl_code rc = SL_OK;
    for (size_t i = 0; i < o->n_seeds && rc == SL_OK; i++)
        rc = sl_cell_add(cells, PART, SETTING, o->seeds[i], err,
                         "run: {name: tr, rounds: 1}\n"
                         "data: {dataset: fashion-mnist, limit: %d, test_limit: %d,\n"
                         "       partition: {clients: 1}}\n"
                         "model: {layers: [flatten, {dense: 512}, relu, {dense: 512}, "
                         "relu, {dense: 10}]}\n"
                         "train: {epochs: %d, batch_size: 100, lr: 0.05, momentum: 0.9,\n"
                         "        lr_schedule: {kind: cosine}}\n",
                         o->quick ? 4000 : 0, o->quick ? 1000 : 0, o->quick ? 3 : 5);
    return rc;
}

/* --- evaluating ------------------------------------------------------------------- */

/* One budget: adds {accuracy, pairs} to `to` under `key`. Quantised: pairs are those of
 * all bits. */
static enum sl_code evaluate(const struct sl_central *c, struct sl_trainer *t,
                             const struct sl_tr_options *o, bool quantised, json_t *to,
                             const char *key, struct sl_err *err)
{
    const struct sl_samples test = {.set = &c->test, .n = c->test.n};
    const struct sl_unit_options options = {.tr = o};
    struct sl_unit_ledger before = *sl_trainer_ledger(t);
    struct sl_eval_result eval;
    enum sl_code rc = sl_tr_check(o, err);
    sl_trainer_set_unit_options(t, &options);
    if (rc == SL_OK)
        rc = sl_evaluate(t, c->values, &test, &eval, err);
    if (rc != SL_OK)
        return sl_err_wrap(err, rc, "%s", key);
    struct sl_unit_ledger did = sl_unit_ledger_since(sl_trainer_ledger(t), &before);
    double n = (double)eval.n;
    double pairs = quantised ? (double)did.macs[SL_PASS_FORWARD] * o->bits_w * o->bits_x
                             : (double)did.work[SL_PASS_FORWARD];
    json_object_set_new(to, key,
                        json_pack("{s:f, s:f}", "accuracy", (double)eval.correct / n,
                                  "pairs", pairs / n));
    return SL_OK;
}

static struct sl_tr_options options_of(enum sl_tr_encoder enc, unsigned g, unsigned k,
                                       unsigned s)
{
    struct sl_tr_options o = sl_tr_defaults();
    o.bits_w = o.bits_x = CODE_BITS;
    o.enc = enc;
    o.g = g;
    o.k = k;
    o.s = s;
    return o;
}

static void budget_key(unsigned k, unsigned s, char ret[16])
{
    snprintf(ret, 16, "k%us%u", k, s);
}

static void group_key(unsigned alpha, unsigned g, char ret[16])
{
    snprintf(ret, 16, "a%ug%u", alpha, g);
}

/* Every budget, and "all" digits. */
static enum sl_code evaluate_budgets(const struct sl_central *c, struct sl_trainer *t,
                                     const struct encoder *e, json_t *result,
                                     struct sl_err *err)
{
    json_t *to = json_object();
    enum sl_code rc = SL_OK;
    char key[16];
    for (size_t i = 0; i < COUNT(budgets_k); i++)
        for (size_t j = 0; j < COUNT(caps) && rc == SL_OK; j++) {
            struct sl_tr_options o = options_of(e->enc, GROUP, budgets_k[i], caps[j]);
            budget_key(budgets_k[i], caps[j], key);
            rc = evaluate(c, t, &o, false, to, key, err);
        }
    struct sl_tr_options all =
        options_of(e->enc, GROUP, GROUP * EVERY_DIGIT, EVERY_DIGIT);
    if (rc == SL_OK)
        rc = evaluate(c, t, &all, false, to, "all", err);
    json_object_set_new(result, e->name, to);
    return rc;
}

static enum sl_code evaluate_groups(const struct sl_central *c, struct sl_trainer *t,
                                    json_t *result, struct sl_err *err)
{
    json_t *to = json_object();
    enum sl_code rc = SL_OK;
    char key[16];
    for (size_t a = 0; a < COUNT(alphas); a++)
        for (size_t i = 0; i < COUNT(groups) && rc == SL_OK; i++) {
            struct sl_tr_options o =
                options_of(SL_TR_NAF, groups[i], alphas[a] * groups[i], 3);
            group_key(alphas[a], groups[i], key);
            rc = evaluate(c, t, &o, false, to, key, err);
        }
    json_object_set_new(result, "groups", to);
    return rc;
}

/* Weights of fewer bits, every digit kept. */
static enum sl_code evaluate_quantised(const struct sl_central *c, struct sl_trainer *t,
                                       json_t *result, struct sl_err *err)
{
    json_t *to = json_object();
    enum sl_code rc = SL_OK;
    char key[16];
    for (unsigned bits = BITS_LO; bits <= BITS_HI && rc == SL_OK; bits++) {
        struct sl_tr_options o =
            options_of(SL_TR_NAF, GROUP, GROUP * EVERY_DIGIT, EVERY_DIGIT);
        o.bits_w = bits;
        snprintf(key, sizeof(key), "b%u", bits);
        rc = evaluate(c, t, &o, true, to, key, err);
    }
    json_object_set_new(result, "quantised", to);
    return rc;
}

static enum sl_code evaluate_all(const struct sl_central *c, json_t *result,
                                 struct sl_err *err)
{
    struct sl_trainer_options o = {.max_batch = BATCH, .unit = &sl_matmul_tr};
    struct sl_trainer *t;
    enum sl_code rc = sl_trainer_new(c->model, &o, &t, err);
    if (rc != SL_OK)
        return rc;
    for (size_t i = 0; i < COUNT(encoders) && rc == SL_OK; i++)
        rc = evaluate_budgets(c, t, &encoders[i], result, err);
    if (rc == SL_OK)
        rc = evaluate_quantised(c, t, result, err);
    if (rc == SL_OK)
        rc = evaluate_groups(c, t, result, err);
    sl_trainer_free(t);
    return rc;
}

static enum sl_code run(const json_t *cell, json_t **ret, struct sl_err *err)
{
    struct sl_plan plan = {0};
    struct sl_central c = {0};
    json_t *result = NULL;
    enum sl_code rc = sl_cell_plan(cell, &plan, err);
    if (rc == SL_OK)
        rc = sl_central_train(&c, &plan, &result, err);
    if (rc == SL_OK)
        rc = evaluate_all(&c, result, err);
    if (rc == SL_OK)
        *ret = result;
    else
        json_decref(result);
    sl_central_deinit(&c);
    sl_plan_deinit(&plan);
    return rc;
}

/* --- report ----------------------------------------------------------------------- */

static struct sl_sample sample(const json_t *results, const char *set, const char *key,
                               const char *what)
{
    char path[64];
    snprintf(path, sizeof(path), "%s.%s.%s", set, key, what);
    return sl_results_sample(results, PART, SETTING, path);
}

static void accuracy_cell(const json_t *results, struct sl_page *page, const char *set,
                          const char *key)
{
    char text[SL_SAMPLE_TEXT];
    struct sl_sample a = sample(results, set, key, "accuracy");
    sl_page_cell(page, "%s", sl_sample_text(&a, 100, 2, text));
}

static void quantised_table(const json_t *results, struct sl_page *page)
{
    static const char *const columns[] = {"bits of weights", "term pairs a sample (M)",
                                          "accuracy %", NULL};
    char key[16];
    sl_page_paragraph(page, "Uniform quantisation, data of %d bits.", CODE_BITS);
    sl_page_table_begin(page, columns);
    for (unsigned bits = BITS_LO; bits <= BITS_HI; bits++) {
        snprintf(key, sizeof(key), "b%u", bits);
        sl_page_cell(page, "%u", bits);
        sl_page_cell(page, "%.2f",
                     sample(results, "quantised", key, "pairs").mean * 1e-6);
        accuracy_cell(results, page, "quantised", key);
    }
    sl_page_table_end(page);
}

static void budget_table(const json_t *results, struct sl_page *page)
{
    static const char *const columns[] = {
        "k, s", "term pairs a sample (M)", "fewer than 4 bits", "naf", "window", "binary",
        NULL};
    double four = sample(results, "quantised", "b4", "pairs").mean;
    char key[16];
    sl_page_paragraph(page,
                      "Term Revealing, groups of %d, codes of %d bits: k digits a group "
                      "of weights, s digits a value of data; accuracy %% by encoder.",
                      GROUP, CODE_BITS);
    sl_page_table_begin(page, columns);
    for (size_t i = 0; i < COUNT(budgets_k); i++)
        for (size_t j = 0; j < COUNT(caps); j++) {
            budget_key(budgets_k[i], caps[j], key);
            double pairs = sample(results, "naf", key, "pairs").mean;
            sl_page_cell(page, "%u, %u", budgets_k[i], caps[j]);
            sl_page_cell(page, "%.2f", pairs * 1e-6);
            sl_page_cell(page, "%.1f times", four / pairs);
            for (size_t e = 0; e < COUNT(encoders); e++)
                accuracy_cell(results, page, encoders[e].name, key);
        }
    sl_page_table_end(page);
}

static void group_table(const json_t *results, struct sl_page *page)
{
    static const char *const columns[] = {"g", "k = g", "k = 2 g", NULL};
    char key[16];
    sl_page_paragraph(page, "Size of groups at a fixed number of digits a weight; naf, "
                            "s = 3; accuracy %%.");
    sl_page_table_begin(page, columns);
    for (size_t i = 0; i < COUNT(groups); i++) {
        sl_page_cell(page, "%u", groups[i]);
        for (size_t a = 0; a < COUNT(alphas); a++) {
            group_key(alphas[a], groups[i], key);
            accuracy_cell(results, page, "groups", key);
        }
    }
    sl_page_table_end(page);
}

#define POINTS 8

static size_t points_of(const json_t *results, const char *set, const char *const *keys,
                        size_t n, double *x, double *y)
{
    for (size_t i = 0; i < n; i++) {
        x[i] = sample(results, set, keys[i], "pairs").mean * 1e-6;
        y[i] = 100 * sample(results, set, keys[i], "accuracy").mean;
    }
    return n;
}

static void plot(const json_t *results, struct sl_page *page)
{
    static const char *const revealed[] = {"k4s1", "k6s1",  "k6s2", "k8s2",
                                           "k8s3", "k10s3", "k12s3"};
    static const char *const quantised[] = {"b3", "b4"};
    double x[COUNT(encoders) + 1][POINTS], y[COUNT(encoders) + 1][POINTS];
    struct sl_plot_series series[COUNT(encoders) + 1];
    for (size_t e = 0; e <= COUNT(encoders); e++) {
        bool last = e == COUNT(encoders);
        const char *name = last ? "quantised" : encoders[e].name;
        size_t n = points_of(results, name, last ? quantised : revealed,
                             last ? COUNT(quantised) : COUNT(revealed), x[e], y[e]);
        series[e] = (struct sl_plot_series){last ? "quantised, 3 and 4 bits" : name, x[e],
                                            y[e], n};
    }
    sl_page_plot(page, "tr-pairs",
                 &(struct sl_plot_lines){"one model at several budgets",
                                         "term pairs a sample (millions)",
                                         "test accuracy (%)", series, COUNT(series)});
}

static void report(const json_t *results, struct sl_page *page)
{
    char text[SL_SAMPLE_TEXT];
    struct sl_sample fp32 = sl_results_sample(results, PART, SETTING, "final");
    sl_page_paragraph(page, "%s in single precision: %s %% over %zu seeds.", PART,
                      sl_sample_text(&fp32, 100, 2, text), fp32.n);
    quantised_table(results, page);
    budget_table(results, page);
    group_table(results, page);
    plot(results, page);
}

const struct sl_experiment sl_experiment_tr = {
    .name = "tr",
    .help = "accuracy and term pairs of one trained model at several budgets",
    .default_seeds = 3,
    .list = list,
    .run = run,
    .report = report,
};
