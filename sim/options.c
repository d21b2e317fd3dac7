/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/options.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char sl_sim_help[] =
    "usage: starling-sim run PLAN [options]        a federated run with virtual clients\n"
    "       starling-sim partition PLAN [options]  who owns which samples\n"
    "       starling-sim check DIR [options]       conformance cases through the "
    "product's code\n"
    "       starling-sim experiment NAME --out DIR [options]   fast, tr, rtn, uplink,\n"
    "                                              spherefed, robust, strategies, fedbuff,\n"
    "                                              tmc, fedmarl, cmarl\n"
    "       starling-sim train-policy PLAN -o FILE [options]   a policy that selects clients\n"
    "\n"
    "run and partition:\n"
    "  --set KEY.PATH=VALUE  change a key of the plan (repeatable)\n"
    "  --seed N              the same as --set run.seed=N\n"
    "run:\n"
    "  --report FILE         write the report, one JSON object a line\n"
    "  --model-out FILE      write the final model (.npz or .safetensors)\n"
    "  --jobs N              worker threads, 1 to 256 (default: one a core)\n"
    "  --replay REPORT       repeat members, order and latencies of a recorded run\n"
    "  --records FILE        append what a plan with probes decided, for train-policy --records\n"
    "  --quiet               no progress and no summary\n"
    "partition:\n"
    "  --csv                 print the table as CSV\n"
    "check:\n"
    "  --only GLOB           only cases whose name matches (repeatable)\n"
    "experiment:\n"
    "  --out DIR             results, cell by cell, and report.html; the same command goes "
    "on\n"
    "                        where it was ended\n"
    "  --seeds N,N,...       seeds (default: 1, 2, 3; rtn: to 5)\n"
    "  --jobs N              cells at a time (default: 1)\n"
    "  --only GLOB           only cells whose name matches (repeatable)\n"
    "  --quick               a short form, seconds\n"
    "  --policy FILE         fedmarl: the policy (default: plans/policies/fedmarl.safetensors)\n"
    "  --list                print the cells' names, run nothing\n"
    "  --no-run              report what is finished, run nothing\n"
    "  --quiet               no progress\n"
    "train-policy (--set, --seed, --jobs and --quiet as for run):\n"
    "  -o FILE               the policy (.safetensors); its log goes to FILE.log, and FILE.state "
    "lets\n"
    "                        the same command go on where it was ended\n"
    "  --records FILE        learn from what a coordinator logged instead of playing\n"
    "\n"
    "  --help, --version\n"
    "\n"
    "exit status: 0 done, 1 the run or a case failed, 2 usage, plan or input file, 70 a "
    "bug\n";

enum takes { TAKES_NOTHING, TAKES_VALUE };
enum option {
    OPT_SET,
    OPT_SEED,
    OPT_REPORT,
    OPT_MODEL_OUT,
    OPT_JOBS,
    OPT_REPLAY,
    OPT_QUIET,
    OPT_SVG,
    OPT_CSV,
    OPT_ONLY,
    OPT_OUT,
    OPT_OUT_FILE,
    OPT_POLICY,
    OPT_RECORDS,
    OPT_SEEDS,
    OPT_QUICK,
    OPT_LIST,
    OPT_NO_RUN,
    OPT_HELP,
    OPT_VERSION,
};

#define RUN 1u
#define PARTITION 2u
#define CHECK 4u
#define EXPERIMENT 8u
#define TRAIN_POLICY 16u
#define ANY 31u

static const struct {
    const char *name;
    enum takes takes;
    unsigned verbs;
} options[] = {
    [OPT_SET] = {"--set", TAKES_VALUE, RUN | PARTITION | TRAIN_POLICY},
    [OPT_SEED] = {"--seed", TAKES_VALUE, RUN | PARTITION | TRAIN_POLICY},
    [OPT_REPORT] = {"--report", TAKES_VALUE, RUN},
    [OPT_MODEL_OUT] = {"--model-out", TAKES_VALUE, RUN},
    [OPT_JOBS] = {"--jobs", TAKES_VALUE, RUN | CHECK | EXPERIMENT | TRAIN_POLICY},
    [OPT_REPLAY] = {"--replay", TAKES_VALUE, RUN},
    [OPT_QUIET] = {"--quiet", TAKES_NOTHING, RUN | EXPERIMENT | TRAIN_POLICY},
    [OPT_SVG] = {"--svg", TAKES_VALUE, PARTITION},
    [OPT_CSV] = {"--csv", TAKES_NOTHING, PARTITION},
    [OPT_ONLY] = {"--only", TAKES_VALUE, CHECK | EXPERIMENT},
    [OPT_OUT] = {"--out", TAKES_VALUE, EXPERIMENT},
    [OPT_OUT_FILE] = {"-o", TAKES_VALUE, TRAIN_POLICY},
    [OPT_POLICY] = {"--policy", TAKES_VALUE, EXPERIMENT},
    [OPT_RECORDS] = {"--records", TAKES_VALUE, RUN | TRAIN_POLICY},
    [OPT_SEEDS] = {"--seeds", TAKES_VALUE, EXPERIMENT},
    [OPT_QUICK] = {"--quick", TAKES_NOTHING, EXPERIMENT},
    [OPT_LIST] = {"--list", TAKES_NOTHING, EXPERIMENT},
    [OPT_NO_RUN] = {"--no-run", TAKES_NOTHING, EXPERIMENT},
    [OPT_HELP] = {"--help", TAKES_NOTHING, ANY},
    [OPT_VERSION] = {"--version", TAKES_NOTHING, ANY},
};

static const struct {
    const char *name;
    unsigned bit; /* 0 = not in this version */
    const char *what;
} verbs[] = {
    {"run", RUN, "PLAN"},       {"partition", PARTITION, "PLAN"},
    {"check", CHECK, "DIR"},    {"experiment", EXPERIMENT, "NAME"},
    {"train-policy", TRAIN_POLICY, "PLAN"},
    {"attack", 0, NULL},        {"memory", 0, NULL},
};

static enum sl_code parse_u64(const char *option, const char *text, uint64_t lo,
                              uint64_t hi, uint64_t *ret, struct sl_err *err)
{
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || v < lo || v > hi)
        return sl_err_set(err, SL_E_USAGE, "%s %.40s: not a number from %llu to %llu",
                          option, text, (unsigned long long)lo, (unsigned long long)hi);
    *ret = v;
    return SL_OK;
}

static enum sl_code too_many(const char *option, struct sl_err *err)
{
    return sl_err_set(err, SL_E_USAGE, "%s: more than %d times", option, SL_OPTIONS_MAX);
}

/* "1,2,3": whole numbers below 2^63, each once. */
static enum sl_code parse_seeds(struct sl_sim_options *o, const char *text,
                                struct sl_err *err)
{
    o->n_seeds = 0;
    for (const char *at = text;; at++) {
        char word[24];
        size_t n = strcspn(at, ",");
        if (o->n_seeds == SL_OPTIONS_MAX)
            return too_many("--seeds: numbers", err);
        snprintf(word, sizeof(word), "%.*s", (int)(n < 23 ? n : 23), at);
        enum sl_code rc =
            parse_u64("--seeds", word, 0, INT64_MAX, &o->seeds[o->n_seeds], err);
        if (rc != SL_OK)
            return rc;
        for (size_t i = 0; i < o->n_seeds; i++)
            if (o->seeds[i] == o->seeds[o->n_seeds])
                return sl_err_set(err, SL_E_USAGE, "--seeds %.60s: %s twice", text, word);
        o->n_seeds++;
        at += n;
        if (*at == '\0')
            return SL_OK;
    }
}

static enum sl_code apply(struct sl_sim_options *o, enum option which, const char *value,
                          struct sl_err *err)
{
    uint64_t n;
    enum sl_code rc = SL_OK;
    switch (which) {
    case OPT_SET:
        if (o->n_set == SL_OPTIONS_MAX)
            return too_many("--set", err);
        o->set[o->n_set++].text = value;
        break;
    case OPT_ONLY:
        if (o->n_only == SL_OPTIONS_MAX)
            return too_many("--only", err);
        o->only[o->n_only++] = value;
        break;
    case OPT_SEED:
        rc = parse_u64("--seed", value, 0, UINT64_MAX, &n, err);
        if (rc == SL_OK)
            snprintf(o->seed_text, sizeof(o->seed_text), "run.seed=%llu",
                     (unsigned long long)n);
        break;
    case OPT_JOBS:
        rc = parse_u64("--jobs", value, 1, 256, &n, err);
        if (rc == SL_OK)
            o->jobs = (unsigned)n;
        break;
    case OPT_REPORT:
        o->report = value;
        break;
    case OPT_MODEL_OUT:
        o->model_out = value;
        break;
    case OPT_REPLAY:
        o->replay = value;
        break;
    case OPT_SVG:
        o->svg = value;
        break;
    case OPT_QUIET:
        o->quiet = true;
        break;
    case OPT_CSV:
        o->csv = true;
        break;
    case OPT_OUT:
    case OPT_OUT_FILE:
        o->out = value;
        break;
    case OPT_POLICY:
        o->policy = value;
        break;
    case OPT_RECORDS:
        o->records = value;
        break;
    case OPT_SEEDS:
        rc = parse_seeds(o, value, err);
        break;
    case OPT_QUICK:
        o->quick = true;
        break;
    case OPT_LIST:
        o->list = true;
        break;
    case OPT_NO_RUN:
        o->no_run = true;
        break;
    case OPT_HELP:
        o->help = true;
        break;
    case OPT_VERSION:
        o->version = true;
        break;
    }
    return rc;
}

/* Reads argv[*at], an option, and its value ("--name value" or "--name=value"). */
static enum sl_code parse_option(struct sl_sim_options *o, int argc, char **argv, int *at,
                                 unsigned *used, struct sl_err *err)
{
    const char *word = argv[*at];
    size_t len = strcspn(word, "=");
    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
        if (strlen(options[i].name) != len || strncmp(options[i].name, word, len) != 0)
            continue;
        *used &= options[i].verbs;
        const char *value = word[len] == '=' ? word + len + 1 : NULL;
        if (options[i].takes == TAKES_NOTHING && value != NULL)
            return sl_err_set(err, SL_E_USAGE, "%s takes no value", options[i].name);
        if (options[i].takes == TAKES_VALUE && value == NULL) {
            if (*at + 1 >= argc)
                return sl_err_set(err, SL_E_USAGE, "%s wants a value", options[i].name);
            value = argv[++*at];
        }
        return apply(o, (enum option)i, value, err);
    }
    return sl_err_set(err, SL_E_USAGE, "unknown option %.60s (see --help)", word);
}

static enum sl_code check_verb(const struct sl_sim_options *o, unsigned used,
                               struct sl_err *err)
{
    if (o->help || o->version)
        return SL_OK;
    if (o->verb == NULL)
        return sl_err_set(err, SL_E_USAGE,
                          "no verb (run, partition, check, experiment or train-policy; see "
                          "--help)");
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        if (strcmp(verbs[i].name, o->verb) != 0)
            continue;
        if (verbs[i].bit == 0)
            return sl_err_set(err, SL_E_USAGE,
                              "%s is not in this version (run, partition, check, experiment "
                              "and train-policy are)",
                              o->verb);
        if (o->path == NULL)
            return sl_err_set(err, SL_E_USAGE, "%s wants a %s", o->verb, verbs[i].what);
        if (verbs[i].bit == TRAIN_POLICY && o->out == NULL)
            return sl_err_set(err, SL_E_USAGE,
                              "train-policy wants -o FILE, where the policy goes");
        if ((used & verbs[i].bit) == 0)
            return sl_err_set(err, SL_E_USAGE,
                              "an option that %s does not take (see --help)", o->verb);
        return SL_OK;
    }
    return sl_err_set(err, SL_E_USAGE,
                      "unknown verb \"%.40s\" (run, partition, check, experiment or "
                      "train-policy)",
                      o->verb);
}

enum sl_code sl_sim_options_parse(int argc, char **argv, struct sl_sim_options *ret,
                                  struct sl_err *err)
{
    struct sl_sim_options *o = ret;
    *o = (struct sl_sim_options){0};
    unsigned used = ANY;
    for (int i = 1; i < argc; i++) {
        enum sl_code rc = SL_OK;
        if (argv[i][0] == '-' && argv[i][1] != '\0')
            rc = parse_option(o, argc, argv, &i, &used, err);
        else if (o->verb == NULL)
            o->verb = argv[i];
        else if (o->path == NULL)
            o->path = argv[i];
        else
            rc = sl_err_set(err, SL_E_USAGE, "superfluous word \"%.60s\"", argv[i]);
        if (rc != SL_OK)
            return rc;
    }
    if (o->seed_text[0] != '\0')
        o->set[o->n_set++].text = o->seed_text;
    return check_verb(o, used, err);
}
