/* SPDX-License-Identifier: Apache-2.0 */
/* plan.h - a run's plan (DESIGN section 6): YAML in, checked struct out, canonical text back.
 * The same plan drives simulator, daemons and clients. Unknown keys, wrong types and values out
 * of range are errors that name file, line, key and the allowed range. The canonical text
 * (every key, fixed order, after --set) names the plan: plan_digest is its BLAKE2b-256, and it is
 * what travels to the clients. Owns: its strings and the layer list. Thread: any; constant
 * once loaded. */
#ifndef SL_COMMON_PLAN_H
#define SL_COMMON_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/accelerator.h"
#include "common/error.h"
#include "common/hash.h"
#include "common/model_spec.h"

#define SL_PLAN_BYTES_MAX (1u << 20)
#define SL_PLAN_NAME 64
#define SL_PLAN_PATH 1024
#define SL_CLIENTS_MAX 100000
#define SL_ROUNDS_MAX 1000000
#define SL_PLAN_PAIRED_MAX 2000 /* updates of a rule that compares every pair */

enum sl_reproducible { SL_REPRODUCIBLE_WARN, SL_REPRODUCIBLE_STRICT };
enum sl_partition_kind {
    SL_PARTITION_IID,
    SL_PARTITION_DIRICHLET, /* alpha: per class, shares over clients; every client >= min_size */
    SL_PARTITION_SHARDS,    /* shards_per_client label-sorted shards each */
    SL_PARTITION_MAJORITY,  /* share (0.8) of a client's samples has one label */
    SL_PARTITION_QUANTITY,  /* sizes follow a power law with `exponent` */
    SL_PARTITION_FILE,      /* path: lines "CLIENT N IDX..." */
};
enum sl_init_rule { SL_INIT_UNIFORM, SL_INIT_SPLITMIX, SL_INIT_FILE };
enum sl_order { SL_ORDER_PHILOX, SL_ORDER_BENCH };
enum sl_optimizer { SL_OPT_SGD, SL_OPT_ADAM };
enum sl_schedule_kind { SL_SCHEDULE_CONSTANT, SL_SCHEDULE_STEP, SL_SCHEDULE_COSINE };
enum sl_weighting { SL_WEIGHT_SAMPLES, SL_WEIGHT_UNIFORM };
enum sl_encoding { SL_ENC_FP32, SL_ENC_BF16, SL_ENC_BFP, SL_ENC_TERNARY };
enum sl_eval_where { SL_EVAL_COORDINATOR, SL_EVAL_CLIENTS, SL_EVAL_BOTH };
enum sl_head { SL_HEAD_DENSE, SL_HEAD_SPHERE };
enum sl_head_loss { SL_HEAD_SQUARED, SL_HEAD_CROSS_ENTROPY };

/* How updates travel (accel/codec/codec.h). */
struct sl_codec_options {
    enum sl_encoding encoding;
    uint32_t m;          /* bfp: bits of a magnitude, 2 to 4 */
    bool error_feedback; /* ternary: what was lost is added to the next update */
};

struct sl_plan_partition {
    enum sl_partition_kind kind;
    uint32_t clients;
    double alpha;               /* dirichlet */
    uint32_t min_size;          /* dirichlet: redrawn until every client has as many; 10 */
    uint32_t shards_per_client; /* shards: 2 */
    double share;               /* majority: 0.8 */
    double exponent;            /* quantity: 1.0 */
    char path[SL_PLAN_PATH];    /* file */
};

struct sl_plan {
    struct {
        char name[SL_PLAN_NAME];
        uint64_t seed;
        uint32_t rounds;
        double target_accuracy; /* 0 = none */
        uint32_t eval_every;    /* rounds; 0 = only after the last */
        uint32_t min_clients;   /* 0 = the partition's clients */
        uint32_t max_retries;
        enum sl_reproducible reproducible;
    } run;
    struct {
        char dataset[SL_PLAN_NAME]; /* fashion-mnist, idx, cifar10, csv, synthetic */
        char path[SL_PLAN_PATH];    /* folder or file; "" = where the package puts it */
        uint64_t limit;             /* first N training samples; 0 = all */
        uint64_t test_limit;        /* first N test samples; 0 = all */
        struct sl_plan_partition partition;
    } data;
    struct {
        char name[SL_PLAN_NAME]; /* "" when layers are given */
        enum sl_head head;
        enum sl_head_loss loss; /* sphere */
        double temperature;     /* sphere with cross-entropy: outputs are multiplied by it; 10 */
        uint32_t width;         /* features in front of the head; 0 = the model's own number */
        struct sl_model_spec layers; /* of `model.layers`; empty for a named model */
        enum sl_init_rule init;
        uint64_t init_seed;  /* splitmix */
        double init_gain;    /* splitmix; 1.0 */
        char init_path[SL_PLAN_PATH]; /* file */
    } model;
    struct {
        uint32_t epochs;
        uint32_t batch_size;  /* 0 = full batch */
        int64_t local_steps;  /* -1 = epochs decide; N = that many steps (0 = none) */
        char steps_path[SL_PLAN_PATH]; /* lines CLIENT STEPS; "" = none */
        enum sl_optimizer optimizer;
        double lr, momentum, weight_decay, beta1, beta2, eps;
        struct {
            enum sl_schedule_kind kind;
            uint32_t step_every; /* step: rounds between drops; 10 */
            double factor;       /* step: multiplied at each; 0.5 */
            double min_lr;       /* cosine: at the last round; 0 */
        } schedule;
        enum sl_order order;
    } train;
    /* eta and beta1 below 0: the strategy's own (sl_plan_strategy_defaults fills them in). */
    struct {
        char name[SL_PLAN_NAME]; /* fedavg ... */
        double eta;              /* of the server's step */
        double beta;             /* fedavgm: of the momentum */
        double beta1, beta2, tau; /* fedadam, fedyogi, fedadagrad */
        double mu;               /* fedprox: of the proximal term; 0 = not given */
        uint32_t trim;           /* trimmed-mean: values left out at either end */
        uint32_t f;              /* krum, multi-krum: attackers to be withstood */
        uint32_t m;              /* multi-krum: updates averaged; 0 = all but f */
        uint32_t iterations;     /* geometric-median: Weiszfeld steps */
        double nu;               /* geometric-median: least distance */
        uint32_t buffer;         /* fedbuff: updates that make a version */
        double staleness_power;  /* fedbuff: an update t versions old counts (1 + t)^-p */
    } strategy;
    struct {
        char policy[SL_PLAN_NAME]; /* random all file; with probes: drop-slowest highest-loss
                                      lowest-loss power-of-choice oort fedmarl */
        char path[SL_PLAN_PATH];   /* file */
        uint32_t clients_per_round; /* 0 = all */
        double over_select;         /* >= 1 */
        double deadline_s;
        double quorum;              /* (0, 1], of the selected */
        uint32_t probe_epochs;      /* 1: clients report after their first epoch, and may be stopped */
        double probe_quantile, probe_slack; /* time for probes: slack x quantile of known ones */
        double accept;              /* mean number that a policy keeps; 0 = half of the cohort */
        uint32_t candidates;        /* power-of-choice; 0 = the whole cohort */
        char policy_file[SL_PLAN_PATH]; /* fedmarl, as all below */
        uint32_t min_accepted, force_after, cap, cap_window; /* rails */
        double w1, w2, w3;          /* of the reward */
    } selection;
    struct {
        enum sl_weighting weighting;
        double max_abs;
        uint64_t max_weight;
        uint32_t fraction_bits;
        double clip_norm; /* 0 = none */
    } aggregation;
    struct sl_accelerator accelerator;
    struct sl_codec_options uplink;
    enum sl_encoding downlink; /* fp32 */
    struct {
        enum sl_eval_where where;
        double holdout; /* share of a client's samples held out, [0, 0.9] */
    } evaluation;
    struct {
        bool at_end;      /* after the last round */
        uint32_t every;   /* rounds; 0 = not between rounds */
        double ridge;     /* lambda / samples; 1e-6 */
        bool balanced;    /* one weight a class */
        bool keep_head;   /* the ridge pulls to the fixed head instead of 0 */
        double max_share; /* of all samples that one client may have, (0, 1] */
    } calibration;
    struct {
        /* the simulator's world; daemons ignore it (key `sim:` of the plan) */
        struct {
            char device[16];  /* constant lognormal trace */
            double samples_per_s, device_sigma;
            char device_trace[SL_PLAN_PATH];
            char network[16]; /* constant lognormal trace */
            double up_mbit, down_mbit, rtt_ms, network_sigma;
            char network_trace[SL_PLAN_PATH];
            double dropout; /* chance that a selected client does not take part, [0, 1) */
        } world;
        struct {
            uint64_t seed; /* 0 = the run's */
            double drop, delay, duplicate, reorder, disconnect; /* chance per message; delay
                                                                   also per coordinator's job */
            double delay_ms;                                    /* mean of a delay */
            uint32_t coordinator_kills, client_kills;           /* in the whole run */
            bool power_loss; /* kills forget what was not synced */
        } faults;
    } sim;
};

/* One `--set key.path=value`. */
struct sl_plan_override {
    const char *text;
};

void sl_plan_deinit(struct sl_plan *p); /* NULL, {0} allowed */

/* Every key at its default (DESIGN section 6): valid except that a dataset must be named. */
void sl_plan_default(struct sl_plan *ret);

/* Reads a plan from text; `where` names it in messages ("plans/demo.yaml"). n_overrides values of
 * --set are applied on top, in order, and checked alike (their messages name the option). */
enum sl_code sl_plan_parse(const char *text, size_t n, const char *where,
                           const struct sl_plan_override *overrides, size_t n_overrides,
                           struct sl_plan *ret, struct sl_err *err);

enum sl_code sl_plan_load(const char *path, const struct sl_plan_override *overrides,
                          size_t n_overrides, struct sl_plan *ret, struct sl_err *err);

/* The canonical YAML text: every key in a fixed order. Parsing it gives an equal plan. *ret is
 * the caller's to free(). */
enum sl_code sl_plan_canonical(const struct sl_plan *p, char **ret, size_t *ret_n,
                               struct sl_err *err);
enum sl_code sl_plan_digest(const struct sl_plan *p, uint8_t ret[SL_DIGEST_BYTES],
                            struct sl_err *err);

/* eta and beta1 of p's strategy where they are below 0. Parsing does it; a plan made in code needs it
 * before it is printed. */
void sl_plan_strategy_defaults(struct sl_plan *p);

/* Updates that a round is sure to have when it closes: quorum of the cohort. */
uint32_t sl_plan_least_updates(const struct sl_plan *p);

/* Does the policy decide, after a probe, who goes on? */
bool sl_plan_decides(const struct sl_plan *p);

/* Learning rate of a round after the schedule; deterministic bits (own cosine). */
double sl_plan_lr(const struct sl_plan *p, uint32_t round);

/* Clients of the plan: partition.clients. Clients a round selects before over-selection:
 * clients_per_round, or all of them when 0. */
uint32_t sl_plan_cohort_size(const struct sl_plan *p);

#endif
