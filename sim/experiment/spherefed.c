/* SPDX-License-Identifier: Apache-2.0 */
/* spherefed.c - a fixed head on the unit sphere and the calibration in closed form (Dong
 * et al. 2022), each against the ordinary head with the same calibration. One cell is one
 * run that is calibrated on its way, for the report alone, and at its end. */
#include "sim/experiment/spherefed.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "sim/experiment/experiment.h"
#include "sim/experiment/training.h"

#define DIRICHLET_01 "kind: dirichlet, alpha: 0.1"
#define SHARDS "kind: shards, shards_per_client: 2"

/* work: time of a run, in that of an mlp run; quick_*: of the short form. */
static const struct part {
    const char *name, *model, *partition;
    int rounds, epochs, eval_every, calibrate_every, quick_limit, quick_rounds;
    double work;
} parts[SL_SPHERE_PARTS] = {
    {"mlp-0.1", "mlp", DIRICHLET_01, 50, 5, 1, 5, 2000, 10, 1},
    {"mlp-0.3", "mlp", "kind: dirichlet, alpha: 0.3", 50, 5, 1, 5, 2000, 10, 1},
    {"mlp-iid", "mlp", "kind: iid", 50, 5, 1, 5, 2000, 10, 1},
    {"lenet-0.1", "lenet", DIRICHLET_01, 50, 5, 1, 5, 600, 4, 5},
    {"lenet-shards", "lenet", SHARDS, 50, 5, 1, 5, 600, 4, 5},
    {"cnn-0.1", "cnn", DIRICHLET_01, 20, 1, 2, 4, 200, 4, 8},
    {"cnn-shards", "cnn", SHARDS, 20, 1, 2, 4, 200, 4, 8},
    {"resnet8-0.1", "resnet8", DIRICHLET_01, 20, 1, 2, 4, 200, 4, 12},
    {"resnet8-shards", "resnet8", SHARDS, 20, 1, 2, 4, 200, 4, 12},
};

#define MOMENTUM "lr: 0.02, momentum: 0.9"
/* FedNova wants plain SGD; a step of 0.1 is half of what momentum 0.9 makes of 0.02. */
#define PLAIN "lr: 0.1, momentum: 0"

static const struct method {
    const char *name, *train, *strategy, *accelerator;
    double work; /* in that of fp32 */
} methods[SL_SPHERE_METHODS] = {
    {"fedavg", MOMENTUM, "name: fedavg", "matmul: fp32", 1},
    {"fedprox", MOMENTUM, "name: fedprox, mu: 0.01", "matmul: fp32", 1},
    {"fednova", PLAIN, "name: fednova", "matmul: fp32", 1},
    {"fedadam", MOMENTUM, "name: fedadam", "matmul: fp32", 1},
    {"fedavg,m=4", MOMENTUM, "name: fedavg", "matmul: fast, precision: 4", 4},
};

#define COSINE(t) ", head: sphere, loss: cross-entropy, temperature: " #t

static const struct head {
    const char *name, *plan;
} heads[SL_SPHERE_HEADS] = {
    {"trained", ""},
    {"sphere", ", head: sphere, loss: squared"},
    {"cosine-5", COSINE(5)},
    {"cosine-10", COSINE(10)},
    {"cosine-20", COSINE(20)},
    {"cosine-40", COSINE(40)},
};

static const unsigned widths[] = {0, 64, 128, 256, 512};

#define N_WIDTHS (sizeof(widths) / sizeof(widths[0]))

/* What is listed, most important first. */
#define BIT(x) (1u << SL_SPHERE_##x)
#define MLP (BIT(MLP_01) | BIT(MLP_03))
#define THREE (BIT(TRAINED) | BIT(SQUARED) | BIT(COSINE_10))
#define OWN_WIDTH 1u
#define WIDTH_128 4u
#define ALL_WIDTHS 30u

static const struct stage {
    unsigned parts, methods, heads, widths; /* bits */
    bool by_seed; /* all its rows with a seed before the next seed */
} stages[] = {
    {MLP, BIT(FEDAVG), THREE, OWN_WIDTH, false},
    {MLP, BIT(FEDPROX) | BIT(FEDNOVA) | BIT(FEDADAM), BIT(TRAINED) | BIT(SQUARED),
     OWN_WIDTH, false},
    {MLP, BIT(FAST), BIT(TRAINED) | BIT(SQUARED), OWN_WIDTH, false},
    {BIT(MLP_IID), BIT(FEDAVG), THREE, OWN_WIDTH, false},
    {MLP, BIT(FEDPROX) | BIT(FEDNOVA) | BIT(FEDADAM) | BIT(FAST), BIT(COSINE_10),
     OWN_WIDTH, false},
    {MLP, BIT(FEDAVG), BIT(COSINE_5) | BIT(COSINE_20) | BIT(COSINE_40), OWN_WIDTH, false},
    {BIT(LENET_01) | BIT(LENET_SHARDS), BIT(FEDAVG), THREE, ALL_WIDTHS, true},
    {BIT(CNN_01) | BIT(CNN_SHARDS) | BIT(RESNET_01) | BIT(RESNET_SHARDS), BIT(FEDAVG),
     THREE, WIDTH_128, true},
};

#define N_STAGES (sizeof(stages) / sizeof(stages[0]))

const char *sl_sphere_part_name(enum sl_sphere_part part)
{
    return parts[part].name;
}

const char *sl_sphere_method_name(enum sl_sphere_method method)
{
    return methods[method].name;
}

void sl_sphere_setting(enum sl_sphere_method method, enum sl_sphere_head head,
                       unsigned width, char ret[SL_SPHERE_NAME])
{
    int n = snprintf(ret, SL_SPHERE_NAME, "%s,%s", methods[method].name,
                     heads[head].name);
    if (width > 0)
        snprintf(ret + n, SL_SPHERE_NAME - (size_t)n, ",w=%u", width);
}

/* --- cells ------------------------------------------------------------------------ */

static size_t add_heads(const struct stage *s, struct sl_sphere_row row,
                        struct sl_sphere_row *ret)
{
    size_t n = 0;
    for (unsigned h = 0; h < SL_SPHERE_HEADS; h++) {
        if (!(s->heads >> h & 1))
            continue;
        row.head = (enum sl_sphere_head)h;
        sl_sphere_setting(row.method, row.head, row.width, row.name);
        ret[n++] = row;
    }
    return n;
}

/* A stage's rows of a part. */
static size_t rows_of(const struct stage *s, enum sl_sphere_part part,
                      struct sl_sphere_row *ret)
{
    size_t n = 0;
    if (!(s->parts >> part & 1))
        return 0;
    for (unsigned m = 0; m < SL_SPHERE_METHODS; m++)
        for (size_t w = 0; w < N_WIDTHS; w++)
            if (s->methods >> m & s->widths >> w & 1)
                n += add_heads(s,
                               (struct sl_sphere_row){.part = part,
                                                      .method = (enum sl_sphere_method)m,
                                                      .width = widths[w]},
                               ret + n);
    return n;
}

size_t sl_sphere_rows(enum sl_sphere_part part, struct sl_sphere_row ret[SL_SPHERE_ROWS])
{
    size_t n = 0;
    for (size_t i = 0; i < N_STAGES; i++)
        n += rows_of(&stages[i], part, ret + n);
    return n;
}

/* lambda as it is with all samples: with less of it the head shows in which batches the features were
 * computed. */
#define QUICK_RIDGE ", ridge: 0.00005"

static enum sl_code add_cell(json_t *cells, const struct sl_sphere_row *row,
                             uint64_t seed, bool quick, struct sl_err *err)
{
    const struct part *p = &parts[row->part];
    const struct method *m = &methods[row->method];
    char width[32] = "";
    if (row->width > 0)
        snprintf(width, sizeof(width), ", width: %u", row->width);
    return sl_cell_add(
        cells, p->name, row->name, seed, err,
        "run: {name: spherefed, rounds: %d, eval_every: %d}\n"
        "data: {dataset: fashion-mnist, limit: %d, test_limit: %d,\n"
        "       partition: {%s, clients: %d}}\n"
        "model: {name: %s%s%s}\n"
        "train: {epochs: %d, batch_size: %d, %s, weight_decay: 0.00001}\n"
        "strategy: {%s}\n"
        "selection: {clients_per_round: %d}\n"
        "accelerator: {%s}\n"
        "calibration: {at_end: true, every: %d%s}\n",
        quick ? p->quick_rounds : p->rounds, quick ? 1 : p->eval_every, quick ? p->quick_limit : 0,
        quick ? p->quick_limit / 2 : 0, p->partition, quick ? 10 : 100, p->model, heads[row->head].plan,
        width, quick ? 2 : p->epochs, quick ? 10 : 32, m->train, m->strategy,
        quick ? 3 : 10, m->accelerator, quick ? 2 : p->calibrate_every,
        quick ? QUICK_RIDGE : "");
}

static enum sl_code list_stage(const struct stage *s, const uint64_t *seeds,
                               size_t n_seeds, bool quick, json_t *cells,
                               struct sl_err *err)
{
    struct sl_sphere_row rows[SL_SPHERE_ROWS];
    enum sl_code rc = SL_OK;
    for (unsigned p = 0; p < SL_SPHERE_PARTS; p++) {
        size_t n = rows_of(s, (enum sl_sphere_part)p, rows);
        for (size_t i = 0; i < n; i++)
            for (size_t k = 0; k < n_seeds && rc == SL_OK; k++)
                rc = add_cell(cells, &rows[i], seeds[k], quick, err);
    }
    return rc;
}

static enum sl_code list(const struct sl_experiment_options *o, json_t *cells,
                         struct sl_err *err)
{
    enum sl_code rc = SL_OK;
    for (size_t i = 0; i < N_STAGES && rc == SL_OK; i++)
        if (!stages[i].by_seed)
            rc = list_stage(&stages[i], o->seeds, o->n_seeds, o->quick, cells, err);
    for (size_t k = 0; k < o->n_seeds; k++)
        for (size_t i = 0; i < N_STAGES && rc == SL_OK; i++)
            if (stages[i].by_seed)
                rc = list_stage(&stages[i], &o->seeds[k], 1, o->quick, cells, err);
    return rc;
}

/* How long a cell takes, in units of an mlp run. */
static double work(const json_t *cell)
{
    const char *part = json_string_value(json_object_get(cell, "part"));
    const char *setting = json_string_value(json_object_get(cell, "setting"));
    const char *fast = methods[SL_SPHERE_FAST].name;
    if (part == NULL || setting == NULL)
        return 1;
    bool slow = strncmp(setting, fast, strlen(fast)) == 0;
    double times = slow ? methods[SL_SPHERE_FAST].work : 1;
    for (unsigned p = 0; p < SL_SPHERE_PARTS; p++)
        if (strcmp(parts[p].name, part) == 0)
            return parts[p].work * times;
    return times;
}

/* --- one cell --------------------------------------------------------------------- */

static double at(const json_t *array, size_t i)
{
    const json_t *v = json_array_get(array, i);
    return json_is_number(v) ? json_number_value(v) : (double)NAN;
}

/* The last accuracy there is; that of a constant answer if there is none. */
static double last_of(const json_t *accuracy)
{
    for (size_t i = json_array_size(accuracy); i > 0; i--)
        if (json_is_number(json_array_get(accuracy, i - 1)))
            return at(accuracy, i - 1);
    return 0.1;
}

static double mean3(const json_t *accuracy, size_t rounds)
{
    size_t apart = rounds < 10 ? 1 : rounds / 10, n = 0;
    double sum = 0;
    for (size_t i = 0; i < 3 && i * apart < rounds; i++) {
        double v = at(accuracy, rounds - 1 - i * apart);
        sum += isfinite(v) ? v : 0;
        n += isfinite(v);
    }
    return n > 0 ? sum / (double)n : last_of(accuracy);
}

/* Standard deviation of the differences of neighbours. */
static double jump(const json_t *curve)
{
    size_t n = json_array_size(curve);
    double mean = 0, square = 0;
    if (n < 3)
        return (double)NAN;
    for (size_t i = 1; i < n; i++)
        mean += (at(curve, i) - at(curve, i - 1)) / (double)(n - 1);
    for (size_t i = 1; i < n; i++)
        square += pow(at(curve, i) - at(curve, i - 1) - mean, 2);
    return sqrt(square / (double)(n - 2));
}

/* A run that ended early has no calibration at its end: it counts with what it reached. */
static void add_curves(json_t *result, size_t rounds)
{
    const json_t *accuracy = json_object_get(result, "accuracy");
    const json_t *c = json_object_get(result, "calibration");
    const json_t *after = json_object_get(c, "after"),
                 *before = json_object_get(c, "before");
    double raw = mean3(accuracy, rounds), last = last_of(accuracy), calibrated = last;
    if (json_object_get(result, "failed") == NULL && json_array_size(after) > 0)
        calibrated = at(after, json_array_size(after) - 1);
    json_object_set_new(result, "mean3", json_real(raw));
    json_object_set_new(result, "last", json_real(last));
    json_object_set_new(result, "calibrated", json_real(calibrated));
    json_object_set_new(result, "gain", json_real(calibrated - raw));
    if (json_array_size(after) >= 3)
        json_object_set_new(result, "jump",
                            json_pack("{s:f, s:f}", "raw", jump(before), "calibrated",
                                      jump(after)));
}

/* The calibrations that the run does not make itself. The published head is the
 * calibrated one when that was better. */
static enum sl_code add_refits(json_t *result, const struct sl_plan *plan,
                               const struct sl_federated_end *end, struct sl_err *err)
{
    struct sl_refit cohort, pooled;
    double calibrated = json_number_value(json_object_get(result, "calibrated"));
    bool adopted =
        memcmp(end->trained, end->published, end->n_values * sizeof(float)) != 0;
    enum sl_code rc = sl_refit(plan, end->trained, NULL, end->cohort, end->n_cohort,
                               &cohort, err);
    if (rc == SL_OK)
        rc = sl_refit(plan, end->trained, end->published, NULL, 0, &pooled, err);
    if (rc != SL_OK)
        return rc;
    json_object_set_new(result, "last_cohort", json_real(cohort.accuracy));
    if (adopted)
        json_object_set_new(
            result, "pooled",
            json_pack("{s:f, s:f}", "apart", pooled.apart, "samples",
                      fabs((double)pooled.correct -
                           rint(calibrated * (double)pooled.n_test))));
    return SL_OK;
}

static enum sl_code run(const json_t *cell, json_t **ret, struct sl_err *err)
{
    struct sl_plan plan = {0};
    struct sl_federated_end end = {0};
    json_t *result = NULL;
    enum sl_code rc = sl_cell_plan(cell, &plan, err);
    if (rc == SL_OK)
        rc = sl_federated_run(&plan, NULL, &end, &result, err);
    if (rc == SL_OK)
        add_curves(result, plan.run.rounds);
    if (rc == SL_OK && json_object_get(result, "failed") == NULL)
        rc = add_refits(result, &plan, &end, err);
    if (rc == SL_OK)
        *ret = result;
    else
        json_decref(result);
    sl_federated_end_deinit(&end);
    sl_plan_deinit(&plan);
    return rc;
}

const struct sl_experiment sl_experiment_spherefed = {
    .name = "spherefed",
    .help = "a fixed head on the unit sphere, and calibration in closed form",
    .default_seeds = 3,
    .list = list,
    .run = run,
    .work = work,
    .report = sl_sphere_report,
};
