/* SPDX-License-Identifier: Apache-2.0 */
/* rtn.c - reparameterised ternary networks (Li et al. 2019) against full precision, plain
 * ternary and binary values, on three nets of equal topology in all settings: "shallow"
 * with one quantised layer, "narrow" with four of width 32, "deep" with six convolutions
 * and a batch norm before every second one. First and last layers are fp32. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/experiment/experiment.h"
#include "sim/experiment/results.h"
#include "sim/experiment/training.h"

static const struct setting {
    const char *name, *form; /* form NULL: fp32 */
} settings[] = {
    {"fp32", NULL}, {"rtn", "learned"}, {"plain", "plain"}, {"binary", "binary"}};

#define N_SETTINGS (sizeof(settings) / sizeof(settings[0]))

/* Layers between '|'. "D n": a quantised dense layer; "C n s": a quantised 3 x 3
 * convolution; both with a ReLU before them in full precision. Others as in a plan. */
static const struct net {
    const char *name, *layers;
} nets[] = {
    {"shallow", "flatten|{dense: 256}|batchnorm|D 256|batchnorm|relu|{dense: 10}"},
    {"narrow",
     "flatten|{dense: 32}|batchnorm|D 32|batchnorm|D 32|batchnorm|D 32|batchnorm|D 32|"
     "batchnorm|relu|{dense: 10}"},
    {"deep", "{conv2d: {out: 16, kernel: 3, stride: 2, pad: 1}}|batchnorm|C 16 1|C 16 1|"
             "batchnorm|C 32 2|C 32 1|batchnorm|C 32 1|C 32 "
             "1|batchnorm|relu|avgpool|{dense: 10}"},
};

#define N_NETS (sizeof(nets) / sizeof(nets[0]))

static void put_layer(FILE *to, const char *layer, size_t n, const char *form)
{
    unsigned out = 0, stride = 1;
    if (layer[0] == 'D' && sscanf(layer, "D %u", &out) == 1) {
        if (form == NULL)
            fprintf(to, "relu, {dense: %u}", out);
        else
            fprintf(to, "{ternary_dense: {out: %u, form: %s}}", out, form);
    } else if (layer[0] == 'C' && sscanf(layer, "C %u %u", &out, &stride) == 2) {
        if (form == NULL)
            fprintf(to, "relu, {conv2d: {out: %u, kernel: 3, stride: %u, pad: 1}}", out,
                    stride);
        else
            fprintf(to,
                    "{ternary_conv2d: {out: %u, kernel: 3, stride: %u, pad: 1, "
                    "form: %s}}",
                    out, stride, form);
    } else {
        fwrite(layer, 1, n, to);
    }
}

/* The list for model.layers; NULL without memory. The caller frees it. */
static char *layers_text(const char *layers, const char *form)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    if (f == NULL)
        return NULL;
    for (const char *at = layers; *at != '\0';) {
        size_t n = strcspn(at, "|");
        put_layer(f, at, n, form);
        at += n + (at[n] == '|');
        fputs(*at == '\0' ? "" : ", ", f);
    }
    return fclose(f) == 0 ? text : (free(text), NULL);
}

static enum sl_code add(json_t *cells, const struct net *net, const struct setting *s,
                        uint64_t seed, bool quick, struct sl_err *err)
{
    char *layers = layers_text(net->layers, s->form);
    if (layers == NULL)
        return sl_err_set(err, SL_E_NOMEM, "cells of the experiment");
    enum sl_code rc =
        sl_cell_add(cells, net->name, s->name, seed, err,
                    "run: {name: rtn, rounds: 1}\n"
                    "data: {dataset: fashion-mnist, limit: %d, test_limit: %d, "
                    "partition: {clients: 1}}\n"
                    "model: {layers: [%s]}\n"
                    "train: {epochs: %d, batch_size: 100, optimizer: adam, lr: 0.002,\n"
                    "        lr_schedule: {kind: cosine}}\n"
                    "accelerator: {matmul: %s}\n",
                    quick ? 2000 : 20000, quick ? 1000 : 0, layers, quick ? 3 : 8,
                    s->form == NULL ? "fp32" : "rtn");
    free(layers);
    return rc;
}

static enum sl_code list(const struct sl_experiment_options *o, json_t *cells,
                         struct sl_err *err)
{
    enum sl_code rc = SL_OK;
    for (size_t n = 0; n < N_NETS; n++)
        for (size_t k = 0; k < o->n_seeds; k++)
            for (size_t i = 0; i < N_SETTINGS && rc == SL_OK; i++)
                rc = add(cells, &nets[n], &settings[i], o->seeds[k], o->quick, err);
    return rc;
}

static enum sl_code run(const json_t *cell, json_t **ret, struct sl_err *err)
{
    struct sl_plan plan = {0};
    struct sl_central c;
    enum sl_code rc = sl_cell_plan(cell, &plan, err);
    if (rc != SL_OK)
        return rc;
    rc = sl_central_train(&c, &plan, ret, err);
    sl_central_deinit(&c);
    sl_plan_deinit(&plan);
    return rc;
}

static void report(const json_t *results, struct sl_page *page)
{
    static const char *const columns[] = {
        "net",   "setting", "accuracy %", "minus fp32, paired", "rtn minus it, paired",
        "seeds", NULL};
    char text[3][SL_SAMPLE_TEXT];
    sl_page_table_begin(page, columns);
    for (size_t n = 0; n < N_NETS; n++)
        for (size_t i = 0; i < N_SETTINGS; i++) {
            const char *net = nets[n].name, *name = settings[i].name;
            struct sl_sample a = sl_results_sample(results, net, name, "final");
            struct sl_sample d = sl_results_paired(results, net, name, "fp32", "final");
            struct sl_sample r = sl_results_paired(results, net, "rtn", name, "final");
            if (a.n == 0)
                continue;
            sl_page_cell(page, "%s", net);
            sl_page_cell(page, "%s", name);
            sl_page_cell(page, "%s", sl_sample_text(&a, 100, 2, text[0]));
            sl_page_cell(page, "%s",
                         i == 0 ? "" : sl_difference_text(&d, 100, 2, text[1]));
            sl_page_cell(page, "%s",
                         i < 2 ? "" : sl_difference_text(&r, 100, 2, text[2]));
            sl_page_cell(page, "%zu", a.n);
        }
    sl_page_table_end(page);
}

const struct sl_experiment sl_experiment_rtn = {
    .name = "rtn",
    .help = "full precision, reparameterised ternary, plain ternary and binary nets",
    .default_seeds = 5,
    .list = list,
    .run = run,
    .report = report,
};
