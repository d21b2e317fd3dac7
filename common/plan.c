/* SPDX-License-Identifier: Apache-2.0 */
#include "common/plan.h"

#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/plan_rows.h"

void sl_plan_deinit(struct sl_plan *p)
{
    if (p == NULL)
        return;
    sl_model_spec_deinit(&p->model.layers);
    *p = (struct sl_plan){0};
}

void sl_plan_default(struct sl_plan *ret)
{
    *ret = (struct sl_plan){
        .run = {.name = "run", .seed = 1, .rounds = 10, .eval_every = 1, .max_retries = 2},
        .data = {.partition = {.kind = SL_PARTITION_IID,
                               .clients = 10,
                               .alpha = 0.3,
                               .min_size = 10,
                               .shards_per_client = 2,
                               .share = 0.8,
                               .exponent = 1.0}},
        .model = {.name = "tiny",
                  .loss = SL_HEAD_CROSS_ENTROPY,
                  .temperature = 10,
                  .init_seed = 1,
                  .init_gain = 1.0},
        .train = {.epochs = 1,
                  .batch_size = 32,
                  .local_steps = -1,
                  .lr = 0.05,
                  .beta1 = 0.9,
                  .beta2 = 0.999,
                  .eps = 1e-8,
                  .schedule = {.step_every = 10, .factor = 0.5}},
        .strategy = {.name = "fedavg",
                     .eta = -1,
                     .beta = 0.9,
                     .beta1 = -1,
                     .beta2 = 0.99,
                     .tau = 1e-3,
                     .trim = 1,
                     .f = 1,
                     .iterations = 8,
                     .nu = 1e-6,
                     .buffer = 10,
                     .staleness_power = 0.5},
        .selection = {.policy = "random",
                      .over_select = 1.0,
                      .deadline_s = 600,
                      .quorum = 1.0,
                      .probe_quantile = 0.9,
                      .probe_slack = 2.0,
                      .min_accepted = 1,
                      .cap_window = 64,
                      .w1 = 10,
                      .w2 = 0.1,
                      .w3 = 0.05},
        .aggregation = {.max_abs = 8, .max_weight = 1000000, .fraction_bits = 32},
        .accelerator = SL_ACCELERATOR_DEFAULTS,
        .uplink = {.m = 4, .error_feedback = true},
        .calibration = {.ridge = 1e-6, .max_share = 1},
        .sim = {.world = {.device = "constant",
                          .samples_per_s = 1000,
                          .device_sigma = 0.5,
                          .network = "constant",
                          .up_mbit = 20,
                          .down_mbit = 100,
                          .rtt_ms = 40,
                          .network_sigma = 0.5},
                .faults = {.delay_ms = 100}},
    };
}

/* --- checks across keys ------------------------------------------------------------------------ */

struct check {
    struct sl_schema_in in;
    const struct sl_yaml_node *root;
    struct sl_err *err;
};

/* The node of "a.b.c"; NULL when it is not given. */
static const struct sl_yaml_node *node_of(const struct check *c, const char *path)
{
    const struct sl_yaml_node *n = c->root;
    char key[64];
    while (n != NULL && *path != '\0') {
        size_t size = strcspn(path, ".");
        memcpy(key, path, size);
        key[size] = '\0';
        n = sl_yaml_get(n, key);
        path += size + (path[size] == '.');
    }
    return n;
}

#define FAIL(key, code, ...) sl_schema_fail(&c->in, node_of(c, key), key, c->err, code, __VA_ARGS__)

/* `init: {file: P}` says the rule too. */
static enum sl_code check_init(const struct check *c, struct sl_plan *p)
{
    const struct sl_yaml_node *init = node_of(c, "model.init"), *file = sl_yaml_get(init, "file");
    const struct sl_yaml_node *rule = sl_yaml_get(init, "rule");
    if (file != NULL && rule == NULL)
        p->model.init = SL_INIT_FILE;
    if (file != NULL && p->model.init != SL_INIT_FILE) {
        if (file->is_set || !rule->is_set)
            return FAIL("model.init.file", SL_E_INPUT, "is no key of model.init.rule: %s",
                        rule->text);
        p->model.init_path[0] = '\0';
    }
    if (p->model.init == SL_INIT_FILE && p->model.init_path[0] == '\0')
        return FAIL("model.init.path", SL_E_INPUT, "is missing (model.init.rule is file)");
    return SL_OK;
}

static enum sl_code check_model(const struct check *c, struct sl_plan *p)
{
    const struct sl_yaml_node *name = node_of(c, "model.name"), *layers = node_of(c, "model.layers");
    if (name != NULL && layers != NULL) {
        if (name->is_set == layers->is_set)
            return FAIL("model.layers", SL_E_INPUT, "only one of model.name and model.layers");
        if (name->is_set)
            sl_model_spec_deinit(&p->model.layers);
    }
    if (p->model.layers.n_layers > 0)
        p->model.name[0] = '\0';
    if (p->model.width > 0 && p->model.name[0] == '\0')
        return FAIL("model.width", SL_E_INPUT, "only with model.name (the layers say it themselves)");
    return check_init(c, p);
}

static enum sl_code check_files(const struct check *c, const struct sl_plan *p)
{
    if (p->data.partition.kind == SL_PARTITION_FILE && p->data.partition.path[0] == '\0')
        return FAIL("data.partition.path", SL_E_INPUT,
                    "is missing (data.partition.kind is file)");
    if (strcmp(p->selection.policy, "file") == 0 && p->selection.path[0] == '\0')
        return FAIL("selection.path", SL_E_INPUT, "is missing (selection.policy is file)");
    if (strcmp(p->sim.world.device, "trace") == 0 && p->sim.world.device_trace[0] == '\0')
        return FAIL("sim.device.path", SL_E_INPUT, "is missing (sim.device.kind is trace)");
    if (strcmp(p->sim.world.network, "trace") == 0 && p->sim.world.network_trace[0] == '\0')
        return FAIL("sim.network.path", SL_E_INPUT, "is missing (sim.network.kind is trace)");
    return SL_OK;
}

static enum sl_code check_numbers(const struct check *c, const struct sl_plan *p)
{
    uint32_t clients = p->data.partition.clients;
    if (p->selection.clients_per_round > clients)
        return FAIL("selection.clients_per_round", SL_E_RANGE,
                    "%u is out of range (0 to %u, which is data.partition.clients)",
                    p->selection.clients_per_round, clients);
    if (p->run.min_clients > clients)
        return FAIL("run.min_clients", SL_E_RANGE,
                    "%u is out of range (0 to %u, which is data.partition.clients)",
                    p->run.min_clients, clients);
    bool by_steps = p->train.local_steps >= 0 || p->train.steps_path[0] != '\0';
    if (p->train.epochs == 0 && !by_steps)
        return FAIL("train.epochs", SL_E_RANGE,
                    "0 is out of range (1 to 100000 when there are no train.local_steps)");
    if (p->train.schedule.kind == SL_SCHEDULE_COSINE && p->train.schedule.min_lr > p->train.lr)
        return FAIL("train.lr_schedule.min_lr", SL_E_RANGE,
                    "%g is out of range (0 to %g, which is train.lr)", p->train.schedule.min_lr,
                    p->train.lr);
    return SL_OK;
}

static bool is_strategy(const struct sl_plan *p, const char *name)
{
    return strcmp(p->strategy.name, name) == 0;
}

/* Rules that leave updates out need enough of them. A cohort of a file may have any size. */
static enum sl_code check_cohort(const struct check *c, const struct sl_plan *p)
{
    uint32_t least = sl_plan_least_updates(p), f = p->strategy.f;
    bool krum = is_strategy(p, "krum"), multi = is_strategy(p, "multi-krum");
    if ((krum || multi || is_strategy(p, "geometric-median")) &&
        sl_plan_cohort_size(p) > SL_PLAN_PAIRED_MAX)
        return FAIL("selection.clients_per_round", SL_E_RANGE,
                    "%u is out of range (1 to %u: %s compares every pair of updates)",
                    sl_plan_cohort_size(p), SL_PLAN_PAIRED_MAX, p->strategy.name);
    if (strcmp(p->selection.policy, "file") == 0)
        return SL_OK;
    if (is_strategy(p, "trimmed-mean") && p->strategy.trim > (least - 1) / 2)
        return FAIL("strategy.trim", SL_E_RANGE,
                    "%u is out of range (0 to %u: a round has at least %u updates)",
                    p->strategy.trim, (least - 1) / 2, least);
    if ((krum || multi) && (least < 3 || f > least - 3))
        return FAIL("strategy.f", SL_E_RANGE,
                    "%u is out of range (%s needs f + 3 updates, a round has at least %u)", f,
                    p->strategy.name, least);
    if (multi && p->strategy.m > least)
        return FAIL("strategy.m", SL_E_RANGE,
                    "%u is out of range (0 to %u: a round has at least as many updates)",
                    p->strategy.m, least);
    return SL_OK;
}

/* What is meant for rounds has no meaning for buffers. */
static enum sl_code check_buffer(const struct check *c, const struct sl_plan *p)
{
    uint32_t clients = p->data.partition.clients;
    if (p->strategy.buffer > clients)
        return FAIL("strategy.buffer", SL_E_RANGE,
                    "%u is out of range (1 to %u, which is data.partition.clients)",
                    p->strategy.buffer, clients);
    if (strcmp(p->selection.policy, "file") == 0)
        return FAIL("selection.policy", SL_E_INPUT,
                    "file is not available with fedbuff (random and all are)");
    if (p->selection.over_select > 1)
        return FAIL("selection.over_select", SL_E_RANGE,
                    "%g is out of range (1 with fedbuff: it asks one client at a time)",
                    p->selection.over_select);
    if (p->calibration.every > 0)
        return FAIL("calibration.every", SL_E_RANGE,
                    "%u is out of range (0 with fedbuff, which has no pause between rounds)",
                    p->calibration.every);
    return SL_OK;
}

/* Probes are epochs of a round's training; a policy that decides needs them. */
static enum sl_code check_probes(const struct check *c, const struct sl_plan *p)
{
    bool decides = sl_plan_decides(p), fedmarl = strcmp(p->selection.policy, "fedmarl") == 0;
    uint32_t cohort = sl_plan_cohort_size(p);
    if (decides && p->selection.probe_epochs == 0)
        return FAIL("selection.probe_epochs", SL_E_RANGE, "0 is out of range (1 with %s)",
                    p->selection.policy);
    if (p->selection.probe_epochs == 0)
        return SL_OK;
    if (is_strategy(p, "fedbuff"))
        return FAIL("selection.probe_epochs", SL_E_RANGE,
                    "1 is out of range (0 with fedbuff, which has no rounds)");
    if (p->train.local_steps >= 0 || p->train.steps_path[0] != '\0')
        return FAIL("selection.probe_epochs", SL_E_RANGE,
                    "1 is out of range (0 with train.local_steps)");
    if (p->selection.over_select > 1)
        return FAIL("selection.over_select", SL_E_RANGE, "%g is out of range (1 with probes)",
                    p->selection.over_select);
    if (decides && (is_strategy(p, "trimmed-mean") || is_strategy(p, "krum") ||
                    is_strategy(p, "multi-krum")))
        return FAIL("strategy.name", SL_E_INPUT,
                    "%s is not available with %s (it needs a number of updates)",
                    p->strategy.name, p->selection.policy);
    if (p->selection.accept > cohort)
        return FAIL("selection.accept", SL_E_RANGE,
                    "%g is out of range (0 to %u, the clients of a round)", p->selection.accept,
                    cohort);
    if (fedmarl && p->selection.min_accepted > cohort)
        return FAIL("selection.min_accepted", SL_E_RANGE,
                    "%u is out of range (1 to %u, the clients of a round)",
                    p->selection.min_accepted, cohort);
    if (fedmarl && p->selection.policy_file[0] == '\0')
        return FAIL("selection.policy_file", SL_E_INPUT,
                    "is missing (selection.policy is fedmarl)");
    return SL_OK;
}

static enum sl_code check_strategy(const struct check *c, struct sl_plan *p)
{
    bool scaffold = is_strategy(p, "scaffold");
    sl_plan_strategy_defaults(p);
    if (is_strategy(p, "fedbuff"))
        return check_buffer(c, p);
    if (is_strategy(p, "fedprox") && !(p->strategy.mu > 0))
        return FAIL("strategy.mu", SL_E_RANGE,
                    "0 is out of range (above 0 to 1000000: fedprox without mu is fedavg)");
    if (!scaffold && !is_strategy(p, "fednova"))
        return check_cohort(c, p);
    if (p->train.optimizer != SL_OPT_SGD)
        return FAIL("train.optimizer", SL_E_INPUT, "adam is not available with %s (sgd is)",
                    p->strategy.name);
    if (p->train.momentum > 0)
        return FAIL("train.momentum", SL_E_RANGE, "%g is out of range (0 with %s)",
                    p->train.momentum, p->strategy.name);
    if (scaffold && p->aggregation.clip_norm > 0)
        return FAIL("aggregation.clip_norm", SL_E_RANGE,
                    "%g is out of range (0 with scaffold: variates follow from whole updates)",
                    p->aggregation.clip_norm);
    return SL_OK;
}

/* data.path names a file or folder for all datasets but synthetic, whose options it holds. */
static enum sl_code place_data(const struct check *c, struct sl_plan *p)
{
    const struct sl_yaml_node *node = node_of(c, "data.path");
    const char *folder = c->in.folder == NULL ? "" : c->in.folder;
    char *path = p->data.path;
    if (strcmp(p->data.dataset, "synthetic") == 0 || folder[0] == '\0' || path[0] == '\0' ||
        path[0] == '/' || node == NULL || node->is_set)
        return SL_OK;
    size_t n_folder = strlen(folder), n = strlen(path);
    if (n_folder + 1 + n >= sizeof(p->data.path))
        return FAIL("data.path", SL_E_LIMIT, "text of %zu bytes (at most %zu)", n_folder + 1 + n,
                    sizeof(p->data.path) - 1);
    memmove(path + n_folder + 1, path, n + 1);
    memcpy(path, folder, n_folder);
    path[n_folder] = '/';
    return SL_OK;
}

/* --- reading ----------------------------------------------------------------------------------- */

static enum sl_code bind(struct sl_yaml_doc *doc, const char *folder, struct sl_plan *p,
                         struct sl_err *err)
{
    struct check c = {{.where = doc->where, .folder = folder}, doc->root, err};
    enum sl_code rc = sl_schema_bind(&sl_plan_schema, &c.in, doc->root, p, err);
    if (rc == SL_OK)
        rc = check_model(&c, p);
    if (rc == SL_OK)
        rc = check_files(&c, p);
    if (rc == SL_OK)
        rc = check_numbers(&c, p);
    if (rc == SL_OK)
        rc = check_strategy(&c, p);
    if (rc == SL_OK)
        rc = check_probes(&c, p);
    return rc == SL_OK ? place_data(&c, p) : rc;
}

static enum sl_code parse(const char *text, size_t n, const char *where, const char *folder,
                          const struct sl_plan_override *overrides, size_t n_overrides,
                          struct sl_plan *ret, struct sl_err *err)
{
    struct sl_yaml_doc doc = {0};
    struct sl_plan p;
    sl_plan_default(&p);
    enum sl_code rc = sl_yaml_parse(text, n, where, &doc, err);
    for (size_t i = 0; i < n_overrides && rc == SL_OK; i++)
        rc = sl_yaml_set(&doc, overrides[i].text, err);
    if (rc == SL_OK)
        rc = bind(&doc, folder, &p, err);
    sl_yaml_deinit(&doc);
    if (rc == SL_OK)
        *ret = p;
    else
        sl_plan_deinit(&p);
    return rc;
}

enum sl_code sl_plan_parse(const char *text, size_t n, const char *where,
                           const struct sl_plan_override *overrides, size_t n_overrides,
                           struct sl_plan *ret, struct sl_err *err)
{
    return parse(text, n, where, NULL, overrides, n_overrides, ret, err);
}

enum sl_code sl_plan_load(const char *path, const struct sl_plan_override *overrides,
                          size_t n_overrides, struct sl_plan *ret, struct sl_err *err)
{
    char folder[SL_PLAN_PATH];
    if (!sl_path_folder(path, folder, sizeof(folder)))
        return sl_err_set(err, SL_E_LIMIT, "%.60s...: a path of more than %d bytes", path,
                          SL_PLAN_PATH - 1);
    uint8_t *text;
    size_t n;
    enum sl_code rc = sl_file_read(path, SL_PLAN_BYTES_MAX, &text, &n, err);
    if (rc != SL_OK)
        return rc;
    rc = parse((const char *)text, n, path, folder, overrides, n_overrides, ret, err);
    free(text);
    return rc;
}

/* --- what follows from a plan ------------------------------------------------------------------ */

#define PI 3.14159265358979323846

/* c[0] + c[1] y + c[2] y^2 ...; fixed order, so fixed bits. */
static double polynomial(const double *c, size_t n, double y)
{
    double r = 0;
    while (n-- > 0)
        r = r * y + c[n];
    return r;
}

/* Taylor polynomials for |x| <= pi/4; what they leave out is below 1e-16. */
static double small_cos(double x)
{
    static const double c[] = {1,
                               -1.0 / 2,
                               1.0 / 24,
                               -1.0 / 720,
                               1.0 / 40320,
                               -1.0 / 3628800,
                               1.0 / 479001600,
                               -1.0 / 87178291200.0,
                               1.0 / 20922789888000.0};
    return polynomial(c, sizeof(c) / sizeof(c[0]), x * x);
}

static double small_sin(double x)
{
    static const double c[] = {1,
                               -1.0 / 6,
                               1.0 / 120,
                               -1.0 / 5040,
                               1.0 / 362880,
                               -1.0 / 39916800,
                               1.0 / 6227020800.0,
                               -1.0 / 1307674368000.0};
    return x * polynomial(c, sizeof(c) / sizeof(c[0]), x * x);
}

/* cos(pi t) for 0 <= t <= 1 */
static double cos_pi(double t)
{
    if (t <= 0.25)
        return small_cos(PI * t);
    return t <= 0.75 ? small_sin(PI * (0.5 - t)) : -small_cos(PI * (1 - t));
}

static double whole_power(double x, uint32_t n)
{
    double r = 1;
    for (; n > 0; n >>= 1, x *= x)
        if (n & 1)
            r *= x;
    return r;
}

void sl_plan_strategy_defaults(struct sl_plan *p)
{
    bool adagrad = is_strategy(p, "fedadagrad");
    bool adaptive = adagrad || is_strategy(p, "fedadam") || is_strategy(p, "fedyogi");
    bool stepping = adaptive || is_strategy(p, "fedavgm") || is_strategy(p, "scaffold") ||
                    is_strategy(p, "fedbuff");
    if (stepping && p->strategy.eta < 0)
        p->strategy.eta = adaptive ? 0.01 : 1;
    if (adaptive && p->strategy.beta1 < 0)
        p->strategy.beta1 = adagrad ? 0 : 0.9;
}

bool sl_plan_decides(const struct sl_plan *p)
{
    return strcmp(p->selection.policy, "random") != 0 && strcmp(p->selection.policy, "all") != 0 &&
           strcmp(p->selection.policy, "file") != 0;
}

uint32_t sl_plan_least_updates(const struct sl_plan *p)
{
    double least = p->selection.quorum * (double)sl_plan_cohort_size(p);
    uint32_t whole = (uint32_t)least;
    whole += (double)whole < least;
    return whole < 1 ? 1 : whole;
}

double sl_plan_lr(const struct sl_plan *p, uint32_t round)
{
    double lr = p->train.lr, least = p->train.schedule.min_lr;
    uint32_t last = p->run.rounds > 0 ? p->run.rounds - 1 : 0;
    switch (p->train.schedule.kind) {
    case SL_SCHEDULE_CONSTANT:
        return lr;
    case SL_SCHEDULE_STEP:
        return lr * whole_power(p->train.schedule.factor, round / p->train.schedule.step_every);
    case SL_SCHEDULE_COSINE:
        if (round >= last)
            return last == 0 ? lr : least;
        return least + (lr - least) * (0.5 * (1 + cos_pi((double)round / last)));
    }
    return lr;
}

uint32_t sl_plan_cohort_size(const struct sl_plan *p)
{
    uint32_t n = p->selection.clients_per_round;
    return n == 0 || n > p->data.partition.clients ? p->data.partition.clients : n;
}
