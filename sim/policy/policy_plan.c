/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/policy/policy_plan.h"

#include <stddef.h>
#include <stdlib.h>

#include "common/file.h"
#include "common/schema.h"

#define PLACE(field)                                                                               \
    .offset = offsetof(struct sl_policy_plan, field),                                              \
    .size = sizeof(((struct sl_policy_plan *)0)->field)
#define COUNT(key, field, least, most)                                                             \
    {                                                                                              \
        .path = key, .type = SL_FIELD_WHOLE, PLACE(field), .lo = least, .hi = most                 \
    }
#define REAL(key, field, least, most, more)                                                        \
    {                                                                                              \
        .path = key, .type = SL_FIELD_REAL, PLACE(field), .min = least, .max = most, .flags = more \
    }
#define PAIR(key, field, least, most)                                                              \
    {                                                                                              \
        .path = key, .type = SL_FIELD_PAIR, PLACE(field), .min = least, .max = most                \
    }
#define FLAG(key, field)                                                                           \
    {                                                                                              \
        .path = key, .type = SL_FIELD_BOOL, PLACE(field)                                           \
    }

static const char *const datasets[] = {"fashion-mnist", "idx", "cifar10", "csv", "npz",
                                       "synthetic", NULL};
static const char *const utilities[] = {"paper", "late", NULL};
static const char *const withheld[] = {"nothing", "loss", "times", NULL};

static const struct sl_row rows[] = {
    COUNT("run.seed", seed, 0, UINT64_MAX),
    {.path = "data.dataset",
     .type = SL_FIELD_WORD,
     PLACE(data.dataset),
     .names = datasets,
     .flags = SL_ROW_REQUIRED},
    {.path = "data.path", .type = SL_FIELD_PATH, PLACE(data.path)},
    COUNT("data.samples", data.samples, 1, 10000000),
    COUNT("data.holdout", data.holdout, 1, 10000000),
    COUNT("data.pooling", data.pooling, 1, 16),
    COUNT("local.hidden", local.hidden, 1, 4096),
    COUNT("local.epochs", local.epochs, 2, 1000),
    COUNT("local.batch_size", local.batch_size, 1, 65536),
    REAL("local.lr", local.lr, 1e-9, 1000, 0),
    REAL("local.momentum", local.momentum, 0, 1, SL_ROW_BELOW_MAX),
    COUNT("federation.clients", federation.clients, 2, 10000),
    COUNT("federation.cohort", federation.cohort, 1, SL_VDN_AGENTS_MAX),
    COUNT("federation.rounds", federation.rounds, 1, 10000),
    COUNT("federation.pool", federation.pool, 1, 100),
    COUNT("federation.held_out", federation.held_out, 1, 100),
    COUNT("federation.buckets", federation.buckets, 2, 64),
    REAL("federation.keep", federation.keep, 0, 1, 0),
    COUNT("federation.reference_cohort", federation.reference_cohort, 1, 10000),
    COUNT("federation.reference_rounds", federation.reference_rounds, 1, 10000),
    REAL("devices.samples_per_s", devices.samples_per_s, 0, 1e12, SL_ROW_ABOVE_MIN),
    REAL("devices.sigma", devices.sigma, 0, 3, 0),
    PAIR("devices.upload_s", devices.upload_s, 1e-6, 1e6),
    COUNT("features.probe", features.n_probe, 1, SL_FACTS_HISTORY),
    COUNT("features.upload", features.n_upload, 1, SL_FACTS_HISTORY),
    {.path = "features.without", .type = SL_FIELD_ENUM, PLACE(without), .names = withheld},
    {.path = "reward.utility", .type = SL_FIELD_ENUM, PLACE(reward.utility), .names = utilities},
    REAL("reward.c", reward.c, 0, 1e6, SL_ROW_ABOVE_MIN),
    REAL("reward.w1", reward.w1, 0, 1e6, 0),
    REAL("reward.w2", reward.w2, 0, 1e6, 0),
    REAL("reward.w3", reward.w3, 0, 1e6, 0),
    COUNT("reward.window", window, 1, 10000),
    COUNT("learner.hidden", learner.shape.hidden, 1, SL_QNET_HIDDEN_MAX),
    COUNT("learner.layers", learner.shape.layers, 1, 2),
    REAL("learner.gamma", learner.gamma, 0, 1, 0),
    REAL("learner.lr", learner.lr, 0, 1, SL_ROW_ABOVE_MIN),
    REAL("learner.clip_norm", learner.clip_norm, 0, 1e9, 0),
    COUNT("learner.replay", learner.replay, 1, 1000000),
    COUNT("learner.batch", learner.batch, 1, 100000),
    COUNT("learner.warmup", learner.warmup, 1, 1000000),
    COUNT("learner.target_every", learner.target_every, 1, 1000000),
    FLAG("learner.double_q", learner.double_q),
    FLAG("learner.huber", learner.huber),
    FLAG("learner.credit", learner.credit),
    PAIR("learner.epsilon", epsilon, 0, 1),
    COUNT("training.episodes", training.episodes, 1, 10000000),
    COUNT("training.batch_episodes", training.batch_episodes, 1, 1000),
    COUNT("training.updates_per_step", training.updates_per_step, 1, 100),
    COUNT("training.lookahead", training.lookahead, 1, 10000),
    COUNT("training.validate_every", training.validate_every, 1, 1000000),
    COUNT("training.validation_episodes", training.validation_episodes, 1, 10000),
    COUNT("training.evaluation_episodes", training.evaluation_episodes, 1, 10000),
    COUNT("training.adversaries", training.adversaries, 0, 20),
    COUNT("training.adversary_episodes", training.adversary_episodes, 1, 10000000),
};
static const struct sl_schema schema = {rows, sizeof(rows) / sizeof(rows[0])};

void sl_policy_plan_default(struct sl_policy_plan *ret)
{
    *ret = (struct sl_policy_plan){
        .seed = 1,
        .data = {.samples = 50000, .holdout = 2000, .pooling = 2},
        .local = {.hidden = 32, .epochs = 5, .batch_size = 32, .lr = 0.02, .momentum = 0.9},
        .federation = {.clients = 100,
                       .cohort = 10,
                       .rounds = 30,
                       .pool = 2,
                       .held_out = 1,
                       .buckets = 8,
                       .keep = 0.5,
                       .reference_cohort = 20,
                       .reference_rounds = 25},
        .devices = {.samples_per_s = 1000, .sigma = 0.2, .upload_s = {0.5, 4}},
        .features = {.n_probe = 3, .n_upload = 3},
        .reward = {.c = 1, .w1 = 10, .w2 = 0.2, .w3 = 0.1},
        .window = 1,
        .learner = {.shape = {.hidden = 256, .layers = 1}, SL_VDN_DEFAULTS},
        .epsilon = {1, 0.05},
        .training = {.episodes = 300,
                     .batch_episodes = 8,
                     .updates_per_step = 1,
                     .lookahead = 1,
                     .validate_every = 10,
                     .validation_episodes = 24,
                     .evaluation_episodes = 40,
                     .adversary_episodes = 160},
    };
}

void sl_policy_plan_complete(struct sl_policy_plan *p)
{
    struct sl_vdn_options *o = &p->learner;
    o->shape.n_inputs = sl_fedmarl_n_inputs(&p->features);
    o->shape.n_actions = 2;
    o->n_agents = p->federation.cohort;
    o->seed = p->seed;
    o->epsilon_start = p->epsilon[0];
    o->epsilon_end = p->epsilon[1];
    o->epsilon_steps = (uint64_t)p->training.episodes * p->federation.rounds / 2;
}

/* Places as in server/selection/fedmarl/features.h. */
void sl_policy_withheld(const struct sl_policy_plan *p, uint32_t *ret_from, uint32_t *ret_to)
{
    const uint32_t times = p->features.n_probe + p->features.n_upload;
    *ret_from = p->without == SL_WITHHELD_TIMES ? 1 : 0;
    *ret_to = p->without == SL_WITHHELD_NOTHING ? 0
              : p->without == SL_WITHHELD_LOSS  ? 1
                                                : 1 + times;
}

static enum sl_code check(const char *where, const struct sl_policy_plan *p, struct sl_err *err)
{
    if (p->federation.cohort > p->federation.clients ||
        p->federation.reference_cohort > p->federation.clients)
        return sl_err_set(err, SL_E_RANGE,
                          "%s: federation: cohort %u, reference_cohort %u (at most clients: %u)",
                          where, p->federation.cohort, p->federation.reference_cohort,
                          p->federation.clients);
    if (p->devices.upload_s[1] < p->devices.upload_s[0])
        return sl_err_set(err, SL_E_RANGE, "%s: devices.upload_s: [%g, %g] (least first)", where,
                          p->devices.upload_s[0], p->devices.upload_s[1]);
    if (p->training.lookahead > 1 && p->learner.gamma < 1)
        return sl_err_set(err, SL_E_RANGE,
                          "%s: training.lookahead: %u (1 unless learner.gamma is 1)", where,
                          p->training.lookahead);
    if (p->federation.buckets > p->federation.reference_rounds)
        return sl_err_set(err, SL_E_RANGE,
                          "%s: federation.buckets: %u (at most reference_rounds: %u)", where,
                          p->federation.buckets, p->federation.reference_rounds);
    return SL_OK;
}

static enum sl_code parse(const char *text, size_t n, const char *path, const char *folder,
                          const struct sl_plan_override *overrides, size_t n_overrides,
                          struct sl_policy_plan *ret, struct sl_err *err)
{
    struct sl_yaml_doc doc = {0};
    struct sl_policy_plan p;
    const struct sl_schema_in in = {.where = path, .folder = folder};
    sl_policy_plan_default(&p);
    enum sl_code rc = sl_yaml_parse(text, n, path, &doc, err);
    for (size_t i = 0; i < n_overrides && rc == SL_OK; i++)
        rc = sl_yaml_set(&doc, overrides[i].text, err);
    if (rc == SL_OK)
        rc = sl_schema_bind(&schema, &in, doc.root, &p, err);
    if (rc == SL_OK)
        rc = check(path, &p, err);
    sl_yaml_deinit(&doc);
    if (rc != SL_OK)
        return rc;
    sl_policy_plan_complete(&p);
    *ret = p;
    return SL_OK;
}

enum sl_code sl_policy_plan_load(const char *path, const struct sl_plan_override *overrides,
                                 size_t n_overrides, struct sl_policy_plan *ret,
                                 struct sl_err *err)
{
    char folder[SL_PLAN_PATH];
    uint8_t *text;
    size_t n;
    if (!sl_path_folder(path, folder, sizeof(folder)))
        return sl_err_set(err, SL_E_LIMIT, "%.60s...: a path of more than %d bytes", path,
                          SL_PLAN_PATH - 1);
    enum sl_code rc = sl_file_read(path, SL_PLAN_BYTES_MAX, &text, &n, err);
    if (rc != SL_OK)
        return rc;
    rc = parse((const char *)text, n, path, folder, overrides, n_overrides, ret, err);
    free(text);
    return rc;
}

enum sl_code sl_policy_plan_parse(const char *text, size_t n, const char *where,
                                  const struct sl_plan_override *overrides, size_t n_overrides,
                                  struct sl_policy_plan *ret, struct sl_err *err)
{
    return parse(text, n, where, "", overrides, n_overrides, ret, err);
}

enum sl_code sl_policy_plan_text(const struct sl_policy_plan *p, char **ret, struct sl_err *err)
{
    struct sl_text t = {0};
    sl_schema_print(&schema, p, &t);
    if (t.failed) {
        free(t.bytes);
        return sl_err_set(err, SL_E_NOMEM, "text of the plan");
    }
    *ret = t.bytes;
    return SL_OK;
}
