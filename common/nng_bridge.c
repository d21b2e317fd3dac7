/* SPDX-License-Identifier: Apache-2.0 */
#include "common/nng_bridge.h"

#include <string.h>

/* --- frames ----------------------------------------------------------------------- */

bool sl_frame_alloc(size_t n, struct sl_frame *ret)
{
    nng_msg *m;
    if (nng_msg_alloc(&m, n) != 0)
        return false;
    *ret = (struct sl_frame){.data = nng_msg_body(m), .n = n, .opaque = m};
    return true;
}

void sl_frame_trim(struct sl_frame *f, size_t n)
{
    nng_msg_chop(f->opaque, f->n - n);
    f->n = n;
}

bool sl_frame_resize(struct sl_frame *f, size_t n)
{
    if (n <= f->n) {
        sl_frame_trim(f, n);
        return true;
    }
    if (nng_msg_realloc(f->opaque, n) != 0)
        return false;
    f->data = nng_msg_body(f->opaque);
    f->n = n;
    return true;
}

void sl_frame_free(struct sl_frame *f)
{
    if (f == NULL)
        return;
    if (f->opaque != NULL)
        nng_msg_free(f->opaque);
    *f = (struct sl_frame){0};
}

/* --- bridge ----------------------------------------------------------------------- */

static void on_async(uv_async_t *async)
{
    struct sl_bridge *b = async->data;
    uv_mutex_lock(&b->mutex);
    struct sl_bridge_item *item = b->head;
    b->head = b->tail = NULL;
    uv_mutex_unlock(&b->mutex);
    while (item != NULL) {
        uv_mutex_lock(&b->mutex); /* from here on it may be posted again */
        struct sl_bridge_item *next = item->next;
        item->queued = false;
        uv_mutex_unlock(&b->mutex);
        item->run(item);
        item = next;
    }
    if (b->after_batch != NULL)
        b->after_batch(b->ctx);
}

enum sl_code sl_bridge_open(struct sl_bridge *b, uv_loop_t *loop, void *ctx,
                            struct sl_err *err)
{
    b->ctx = ctx;
    if (uv_mutex_init(&b->mutex) != 0)
        return sl_err_set(err, SL_E_NOMEM, "transport: no mutex");
    int rv = uv_async_init(loop, &b->async, on_async);
    if (rv != 0) {
        uv_mutex_destroy(&b->mutex);
        return sl_err_set(err, SL_E_IO, "transport: %s", uv_strerror(rv));
    }
    b->async.data = b;
    return SL_OK;
}

void sl_bridge_post(struct sl_bridge *b, struct sl_bridge_item *item)
{
    uv_mutex_lock(&b->mutex);
    bool first = b->head == NULL && !item->queued;
    if (!item->queued) {
        item->queued = true;
        item->next = NULL;
        if (b->tail != NULL)
            b->tail->next = item;
        else
            b->head = item;
        b->tail = item;
    }
    if (first)
        uv_async_send(
            &b->async); /* inside: the bridge may be closed right after the unlock */
    uv_mutex_unlock(&b->mutex);
}

static void on_async_closed(uv_handle_t *handle)
{
    struct sl_bridge *b = handle->data;
    uv_mutex_destroy(&b->mutex);
    b->on_closed(b->ctx);
}

void sl_bridge_close(struct sl_bridge *b)
{
    uv_close((uv_handle_t *)&b->async, on_async_closed);
}

/* --- NNG
 * --------------------------------------------------------------------------------------
 */

bool sl_nng_lane_open(nng_socket socket, void (*callback)(void *arg), void *arg,
                      nng_ctx *ret_ctx, nng_aio **ret_aio)
{
    nng_ctx ctx;
    nng_aio *aio;
    if (nng_ctx_open(&ctx, socket) != 0)
        return false;
    if (nng_aio_alloc(&aio, callback, arg) != 0) {
        nng_ctx_close(ctx);
        return false;
    }
    *ret_ctx = ctx;
    *ret_aio = aio;
    return true;
}

enum sl_code sl_nng_error(int rv, const char *what, const char *url, struct sl_err *err)
{
    switch (rv) {
    case NNG_EADDRINUSE:
        return sl_err_set(err, SL_E_IO, "%s %s: the port is taken by another program",
                          what, url);
    case NNG_EPERM:
        return sl_err_set(err, SL_E_IO,
                          "%s %s: not allowed; ports below 1024 need a privilege", what,
                          url);
    case NNG_ENOMEM:
        return sl_err_set(err, SL_E_NOMEM, "%s %s: out of memory", what, url);
    case NNG_EINVAL:
    case NNG_EADDRINVAL:
    case NNG_ENOTSUP:
        return sl_err_set(err, SL_E_INPUT,
                          "%s %s: not an address of the form tcp://HOST:PORT", what, url);
    default:
        return sl_err_set(err, SL_E_IO, "%s %s: %s", what, url, nng_strerror(rv));
    }
}

void sl_transport_fini(void)
{
    nng_fini();
}
