/* SPDX-License-Identifier: Apache-2.0 */
/* starling-client: reads options and config, then runs the daemon. */
#include <getopt.h>
#include <malloc.h>
#include <sodium.h>
#include <stdio.h>

#include "accel/accel.h"
#include "client/daemon.h"
#include "common/mem.h"

#define SETS_MAX 64

static const char usage[] =
    "usage: starling-client --config FILE [options]\n"
    "\n"
    "Trains on this machine's data for a Starling coordinator.\n"
    "\n"
    "  --config FILE   the client's config (YAML)\n"
    "  --check         check config, keys and token, then exit\n"
    "  --once          exit when one run has ended and is settled\n"
    "  --set KEY=VALUE override a value of the config; may be repeated\n"
    "  --quiet         warnings and errors only\n"
    "  --help          this text\n"
    "  --version       version\n"
    "\n"
    "Signals: TERM, INT finish what is being sent and exit; HUP reads log level and "
    "slowdown again.\n"
    "Exit status: 0 done, 1 failed, 2 usage or config, 3 refused or unreachable,\n"
    "4 state directory unusable, 70 a bug.\n";

struct options {
    const char *config_path;
    bool check, once, quiet;
    struct sl_plan_override sets[SETS_MAX];
    size_t n_sets;
};

/* -1: go on; else the exit status. */
static int parse_options(int argc, char **argv, struct options *o)
{
    static const struct option longs[] = {
        {"config", required_argument, NULL, 'c'}, {"check", no_argument, NULL, 'k'},
        {"once", no_argument, NULL, 'o'},         {"set", required_argument, NULL, 's'},
        {"quiet", no_argument, NULL, 'q'},        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'v'},      {NULL, 0, NULL, 0},
    };
    for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
        switch (c) {
        case 'c':
            o->config_path = optarg;
            break;
        case 'k':
            o->check = true;
            break;
        case 'o':
            o->once = true;
            break;
        case 's':
            if (o->n_sets == SETS_MAX) {
                fprintf(stderr, "starling-client: --set: allowed are %d\n", SETS_MAX);
                return 2;
            }
            o->sets[o->n_sets++].text = optarg;
            break;
        case 'q':
            o->quiet = true;
            break;
        case 'h':
            fputs(usage, stdout);
            return 0;
        case 'v':
            puts("starling-client " SL_VERSION);
            return 0;
        default:
            fputs("starling-client: try --help\n", stderr);
            return 2;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "starling-client: %s: unexpected (see --help)\n", argv[optind]);
        return 2;
    }
    if (o->config_path == NULL) {
        fputs("starling-client: --config FILE is missing (see --help)\n", stderr);
        return 2;
    }
    return -1;
}

static enum sl_code run(const struct options *o, const struct sl_client_config *config,
                        struct sl_err *err)
{
    if (o->check) {
        enum sl_code rc = sl_client_daemon_check(config, err);
        if (rc == SL_OK && !o->quiet)
            printf("%s: ok\n", o->config_path);
        return rc;
    }
    struct sl_log *log = sl_log_new(
        stderr, o->quiet && config->log > SL_LOG_WARN ? SL_LOG_WARN : config->log);
    struct sl_client_daemon_options d = {.config_path = o->config_path,
                                         .config = config,
                                         .log = log,
                                         .once = o->once,
                                         .quiet = o->quiet};
    enum sl_code rc = sl_client_daemon_run(&d, err);
    sl_log_free(log);
    return rc;
}

int main(int argc, char **argv)
{
    struct options o = {0};
    struct sl_client_config config;
    struct sl_err err;
    sl_mem_tune_malloc();
    mallopt(M_ARENA_MAX,
            1); /* one trains, the other waits: memory of one serves the other */
    sl_accel_init();
    int status = parse_options(argc, argv, &o);
    if (status >= 0)
        return status;
    if (sodium_init() < 0) {
        fputs("starling-client: no source of randomness\n", stderr);
        return sl_code_exit_status(SL_E_FAILED);
    }
    enum sl_code rc = sl_accel_check_env(&err);
    if (rc == SL_OK)
        rc = sl_client_config_load(o.config_path, o.sets, o.n_sets, &config, &err);
    bool loaded = rc == SL_OK;
    if (loaded) {
        rc = run(&o, &config, &err);
        sl_client_config_deinit(&config);
    }
    if (rc != SL_OK)
        fprintf(stderr, "starling-client: %s\n", err.msg);
    return sl_code_exit_status(rc);
}
