/* SPDX-License-Identifier: Apache-2.0 */
/* The keys of a plan, in the order of the canonical text, and that text. What another key rules
 * out (alpha without dirichlet) is neither read nor printed. */
#include "common/plan.h"

#include <stdlib.h>

#include "common/plan_layers.h"
#include "common/plan_rows.h"

#define PLACE(field)                                                                     \
    .offset = offsetof(struct sl_plan, field), .size = sizeof(((struct sl_plan *)0)->field)
#define TEXT(key, field, more) {.path = key, .type = SL_FIELD_TEXT, PLACE(field), .flags = more}
#define FILE_OF(key, field, by, when)                                                    \
    {.path = key, .type = SL_FIELD_PATH, PLACE(field), .selector = by, .selected = when}
#define WORD(key, field, list) {.path = key, .type = SL_FIELD_WORD, PLACE(field), .names = list}
#define ENUM(key, field, list) {.path = key, .type = SL_FIELD_ENUM, PLACE(field), .names = list}
#define FIXED(key, list) {.path = key, .type = SL_FIELD_FIXED, .names = list}
#define COUNT(key, field, least, most)                                                   \
    {.path = key, .type = SL_FIELD_WHOLE, PLACE(field), .lo = least, .hi = most}
#define COUNT_OF(key, field, least, most, by, when)                                      \
    {.path = key, .type = SL_FIELD_WHOLE, PLACE(field), .lo = least, .hi = most,         \
     .selector = by, .selected = when}
#define REAL(key, field, least, most, more)                                              \
    {.path = key, .type = SL_FIELD_REAL, PLACE(field), .min = least, .max = most, .flags = more}
#define REAL_IN(key, field, least, most, more, text)                                     \
    {.path = key, .type = SL_FIELD_REAL, PLACE(field), .min = least, .max = most,        \
     .flags = more, .unit = text}
#define REAL_OF(key, field, least, most, more, text, by, when)                           \
    {.path = key, .type = SL_FIELD_REAL, PLACE(field), .min = least, .max = most,        \
     .flags = more, .unit = text, .selector = by, .selected = when}

#define ACCELERATOR(field) PLACE(accelerator.field)

#define ABOVE SL_ROW_ABOVE_MIN
#define BELOW SL_ROW_BELOW_MAX
#define SAMPLES_MAX UINT64_C(1000000000000)

/* what is available */
static const char *const reproducible[] = {"warn", "strict", NULL};
static const char *const datasets[] = {"fashion-mnist", "idx", "cifar10", "csv", "npz",
                                       "synthetic", NULL};
static const char *const partitions[] = {"iid", "dirichlet", "shards", "majority", "quantity",
                                         "file", NULL};
static const char *const models[] = {"tiny", "mlp", "lenet", "cnn", "pfl-cnn", "resnet8", NULL};
static const char *const heads[] = {"dense", "sphere", NULL};
static const char *const head_losses[] = {"squared", "cross-entropy", NULL};
static const char *const init_rules[] = {"uniform", "splitmix", "file", NULL};
static const char *const optimizers[] = {"sgd", "adam", NULL};
static const char *const schedules[] = {"constant", "step", "cosine", NULL};
static const char *const orders[] = {"philox", "bench", NULL};
static const char *const strategies[] = {
    "fedavg",  "fedavgm",    "fedprox", "fednova",      "scaffold", "fedadam",
    "fedyogi", "fedadagrad", "median",  "trimmed-mean", "krum",     "multi-krum",
    "geometric-median", "fedbuff", NULL};
enum { /* strategies[i] is bit i */
    FEDAVGM = 1 << 1,
    FEDPROX = 1 << 2,
    SCAFFOLD = 1 << 4,
    FEDADAM = 1 << 5,
    FEDYOGI = 1 << 6,
    FEDADAGRAD = 1 << 7,
    TRIMMED_MEAN = 1 << 9,
    KRUM = 1 << 10,
    MULTI_KRUM = 1 << 11,
    GEOMETRIC_MEDIAN = 1 << 12,
    FEDBUFF = 1 << 13,
    ADAPTIVE = FEDADAM | FEDYOGI | FEDADAGRAD,
};
static const char *const policies[] = {
    "random",      "all",             "file", "drop-slowest", "highest-loss",
    "lowest-loss", "power-of-choice", "oort", "fedmarl",      NULL};
enum { /* policies[i] is bit i */
    FROM_FILE = 1 << 2,
    SIZED = 0xf8, /* keep a number */
    POWER_OF_CHOICE = 1 << 6,
    FEDMARL = 1 << 8,
    DECIDING = SIZED | FEDMARL,
};
static const char *const weightings[] = {"samples", "uniform", NULL};
static const char *const matmuls[] = {"fp32", "fast", "tr", "rtn", NULL};
SL_ACCELERATOR_NAMES;
static const char *const softmaxes[] = {"exact", NULL};
static const char *const uplinks[] = {"fp32", "bf16", "bfp", "ternary", NULL};
static const char *const downlinks[] = {"fp32", NULL};
static const char *const places[] = {"coordinator", "clients", "both", NULL};
static const char *const laws[] = {"constant", "lognormal", "trace", NULL};
static const char *const only_none[] = {"none", NULL};

enum { BY_RULE = 1 << 0 | 1 << 1, CONSTANT = 1 << 0, LOGNORMAL = 1 << 1, TRACE = 1 << 2 };

static enum sl_code read_layers(const struct sl_schema_in *in, const struct sl_yaml_node *node,
                                void *plan, struct sl_err *err)
{
    return sl_plan_layers_read(in, node, &((struct sl_plan *)plan)->model.layers, err);
}

static void print_layers(const void *plan, unsigned indent, struct sl_text *out)
{
    sl_text_add(out, "\n");
    sl_plan_layers_print(&((const struct sl_plan *)plan)->model.layers, indent, out);
}

static const struct sl_row rows[] = {
    TEXT("run.name", run.name, SL_ROW_FILLED),
    COUNT("run.seed", run.seed, 0, UINT64_MAX),
    COUNT("run.rounds", run.rounds, 1, SL_ROUNDS_MAX),
    REAL("run.target_accuracy", run.target_accuracy, 0, 1, 0),
    COUNT("run.eval_every", run.eval_every, 0, SL_ROUNDS_MAX),
    COUNT("run.min_clients", run.min_clients, 0, SL_CLIENTS_MAX),
    COUNT("run.max_retries", run.max_retries, 0, 1000),
    ENUM("run.reproducible", run.reproducible, reproducible),

    {.path = "data.dataset", .type = SL_FIELD_WORD, PLACE(data.dataset), .names = datasets,
     .flags = SL_ROW_REQUIRED},
    TEXT("data.path", data.path, 0), /* a path unless the dataset is synthetic */
    COUNT("data.limit", data.limit, 0, SAMPLES_MAX),
    COUNT("data.test_limit", data.test_limit, 0, SAMPLES_MAX),
    ENUM("data.partition.kind", data.partition.kind, partitions),
    COUNT("data.partition.clients", data.partition.clients, 1, SL_CLIENTS_MAX),
#define KIND "data.partition.kind"
    REAL_OF("data.partition.alpha", data.partition.alpha, 0, 1e6, ABOVE, NULL, KIND,
            1 << SL_PARTITION_DIRICHLET),
    COUNT_OF("data.partition.min_size", data.partition.min_size, 0, 1000000, KIND,
             1 << SL_PARTITION_DIRICHLET),
    COUNT_OF("data.partition.shards_per_client", data.partition.shards_per_client, 1, 10000,
             KIND, 1 << SL_PARTITION_SHARDS),
    REAL_OF("data.partition.share", data.partition.share, 0, 1, 0, NULL, KIND,
            1 << SL_PARTITION_MAJORITY),
    REAL_OF("data.partition.exponent", data.partition.exponent, 0, 10, 0, NULL, KIND,
            1 << SL_PARTITION_QUANTITY),
    FILE_OF("data.partition.path", data.partition.path, KIND, 1 << SL_PARTITION_FILE),

    {.path = "model.name", .type = SL_FIELD_WORD, PLACE(model.name), .names = models,
     .flags = SL_ROW_OPTIONAL},
    ENUM("model.head", model.head, heads),
    {.path = "model.loss", .type = SL_FIELD_ENUM, PLACE(model.loss), .names = head_losses,
     .selector = "model.head", .selected = 1 << SL_HEAD_SPHERE},
    REAL_OF("model.temperature", model.temperature, 0, 1000, ABOVE, NULL, "model.loss",
            1 << SL_HEAD_CROSS_ENTROPY),
    {.path = "model.width", .type = SL_FIELD_WHOLE, PLACE(model.width), .lo = 1, .hi = 65536,
     .flags = SL_ROW_OPTIONAL},
    {.path = "model.layers", .type = SL_FIELD_OTHER, PLACE(model.layers.n_layers),
     .flags = SL_ROW_OPTIONAL, .read = read_layers, .print = print_layers},
    {.path = "model.init", .type = SL_FIELD_ENUM, PLACE(model.init), .names = init_rules,
     .flags = SL_ROW_ALIAS},
    ENUM("model.init.rule", model.init, init_rules),
    COUNT_OF("model.init.seed", model.init_seed, 0, UINT64_MAX, "model.init.rule",
             1 << SL_INIT_SPLITMIX),
    REAL_OF("model.init.gain", model.init_gain, 0, 1000, ABOVE, NULL, "model.init.rule",
            1 << SL_INIT_SPLITMIX),
    FILE_OF("model.init.path", model.init_path, "model.init.rule", 1 << SL_INIT_FILE),
    {.path = "model.init.file", .type = SL_FIELD_PATH, PLACE(model.init_path),
     .flags = SL_ROW_ALIAS | SL_ROW_FILLED},

    COUNT("train.epochs", train.epochs, 0, 100000),
    COUNT("train.batch_size", train.batch_size, 0, 1000000),
    {.path = "train.local_steps", .type = SL_FIELD_INT, PLACE(train.local_steps),
     .flags = SL_ROW_OPTIONAL, .lo = 0, .hi = 1000000000},
    {.path = "train.local_steps.file", .type = SL_FIELD_PATH, PLACE(train.steps_path),
     .flags = SL_ROW_OPTIONAL | SL_ROW_FILLED},
    ENUM("train.optimizer", train.optimizer, optimizers),
    REAL("train.lr", train.lr, 1e-9, 1000, 0),
    REAL("train.momentum", train.momentum, 0, 1, BELOW),
    REAL("train.weight_decay", train.weight_decay, 0, 100, 0),
    {.path = "train.betas", .type = SL_FIELD_PAIR, .offset = offsetof(struct sl_plan, train.beta1),
     .size = 2 * sizeof(double), .min = 0, .max = 1, .flags = BELOW},
    REAL("train.eps", train.eps, 0, 1, ABOVE),
    ENUM("train.lr_schedule.kind", train.schedule.kind, schedules),
#define SCHEDULE "train.lr_schedule.kind"
    COUNT_OF("train.lr_schedule.every", train.schedule.step_every, 1, SL_ROUNDS_MAX, SCHEDULE,
             1 << SL_SCHEDULE_STEP),
    REAL_OF("train.lr_schedule.factor", train.schedule.factor, 0, 10, ABOVE, NULL, SCHEDULE,
            1 << SL_SCHEDULE_STEP),
    REAL_OF("train.lr_schedule.min_lr", train.schedule.min_lr, 0, 1000, 0, NULL, SCHEDULE,
            1 << SL_SCHEDULE_COSINE),
    ENUM("train.order", train.order, orders),

    WORD("strategy.name", strategy.name, strategies),
#define STRATEGY "strategy.name"
    REAL_OF("strategy.eta", strategy.eta, 0, 1000, ABOVE, NULL, STRATEGY,
            FEDAVGM | SCAFFOLD | ADAPTIVE | FEDBUFF),
    REAL_OF("strategy.beta", strategy.beta, 0, 1, BELOW, NULL, STRATEGY, FEDAVGM),
    REAL_OF("strategy.beta1", strategy.beta1, 0, 1, BELOW, NULL, STRATEGY, ADAPTIVE),
    REAL_OF("strategy.beta2", strategy.beta2, 0, 1, BELOW, NULL, STRATEGY, FEDADAM | FEDYOGI),
    REAL_OF("strategy.tau", strategy.tau, 1e-12, 1000, 0, NULL, STRATEGY, ADAPTIVE),
    REAL_OF("strategy.mu", strategy.mu, 0, 1e6, ABOVE, NULL, STRATEGY, FEDPROX),
    COUNT_OF("strategy.trim", strategy.trim, 0, SL_CLIENTS_MAX, STRATEGY, TRIMMED_MEAN),
    COUNT_OF("strategy.f", strategy.f, 0, SL_CLIENTS_MAX, STRATEGY, KRUM | MULTI_KRUM),
    COUNT_OF("strategy.m", strategy.m, 0, SL_CLIENTS_MAX, STRATEGY, MULTI_KRUM),
    COUNT_OF("strategy.iterations", strategy.iterations, 1, 100000, STRATEGY, GEOMETRIC_MEDIAN),
    REAL_OF("strategy.nu", strategy.nu, 0, 1000, ABOVE, NULL, STRATEGY, GEOMETRIC_MEDIAN),
    COUNT_OF("strategy.buffer", strategy.buffer, 1, SL_CLIENTS_MAX, STRATEGY, FEDBUFF),
    REAL_OF("strategy.staleness_power", strategy.staleness_power, 0, 10, 0, NULL, STRATEGY, FEDBUFF),

    WORD("selection.policy", selection.policy, policies),
    #define POLICY "selection.policy"
    FILE_OF("selection.path", selection.path, POLICY, FROM_FILE),
    COUNT("selection.clients_per_round", selection.clients_per_round, 0, SL_CLIENTS_MAX),
    REAL("selection.over_select", selection.over_select, 1, 4, 0),
    REAL_IN("selection.deadline_s", selection.deadline_s, 0, 1e6, ABOVE, "seconds"),
    REAL("selection.quorum", selection.quorum, 0, 1, ABOVE),
    COUNT("selection.probe_epochs", selection.probe_epochs, 0, 1),
    REAL_OF("selection.probe_quantile", selection.probe_quantile, 0, 1, ABOVE, NULL, POLICY,
            DECIDING),
    REAL_OF("selection.probe_slack", selection.probe_slack, 1, 1000, 0, NULL, POLICY, DECIDING),
    REAL_OF("selection.accept", selection.accept, 0, SL_CLIENTS_MAX, 0, NULL, POLICY, SIZED),
    COUNT_OF("selection.candidates", selection.candidates, 0, SL_CLIENTS_MAX, POLICY,
             POWER_OF_CHOICE),
    FILE_OF("selection.policy_file", selection.policy_file, POLICY, FEDMARL),
    COUNT_OF("selection.min_accepted", selection.min_accepted, 1, SL_CLIENTS_MAX, POLICY, FEDMARL),
    COUNT_OF("selection.force_after", selection.force_after, 0, SL_ROUNDS_MAX, POLICY, FEDMARL),
    COUNT_OF("selection.cap", selection.cap, 0, 64, POLICY, FEDMARL),
    COUNT_OF("selection.cap_window", selection.cap_window, 1, 64, POLICY, FEDMARL),
    REAL_OF("selection.w1", selection.w1, 0, 1e6, 0, NULL, POLICY, FEDMARL),
    REAL_OF("selection.w2", selection.w2, 0, 1e6, 0, NULL, POLICY, FEDMARL),
    REAL_OF("selection.w3", selection.w3, 0, 1e6, 0, NULL, POLICY, FEDMARL),

    ENUM("aggregation.weighting", aggregation.weighting, weightings),
    REAL("aggregation.max_abs", aggregation.max_abs, 0, 1e6, ABOVE),
    COUNT("aggregation.max_weight", aggregation.max_weight, 1, SAMPLES_MAX),
    COUNT("aggregation.fraction_bits", aggregation.fraction_bits, 16, 40),
    REAL("aggregation.clip_norm", aggregation.clip_norm, 0, 1e9, 0),

    ENUM("accelerator.matmul", accelerator.matmul, matmuls),
    SL_ACCELERATOR_ROWS("accelerator.", ACCELERATOR, 1 << SL_MATMUL_FAST, 1 << SL_MATMUL_TR,
                        1 << SL_MATMUL_RTN),
    FIXED("accelerator.softmax", softmaxes),
    FIXED("accelerator.memory", only_none),
    ENUM("uplink.encoding", uplink.encoding, uplinks),
    COUNT_OF("uplink.m", uplink.m, 2, 4, "uplink.encoding", 1 << SL_ENC_BFP),
    {.path = "uplink.error_feedback", .type = SL_FIELD_BOOL, PLACE(uplink.error_feedback),
     .selector = "uplink.encoding", .selected = 1 << SL_ENC_TERNARY},
    ENUM("downlink.encoding", downlink, downlinks),
    ENUM("evaluation.where", evaluation.where, places),
    REAL("evaluation.holdout", evaluation.holdout, 0, 0.9, 0),
    {.path = "calibration.at_end", .type = SL_FIELD_BOOL, PLACE(calibration.at_end)},
    COUNT("calibration.every", calibration.every, 0, SL_ROUNDS_MAX),
    REAL("calibration.ridge", calibration.ridge, 0, 1, 0),
    {.path = "calibration.balanced", .type = SL_FIELD_BOOL, PLACE(calibration.balanced)},
    {.path = "calibration.keep_head", .type = SL_FIELD_BOOL, PLACE(calibration.keep_head)},
    REAL("calibration.max_share", calibration.max_share, 0, 1, ABOVE),
    FIXED("telemetry.gate", only_none),

    WORD("sim.device.kind", sim.world.device, laws),
#define DEVICE "sim.device.kind"
    REAL_OF("sim.device.samples_per_s", sim.world.samples_per_s, 0, 1e12, ABOVE,
            "samples a second", DEVICE, BY_RULE),
    REAL_OF("sim.device.sigma", sim.world.device_sigma, 0, 10, 0, NULL, DEVICE, LOGNORMAL),
    FILE_OF("sim.device.path", sim.world.device_trace, DEVICE, TRACE),
    WORD("sim.network.kind", sim.world.network, laws),
#define NETWORK "sim.network.kind"
    REAL_OF("sim.network.up_mbit", sim.world.up_mbit, 0, 1e6, ABOVE, "Mbit/s", NETWORK, BY_RULE),
    REAL_OF("sim.network.down_mbit", sim.world.down_mbit, 0, 1e6, ABOVE, "Mbit/s", NETWORK,
            BY_RULE),
    REAL_OF("sim.network.rtt_ms", sim.world.rtt_ms, 0, 1e6, 0, "milliseconds", NETWORK, BY_RULE),
    REAL_OF("sim.network.sigma", sim.world.network_sigma, 0, 10, 0, NULL, NETWORK, LOGNORMAL),
    FILE_OF("sim.network.path", sim.world.network_trace, NETWORK, TRACE),
    REAL("sim.dropout", sim.world.dropout, 0, 1, BELOW),
    COUNT("sim.faults.seed", sim.faults.seed, 0, UINT64_MAX),
    REAL("sim.faults.drop", sim.faults.drop, 0, 1, BELOW),
    REAL("sim.faults.delay", sim.faults.delay, 0, 1, 0),
    REAL_IN("sim.faults.delay_ms", sim.faults.delay_ms, 0, 1e6, 0, "milliseconds"),
    REAL("sim.faults.duplicate", sim.faults.duplicate, 0, 1, BELOW),
    REAL("sim.faults.reorder", sim.faults.reorder, 0, 1, 0),
    REAL("sim.faults.disconnect", sim.faults.disconnect, 0, 1, BELOW),
    COUNT("sim.faults.coordinator_kills", sim.faults.coordinator_kills, 0, 1000000),
    COUNT("sim.faults.client_kills", sim.faults.client_kills, 0, 1000000),
    {.path = "sim.faults.power_loss", .type = SL_FIELD_BOOL, PLACE(sim.faults.power_loss)},
};

const struct sl_schema sl_plan_schema = {rows, sizeof(rows) / sizeof(rows[0])};

enum sl_code sl_plan_canonical(const struct sl_plan *p, char **ret, size_t *ret_n,
                               struct sl_err *err)
{
    struct sl_text text = {0};
    sl_schema_print(&sl_plan_schema, p, &text);
    if (text.failed) {
        free(text.bytes);
        return sl_err_set(err, SL_E_NOMEM, "plan: no memory for its text");
    }
    *ret = text.bytes;
    *ret_n = text.n;
    return SL_OK;
}

enum sl_code sl_plan_digest(const struct sl_plan *p, uint8_t ret[SL_DIGEST_BYTES],
                            struct sl_err *err)
{
    char *text;
    size_t n;
    enum sl_code rc = sl_plan_canonical(p, &text, &n, err);
    if (rc != SL_OK)
        return rc;
    sl_blake2b_256(text, n, ret);
    free(text);
    return SL_OK;
}
