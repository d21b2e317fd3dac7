/* SPDX-License-Identifier: Apache-2.0 */
/* service.h - the coordinator on the network: listener, sessions, and one struct call per request
 * between them and the coordinator's core.
 *
 *   listener -> gate (handshakes, sessions) -> open record -> accept (window, reply cache)
 *            -> unpack -> sl_coordinator_message ... service_reply -> pack -> seal -> listener
 *
 * Records of SL_INLINE_BYTES and more are opened and sealed on workers; everything else happens on
 * the loop thread. Owns: gate, listener, calls. Borrows: coordinator, executor, log.
 * Thread: loop thread only. */
#ifndef SL_SERVER_SERVICE_H
#define SL_SERVER_SERVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/handshake.h"
#include "common/jobs.h"
#include "common/log.h"
#include "common/transport.h"
#include "common/wire.h"
#include "server/coordinator.h"

#define SL_INLINE_BYTES ((size_t)64 << 10)

struct uv_loop_s;
struct sl_service;

struct sl_service_config {
    const char *listen; /* tcp://ADDRESS:PORT */
    uint8_t secret[SL_NOISE_KEY];
    uint32_t max_sessions, handshakes_per_s, max_contexts;
    uint32_t inflight_per_client; /* requests of one client under way at once */
    const struct sl_executor *executor;
    struct sl_log *log;
    uint64_t (*now_ms)(void *ctx);
    void *ctx;
    sl_seal_watch seal_watch; /* tests; NULL */
    void *seal_ctx;
};

/* Listens at once, but answers requests only after sl_service_serve. */
enum sl_code sl_service_new(struct uv_loop_s *loop, const struct sl_service_config *config,
                            struct sl_service **ret, struct sl_err *err);
void sl_service_serve(struct sl_service *s, struct sl_coordinator *c);
uint16_t sl_service_port(const struct sl_service *s);

/* The coordinator's env.reply and env.wire_bytes; ctx is the service. */
void sl_service_reply(struct sl_service *s, sl_request_id id, const struct sl_msg *m);
uint64_t sl_service_wire_bytes(const struct sl_service *s);

/* A key was revoked: its sessions end. */
void sl_service_end_key(struct sl_service *s, const uint8_t key[SL_NOISE_KEY]);
/* Expiry of sessions; about once a second. */
void sl_service_tick(struct sl_service *s);
struct sl_gate_stats sl_service_stats(const struct sl_service *s);
uint32_t sl_service_connections(const struct sl_service *s);
uint64_t sl_service_rejected(const struct sl_service *s); /* messages refused for their content */

/* Stops listening; on_closed comes when the listener is gone, then free. */
void sl_service_close(struct sl_service *s, void (*on_closed)(void *ctx), void *ctx);
void sl_service_free(struct sl_service *s);

#endif
