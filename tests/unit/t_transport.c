/* SPDX-License-Identifier: Apache-2.0 */
/* Listener and dialers on one loop, over real sockets on the loopback. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "common/transport.h"

#define MAX_FRAME 65536
#define MAX_HELD 1024

struct net {
    uv_loop_t loop;
    struct sl_listener *listener;
    struct sl_dialer *dialer;
    char url[64];
    int n_requests, n_replies, n_cancelled, n_timeouts, n_gone, n_closed, n_ups, n_downs;
    bool hold, drop_once, oversize_reply;
    struct sl_request *held[MAX_HELD];
    int n_held;
    size_t last_bytes;
    uint8_t last_byte;
    uv_timer_t watchdog;
};

static void answer(struct net *x, struct sl_request *req, struct sl_frame *frame)
{
    if (x->oversize_reply) {
        sl_frame_free(frame);
        assert_true(sl_frame_alloc(MAX_FRAME + 1, frame));
        memset(frame->data, 0, frame->n);
    }
    if (frame->n > 0)
        frame->data[0] ^= 0xff; /* the reply is made where the request lay */
    sl_request_reply(req, frame);
}

static void on_request(void *ctx, struct sl_request *req, struct sl_frame *frame)
{
    struct net *x = ctx;
    x->n_requests++;
    x->last_bytes = frame->n;
    if (x->hold) {
        assert_true(x->n_held < MAX_HELD);
        sl_request_set_user(req, x);
        x->held[x->n_held++] = req;
        sl_frame_free(frame);
    } else if (x->drop_once) {
        x->drop_once = false;
        sl_frame_free(frame);
        sl_request_drop(req);
    } else {
        answer(x, req, frame);
    }
}

static void on_gone(void *ctx, struct sl_request *req)
{
    struct net *x = ctx;
    x->n_gone++;
    for (int i = 0; i < x->n_held; i++)
        if (x->held[i] == req)
            x->held[i] = x->held[--x->n_held];
    sl_request_drop(req);
}

static void on_closed(void *ctx)
{
    ((struct net *)ctx)->n_closed++;
}

static void on_link(void *ctx, bool up)
{
    struct net *x = ctx;
    *(up ? &x->n_ups : &x->n_downs) += 1;
}

static void on_reply(void *ctx, enum sl_code rc, struct sl_frame *reply)
{
    struct net *x = ctx;
    if (rc != SL_OK) {
        assert_null(reply);
        *(rc == SL_E_TIMEOUT ? &x->n_timeouts : &x->n_cancelled) += 1;
        return;
    }
    x->n_replies++;
    x->last_bytes = reply->n;
    x->last_byte = reply->n > 0 ? reply->data[0] : 0;
    sl_frame_free(reply);
}

static void too_long(uv_timer_t *timer)
{
    (void)timer;
    fprintf(stderr, "t_transport: a condition did not come true within 60 s\n");
    abort();
}

static struct sl_listener *listen_with(struct net *x, const char *url,
                                       struct sl_listener_options o)
{
    struct sl_listener_events ev = {x, on_request, on_gone, on_closed};
    struct sl_listener *l = NULL;
    struct sl_err err = {0};
    if (sl_listener_open(&x->loop, url, &o, &ev, &l, &err) != SL_OK)
        fail_msg("%s", err.msg);
    return l;
}

static struct sl_dialer *dial_with(struct net *x, const char *url,
                                   struct sl_dialer_options o)
{
    struct sl_dialer_events ev = {x, on_link, on_closed};
    struct sl_dialer *d = NULL;
    assert_int_equal(sl_dialer_open(&x->loop, url, &o, &ev, &d, NULL), SL_OK);
    return d;
}

static void net_open(struct net *x)
{
    memset(x, 0, sizeof(*x));
    assert_int_equal(uv_loop_init(&x->loop), 0);
    uv_timer_init(&x->loop, &x->watchdog);
    uv_timer_start(&x->watchdog, too_long, 60000, 0);
    uv_unref((uv_handle_t *)&x->watchdog);
    x->listener = listen_with(x, "tcp://127.0.0.1:0",
                              (struct sl_listener_options){.max_frame = MAX_FRAME});
    assert_int_not_equal(sl_listener_port(x->listener), 0);
    snprintf(x->url, sizeof(x->url), "tcp://127.0.0.1:%d", sl_listener_port(x->listener));
    x->dialer = dial_with(x, x->url, (struct sl_dialer_options){.max_frame = MAX_FRAME});
}

static void net_close(struct net *x)
{
    int want = x->n_closed + (x->dialer != NULL) + (x->listener != NULL);
    if (x->dialer != NULL)
        sl_dialer_close(x->dialer);
    if (x->listener != NULL)
        sl_listener_close(x->listener);
    while (x->n_closed < want)
        uv_run(&x->loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&x->watchdog, NULL);
    uv_run(&x->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&x->loop), 0);
}

#define RUN_UNTIL(x, condition)                                                          \
    while (!(condition))                                                                 \
    uv_run(&(x)->loop, UV_RUN_ONCE)

static void send_bytes(struct net *x, struct sl_dialer *d, size_t n, uint8_t first,
                       uint32_t resend_ms, uint32_t timeout_ms)
{
    struct sl_frame f;
    assert_true(sl_frame_alloc(n, &f));
    assert_int_equal(f.n, n);
    memset(f.data, first, n);
    assert_int_equal(sl_dialer_request(d, &f, resend_ms, timeout_ms, on_reply, x), SL_OK);
    assert_null(f.opaque);
}

static void a_request_is_answered_in_place(void **state)
{
    (void)state;
    struct net x;
    net_open(&x);
    send_bytes(&x, x.dialer, 1000, 0x55, 60000, 0);
    RUN_UNTIL(&x, x.n_replies == 1);
    assert_int_equal(x.last_bytes, 1000);
    assert_int_equal(x.last_byte, 0xaa);
    assert_int_equal(x.n_ups, 1);
    assert_true(sl_dialer_up(x.dialer));
    assert_int_equal(sl_listener_connections(x.listener), 1);
    net_close(&x);
    assert_int_equal(x.n_closed, 2);
}

static void both_ends_count_the_same_bytes(void **state)
{
    (void)state;
    struct net x;
    net_open(&x);
    for (int i = 0; i < 10; i++)
        send_bytes(&x, x.dialer, 100, 1, 60000, 0);
    RUN_UNTIL(&x, x.n_replies == 10);
    struct sl_wire_bytes c = sl_dialer_bytes(x.dialer), s = sl_listener_bytes(x.listener);
    assert_int_equal(c.tx, 8 + 10 * 112);
    assert_int_equal(c.rx, 8 + 10 * 112);
    assert_int_equal(s.rx, c.tx);
    assert_int_equal(s.tx, c.rx);
    net_close(&x);
}

static void more_requests_than_lanes_wait_in_line(void **state)
{
    (void)state;
    struct net x;
    net_open(&x);
    for (int i = 0; i < 300; i++)
        send_bytes(&x, x.dialer, (size_t)i, 1, 60000, 0);
    RUN_UNTIL(&x, x.n_replies == 300);
    assert_int_equal(x.n_requests, 300);
    net_close(&x);
}

static void held_requests_make_room_for_others(void **state)
{
    (void)state;
    struct net x;
    net_open(&x);
    x.hold = true;
    struct sl_dialer *many = dial_with(
        &x, x.url, (struct sl_dialer_options){.max_frame = MAX_FRAME, .contexts = 500});
    for (int i = 0; i < 500; i++)
        send_bytes(&x, many, 10, 1, 60000, 0);
    RUN_UNTIL(&x, x.n_held == 500);
    x.hold = false;
    send_bytes(&x, x.dialer, 20, 1, 60000, 0);
    RUN_UNTIL(&x, x.n_replies == 1);
    for (int i = 0; i < 500; i++) {
        struct sl_frame f;
        assert_ptr_equal(sl_request_user(x.held[i]), &x);
        assert_true(sl_frame_alloc(5, &f));
        memset(f.data, 0, 5);
        sl_request_reply(x.held[i], &f);
    }
    RUN_UNTIL(&x, x.n_replies == 501);
    sl_dialer_close(many);
    RUN_UNTIL(&x, x.n_closed == 1);
    net_close(&x);
}

static void a_peer_that_goes_away_is_reported_for_held_requests(void **state)
{
    (void)state;
    struct net x;
    net_open(&x);
    x.hold = true;
    send_bytes(&x, x.dialer, 10, 1, 60000, 0);
    send_bytes(&x, x.dialer, 10, 1, 60000, 0);
    RUN_UNTIL(&x, x.n_held == 2);
    char peer[SL_PEER_TEXT];
    sl_request_peer(x.held[0], peer);
    assert_memory_equal(peer, "127.0.0.1:", 10);
    sl_dialer_close(x.dialer);
    assert_int_equal(x.n_cancelled, 2);
    x.dialer = NULL;
    RUN_UNTIL(&x, x.n_gone == 2);
    assert_int_equal(x.n_held, 0);
    RUN_UNTIL(&x, x.n_closed == 1);
    net_close(&x);
}

static void a_dropped_request_is_sent_again(void **state)
{
    (void)state;
    struct net x;
    net_open(&x);
    x.drop_once = true;
    send_bytes(&x, x.dialer, 10, 7, 50, 0);
    RUN_UNTIL(&x, x.n_replies == 1);
    assert_true(x.n_requests >= 2);
    net_close(&x);
}

static void a_request_without_reply_times_out_and_the_lane_goes_on(void **state)
{
    (void)state;
    struct net x;
    net_open(&x);
    x.hold = true;
    send_bytes(&x, x.dialer, 10, 7, 60000, 30);
    RUN_UNTIL(&x, x.n_timeouts == 1);
    x.hold = false;
    for (int i = 0; i < 20; i++)
        send_bytes(&x, x.dialer, 10, 7, 60000, 0);
    RUN_UNTIL(&x, x.n_replies == 20);
    net_close(&x);
}

static void the_client_may_start_first_and_survives_a_restart(void **state)
{
    (void)state;
    struct net x;
    net_open(&x);
    sl_listener_close(x.listener);
    x.listener = NULL;
    RUN_UNTIL(&x, x.n_closed == 1);
    send_bytes(&x, x.dialer, 10, 7, 200, 0);
    x.listener =
        listen_with(&x, x.url, (struct sl_listener_options){.max_frame = MAX_FRAME});
    RUN_UNTIL(&x, x.n_replies == 1);
    RUN_UNTIL(&x, sl_dialer_up(x.dialer));
    net_close(&x);
}

static void a_taken_port_and_bad_addresses_are_one_clear_line(void **state)
{
    (void)state;
    struct net x;
    net_open(&x);
    struct sl_listener_options o = {.max_frame = 100};
    struct sl_listener_events ev = {.ctx = &x, .on_request = on_request};
    struct sl_listener *l = NULL;
    struct sl_err err = {0};
    assert_int_equal(sl_listener_open(&x.loop, x.url, &o, &ev, &l, &err), SL_E_IO);
    assert_non_null(strstr(err.msg, "taken"));
    assert_non_null(strstr(err.msg, x.url));
    assert_int_equal(sl_listener_open(&x.loop, "udp://1.2.3.4:5", &o, &ev, &l, &err),
                     SL_E_INPUT);
    assert_int_equal(
        sl_listener_open(&x.loop, "tcp://127.0.0.1:99999", &o, &ev, &l, &err),
        SL_E_INPUT);
    assert_null(l);
    struct sl_dialer_options dopt = {.max_frame = 100};
    struct sl_dialer_events dev = {.ctx = &x};
    struct sl_dialer *d = NULL;
    assert_int_equal(sl_dialer_open(&x.loop, "tcp://127.0.0.1", &dopt, &dev, &d, &err),
                     SL_E_INPUT);
    assert_int_equal(sl_dialer_open(&x.loop, "http:", &dopt, &dev, &d, &err), SL_E_INPUT);
    assert_null(d);
    net_close(&x);
}

static void a_frame_of_the_limit_passes_and_a_longer_one_never_arrives(void **state)
{
    (void)state;
    struct net x;
    net_open(&x);
    send_bytes(&x, x.dialer, MAX_FRAME, 1, 60000, 0);
    RUN_UNTIL(&x, x.n_replies == 1);
    assert_int_equal(x.last_bytes, MAX_FRAME);
    struct sl_dialer *other =
        dial_with(&x, x.url, (struct sl_dialer_options){.max_frame = MAX_FRAME});
    RUN_UNTIL(&x, x.n_ups == 2);
    send_bytes(&x, other, MAX_FRAME + 1, 1, 60000, 0);
    RUN_UNTIL(&x, x.n_downs >= 1); /* cut off */
    assert_int_equal(x.n_requests, 1);
    sl_dialer_close(other);
    RUN_UNTIL(&x, x.n_closed == 1);
    x.oversize_reply = true; /* the client does not take more than it allows, either */
    send_bytes(&x, x.dialer, 10, 1, 60000, 0);
    RUN_UNTIL(&x, x.n_downs >= 2);
    assert_int_equal(x.n_replies, 1);
    net_close(&x);
}

static int raw_connect(const struct net *x)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons(sl_listener_port(x->listener)),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    return fd;
}

static void reset(int fd)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
    close(fd);
}

static void a_listener_survives_garbage_and_resets(void **state)
{
    (void)state;
    struct net x;
    net_open(&x);
    int silent[8];
    for (int i = 0; i < 8; i++) {
        silent[i] = raw_connect(&x);
        close(raw_connect(&x));
        reset(raw_connect(&x));
        int fd = raw_connect(&x);
        assert_int_equal(send(fd, "\0SP\0", 4, MSG_NOSIGNAL), 4); /* half a handshake */
        reset(fd);
        fd = raw_connect(&x);
        assert_int_equal(send(fd, "GET / HTTP/1.0\r\n\r\n", 18, MSG_NOSIGNAL), 18);
        close(fd);
        fd = raw_connect(&x); /* a REQ peer that announces 2^62 bytes */
        static const uint8_t liar[16] = {0, 'S', 'P', 0, 0, 0x30, 0, 0, 0x40};
        assert_int_equal(send(fd, liar, sizeof(liar), MSG_NOSIGNAL), 16);
        uint8_t back[64];
        while (recv(fd, back, sizeof(back), 0) > 0)
            continue; /* its greeting, then the end: cut off at once */
        close(fd);
        fd = raw_connect(&x); /* a message without a request id */
        static const uint8_t naked[18] = {0, 'S', 'P', 0, 0, 0x30, 0, 0, 0,
                                          0, 0,   0,   0, 0, 0,    2, 1, 2};
        assert_int_equal(send(fd, naked, sizeof(naked), MSG_NOSIGNAL), 18);
        reset(fd);
    }
    send_bytes(&x, x.dialer, 10, 1, 60000, 0);
    RUN_UNTIL(&x, x.n_replies == 1);
    assert_int_equal(x.n_requests, 1);
    for (int i = 0; i < 8; i++)
        close(silent[i]);
    net_close(&x);
}

static void hanging_up_cuts_the_connection_and_the_client_comes_back(void **state)
{
    (void)state;
    struct net x;
    net_open(&x);
    x.hold = true;
    send_bytes(&x, x.dialer, 10, 1, 60000, 0);
    RUN_UNTIL(&x, x.n_held == 1);
    x.hold = false;
    sl_request_hang_up(x.held[0]);
    RUN_UNTIL(&x, x.n_replies == 1); /* sent again on the next connection */
    assert_int_equal(x.n_requests, 2);
    net_close(&x);
}

static void closing_with_everything_under_way_ends(void **state)
{
    (void)state;
    for (int round = 0; round < 20; round++) {
        struct net x;
        net_open(&x);
        x.hold = round % 2 == 0;
        for (int i = 0; i < 40; i++)
            send_bytes(&x, x.dialer, 5000, 1, 60000, 0);
        for (int i = 0; i < round; i++)
            uv_run(&x.loop, UV_RUN_NOWAIT);
        net_close(&x);
        assert_int_equal(x.n_replies + x.n_cancelled, 40);
    }
}

static void a_closed_dialer_refuses_requests(void **state)
{
    (void)state;
    struct net x;
    net_open(&x);
    struct sl_dialer *d = x.dialer;
    sl_dialer_close(d);
    struct sl_frame f;
    assert_true(sl_frame_alloc(3, &f));
    assert_int_equal(sl_dialer_request(d, &f, 1000, 0, on_reply, &x), SL_E_CANCELLED);
    assert_null(f.opaque);
    RUN_UNTIL(&x, x.n_closed == 1);
    x.dialer = NULL;
    net_close(&x);
    assert_int_equal(x.n_cancelled, 0);
}

static void frames_change_length_in_place(void **state)
{
    (void)state;
    struct sl_frame f, none = {0};
    assert_true(sl_frame_alloc(100, &f));
    for (int i = 0; i < 100; i++)
        f.data[i] = (uint8_t)i;
    sl_frame_trim(&f, 50);
    assert_int_equal(f.n, 50);
    assert_true(sl_frame_resize(&f, 100000));
    assert_int_equal(f.n, 100000);
    for (int i = 0; i < 50; i++)
        assert_int_equal(f.data[i], i);
    assert_true(sl_frame_resize(&f, 10));
    assert_int_equal(f.n, 10);
    sl_frame_free(&f);
    assert_null(f.data);
    sl_frame_free(&none);
    sl_frame_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_change_length_in_place),
        cmocka_unit_test(a_request_is_answered_in_place),
        cmocka_unit_test(both_ends_count_the_same_bytes),
        cmocka_unit_test(more_requests_than_lanes_wait_in_line),
        cmocka_unit_test(held_requests_make_room_for_others),
        cmocka_unit_test(a_peer_that_goes_away_is_reported_for_held_requests),
        cmocka_unit_test(a_dropped_request_is_sent_again),
        cmocka_unit_test(a_request_without_reply_times_out_and_the_lane_goes_on),
        cmocka_unit_test(the_client_may_start_first_and_survives_a_restart),
        cmocka_unit_test(a_taken_port_and_bad_addresses_are_one_clear_line),
        cmocka_unit_test(a_frame_of_the_limit_passes_and_a_longer_one_never_arrives),
        cmocka_unit_test(a_listener_survives_garbage_and_resets),
        cmocka_unit_test(hanging_up_cuts_the_connection_and_the_client_comes_back),
        cmocka_unit_test(closing_with_everything_under_way_ends),
        cmocka_unit_test(a_closed_dialer_refuses_requests),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    sl_transport_fini();
    return failed;
}
