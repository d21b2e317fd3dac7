/* SPDX-License-Identifier: Apache-2.0 */
/* fedmarl.c - the frozen policy against its rivals (Zhang, Lin, Zhang 2022): real training on partitions and
 * devices that no training of a policy has seen, everything paired, rivals at the policy's own mean
 * acceptance. And, with cached updates, what a policy learns under other prices and without a part of its state. */
#include "sim/experiment/fedmarl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/hash.h"
#include "common/mem.h"
#include "sim/experiment/experiment.h"
#include "sim/experiment/training.h"
#include "sim/policy/train.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define POLICY_FILE "plans/policies/fedmarl.safetensors"
#define POLICY_MAX ((size_t)64 << 20)
#define SETS_MAX 16
#define ABLATION_SEEDS 3

const struct sl_fedmarl_part sl_fedmarl_parts[] = {
    {"dirichlet-0.3", "MLP, Dirichlet 0.3", "dirichlet-0.3", "mlp", true},
    {"dirichlet-0.1", "MLP, Dirichlet 0.1", "dirichlet-0.1", "mlp", true},
    {"majority", "MLP, 80 % of one label, sizes by a power law", "majority", "mlp", true},
    {"transfer", "LeNet, 80 % of one label, sizes by a power law", "majority", "lenet", false},
};
const size_t sl_fedmarl_n_parts = COUNT(sl_fedmarl_parts);

/* Changes to the policy's training, a cell each. */
static const char *const prices[] = {"w2=0", "w2=0.05", "w2=0.1", "w2=0.2", "w2=0.5",
                                     "w3=0", "w3=0.05", "w3=0.1", "w3=0.2", "w3=0.5"};
static const char *const ablations[] = {"nothing", "loss", "times"};

/* Seconds in all. */
static const char *const quick_sets[] = {
    "data.dataset=synthetic", "data.samples=400", "data.holdout=100", "data.pooling=4",
    "local.hidden=16", "local.batch_size=8", "federation.clients=12", "federation.cohort=4",
    "federation.rounds=4", "federation.pool=1", "federation.held_out=1", "federation.buckets=2",
    "federation.reference_cohort=6", "federation.reference_rounds=4", "reward.window=2"};
static const char *const quick_learning[] = {"training.episodes=16", "learner.warmup=32",
                                             "learner.batch=16", "training.evaluation_episodes=4"};

/* --- the policy's file ------------------------------------------------------------ */

struct policy_file {
    uint8_t *bytes;
    size_t n;
    char digest[SL_DIGEST_HEX];
    char *training; /* text of the plan that it was trained with */
};

static void deinit(struct policy_file *f)
{
    free(f->bytes);
    free(f->training);
    *f = (struct policy_file){0};
}

static enum sl_code read_policy(const char *path, struct policy_file *ret, struct sl_err *err)
{
    struct policy_file f = {0};
    struct sl_safetensors s = {0};
    uint8_t digest[SL_DIGEST_BYTES];
    enum sl_code rc = sl_file_read(path, POLICY_MAX, &f.bytes, &f.n, err);
    if (rc == SL_OK)
        rc = sl_safetensors_open(path, f.bytes, f.n, &s, err);
    if (rc == SL_OK) {
        const char *text = sl_safetensors_note(&s, "training.plan");
        f.training = text == NULL ? NULL : strdup(text);
        if (f.training == NULL)
            rc = sl_err_set(err, SL_E_INPUT, "%s: no policy of train-policy (metadata training.plan "
                                             "is missing)", path);
    }
    sl_safetensors_deinit(&s);
    if (rc != SL_OK) {
        deinit(&f);
        return rc;
    }
    sl_blake2b_256(f.bytes, f.n, digest);
    sl_hex(digest, sizeof(digest), f.digest);
    *ret = f;
    return SL_OK;
}

/* --- cells ------------------------------------------------------------------------ */

static void add_set(json_t *cell, const char *const *texts, size_t n)
{
    json_t *set = json_object_get(cell, "set");
    for (size_t i = 0; i < n; i++)
        json_array_append_new(set, json_string(texts[i]));
}

/* A run as train-policy's clients train, on the product's own models. */
static enum sl_code add_real(const struct sl_fedmarl_part *p, const char *path,
                             const struct policy_file *f, uint64_t seed, bool quick, json_t *cells,
                             struct sl_err *err)
{
    const char *data = quick ? "synthetic, limit: 400" : "fashion-mnist";
    enum sl_code rc = sl_cell_add(
        cells, p->name, SL_FEDMARL_SETTING, seed, err,
        "run: {name: fedmarl, rounds: %d}\n"
        "data: {dataset: %s, partition: {kind: iid, clients: %d}}\n"
        "model: {name: %s}\n"
        "train: {epochs: 5, batch_size: 32, lr: 0.01, momentum: 0.9}\n"
        "selection: {policy: random, clients_per_round: %d}\n",
        quick ? 4 : 30, data, quick ? 12 : 100, quick ? "tiny" : p->model, quick ? 4 : 10);
    if (rc != SL_OK)
        return rc;
    json_t *cell = json_array_get(cells, json_array_size(cells) - 1);
    json_object_update_new(cell, json_pack("{s:s, s:b, s:s, s:s, s:[]}", "partition", p->partition,
                                           "rivals", p->rivals, "policy", path, "policy_digest",
                                           f->digest, "set"));
    if (quick)
        add_set(cell, quick_sets, COUNT(quick_sets));
    return SL_OK;
}

static enum sl_code add_cached(const char *part, const char *setting, const char *set,
                               const struct policy_file *f, uint64_t seed, bool quick,
                               json_t *cells, struct sl_err *err)
{
    json_t *cell =
        json_pack("{s:s, s:s, s:I, s:s, s:[s]}", "part", part, "setting", setting, "seed",
                  (json_int_t)seed, "training", f->training, "set", set);
    if (quick && cell != NULL) {
        add_set(cell, quick_sets, COUNT(quick_sets));
        add_set(cell, quick_learning, COUNT(quick_learning));
    }
    if (json_array_append_new(cells, cell) != 0)
        return sl_err_set(err, SL_E_NOMEM, "cells of the experiment");
    return SL_OK;
}

static enum sl_code list_all(const struct sl_experiment_options *o, const char *path,
                             const struct policy_file *f, json_t *cells, struct sl_err *err)
{
    char set[64];
    enum sl_code rc = SL_OK;
    for (size_t p = 0; p < sl_fedmarl_n_parts; p++)
        for (size_t k = 0; rc == SL_OK && k < o->n_seeds; k++)
            rc = add_real(&sl_fedmarl_parts[p], path, f, o->seeds[k], o->quick, cells, err);
    for (size_t i = 0; rc == SL_OK && i < COUNT(prices); i++) {
        snprintf(set, sizeof(set), "reward.%s", prices[i]);
        rc = add_cached(SL_FEDMARL_PRICES, prices[i], set, f, o->seeds[0], o->quick, cells, err);
    }
    for (size_t i = 0; i < COUNT(ablations); i++)
        for (size_t k = 0; rc == SL_OK && k < o->n_seeds && k < ABLATION_SEEDS; k++) {
            snprintf(set, sizeof(set), "features.without=%s", ablations[i]);
            rc = add_cached(SL_FEDMARL_ABLATION, ablations[i], set, f, o->seeds[k], o->quick, cells,
                            err);
        }
    return rc;
}

static enum sl_code list(const struct sl_experiment_options *o, json_t *cells, struct sl_err *err)
{
    const char *path = o->policy != NULL ? o->policy : POLICY_FILE;
    struct policy_file f;
    enum sl_code rc = read_policy(path, &f, err);
    if (rc != SL_OK)
        return rc;
    rc = list_all(o, path, &f, cells, err);
    deinit(&f);
    return rc;
}

static double work(const json_t *cell)
{
    const char *plan = json_string_value(json_object_get(cell, "plan"));
    if (plan == NULL)
        return 0.6;
    return strstr(plan, "lenet") != NULL ? 1.5 : 1;
}

/* --- running ---------------------------------------------------------------------- */

static enum sl_code training_plan(const json_t *cell, const char *text, const char *first_set,
                                  struct sl_policy_plan *ret, struct sl_err *err)
{
    struct sl_plan_override sets[SETS_MAX + 8];
    const json_t *set = json_object_get(cell, "set");
    size_t n = 0;
    if (first_set != NULL)
        sets[n++].text = first_set;
    for (size_t i = 0; i < json_array_size(set) && n < COUNT(sets); i++)
        sets[n++].text = json_string_value(json_array_get(set, i));
    return sl_policy_plan_parse(text, strlen(text), "training.plan", sets, n, ret, err);
}

/* What a cell with real training needs. */
struct match {
    struct sl_plan run;
    struct sl_policy_plan plan;
    struct sl_fedmarl_policy policy;
    struct sl_game *game;
    double *curve; /* [rounds] */
    uint64_t seed;
};

static enum sl_code open_match(const json_t *cell, struct match *m, struct sl_err *err)
{
    static const char *const partitions[] = {"majority", "dirichlet-0.1", "dirichlet-0.3"};
    const char *path = json_string_value(json_object_get(cell, "policy"));
    const char *digest = json_string_value(json_object_get(cell, "policy_digest"));
    const char *wanted = json_string_value(json_object_get(cell, "partition"));
    enum sl_policy_partition kind = SL_POLICY_MAJORITY;
    struct policy_file f = {0};
    struct sl_update_source *source;
    while (kind + 1 < SL_POLICY_PARTITIONS && strcmp(partitions[kind], wanted) != 0)
        kind++;
    enum sl_code rc = read_policy(path, &f, err);
    if (rc == SL_OK && strcmp(f.digest, digest) != 0)
        rc = sl_err_set(err, SL_E_INPUT, "%s: changed since the experiment began", path);
    if (rc == SL_OK)
        rc = sl_fedmarl_policy_parse(path, f.bytes, f.n, &m->policy, err);
    if (rc == SL_OK)
        rc = training_plan(cell, f.training, NULL, &m->plan, err);
    deinit(&f);
    if (rc == SL_OK)
        rc = sl_cell_plan(cell, &m->run, err);
    if (rc != SL_OK)
        return rc;
    m->plan.learner.credit = false;
    m->seed = sl_learn_test_seed(m->plan.seed, (uint32_t)m->run.run.seed);
    m->curve = sl_calloc(m->plan.federation.rounds, sizeof(double));
    if (m->curve == NULL)
        return sl_err_set(err, SL_E_NOMEM, "%u rounds", m->plan.federation.rounds);
    rc = sl_real_updates_new(&m->run, kind, m->plan.federation.cohort, &source, err);
    return rc == SL_OK ? sl_federation_game_over(&m->plan, source, &m->game, err) : rc;
}

static void close_match(struct match *m)
{
    sl_game_free(m->game);
    sl_fedmarl_policy_deinit(&m->policy);
    sl_plan_deinit(&m->run);
    free(m->curve);
}

static enum sl_code worst_class(struct sl_update_source *s, double *ret, struct sl_err *err)
{
    uint32_t *hits = sl_calloc(s->n_classes, 2 * sizeof(*hits));
    if (hits == NULL)
        return sl_err_set(err, SL_E_NOMEM, "%u classes", s->n_classes);
    uint32_t *of = hits + s->n_classes;
    enum sl_code rc = sl_real_updates_classes(s, hits, of, err);
    *ret = 1;
    for (uint32_t c = 0; c < s->n_classes; c++)
        if (of[c] > 0 && (double)hits[c] / of[c] < *ret)
            *ret = (double)hits[c] / of[c];
    free(hits);
    return rc;
}

/* accept: k of those that keep k; *ret_accepted: what came of it. */
static enum sl_code play(struct match *m, const struct sl_decide_ops *ops, double accept,
                         json_t *result, double *ret_accepted, struct sl_err *err)
{
    const struct sl_compare_how how = {.ops = ops, .accept = accept, .policy = &m->policy};
    struct sl_update_source *source = sl_federation_source(m->game);
    struct sl_federation_score s;
    double worst = 0;
    enum sl_code rc = sl_compare_episode(m->game, &how, m->seed, m->curve, &s, err);
    if (rc == SL_OK && source->failure.code != SL_OK) {
        *err = source->failure;
        return sl_err_wrap(err, source->failure.code, "%s", ops->name);
    }
    if (rc == SL_OK)
        rc = worst_class(source, &worst, err);
    if (rc != SL_OK)
        return rc;
    json_t *curve = json_array();
    for (uint32_t t = 0; t < s.rounds; t++)
        json_array_append_new(curve, json_real(m->curve[t]));
    *ret_accepted = (double)s.accepted / s.rounds;
    json_object_set_new(result, ops->name,
                        json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:o}", "late",
                                  s.late_accuracy, "last", s.accuracy, "latency", s.latency,
                                  "traffic", s.traffic, "accepted", *ret_accepted, "return",
                                  s.reward, "plain", s.plain, "worst", worst, "accuracy", curve));
    return SL_OK;
}

static enum sl_code run_real(const json_t *cell, json_t *result, struct sl_err *err)
{
    struct match m = {0};
    const struct sl_decide_ops *ops, *own = sl_decide_find("fedmarl");
    const bool rivals = json_is_true(json_object_get(cell, "rivals"));
    double accepted, unused;
    enum sl_code rc = open_match(cell, &m, err);
    if (rc == SL_OK)
        rc = play(&m, own, 0, result, &accepted, err);
    for (size_t i = 0; rc == SL_OK && (ops = sl_decide_at(i)) != NULL; i++)
        if (ops != own && (rivals || strcmp(ops->name, "all") == 0))
            rc = play(&m, ops, accepted, result, &unused, err);
    close_match(&m);
    return rc;
}

static enum sl_code run_cached(const json_t *cell, json_t *result, struct sl_err *err)
{
    char seed[48];
    struct sl_policy_plan plan;
    struct sl_fedmarl_policy policy = {0};
    struct sl_compare_row rows[SL_COMPARE_ROWS];
    struct sl_policy_training t = {.plan = &plan};
    struct sl_update_table *table = NULL;
    snprintf(seed, sizeof(seed), "run.seed=%" JSON_INTEGER_FORMAT,
             json_integer_value(json_object_get(cell, "seed")));
    enum sl_code rc = training_plan(
        cell, json_string_value(json_object_get(cell, "training")), seed, &plan, err);
    if (rc == SL_OK)
        rc = sl_workers_new(1, &t.workers, err);
    if (rc == SL_OK)
        rc = sl_update_table_new(&plan, t.workers, NULL, NULL, &table, err);
    t.table = table;
    if (rc == SL_OK)
        rc = sl_policy_train(&t, &policy, err);
    if (rc == SL_OK)
        rc = sl_policy_compare(&t, &policy, rows, err);
    for (size_t i = 0; rc == SL_OK && i < COUNT(rows); i++)
        json_object_set_new(result, rows[i].name,
                            json_pack("{s:f, s:f, s:f, s:f, s:f}", "late", rows[i].late_accuracy,
                                      "latency", rows[i].latency, "traffic", rows[i].traffic,
                                      "accepted", rows[i].accepted, "return", rows[i].reward));
    sl_fedmarl_policy_deinit(&policy);
    sl_update_table_free(table);
    sl_workers_free(t.workers);
    return rc;
}

static enum sl_code run(const json_t *cell, json_t **ret, struct sl_err *err)
{
    json_t *result = json_object();
    enum sl_code rc = json_object_get(cell, "plan") != NULL ? run_real(cell, result, err)
                                                            : run_cached(cell, result, err);
    if (rc == SL_OK)
        *ret = result;
    else
        json_decref(result);
    return rc;
}

const struct sl_experiment sl_experiment_fedmarl = {
    .name = "fedmarl",
    .help = "learned selection after the probe epoch against its rivals",
    .default_seeds = 5,
    .list = list,
    .run = run,
    .work = work,
    .report = sl_fedmarl_report,
};
