/* SPDX-License-Identifier: Apache-2.0 */
/* rogue - a client that speaks the protocol and misbehaves on purpose, one misdeed a call. It prints the
 * coordinator's answer as one line ("put: rejected: REASON", "ack: refused: REASON",
 * "no answer", "handshake: refused: REASON", ...) and exits 0; tests/system/t_bad_input.py checks
 * the line, and that the coordinator goes on. Linked by tests only.
 *   rogue PORT SERVER-KEY-HEX KEY-FILE TOKEN-FILE-or-"-" INDEX MISDEED [SAMPLES [WIDTH CLASSES]] */
#include <inttypes.h>
#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "accel/nn/calibrate.h"
#include "common/handshake.h"
#include "common/join_token.h"
#include "common/keyfile.h"
#include "common/transport.h"
#include "common/wire.h"

#define ANSWER_MS 3000
#define POLL_TRIES 40

struct rogue {
    uv_loop_t loop;
    struct sl_dialer *dialer;
    struct sl_link link;
    bool done;
    enum sl_code rc;
    struct sl_frame frame; /* the last answer */
    struct sl_msg answer;
    struct sl_err err;
    struct sl_task_order task;
    uint32_t index;
    bool (*spoil)(uint8_t *frame, size_t *n); /* applied to sealed requests */
    bool twice;                               /* each sealed request is sent two times */
    uint32_t width, classes;                  /* of the fixed head, for statistics */
};

static void on_reply(void *ctx, enum sl_code rc, struct sl_frame *reply)
{
    struct rogue *r = ctx;
    r->rc = rc;
    sl_frame_free(&r->frame);
    if (rc == SL_OK) {
        r->frame = *reply;
        *reply = (struct sl_frame){0};
    }
    r->done = true;
}

/* Sends raw bytes and waits for the raw answer; false when there is none. */
static bool exchange(struct rogue *r, const uint8_t *bytes, size_t n)
{
    struct sl_frame f;
    if (!sl_frame_alloc(n, &f))
        abort();
    memcpy(f.data, bytes, n);
    r->done = false;
    if (sl_dialer_request(r->dialer, &f, 60000, ANSWER_MS, on_reply, r) != SL_OK)
        abort();
    while (!r->done)
        uv_run(&r->loop, UV_RUN_ONCE);
    return r->rc == SL_OK;
}

static uint64_t now(void)
{
    return uv_hrtime() / 1000000u;
}

static bool handshake(struct rogue *r)
{
    uint8_t frame[SL_HANDSHAKE_FRAME_MAX], ephemeral[SL_NOISE_KEY];
    size_t n;
    randombytes_buf(ephemeral, sizeof(ephemeral));
    if (sl_link_start(&r->link, now(), ephemeral, frame, &n, &r->err) != SL_OK)
        abort();
    if (!exchange(r, frame, n)) {
        puts("handshake: no answer");
        return false;
    }
    enum sl_code rc = sl_link_reply(&r->link, now(), r->frame.data, r->frame.n, &r->err);
    if (rc != SL_OK)
        printf("handshake: %s: %s\n", rc == SL_E_REFUSED ? "refused" : "failed", r->err.msg);
    return rc == SL_OK;
}

/* Seals a plaintext, sends it, opens the answer into r->answer. */
static bool ask_plain(struct rogue *r, const uint8_t *plain, size_t plain_bytes)
{
    size_t n = SL_RECORD_EXTRA + plain_bytes;
    uint8_t *frame = malloc(n + 16);
    struct sl_envelope head = {.kind = SL_ENV_REQUEST, .session = sl_keys_session(r->link.keys)};
    if (frame == NULL ||
        sl_caller_next(&r->link.caller, &head.counter, &head.other) != SL_OK)
        abort();
    memcpy(frame + SL_ENVELOPE_BYTES, plain, plain_bytes);
    sl_record_seal(r->link.keys, &head, frame, plain_bytes);
    if (r->spoil != NULL)
        r->spoil(frame, &n);
    bool got = exchange(r, frame, n);
    if (got && r->twice)
        got = exchange(r, frame, n);
    free(frame);
    if (!got)
        return false;
    struct sl_envelope in;
    if (sl_envelope_parse(r->frame.data, r->frame.n, &in, &r->err) == SL_OK &&
        in.kind == SL_ENV_NO_SESSION) {
        puts("no session");
        exit(0);
    }
    size_t m;
    if (sl_record_open(r->link.keys, SL_ENV_RESPONSE, r->frame.data, r->frame.n, &in, &m,
                       &r->err) != SL_OK ||
        sl_wire_unpack(r->frame.data + SL_ENVELOPE_BYTES, m, SL_TO_CLIENT, &r->answer,
                       &r->err) != SL_OK) {
        printf("answer that can't be read: %s\n", r->err.msg);
        exit(1);
    }
    sl_caller_answered(&r->link.caller, &in);
    return true;
}

static bool ask(struct rogue *r, const struct sl_msg *m)
{
    static uint8_t plain[SL_WIRE_PLAIN_MAX];
    size_t n;
    if (sl_wire_pack(m, plain, sizeof(plain), &n, &r->err) != SL_OK) {
        printf("rogue can't pack: %s\n", r->err.msg);
        exit(1);
    }
    return ask_plain(r, plain, n);
}

static void print_answer(const struct rogue *r)
{
    static const char *const status[] = {"more", "accepted", "rejected", "stale"};
    const struct sl_msg *a = &r->answer;
    switch (a->kind) {
    case SL_MSG_PUT_REPLY:
        printf("put: %s: %s\n", status[a->put_reply.status], a->put_reply.reason);
        return;
    case SL_MSG_ACK:
        printf("ack: %s: %s\n", a->ack.ok ? "ok" : "refused", a->ack.reason);
        return;
    case SL_MSG_CHUNK:
        printf("chunk: %s\n", a->chunk.found ? "found" : "not found");
        return;
    case SL_MSG_REGISTERED:
        printf("registered: %" PRIu32 "\n", a->registered.index);
        return;
    default:
        printf("%s\n", sl_msg_kind_name(a->kind));
    }
}

static void ask_and_print(struct rogue *r, const struct sl_msg *m)
{
    if (ask(r, m))
        print_answer(r);
    else
        puts("no answer");
}

static struct sl_msg registration(const struct rogue *r)
{
    struct sl_msg m = {.kind = SL_MSG_REGISTER};
    snprintf(m.reg.name, sizeof(m.reg.name), "rogue-%u", (unsigned)r->index);
    strcpy(m.reg.version, SL_VERSION);
    strcpy(m.reg.hardware, "fp32");
    m.reg.index = (int32_t)r->index;
    m.reg.boot_id = 1;
    return m;
}

static bool get_task_of(struct rogue *r, enum sl_task_kind kind)
{
    for (int i = 0; i < POLL_TRIES; i++) {
        struct sl_msg poll = {.kind = SL_MSG_POLL};
        poll.poll.boot_id = 1;
        if (!ask(r, &poll))
            continue; /* held longer than this program waits: ask again */
        if (r->answer.kind == SL_MSG_POLL_REPLY &&
            r->answer.poll_reply.task.kind == kind) {
            r->task = r->answer.poll_reply.task;
            return true;
        }
    }
    puts("no task");
    return false;
}

static bool get_task(struct rogue *r)
{
    return get_task_of(r, SL_TASK_TRAIN);
}

/* --- misdeeds with an update ------------------------------------------------------------------ */

struct update {
    float *values;
    size_t n;
    struct sl_msg put; /* complete, of one chunk */
};

static void u_honest(struct update *u)
{
    (void)u;
}
static void u_nan(struct update *u)
{
    u->values[u->n / 2] = NAN;
}
static void u_inf(struct update *u)
{
    u->values[u->n - 1] = -INFINITY;
}
static void u_bound(struct update *u)
{
    u->values[3] = 8.5f;
}
static void u_weight_zero(struct update *u)
{
    u->put.put_chunk.meta.weight = 0;
}
static void u_weight_huge(struct update *u)
{
    u->put.put_chunk.meta.weight = 1000000000000u;
}
static void u_weight_wrong(struct update *u)
{
    u->put.put_chunk.meta.weight += 1;
}
static void u_encoding(struct update *u)
{
    u->put.put_chunk.meta.encoding = 7;
}
static void u_round(struct update *u)
{
    u->put.put_chunk.round += 5;
}
static void u_run(struct update *u)
{
    u->put.put_chunk.run_id += 1;
}

static const struct {
    const char *name;
    void (*spoil)(struct update *u);
    int size_change;    /* bytes more or fewer than the model has */
    bool bad_checksum;
    int repeats;
} update_misdeeds[] = {
    {"honest", u_honest, 0, false, 1},        {"twice", u_honest, 0, false, 2},
    {"nan", u_nan, 0, false, 1},              {"inf", u_inf, 0, false, 1},
    {"bound", u_bound, 0, false, 1},          {"weight-zero", u_weight_zero, 0, false, 1},
    {"weight-huge", u_weight_huge, 0, false, 1},
    {"weight-wrong", u_weight_wrong, 0, false, 1},
    {"encoding", u_encoding, 0, false, 1},    {"round", u_round, 0, false, 1},
    {"run", u_run, 0, false, 1},              {"short", u_honest, -4, false, 1},
    {"long", u_honest, 4, false, 1},          {"one-byte", u_honest, -1, false, 1},
    {"checksum", u_honest, 0, true, 1},
};

static void push_update(struct rogue *r, size_t which, uint64_t weight)
{
    size_t bytes = (size_t)((int64_t)r->task.model.size + update_misdeeds[which].size_change);
    float *values = calloc(bytes / 4 + 2, 4);
    struct update u = {.values = values, .n = (size_t)r->task.model.size / 4};
    u.put.kind = SL_MSG_PUT_CHUNK;
    u.put.put_chunk.run_id = r->task.run_id;
    u.put.put_chunk.round = r->task.round;
    u.put.put_chunk.attempt = r->task.attempt;
    u.put.put_chunk.has_meta = true;
    u.put.put_chunk.meta = (struct sl_update_meta){.weight = weight, .samples = weight, .steps = 1};
    update_misdeeds[which].spoil(&u);
    u.put.put_chunk.blob.size = bytes;
    sl_xxh3_128(values, bytes, &u.put.put_chunk.blob.id);
    if (update_misdeeds[which].bad_checksum)
        u.put.put_chunk.blob.id.bytes[5] ^= 1;
    u.put.attachment = (const uint8_t *)values;
    u.put.attachment_bytes = bytes;
    for (int i = 0; i < update_misdeeds[which].repeats; i++)
        ask_and_print(r, &u.put);
    free(values);
}

/* --- misdeeds with statistics for a calibration ------------------------------------------------ */

static void s_honest(struct sl_calib *c)
{
    (void)c;
}
static void s_nan(struct sl_calib *c)
{
    c->v[4] = NAN;
}
static void s_infinite(struct sl_calib *c)
{
    c->u[1] = INFINITY;
}
static void s_trace(struct sl_calib *c)
{
    c->v[0] += 1e-3;
}
/* Only a lower triangle travels: what is not symmetric can't be said. */
static void s_semidefinite(struct sl_calib *c)
{
    c->v[1] += 2 * (double)c->n;
}
static void s_spread(struct sl_calib *c)
{
    for (uint32_t i = 0; i < c->shape.width; i++)
        c->u[i] = i == 2 ? (double)c->counts[0] : 0;
}
static void s_mean(struct sl_calib *c)
{
    c->u[0] = 2 * (double)c->counts[0];
}
static void s_counts(struct sl_calib *c)
{
    c->counts[0]++;
}
static void s_shape(struct sl_calib *c)
{
    c->shape.bias = true;
}
static void s_said(struct sl_calib *c)
{
    c->n--;
    c->counts[0]--;
}

static const struct {
    const char *name;
    void (*spoil)(struct sl_calib *c);
    int samples_change; /* than are enrolled; in the statistics and what is said of them */
    int size_change;
    bool bad_checksum;
    bool own_data; /* registers them as its own */
} statistics_misdeeds[] = {
    {"stat-honest", s_honest, 0, 0, false, false},
    {"stat-nan", s_nan, 0, 0, false, false},
    {"stat-infinite", s_infinite, 0, 0, false, false},
    {"stat-trace", s_trace, 0, 0, false, false},
    {"stat-semidefinite", s_semidefinite, 0, 0, false, false},
    {"stat-spread", s_spread, 0, 0, false, false},
    {"stat-mean", s_mean, 0, 0, false, false},
    {"stat-counts", s_counts, 0, 0, false, false},
    {"stat-shape", s_shape, 0, 0, false, false},
    {"stat-said", s_said, 0, 0, false, false},
    {"stat-more", s_honest, 1, 0, false, false},
    {"stat-fewer", s_honest, -1, 0, false, false},
    {"stat-short", s_honest, 0, -8, false, false},
    {"stat-long", s_honest, 0, 8, false, false},
    {"stat-checksum", s_honest, 0, 0, true, false},
    {"stat-share", s_honest, 0, 0, false, true},
};

/* Of n samples near the axes, which stand for classes. */
static void make_statistics(const struct rogue *r, uint64_t n, struct sl_calib *c)
{
    struct sl_calib_shape shape = {.width = r->width, .classes = r->classes};
    struct sl_err err;
    double *z = calloc(r->width, sizeof(*z));
    if (z == NULL || sl_calib_init(c, &shape, &err) != SL_OK)
        abort();
    for (uint64_t i = 0; i < n; i++) {
        int32_t label = (int32_t)(i % r->classes);
        memset(z, 0, r->width * sizeof(*z));
        z[(size_t)label % r->width] = 0.8;
        z[(i + 1) % r->width] += (i + 1) % r->width == (size_t)label % r->width ? 0.2 : 0.6;
        if (sl_calib_add(c, z, &label, 1, &err) != SL_OK)
            abort();
    }
    free(z);
}

static void push_statistics(struct rogue *r, size_t which, uint64_t samples)
{
    uint64_t n = samples + (uint64_t)(int64_t)statistics_misdeeds[which].samples_change;
    struct sl_calib c;
    make_statistics(r, n, &c);
    size_t whole = (size_t)sl_calib_bytes(&c.shape);
    size_t bytes = whole + (size_t)(int64_t)statistics_misdeeds[which].size_change;
    uint8_t *values = calloc(1, whole + 8);
    if (values == NULL)
        abort();
    statistics_misdeeds[which].spoil(&c);
    sl_calib_write(&c, values);
    struct sl_msg put = {.kind = SL_MSG_PUT_CHUNK};
    put.put_chunk.run_id = r->task.run_id;
    put.put_chunk.round = r->task.round;
    put.put_chunk.attempt = r->task.attempt;
    put.put_chunk.has_meta = true;
    put.put_chunk.meta = (struct sl_update_meta){.weight = n, .samples = n};
    put.put_chunk.blob.size = bytes;
    sl_xxh3_128(values, bytes, &put.put_chunk.blob.id);
    if (statistics_misdeeds[which].bad_checksum)
        put.put_chunk.blob.id.bytes[5] ^= 1;
    put.attachment = values;
    put.attachment_bytes = bytes;
    ask_and_print(r, &put);
    sl_calib_deinit(&c);
    free(values);
}

/* --- misdeeds with frames and messages -------------------------------------------------------- */

static bool tamper(uint8_t *frame, size_t *n)
{
    frame[*n - 3] ^= 0x40;
    return true;
}
static bool unknown_session(uint8_t *frame, size_t *n)
{
    frame[7] ^= 0x40; /* inside the session's eight bytes */
    return true;
}
static bool truncate_frame(uint8_t *frame, size_t *n)
{
    *n -= 5;
    return true;
}
static bool version(uint8_t *frame, size_t *n)
{
    frame[3] = 9;
    return true;
}

static void m_tamper(struct rogue *r)
{
    r->spoil = tamper;
    struct sl_msg m = registration(r);
    ask_and_print(r, &m);
}
static void m_session(struct rogue *r)
{
    r->spoil = unknown_session;
    struct sl_msg m = registration(r);
    ask_and_print(r, &m);
}
static void m_truncate(struct rogue *r)
{
    r->spoil = truncate_frame;
    struct sl_msg m = registration(r);
    ask_and_print(r, &m);
}
static void m_version(struct rogue *r)
{
    r->spoil = version;
    struct sl_msg m = registration(r);
    ask_and_print(r, &m);
}
/* The same sealed request again: the kept reply comes again, nothing is done twice. */
static void m_replay(struct rogue *r)
{
    r->twice = true;
    struct sl_msg m = registration(r);
    ask_and_print(r, &m);
}
static void m_direction(struct rogue *r)
{
    struct sl_msg m = {.kind = SL_MSG_REGISTERED};
    ask_and_print(r, &m);
}
static void m_garbage_plain(struct rogue *r)
{
    uint8_t junk[300];
    randombytes_buf_deterministic(junk, sizeof(junk), (const uint8_t[32]){9});
    if (ask_plain(r, junk, sizeof(junk)))
        print_answer(r);
    else
        puts("no answer");
}
static void m_garbage_frame(struct rogue *r)
{
    uint8_t junk[300];
    randombytes_buf_deterministic(junk, sizeof(junk), (const uint8_t[32]){8});
    puts(exchange(r, junk, sizeof(junk)) ? "answered" : "no answer");
}
static void m_oversize(struct rogue *r)
{
    size_t n = SL_WIRE_FRAME_MAX + 100000;
    uint8_t *junk = calloc(1, n);
    puts(exchange(r, junk, n) ? "answered" : "no answer");
    free(junk);
}
static void m_empty(struct rogue *r)
{
    if (ask_plain(r, (const uint8_t *)"", 0))
        print_answer(r);
    else
        puts("no answer");
}
static void m_chunk_unknown(struct rogue *r)
{
    struct sl_msg m = {.kind = SL_MSG_GET_CHUNK};
    m.get_chunk.length = 100;
    ask_and_print(r, &m);
}
static void m_chunk_beyond(struct rogue *r)
{
    if (!get_task(r))
        return;
    struct sl_msg m = {.kind = SL_MSG_GET_CHUNK};
    m.get_chunk.id = r->task.model.id;
    m.get_chunk.offset = r->task.model.size;
    m.get_chunk.length = 100;
    ask_and_print(r, &m);
}
static void m_put_beyond(struct rogue *r)
{
    if (!get_task(r))
        return;
    struct sl_msg m = {.kind = SL_MSG_PUT_CHUNK};
    m.put_chunk.run_id = r->task.run_id;
    m.put_chunk.round = r->task.round;
    m.put_chunk.blob.size = r->task.model.size;
    m.put_chunk.offset = r->task.model.size - 10;
    static const uint8_t bytes[100];
    m.attachment = bytes;
    m.attachment_bytes = sizeof(bytes);
    ask_and_print(r, &m);
}
static void m_name(struct rogue *r)
{
    struct sl_msg m = registration(r);
    m.reg.name[2] = '\n';
    ask_and_print(r, &m);
}
static void m_eval_foreign(struct rogue *r)
{
    struct sl_msg m = {.kind = SL_MSG_EVAL_REPORT};
    m.eval_report.run_id = 77;
    m.eval_report.eval = (struct sl_eval_counts){10, 5, 1};
    ask_and_print(r, &m);
}
static void m_failed_foreign(struct rogue *r)
{
    struct sl_msg m = {.kind = SL_MSG_TASK_FAILED};
    m.task_failed.run_id = 77;
    strcpy(m.task_failed.reason, "made up");
    ask_and_print(r, &m);
}
static void m_register(struct rogue *r)
{
    struct sl_msg m = registration(r);
    ask_and_print(r, &m);
}
static void m_fail_task(struct rogue *r)
{
    if (!get_task(r))
        return;
    struct sl_msg m = {.kind = SL_MSG_TASK_FAILED};
    m.task_failed.run_id = r->task.run_id;
    m.task_failed.round = r->task.round;
    m.task_failed.attempt = r->task.attempt;
    strcpy(m.task_failed.reason, "disk is full");
    ask_and_print(r, &m);
}

static const struct {
    const char *name;
    void (*act)(struct rogue *r);
    bool registers_first;
} misdeeds[] = {
    {"register", m_register, false},          {"tamper", m_tamper, false},
    {"unknown-session", m_session, false},    {"truncate", m_truncate, false},
    {"version", m_version, false},            {"replay", m_replay, false},
    {"direction", m_direction, true},         {"garbage-plain", m_garbage_plain, true},
    {"garbage-frame", m_garbage_frame, true}, {"oversize", m_oversize, true},
    {"empty", m_empty, true},                 {"chunk-unknown", m_chunk_unknown, true},
    {"chunk-beyond", m_chunk_beyond, true},   {"put-beyond", m_put_beyond, true},
    {"name", m_name, false},                  {"eval-foreign", m_eval_foreign, true},
    {"failed-foreign", m_failed_foreign, true}, {"fail-task", m_fail_task, true},
};

static void act(struct rogue *r, const char *what, uint64_t weight)
{
    struct sl_msg reg = registration(r);
    for (size_t i = 0; i < sizeof(misdeeds) / sizeof(misdeeds[0]); i++)
        if (strcmp(misdeeds[i].name, what) == 0) {
            if (misdeeds[i].registers_first && !ask(r, &reg))
                puts("no answer to registration");
            else
                misdeeds[i].act(r);
            return;
        }
    for (size_t i = 0; i < sizeof(update_misdeeds) / sizeof(update_misdeeds[0]); i++)
        if (strcmp(update_misdeeds[i].name, what) == 0) {
            if (!ask(r, &reg))
                puts("no answer to registration");
            else if (get_task(r))
                push_update(r, i, weight);
            return;
        }
    for (size_t i = 0; i < sizeof(statistics_misdeeds) / sizeof(statistics_misdeeds[0]); i++)
        if (strcmp(statistics_misdeeds[i].name, what) == 0 && r->width > 0 && r->classes > 0) {
            reg.reg.own_samples = statistics_misdeeds[i].own_data ? weight : 0;
            if (!ask(r, &reg))
                puts("no answer to registration");
            else if (get_task_of(r, SL_TASK_CALIBRATE))
                push_statistics(r, i, weight);
            return;
        }
    fprintf(stderr, "rogue: %s: unknown misdeed\n", what);
    exit(2);
}

static void read_token(const char *path, struct sl_link_config *config)
{
    char text[512] = "";
    FILE *f = fopen(path, "r");
    struct sl_join_token t;
    struct sl_err err;
    if (f == NULL || fgets(text, sizeof(text), f) == NULL ||
        sl_join_token_parse(text, &t, &err) != SL_OK) {
        fprintf(stderr, "rogue: %s: not a join token\n", path);
        exit(2);
    }
    fclose(f);
    config->has_token = true;
    memcpy(config->token, t.id, sizeof(config->token));
    memcpy(config->psk, t.psk, sizeof(config->psk));
}

int main(int argc, char **argv)
{
    if (argc < 7 || sodium_init() < 0) {
        fprintf(stderr, "usage: rogue PORT SERVER-KEY KEY-FILE TOKEN-FILE|- INDEX MISDEED "
                        "[SAMPLES [WIDTH CLASSES]]\n");
        return 2;
    }
    struct rogue r = {.index = (uint32_t)strtoul(argv[5], NULL, 10)};
    if (argc > 9) {
        r.width = (uint32_t)strtoul(argv[8], NULL, 10);
        r.classes = (uint32_t)strtoul(argv[9], NULL, 10);
    }
    struct sl_link_config config = {0};
    if (sl_key_parse(argv[2], config.server, &r.err) != SL_OK ||
        sl_keyfile_read(argv[3], config.secret, &r.err) != SL_OK) {
        fprintf(stderr, "rogue: %s\n", r.err.msg);
        return 2;
    }
    if (strcmp(argv[4], "-") != 0)
        read_token(argv[4], &config);
    sl_link_init(&r.link, &config);
    uv_loop_init(&r.loop);
    char url[64];
    snprintf(url, sizeof(url), "tcp://127.0.0.1:%s", argv[1]);
    struct sl_dialer_options options = {.max_frame = SL_WIRE_FRAME_MAX};
    struct sl_dialer_events events = {.ctx = &r};
    if (sl_dialer_open(&r.loop, url, &options, &events, &r.dialer, &r.err) != SL_OK) {
        fprintf(stderr, "rogue: %s\n", r.err.msg);
        return 2;
    }
    if (handshake(&r))
        act(&r, argv[6], argc > 7 ? strtoull(argv[7], NULL, 10) : 100);
    fflush(stdout);
    sl_frame_free(&r.frame);
    sl_dialer_close(r.dialer);
    uv_run(&r.loop, UV_RUN_DEFAULT);
    sl_link_deinit(&r.link);
    uv_loop_close(&r.loop);
    return 0;
}
