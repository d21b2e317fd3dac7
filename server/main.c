/* SPDX-License-Identifier: Apache-2.0 */
/* starling-server - the coordinator daemon. */
#include <errno.h>
#include <getopt.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "accel/accel.h"
#include "common/config.h"
#include "common/keyfile.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/model_file.h"
#include "common/plan.h"
#include "server/daemon.h"

struct options {
    const char *config, *plan, *report, *model_out, *replay, *seed;
    struct sl_plan_override *sets;
    size_t n_sets;
    bool check, quiet, stop;
};

static void help(void)
{
    puts("usage: starling-server --config FILE [options]\n"
         "\n"
         "  --config FILE     the coordinator's config (required)\n"
         "  --check           validate config, identity and plan, then exit\n"
         "  --plan FILE       queue this plan at start, exit when its run has ended\n"
         "  --set KEY=VALUE   change a value of the plan (repeatable)\n"
         "  --seed N          the run's seed\n"
         "  --report FILE     write that run's report, JSON lines\n"
         "  --model-out FILE  write its model (.npz or .safetensors)\n"
         "  --replay REPORT   repeat the members recorded in a report\n"
         "  --quiet           log warnings and errors only\n"
         "  --help, --version\n"
         "\n"
         "signals: TERM, INT drain and exit; HUP reloads the log level\n"
         "exit: 0 done, 1 the run failed, 2 usage or config, 4 state directory, 70 a bug");
}

static enum sl_code parse(int argc, char **argv, struct options *o, struct sl_err *err)
{
    static const struct option table[] = {
        {"config", required_argument, NULL, 'c'}, {"check", no_argument, NULL, 'C'},
        {"plan", required_argument, NULL, 'p'},   {"set", required_argument, NULL, 's'},
        {"seed", required_argument, NULL, 'e'},   {"report", required_argument, NULL, 'r'},
        {"model-out", required_argument, NULL, 'm'}, {"replay", required_argument, NULL, 'R'},
        {"quiet", no_argument, NULL, 'q'},        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},      {NULL, 0, NULL, 0}};
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, ":", table, NULL)) != -1;) {
        switch (c) {
        case 'c': o->config = optarg; break;
        case 'C': o->check = true; break;
        case 'p': o->plan = optarg; break;
        case 's': o->sets[o->n_sets++].text = optarg; break;
        case 'e': o->seed = optarg; break;
        case 'r': o->report = optarg; break;
        case 'm': o->model_out = optarg; break;
        case 'R': o->replay = optarg; break;
        case 'q': o->quiet = true; break;
        case 'h':
            help();
            o->stop = true;
            return SL_OK;
        case 'V':
            puts("starling-server " SL_VERSION);
            o->stop = true;
            return SL_OK;
        default:
            return sl_err_set(err, SL_E_USAGE, "%s: %s (see --help)", argv[optind - 1],
                              c == ':' ? "a value is missing" : "unknown option");
        }
    }
    if (optind < argc)
        return sl_err_set(err, SL_E_USAGE, "%s: unexpected argument (see --help)", argv[optind]);
    if (o->config == NULL)
        return sl_err_set(err, SL_E_USAGE, "--config FILE is needed (see --help)");
    if (o->plan == NULL && (o->n_sets > 0 || o->seed != NULL || o->report != NULL ||
                            o->model_out != NULL || o->replay != NULL))
        return sl_err_set(err, SL_E_USAGE,
                          "--set, --seed, --report, --model-out and --replay go with --plan");
    return SL_OK;
}

static enum sl_code load_plan(struct options *o, struct sl_plan *plan, struct sl_err *err)
{
    char seed[48];
    if (o->seed != NULL) {
        snprintf(seed, sizeof(seed), "run.seed=%.32s", o->seed);
        o->sets[o->n_sets++].text = seed;
    }
    return sl_plan_load(o->plan, o->sets, o->n_sets, plan, err);
}

static enum sl_code check(const struct sl_server_config *config, struct sl_err *err)
{
    uint8_t secret[SL_KEYFILE_KEY];
    enum sl_code rc = sl_keyfile_read(config->identity, secret, err);
    sodium_memzero(secret, sizeof(secret));
    if (rc != SL_OK)
        return sl_err_wrap(err, rc == SL_E_NOTFOUND ? SL_E_INPUT : rc, "identity");
    puts("ok");
    return SL_OK;
}

static enum sl_code run(struct options *o, struct sl_err *err)
{
    struct sl_server_config config;
    struct sl_plan plan = {0};
    enum sl_code rc = sl_server_config_load(o->config, NULL, 0, &config, err);
    if (rc != SL_OK)
        return rc;
    if (o->plan != NULL)
        rc = load_plan(o, &plan, err);
    if (rc == SL_OK && o->model_out != NULL)
        rc = sl_model_file_check(o->model_out, err);
    struct sl_log *log = NULL;
    if (rc == SL_OK && o->check) {
        rc = check(&config, err);
    } else if (rc == SL_OK) {
        log = sl_log_new(stderr, o->quiet && config.log > SL_LOG_WARN ? SL_LOG_WARN : config.log);
        struct sl_daemon_options d = {.config_path = o->config,
                                      .config = &config,
                                      .log = log,
                                      .plan = o->plan != NULL ? &plan : NULL,
                                      .report_path = o->report,
                                      .model_path = o->model_out,
                                      .replay_path = o->replay};
        rc = log == NULL ? sl_err_set(err, SL_E_NOMEM, "log") : sl_daemon_run(&d, err);
    }
    sl_log_free(log);
    sl_plan_deinit(&plan);
    sl_server_config_deinit(&config);
    return rc;
}

int main(int argc, char **argv)
{
    sl_mem_tune_malloc();
    sl_accel_init();
    if (sodium_init() < 0) {
        fprintf(stderr, "starling-server: libsodium can't be used\n");
        return 70;
    }
    struct sl_err err = {0};
    struct options o = {.sets = sl_calloc((size_t)argc + 1, sizeof(*o.sets))};
    enum sl_code rc = o.sets == NULL ? sl_err_set(&err, SL_E_NOMEM, "options")
                                     : sl_accel_check_env(&err);
    if (rc == SL_OK)
        rc = parse(argc, argv, &o, &err);
    if (rc == SL_OK && !o.stop)
        rc = run(&o, &err);
    free(o.sets);
    if (rc != SL_OK)
        fprintf(stderr, "starling-server: %s\n", err.msg);
    return sl_code_exit_status(rc);
}
