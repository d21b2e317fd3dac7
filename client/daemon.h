/* SPDX-License-Identifier: Apache-2.0 */
/* daemon.h - the client as a process: libuv loop, worker, clock, signals, connection,
 * state directory. Decides nothing about tasks (client/client.h does). SIGTERM, SIGINT: a
 * push under way is finished, training too if it ends soon, then exit 0; again: exit at
 * once (a kept update is pushed after the next start). SIGHUP: log level and slowdown are
 * read again. */
#ifndef SL_CLIENT_DAEMON_H
#define SL_CLIENT_DAEMON_H

#include <stdbool.h>

#include "common/config.h"
#include "common/error.h"
#include "common/log.h"

struct sl_client_daemon_options {
    const char *config_path; /* read again on SIGHUP */
    const struct sl_client_config *config;
    struct sl_log *log;
    bool once;  /* ends when a run has ended and this client's part in it is settled */
    bool quiet; /* SIGHUP does not make it talk more */
};

/* Whether the keys and the token of a config can be used: --check. */
enum sl_code sl_client_daemon_check(const struct sl_client_config *config,
                                    struct sl_err *err);

/* SL_E_REFUSED: key or token not wanted. SL_E_UNREACHABLE: with `once`, no coordinator
 * within 30 s. SL_E_STATE: the state directory. */
enum sl_code sl_client_daemon_run(const struct sl_client_daemon_options *options,
                                  struct sl_err *err);

#endif
