/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/check_case.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/model_file.h"
#include "server/strategy/strategy.h"

static enum sl_code missing(const char *field, struct sl_err *err)
{
    return sl_err_set(err, SL_E_INPUT,
                      "manifest.json, -, field %s, missing or of another type", field);
}

static enum sl_code get_real(const json_t *o, const char *key, double *ret,
                             struct sl_err *err)
{
    const json_t *v = json_object_get(o, key);
    if (!json_is_number(v))
        return missing(key, err);
    *ret = json_number_value(v);
    return SL_OK;
}

static enum sl_code get_count(const json_t *o, const char *key, uint32_t *ret,
                              struct sl_err *err)
{
    const json_t *v = json_object_get(o, key);
    if (!json_is_integer(v) || json_integer_value(v) < 0 ||
        json_integer_value(v) > 1000000)
        return missing(key, err);
    *ret = (uint32_t)json_integer_value(v);
    return SL_OK;
}

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s == NULL ? "" : s;
}

/* --- what is available
 * ---------------------------------------------------------------------------- */

static enum sl_code check_available(const json_t *m, struct sl_err *err)
{
    const json_t *data = json_object_get(m, "data");
    const char *loss = text_of(m, "loss");
    if (strcmp(loss, "softmax_cross_entropy") != 0 && strcmp(loss, "sphere_squared") != 0)
        return sl_err_set(err, SL_E_INPUT,
                          "loss, -, available: softmax_cross_entropy sphere_squared, %.60s",
                          loss);
    if (strcmp(text_of(m, "batch"), "full") != 0)
        return sl_err_set(err, SL_E_INPUT, "batch, -, available: full, %.40s",
                          text_of(m, "batch"));
    if (strcmp(text_of(data, "dataset"), "fashion-mnist") != 0 ||
        json_number_value(json_object_get(data, "scale")) != 255.0 ||
        json_number_value(json_object_get(data, "mean")) != 0.286 ||
        json_number_value(json_object_get(data, "std")) != 0.353)
        return sl_err_set(
            err, SL_E_INPUT,
            "data, -, available: fashion-mnist (x/255 - 0.286)/0.353, another");
    return SL_OK;
}

/* --- model
 * -------------------------------------------------------------------------------------------
 */

static void set_number(const json_t *o, const char *key, uint32_t *ret)
{
    if (json_is_integer(json_object_get(o, key)))
        *ret = (uint32_t)json_integer_value(json_object_get(o, key));
}

static enum sl_code add_layer(struct sl_model_spec *spec, const json_t *o,
                              struct sl_err *err)
{
    enum sl_layer_kind kind;
    const char *type = text_of(o, "type");
    if (!sl_layer_kind_of(type, &kind))
        return sl_err_set(err, SL_E_INPUT, "layers, %zu, a known layer, %.40s",
                          spec->n_layers, type);
    struct sl_layer_spec l = sl_layer_default(kind);
    snprintf(l.name, sizeof(l.name), "%.*s", (int)sizeof(l.name) - 1, text_of(o, "name"));
    set_number(o, "out", &l.out);
    set_number(o, "kernel", &l.kernel);
    set_number(o, "stride", &l.stride);
    set_number(o, "pad", &l.pad);
    set_number(o, "groups", &l.groups);
    if (json_is_boolean(json_object_get(o, "bias")))
        l.bias = json_is_true(json_object_get(o, "bias"));
    return sl_model_spec_add(spec, &l, err);
}

static enum sl_code fill_model(struct sl_plan *p, const json_t *m, struct sl_err *err)
{
    const json_t *layers = json_object_get(m, "layers"), *o;
    const json_t *rule = json_object_get(m, "init_rule");
    uint32_t seed;
    size_t i;
    if (json_array_size(layers) == 0)
        return missing("layers", err);
    p->model.name[0] = '\0';
    if (strcmp(text_of(m, "loss"), "sphere_squared") == 0) {
        p->model.head = SL_HEAD_SPHERE;
        p->model.loss = SL_HEAD_SQUARED;
    }
    enum sl_code rc = SL_OK;
    json_array_foreach(layers, i, o) if (rc == SL_OK) rc =
        add_layer(&p->model.layers, o, err);
    if (rc == SL_OK)
        rc = get_count(rule, "seed", &seed, err);
    if (rc == SL_OK)
        rc = get_real(rule, "gain", &p->model.init_gain, err);
    if (rc == SL_OK) {
        p->model.init = SL_INIT_SPLITMIX;
        p->model.init_seed = seed;
    }
    return rc;
}

/* --- strategy
 * ------------------------------------------------------------------------------------------
 */

static void set_real(const json_t *o, const char *key, double *ret)
{
    if (json_is_number(json_object_get(o, key)))
        *ret = json_number_value(json_object_get(o, key));
}

enum sl_code sl_fl_case_rule(const char *aggregator, const json_t *o, struct sl_plan *p,
                             struct sl_err *err)
{
    static const char *const rules[][2] = {{"median", "median"},
                                           {"trimmed_mean", "trimmed-mean"},
                                           {"krum", "krum"},
                                           {"multi_krum", "multi-krum"},
                                           {"geometric_median", "geometric-median"}};
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        if (strcmp(aggregator, rules[i][0]) != 0)
            continue;
        snprintf(p->strategy.name, sizeof(p->strategy.name), "%s", rules[i][1]);
        set_number(o, "trim", &p->strategy.trim);
        set_number(o, "f", &p->strategy.f);
        set_number(o, "m", &p->strategy.m);
        set_number(o, "iterations", &p->strategy.iterations);
        set_real(o, "nu", &p->strategy.nu);
        return SL_OK;
    }
    return sl_err_set(err, SL_E_INPUT,
                      "aggregator, -, available: mean median trimmed_mean krum multi_krum "
                      "geometric_median, %.60s",
                      aggregator);
}

static enum sl_code fill_strategy(struct sl_plan *p, const json_t *m, struct sl_err *err)
{
    const json_t *server = json_object_get(m, "server");
    const char *aggregator = text_of(server, "aggregator");
    const char *algorithm = text_of(server, "algorithm");
    if (strcmp(aggregator, "mean") != 0 && strcmp(algorithm, "fedavg") != 0)
        return sl_err_set(err, SL_E_INPUT, "aggregator, -, mean with %.60s, %.60s", algorithm,
                          aggregator);
    if (strcmp(aggregator, "mean") != 0)
        return sl_fl_case_rule(aggregator, server, p, err);
    if (sl_strategy_find(algorithm) == NULL)
        return sl_err_set(err, SL_E_INPUT, "strategy, -, a known one, %.60s", algorithm);
    snprintf(p->strategy.name, sizeof(p->strategy.name), "%s", algorithm);
    set_real(server, "eta", &p->strategy.eta);
    set_real(server, "beta", &p->strategy.beta);
    set_real(server, "beta1", &p->strategy.beta1);
    set_real(server, "beta2", &p->strategy.beta2);
    set_real(server, "tau", &p->strategy.tau);
    set_real(json_object_get(m, "local"), "mu", &p->strategy.mu);
    sl_plan_strategy_defaults(p);
    double start = p->strategy.tau * p->strategy.tau;
    const json_t *v_init = json_object_get(server, "v_init");
    if (v_init != NULL && !(fabs(json_number_value(v_init) - start) <= 1e-12 * start))
        return sl_err_set(err, SL_E_INPUT, "v_init, -, tau squared, %g",
                          json_number_value(v_init));
    return SL_OK;
}

/* --- training
 * ------------------------------------------------------------------------------------------
 */

static enum sl_code write_steps(struct sl_fl_case *k, const json_t *steps,
                                struct sl_err *err)
{
    const char *dir = getenv("TMPDIR");
    int length = snprintf(k->steps_path, sizeof(k->steps_path), "%s/starling-steps.XXXXXX",
                          dir == NULL || dir[0] == '\0' ? "/tmp" : dir);
    bool fits = length > 0 && (size_t)length < sizeof(k->steps_path);
    int fd = fits ? mkstemp(k->steps_path) : -1;
    FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
    if (f == NULL) {
        if (fd < 0)
            k->steps_path[0] = '\0';
        else
            close(fd);
        return sl_err_set(err, SL_E_IO, "steps, -, a temporary file, none");
    }
    size_t i;
    const json_t *v;
    json_array_foreach(steps, i, v)
        fprintf(f, "%zu %lld\n", i, (long long)json_integer_value(v));
    if (fclose(f) != 0)
        return sl_err_set(err, SL_E_IO, "steps, -, a temporary file, not written");
    strcpy(k->plan.train.steps_path, k->steps_path);
    return SL_OK;
}

static enum sl_code fill_steps(struct sl_fl_case *k, const json_t *steps,
                               struct sl_err *err)
{
    size_t i;
    const json_t *v;
    bool equal = true;
    if (json_array_size(steps) != k->plan.data.partition.clients)
        return missing("local.steps", err);
    json_array_foreach(steps, i, v) equal =
        equal && json_equal(v, json_array_get(steps, 0));
    k->plan.train.local_steps = equal ? json_integer_value(json_array_get(steps, 0)) : -1;
    return equal ? SL_OK : write_steps(k, steps, err);
}

static enum sl_code fill_training(struct sl_fl_case *k, struct sl_err *err)
{
    const json_t *local = json_object_get(k->manifest, "local");
    struct sl_plan *p = &k->plan;
    const char *optimizer = text_of(local, "optimizer");
    enum sl_code rc = get_real(local, "lr", &p->train.lr, err);
    if (rc == SL_OK)
        rc = get_real(local, "weight_decay", &p->train.weight_decay, err);
    if (rc == SL_OK && strcmp(optimizer, "sgd") == 0) {
        p->train.optimizer = SL_OPT_SGD;
        rc = get_real(local, "momentum", &p->train.momentum, err);
    } else if (rc == SL_OK && strcmp(optimizer, "adam") == 0) {
        p->train.optimizer = SL_OPT_ADAM;
        rc = get_real(local, "beta1", &p->train.beta1, err);
        if (rc == SL_OK)
            rc = get_real(local, "beta2", &p->train.beta2, err);
        if (rc == SL_OK)
            rc = get_real(local, "eps", &p->train.eps, err);
    } else if (rc == SL_OK) {
        rc = sl_err_set(err, SL_E_INPUT, "optimizer, -, available: sgd adam, %.40s",
                        optimizer);
    }
    p->train.batch_size = 0;
    return rc == SL_OK ? fill_steps(k, json_object_get(local, "steps"), err) : rc;
}

static enum sl_code fill_path(const struct sl_fl_case *k, const char *key,
                              char ret[SL_PLAN_PATH], struct sl_err *err)
{
    const char *file = text_of(json_object_get(k->manifest, "files"), key);
    char *dir = realpath(k->dir, NULL);
    if (file[0] == '\0' || dir == NULL) {
        free(dir);
        return missing(key, err);
    }
    int n = snprintf(ret, SL_PLAN_PATH, "%s/%s", dir, file);
    free(dir);
    return n < SL_PLAN_PATH ? SL_OK : missing(key, err);
}

static enum sl_code fill_plan(struct sl_fl_case *k, struct sl_err *err)
{
    const json_t *m = k->manifest;
    struct sl_plan *p = &k->plan;
    uint32_t test_first;
    sl_plan_default(p);
    snprintf(p->run.name, sizeof(p->run.name), "check");
    snprintf(p->data.dataset, sizeof(p->data.dataset), "fashion-mnist");
    snprintf(p->selection.policy, sizeof(p->selection.policy), "file");
    p->data.partition.kind = SL_PARTITION_FILE;
    p->run.eval_every = 1;
    p->selection.clients_per_round = 0;
    bool uniform =
        strcmp(text_of(json_object_get(m, "server"), "weighting"), "uniform") == 0;
    p->aggregation.weighting = uniform ? SL_WEIGHT_UNIFORM : SL_WEIGHT_SAMPLES;
    enum sl_code rc = get_count(m, "rounds", &p->run.rounds, err);
    if (rc == SL_OK)
        rc = get_count(m, "n_clients", &p->data.partition.clients, err);
    if (rc == SL_OK)
        rc = get_count(json_object_get(m, "data"), "test_first", &test_first, err);
    if (rc == SL_OK)
        rc = fill_path(k, "partition", p->data.partition.path, err);
    if (rc == SL_OK)
        rc = fill_path(k, "selection", p->selection.path, err);
    if (rc == SL_OK) {
        p->run.min_clients = p->data.partition.clients;
        p->data.test_limit = test_first;
        rc = fill_model(p, m, err);
    }
    if (rc == SL_OK)
        rc = fill_strategy(p, m, err);
    return rc == SL_OK ? fill_training(k, err) : rc;
}

enum sl_code sl_fl_case_init(struct sl_fl_case *k, const char *dir,
                             const json_t *manifest, struct sl_err *err)
{
    *k = (struct sl_fl_case){
        .name = text_of(manifest, "name"), .dir = dir, .manifest = manifest};
    enum sl_code rc = check_available(manifest, err);
    return rc == SL_OK ? fill_plan(k, err) : rc;
}

enum sl_code sl_fl_case_start(struct sl_fl_case *k, const struct sl_layout *layout,
                              const float *values, struct sl_err *err)
{
    const char *dir = getenv("TMPDIR");
    int length = snprintf(k->start_path, sizeof(k->start_path), "%s/starling-start.XXXXXX.npz",
                          dir == NULL || dir[0] == '\0' ? "/tmp" : dir);
    bool fits = length > 0 && (size_t)length < sizeof(k->start_path);
    int fd = fits ? mkstemps(k->start_path, 4) : -1;
    if (fd < 0) {
        k->start_path[0] = '\0';
        return sl_err_set(err, SL_E_IO, "head, -, a temporary file, none");
    }
    close(fd);
    k->plan.model.init = SL_INIT_FILE;
    strcpy(k->plan.model.init_path, k->start_path);
    return sl_model_file_save(k->start_path, layout, values, err);
}

void sl_fl_case_deinit(struct sl_fl_case *k)
{
    if (k->start_path[0] != '\0')
        unlink(k->start_path);
    if (k->steps_path[0] != '\0')
        unlink(k->steps_path);
    sl_plan_deinit(&k->plan);
    k->steps_path[0] = '\0';
}
