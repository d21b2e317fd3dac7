/* SPDX-License-Identifier: Apache-2.0 */
/* daemon.h - the coordinator as a process: libuv loop, workers, clock, signals, network service, admin
 * socket, report file. Decides nothing about rounds (server/coordinator.h does).
 * SIGTERM, SIGINT: drain (finish what can be finished soon, answer held polls), exit 0; again: exit at
 * once (the journal has everything). SIGHUP: reload the log level from the config. */
#ifndef SL_SERVER_DAEMON_H
#define SL_SERVER_DAEMON_H

#include "common/config.h"
#include "common/error.h"
#include "common/log.h"
#include "common/plan.h"

struct sl_daemon_options {
    const char *config_path; /* read again on SIGHUP */
    const struct sl_server_config *config;
    struct sl_log *log;
    const struct sl_plan *plan; /* --plan: submit at start, end with the run; NULL = none */
    const char *report_path;    /* --report; NULL = none */
    const char *model_path;     /* --model-out; NULL = none */
    const char *replay_path;    /* --replay; NULL = none */
};

/* Runs until a signal, a drain or (with a plan) the end of the run. SL_E_FAILED when that run
 * failed. */
enum sl_code sl_daemon_run(const struct sl_daemon_options *options, struct sl_err *err);

#endif
