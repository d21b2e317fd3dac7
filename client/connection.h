/* SPDX-License-Identifier: Apache-2.0 */
/* connection.h - a client's requests over the wire: dials the coordinator, keeps a
 * session with it, seals, sends, opens and unpacks. Reconnects for ever; a session that
 * is gone is replaced by itself, and whoever has requests open is told. Owns: dialer and
 * session. Borrows: loop, executor, log. Thread: loop thread only; large records are
 * sealed and opened on the executor. */
#ifndef SL_CLIENT_CONNECTION_H
#define SL_CLIENT_CONNECTION_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "common/handshake.h"
#include "common/jobs.h"
#include "common/log.h"
#include "common/transport.h"
#include "common/wire.h"

struct uv_loop_s;
struct sl_connection;

struct sl_connection_config {
    const char *url; /* tcp://HOST:PORT */
    struct sl_link_config
        link;         /* copied; has_token: enrol with it if the key is not known */
    bool token_first; /* the key is new: the token is needed */
    const struct sl_executor *executor;
    struct sl_log *log;
};

struct sl_connection_events {
    void *ctx;
    void (*up)(void *ctx);   /* a session: requests of earlier ones are forgotten */
    void (*down)(void *ctx); /* the session is gone, and its requests with it */
    void (*reply)(void *ctx, uint64_t id, const struct sl_msg *m); /* m: for the call */
    void (*refused)(void *ctx,
                    const struct sl_err *err); /* key or token not wanted, for good */
};

enum sl_code sl_connection_open(struct uv_loop_s *loop,
                                const struct sl_connection_config *config,
                                const struct sl_connection_events *events,
                                struct sl_connection **ret, struct sl_err *err);

/* Sends a request in the session that is up; without one, `down` is called soon. */
void sl_connection_send(struct sl_connection *c, uint64_t id, const struct sl_msg *m);

/* The client is enrolled: the join token has done its work. */
void sl_connection_enrolled(struct sl_connection *c);

/* Ends everything; no event comes any more. closed is called when the loop can do without
 * it; then all jobs must have run out (sl_pool_free) before sl_connection_free. */
void sl_connection_close(struct sl_connection *c, void (*closed)(void *ctx), void *ctx);
void sl_connection_free(struct sl_connection *c); /* NULL allowed */

#endif
