/* SPDX-License-Identifier: Apache-2.0 */
/* nng_bridge.h - how completions get from NNG's threads to the loop thread, shared by the
 * listener and the dialer. An aio callback links its item into a list under a mutex; the
 * first item of a batch wakes the loop, whose handler takes the whole list. Only
 * transport_*.c include this. */
#ifndef SL_COMMON_NNG_BRIDGE_H
#define SL_COMMON_NNG_BRIDGE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <nng/nng.h>
#include <uv.h>

#include "common/error.h"
#include "common/transport.h"

/* On each connection both sides say hello with 8 bytes; each message has an 8-byte length
 * and the 4-byte request id in front. */
#define SL_NNG_HELLO 8
#define SL_NNG_FRAMING 12

struct sl_bridge_item {
    struct sl_bridge_item *next;
    bool queued;                              /* under the bridge's mutex */
    void (*run)(struct sl_bridge_item *item); /* on the loop thread */
};

struct sl_bridge {
    uv_async_t async;
    uv_mutex_t mutex;
    struct sl_bridge_item *head, *tail;
    void (*after_batch)(void *ctx); /* may be NULL */
    void (*on_closed)(void *ctx);
    void *ctx;
};

enum sl_code sl_bridge_open(struct sl_bridge *b, uv_loop_t *loop, void *ctx,
                            struct sl_err *err);
/* Any thread. An item that is queued already stays where it is. */
void sl_bridge_post(struct sl_bridge *b, struct sl_bridge_item *item);
/* Loop thread, when no thread can post any more; on_closed comes from the loop. */
void sl_bridge_close(struct sl_bridge *b);

/* Opens a context and its aio; false (nothing left behind) when NNG has no memory. */
bool sl_nng_lane_open(nng_socket socket, void (*callback)(void *arg), void *arg,
                      nng_ctx *ret_ctx, nng_aio **ret_aio);

/* "what url: reason"; never SL_OK. */
enum sl_code sl_nng_error(int rv, const char *what, const char *url, struct sl_err *err);

#endif
