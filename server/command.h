/* SPDX-License-Identifier: Apache-2.0 */
/* command.h - what an operator can ask of a coordinator, whichever way the question comes (admin.h,
 * http.h): a JSON object {"cmd": NAME, ...} gives a JSON object.
 *
 *   status | clients | explain {round} | report {run, from} | model {best}      read only
 *   token {index} | approve {key, name, index} | revoke {index}
 *   submit {plan} | calibrate | pause | resume | drain
 *
 * Thread: loop thread only. */
#ifndef SL_SERVER_COMMAND_H
#define SL_SERVER_COMMAND_H

#include <stdint.h>

#include <jansson.h>

#include "common/error.h"
#include "server/coordinator.h"

/* Borrowed by who answers. */
struct sl_command_env {
    struct sl_coordinator *coordinator;
    struct sl_store *store;
    const uint8_t *server_key; /* public, 32 bytes */
    void *ctx;
    uint64_t (*now_ms)(void *ctx);
    /* Adds what the daemon knows to a status object. */
    void (*add_status)(void *ctx, json_t *status);
    void (*revoked)(void *ctx, const uint8_t key[SL_KEY_BYTES]);
    void (*drain)(void *ctx);
};

struct sl_answer {
    json_t *body;      /* an object of the caller's, filled in */
    const void *bytes; /* what follows the object; valid until the core runs on or owned is freed */
    size_t n_bytes;
    void *owned; /* the caller frees it */
};

/* SL_E_USAGE for an unknown command or a field of the wrong kind; what is in ret then is of no use. */
enum sl_code sl_command_run(const struct sl_command_env *env, const json_t *request,
                            struct sl_answer *ret, struct sl_err *err);

#endif
