/* SPDX-License-Identifier: Apache-2.0 */
/* What a round costs before anything is computed or encrypted. In a round each of C
 * client processes sends R requests of 31 KB (an update of a 784-10 model); all but the
 * last are answered with 64 bytes at once, the last is held until the last of all clients
 * has come and then answered with 31 KB (the next model). Rows: bare NNG (blocking
 * clients, server in aio callbacks), and the transport (libuv loops at both ends). Times
 * are milliseconds a round: best, median.
 *
 *     bench_transport [ROUNDS]          default 200 */
#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "common/mem.h"
#include "common/transport.h"

#define BIG ((size_t)31 << 10)
#define SMALL 64
#define MAX_CLIENTS 100

struct shape {
    int clients, requests, rounds;
};

/* --- measuring -------------------------------------------------------------------- */

struct meter {
    double *ms; /* one a round */
    int n, rounds;
    uint64_t last;
};

static void meter_round(struct meter *m)
{
    uint64_t now = uv_hrtime();
    if (m->last != 0 && m->n < m->rounds)
        m->ms[m->n++] = (double)(now - m->last) / 1e6;
    m->last = now;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void meter_print(struct meter *m, const char *what, const struct shape *s)
{
    qsort(m->ms, (size_t)m->n, sizeof(double), by_value);
    printf("%-10s %4d x %d   best %7.2f   median %7.2f\n", what, s->clients, s->requests,
           m->ms[0], m->ms[m->n / 2]);
    fflush(stdout);
}

static void check(bool good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "bench_transport: %s failed\n", what);
    _exit(1);
}

/* --- bare NNG --------------------------------------------------------------------- */

struct bare {
    struct bare_lane *lanes, *held[MAX_CLIENTS];
    const struct shape *shape;
    struct meter *meter;
    int n_held, n_rounds;
    uv_mutex_t mutex;
    uv_cond_t done;
};

struct bare_lane {
    struct bare *bare;
    nng_ctx ctx;
    nng_aio *aio;
    bool sending;
};

static void bare_reply(struct bare_lane *l, size_t n)
{
    nng_msg *m;
    check(nng_msg_alloc(&m, n) == 0, "nng_msg_alloc");
    l->sending = true;
    nng_aio_set_msg(l->aio, m);
    nng_ctx_send(l->ctx, l->aio);
}

static void bare_hold(struct bare_lane *l)
{
    struct bare *b = l->bare;
    uv_mutex_lock(&b->mutex);
    b->held[b->n_held++] = l;
    if (b->n_held == b->shape->clients) {
        b->n_held = 0;
        meter_round(b->meter);
        for (int i = 0; i < b->shape->clients; i++)
            bare_reply(b->held[i], BIG);
        if (++b->n_rounds == b->shape->rounds + 1)
            uv_cond_signal(&b->done);
    }
    uv_mutex_unlock(&b->mutex);
}

static void on_bare(void *arg)
{
    struct bare_lane *l = arg;
    if (nng_aio_result(l->aio) != 0)
        return;
    if (l->sending) {
        l->sending = false;
        nng_ctx_recv(l->ctx, l->aio);
        return;
    }
    nng_msg *m = nng_aio_get_msg(l->aio);
    bool last = *(uint8_t *)nng_msg_body(m) == 1;
    nng_msg_free(m);
    if (last)
        bare_hold(l);
    else
        bare_reply(l, SMALL);
}

static void bare_server(const struct shape *s, struct meter *m, int port_fd)
{
    struct bare b = {.shape = s, .meter = m};
    nng_socket socket;
    nng_listener listener;
    int port, n_lanes = 2 * s->clients + 16;
    uv_mutex_init(&b.mutex);
    uv_cond_init(&b.done);
    check(nng_rep0_open(&socket) == 0, "nng_rep0_open");
    check(nng_listen(socket, "tcp://127.0.0.1:0", &listener, 0) == 0, "nng_listen");
    nng_listener_get_int(listener, NNG_OPT_TCP_BOUND_PORT, &port);
    b.lanes = calloc((size_t)n_lanes, sizeof(*b.lanes));
    for (int i = 0; i < n_lanes; i++) {
        b.lanes[i].bare = &b;
        check(nng_ctx_open(&b.lanes[i].ctx, socket) == 0, "nng_ctx_open");
        check(nng_aio_alloc(&b.lanes[i].aio, on_bare, &b.lanes[i]) == 0, "nng_aio_alloc");
        nng_ctx_recv(b.lanes[i].ctx, b.lanes[i].aio);
    }
    for (int i = 0; i < s->clients; i++)
        check(write(port_fd, &port, sizeof(port)) == sizeof(port), "write");
    uv_mutex_lock(&b.mutex);
    while (b.n_rounds < s->rounds + 1)
        uv_cond_wait(&b.done, &b.mutex);
    uv_mutex_unlock(&b.mutex);
}

static void bare_client(const struct shape *s, int port)
{
    char url[64];
    nng_socket socket;
    snprintf(url, sizeof(url), "tcp://127.0.0.1:%d", port);
    check(nng_req0_open(&socket) == 0, "nng_req0_open");
    check(nng_dial(socket, url, NULL, 0) == 0, "nng_dial");
    for (int i = 0; i < (s->rounds + 1) * s->requests; i++) {
        nng_msg *m;
        check(nng_msg_alloc(&m, BIG) == 0, "nng_msg_alloc");
        *(uint8_t *)nng_msg_body(m) = i % s->requests == s->requests - 1;
        check(nng_sendmsg(socket, m, 0) == 0, "nng_sendmsg");
        check(nng_recvmsg(socket, &m, 0) == 0, "nng_recvmsg");
        nng_msg_free(m);
    }
}

/* --- transport -------------------------------------------------------------------- */

struct side {
    uv_loop_t loop;
    const struct shape *shape;
    struct meter *meter;
    struct sl_dialer *dialer;
    struct sl_request *held[MAX_CLIENTS];
    struct sl_frame held_frames[MAX_CLIENTS];
    int n_held, n_rounds, n_sent;
};

static void on_request(void *ctx, struct sl_request *req, struct sl_frame *frame)
{
    struct side *x = ctx;
    if (frame->data[0] == 0) {
        sl_frame_trim(frame, SMALL);
        sl_request_reply(req, frame);
        return;
    }
    x->held[x->n_held] = req;
    x->held_frames[x->n_held++] = *frame;
    if (x->n_held < x->shape->clients)
        return;
    meter_round(x->meter);
    for (int i = 0; i < x->n_held; i++)
        sl_request_reply(x->held[i], &x->held_frames[i]);
    x->n_held = 0;
    if (++x->n_rounds == x->shape->rounds + 1)
        uv_stop(&x->loop);
}

static void our_server(const struct shape *s, struct meter *m, int port_fd)
{
    static struct side x;
    x = (struct side){.shape = s, .meter = m};
    struct sl_listener *l;
    struct sl_listener_options o = {.max_frame = 2 * BIG};
    struct sl_listener_events ev = {.ctx = &x, .on_request = on_request};
    uv_loop_init(&x.loop);
    check(sl_listener_open(&x.loop, "tcp://127.0.0.1:0", &o, &ev, &l, NULL) == SL_OK,
          "listen");
    int port = sl_listener_port(l);
    for (int i = 0; i < s->clients; i++)
        check(write(port_fd, &port, sizeof(port)) == sizeof(port), "write");
    uv_run(&x.loop, UV_RUN_DEFAULT);
}

static void on_reply(void *ctx, enum sl_code rc, struct sl_frame *reply);

static void send_next(struct side *x, struct sl_frame *f)
{
    const struct shape *s = x->shape;
    if (x->n_sent == (s->rounds + 1) * s->requests) {
        sl_frame_free(f);
        uv_stop(&x->loop);
        return;
    }
    check(sl_frame_resize(f, BIG), "frame");
    f->data[0] = x->n_sent++ % s->requests == s->requests - 1;
    check(sl_dialer_request(x->dialer, f, 60000, 0, on_reply, x) == SL_OK, "request");
}

static void on_reply(void *ctx, enum sl_code rc, struct sl_frame *reply)
{
    check(rc == SL_OK, "reply");
    send_next(ctx, reply);
}

static void our_client(const struct shape *s, int port)
{
    static struct side x;
    x = (struct side){.shape = s};
    struct sl_dialer_options o = {.max_frame = 2 * BIG};
    struct sl_dialer_events ev = {.ctx = &x};
    char url[64];
    struct sl_frame f;
    snprintf(url, sizeof(url), "tcp://127.0.0.1:%d", port);
    uv_loop_init(&x.loop);
    check(sl_dialer_open(&x.loop, url, &o, &ev, &x.dialer, NULL) == SL_OK, "dial");
    check(sl_frame_alloc(BIG, &f), "frame");
    send_next(&x, &f);
    uv_run(&x.loop, UV_RUN_DEFAULT);
}

/* --- one row: a server process and its clients, all forked before NNG is touched --- */

struct kind {
    const char *name;
    void (*server)(const struct shape *s, struct meter *m, int port_fd);
    void (*client)(const struct shape *s, int port);
};

static void run_row(const struct kind *k, const struct shape *s)
{
    int fds[2];
    check(pipe(fds) == 0, "pipe");
    for (int i = 0; i < s->clients; i++) {
        if (fork() != 0)
            continue;
        int port;
        close(fds[1]);
        check(read(fds[0], &port, sizeof(port)) == sizeof(port), "read");
        k->client(s, port);
        _exit(0);
    }
    struct meter m = {.ms = calloc((size_t)s->rounds, sizeof(double)),
                      .rounds = s->rounds};
    k->server(s, &m, fds[1]);
    meter_print(&m, k->name, s);
    for (int i = 0; i < s->clients; i++)
        wait(NULL); /* the last replies are still on their way */
}

int main(int argc, char **argv)
{
    static const struct kind kinds[] = {{"bare nng", bare_server, bare_client},
                                        {"transport", our_server, our_client}};
    int rounds = argc > 1 ? atoi(argv[1]) : 200;
    struct shape shapes[] = {
        {10, 1, rounds}, {10, 2, rounds}, {50, 2, rounds}, {100, 2, rounds}};
    if (rounds < 1)
        return 2;
    sl_mem_tune_malloc();
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        for (size_t k = 0; k < 2; k++) {
            pid_t row = fork();
            if (row == 0) {
                run_row(&kinds[k], &shapes[i]);
                _exit(0);
            }
            int status;
            if (row < 0 || waitpid(row, &status, 0) != row || status != 0)
                return 1;
        }
    }
    return 0;
}
