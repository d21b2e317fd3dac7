/* SPDX-License-Identifier: Apache-2.0 */
/* admin.h - the operator's socket: a unix stream socket (mode 0600) that takes one JSON object a line,
 * {"cmd": NAME, ...}, and answers one JSON object a line, {"ok": true, ...} or
 * {"ok": false, "code": N, "error": TEXT}. An answer with "bytes": N is followed by N raw
 * bytes (the model). starlingctl speaks it; so can any script.
 *
 *   status | clients | explain {round} | report {run} | model
 *   token {index} | approve {key, name, index} | revoke {index}
 *   submit {plan} | pause | resume | drain
 *
 * Owns: the socket and its connections. Borrows: what the ops are called with.
 * Thread: loop thread only. */
#ifndef SL_SERVER_ADMIN_H
#define SL_SERVER_ADMIN_H

#include <stdint.h>

#include <jansson.h>

#include "common/error.h"
#include "common/log.h"
#include "server/coordinator.h"

#define SL_ADMIN_LINE_MAX ((size_t)2 << 20)

struct uv_loop_s;
struct sl_admin;

struct sl_admin_config {
    const char *path;
    struct sl_log *log;
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

/* A socket file left by a dead coordinator is replaced; one that answers is SL_E_EXISTS. */
enum sl_code sl_admin_open(struct uv_loop_s *loop, const struct sl_admin_config *config,
                           struct sl_admin **ret, struct sl_err *err);
/* Closes all; the memory goes when the loop has run the closing callbacks. Removes the file. */
void sl_admin_close(struct sl_admin *a);

#endif
