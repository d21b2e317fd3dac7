/* SPDX-License-Identifier: Apache-2.0 */
#include "common/wire.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/mem.h"
#include "common/plan.h"
#include "common/rng.h"
#include "proto/starling.pb-c.h"

struct fixture {
    uint8_t *buf, *data;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    f->buf = malloc(SL_WIRE_PLAIN_MAX + 64);
    f->data = malloc(SL_CHUNK_BYTES + 64);
    for (size_t i = 0; i < SL_CHUNK_BYTES + 64; i++)
        f->data[i] = (uint8_t)(i * 31);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    free(f->buf);
    free(f->data);
    free(f);
    return 0;
}

static void fill(void *p, size_t n, struct sl_rng *r)
{
    for (size_t i = 0; i < n; i++)
        ((uint8_t *)p)[i] = (uint8_t)sl_rng_u32(r);
}

static void text(char *out, size_t cap, struct sl_rng *r)
{
    size_t n = sl_rng_below(r, cap);
    for (size_t i = 0; i < n; i++)
        out[i] = (char)(' ' + sl_rng_below(r, 94));
    out[n] = '\0';
}

static struct sl_blob_ref blob(struct sl_rng *r, uint64_t size)
{
    struct sl_blob_ref b = {.size = size};
    fill(b.id.bytes, sizeof(b.id.bytes), r);
    return b;
}

static struct sl_eval_counts eval(struct sl_rng *r)
{
    uint64_t n = sl_rng_below(r, 1000);
    return (struct sl_eval_counts){n, sl_rng_below(r, n + 1), sl_rng_f64(r) * 100};
}

/* A valid message of a kind, every field drawn. */
static struct sl_msg draw(enum sl_msg_kind kind, struct sl_rng *r, const uint8_t *data)
{
    struct sl_msg m = {.kind = kind};
    switch (kind) {
    case SL_MSG_REGISTER:
        text(m.reg.name, sizeof(m.reg.name), r);
        text(m.reg.version, sizeof(m.reg.version), r);
        text(m.reg.blas, sizeof(m.reg.blas), r);
        text(m.reg.hardware, sizeof(m.reg.hardware), r);
        m.reg.index = (int32_t)sl_rng_below(r, SL_CLIENTS_MAX + 1) - 1;
        m.reg.own_samples = sl_rng_u64(r);
        m.reg.boot_id = sl_rng_u64(r);
        break;
    case SL_MSG_REGISTERED:
        m.registered.index = (uint32_t)sl_rng_below(r, SL_CLIENTS_MAX);
        break;
    case SL_MSG_POLL:
        m.poll.boot_id = sl_rng_u64(r);
        m.poll.has_pending = sl_rng_below(r, 2);
        if (m.poll.has_pending) {
            m.poll.run_id = sl_rng_u64(r);
            m.poll.round = (uint32_t)sl_rng_below(r, SL_ROUNDS_MAX);
            m.poll.blob = blob(r, 1 + sl_rng_below(r, SL_BLOB_BYTES_MAX));
        }
        break;
    case SL_MSG_POLL_REPLY:
        m.poll_reply.again_ms = sl_rng_u32(r);
        m.poll_reply.draining = sl_rng_below(r, 2);
        if (sl_rng_below(r, 2)) {
            m.poll_reply.has_settled = true;
            m.poll_reply.settled_run = sl_rng_u64(r);
            m.poll_reply.settled_round = sl_rng_u32(r);
            m.poll_reply.settled_committed = sl_rng_below(r, 2);
        }
        if (sl_rng_below(r, 2)) {
            struct sl_task_order *t = &m.poll_reply.task;
            t->kind = SL_TASK_TRAIN + (enum sl_task_kind)sl_rng_below(r, 2);
            t->run_id = sl_rng_u64(r);
            t->round = (uint32_t)sl_rng_below(r, SL_ROUNDS_MAX);
            t->attempt = sl_rng_u32(r);
            t->plan = blob(r, 1 + sl_rng_below(r, SL_PLAN_BYTES_MAX));
            t->model = blob(r, 1 + sl_rng_below(r, SL_CHUNK_BYTES));
            if (sl_rng_below(r, 2))
                t->head = blob(r, 1 + sl_rng_below(r, SL_BLOB_BYTES_MAX));
            t->deadline_ms = sl_rng_u64(r);
            t->evaluate = sl_rng_below(r, 2);
            if (sl_rng_below(r, 2)) {
                m.attachment = data;
                m.attachment_bytes = t->model.size;
            }
        }
        break;
    case SL_MSG_GET_CHUNK:
        m.get_chunk.id = blob(r, 1).id;
        m.get_chunk.offset = sl_rng_below(r, SL_BLOB_BYTES_MAX);
        m.get_chunk.length = 1 + (uint32_t)sl_rng_below(r, SL_CHUNK_BYTES);
        break;
    case SL_MSG_CHUNK:
        m.chunk.id = blob(r, 1).id;
        m.chunk.found = sl_rng_below(r, 2);
        m.chunk.total = 1 + sl_rng_below(r, SL_BLOB_BYTES_MAX);
        m.chunk.offset = sl_rng_below(r, m.chunk.total);
        if (m.chunk.found) {
            uint64_t left = m.chunk.total - m.chunk.offset;
            m.attachment = data;
            m.attachment_bytes = 1 + sl_rng_below(r, left < SL_CHUNK_BYTES ? left : SL_CHUNK_BYTES);
        }
        break;
    case SL_MSG_PUT_CHUNK:
        m.put_chunk.run_id = sl_rng_u64(r);
        m.put_chunk.round = (uint32_t)sl_rng_below(r, SL_ROUNDS_MAX);
        m.put_chunk.attempt = sl_rng_u32(r);
        m.put_chunk.blob = blob(r, SL_CHUNK_BYTES * 3);
        m.put_chunk.offset = sl_rng_below(r, SL_CHUNK_BYTES * 2);
        m.attachment = data;
        m.attachment_bytes = 1 + sl_rng_below(r, SL_CHUNK_BYTES);
        m.put_chunk.has_meta = sl_rng_below(r, 2);
        if (m.put_chunk.has_meta) {
            struct sl_update_meta *u = &m.put_chunk.meta;
            u->weight = sl_rng_u64(r);
            u->samples = sl_rng_u64(r);
            u->steps = sl_rng_u32(r);
            u->loss_sum = sl_rng_f64(r);
            u->first_loss = sl_rng_f64(r);
            u->encoding = sl_rng_u32(r);
            u->has_eval = sl_rng_below(r, 2);
            if (u->has_eval)
                u->eval = eval(r);
        }
        break;
    case SL_MSG_PUT_REPLY:
        m.put_reply.status = (enum sl_put_status)sl_rng_below(r, 4);
        m.put_reply.next_offset = sl_rng_below(r, SL_BLOB_BYTES_MAX + 1);
        text(m.put_reply.reason, sizeof(m.put_reply.reason), r);
        break;
    case SL_MSG_TASK_FAILED:
        m.task_failed.run_id = sl_rng_u64(r);
        m.task_failed.round = (uint32_t)sl_rng_below(r, SL_ROUNDS_MAX);
        m.task_failed.attempt = sl_rng_u32(r);
        text(m.task_failed.reason, sizeof(m.task_failed.reason), r);
        break;
    case SL_MSG_EVAL_REPORT:
        m.eval_report.run_id = sl_rng_u64(r);
        m.eval_report.round = (uint32_t)sl_rng_below(r, SL_ROUNDS_MAX);
        m.eval_report.eval = eval(r);
        break;
    case SL_MSG_ACK:
        m.ack.ok = sl_rng_below(r, 2);
        text(m.ack.reason, sizeof(m.ack.reason), r);
        break;
    case SL_MSG_PROBE:
        m.probe.run_id = sl_rng_u64(r);
        m.probe.round = (uint32_t)sl_rng_below(r, SL_ROUNDS_MAX);
        m.probe.attempt = sl_rng_u32(r);
        m.probe.loss = (float)sl_rng_f64(r);
        m.probe.samples = 1 + sl_rng_u32(r) / 2;
        break;
    case SL_MSG_DECISION:
        m.decision.go = (enum sl_go)sl_rng_below(r, 3);
        m.decision.again_ms = sl_rng_u32(r);
        text(m.decision.reason, sizeof(m.decision.reason), r);
        break;
    }
    return m;
}

static enum sl_direction way(enum sl_msg_kind kind)
{
    switch (kind) {
    case SL_MSG_REGISTER:
    case SL_MSG_POLL:
    case SL_MSG_GET_CHUNK:
    case SL_MSG_PUT_CHUNK:
    case SL_MSG_TASK_FAILED:
    case SL_MSG_EVAL_REPORT:
    case SL_MSG_PROBE:
        return SL_TO_COORDINATOR;
    default:
        return SL_TO_CLIENT;
    }
}

static struct sl_rng stream(uint32_t step)
{
    struct sl_rng r;
    sl_rng_init(&r, &(struct sl_rng_id){.seed = 7, .purpose = SL_RNG_TEST, .step = step});
    return r;
}

static void every_message_comes_back_as_it_went(void **state)
{
    struct fixture *f = *state;
    struct sl_rng r = stream(1);
    for (int i = 0; i < 4000; i++) {
        enum sl_msg_kind kind = (enum sl_msg_kind)(SL_MSG_REGISTER + i % SL_MSG_LAST);
        struct sl_msg m = draw(kind, &r, f->data), got;
        struct sl_err err;
        size_t n;
        memset(&err, 0, sizeof(err));
        assert_int_equal(sl_wire_pack(&m, f->buf, SL_WIRE_PLAIN_MAX, &n, &err), SL_OK);
        assert_int_equal(n, sl_wire_size(&m));
        if (sl_wire_unpack(f->buf, n, way(kind), &got, &err) != SL_OK)
            fail_msg("%s", err.msg);
        assert_int_equal(got.attachment_bytes, m.attachment_bytes);
        if (m.attachment_bytes > 0)
            assert_memory_equal(got.attachment, m.attachment, m.attachment_bytes);
        /* the same bytes again: nothing was lost or changed */
        got.attachment = m.attachment;
        uint8_t *again = malloc(n);
        size_t n2;
        assert_int_equal(sl_wire_pack(&got, again, n, &n2, &err), SL_OK);
        assert_int_equal(n2, n);
        assert_memory_equal(again, f->buf, n);
        free(again);
    }
}

static void a_message_of_the_other_direction_is_refused(void **state)
{
    struct fixture *f = *state;
    struct sl_rng r = stream(2);
    for (int k = SL_MSG_REGISTER; k <= SL_MSG_LAST; k++) {
        struct sl_msg m = draw((enum sl_msg_kind)k, &r, f->data), got;
        struct sl_err err;
        size_t n;
        assert_int_equal(sl_wire_pack(&m, f->buf, SL_WIRE_PLAIN_MAX, &n, &err), SL_OK);
        enum sl_direction other = way(m.kind) == SL_TO_CLIENT ? SL_TO_COORDINATOR : SL_TO_CLIENT;
        assert_int_equal(sl_wire_unpack(f->buf, n, other, &got, &err), SL_E_PROTO);
        assert_non_null(strstr(err.msg, "other way"));
    }
}

static void a_message_cut_anywhere_in_its_header_is_refused(void **state)
{
    struct fixture *f = *state;
    struct sl_rng r = stream(3);
    for (int k = SL_MSG_REGISTER; k <= SL_MSG_LAST; k++) {
        struct sl_msg m = draw((enum sl_msg_kind)k, &r, f->data), got;
        struct sl_err err;
        size_t n;
        assert_int_equal(sl_wire_pack(&m, f->buf, SL_WIRE_PLAIN_MAX, &n, &err), SL_OK);
        size_t header = 2 + ((size_t)f->buf[0] | (size_t)f->buf[1] << 8);
        for (size_t cut = 0; cut < header; cut++) {
            uint8_t *copy = malloc(cut + 1); /* exact size: sanitizers see a read beyond */
            memcpy(copy, f->buf, cut);
            assert_int_equal(sl_wire_unpack(copy, cut, way(m.kind), &got, &err), SL_E_PROTO);
            free(copy);
        }
    }
}

static void random_bytes_never_do_more_than_fail(void **state)
{
    struct fixture *f = *state;
    struct sl_rng r = stream(4);
    for (int i = 0; i < 20000; i++) {
        struct sl_msg m = draw((enum sl_msg_kind)(1 + i % SL_MSG_ACK), &r, f->data), got;
        struct sl_err err;
        size_t n;
        if (m.attachment_bytes > 4000)
            continue;
        assert_int_equal(sl_wire_pack(&m, f->buf, SL_WIRE_PLAIN_MAX, &n, &err), SL_OK);
        for (int flips = 0; flips < 3; flips++)
            f->buf[sl_rng_below(&r, n)] ^= (uint8_t)(1u << sl_rng_below(&r, 8));
        enum sl_code rc = sl_wire_unpack(f->buf, n, way(m.kind), &got, &err);
        assert_true(rc == SL_OK || rc == SL_E_PROTO || rc == SL_E_LIMIT);
    }
}

/* --- limits: one case each ------------------------------------------------------------------- */

struct limit_case {
    const char *what, *says;
    enum sl_msg_kind kind;
    void (*spoil)(struct sl_msg *m, const uint8_t *data);
};

static void put_beyond_end(struct sl_msg *m, const uint8_t *d)
{
    m->put_chunk.offset = m->put_chunk.blob.size - 1;
    m->attachment_bytes = 2;
}
static void put_offset_wraps(struct sl_msg *m, const uint8_t *d)
{
    m->put_chunk.offset = UINT64_MAX;
}
static void put_empty(struct sl_msg *m, const uint8_t *d)
{
    m->attachment_bytes = 0;
}
static void put_size_zero(struct sl_msg *m, const uint8_t *d)
{
    m->put_chunk.blob.size = 0;
}
static void put_size_huge(struct sl_msg *m, const uint8_t *d)
{
    m->put_chunk.blob.size = SL_BLOB_BYTES_MAX + 1;
}
static void put_round_huge(struct sl_msg *m, const uint8_t *d)
{
    m->put_chunk.round = SL_ROUNDS_MAX;
}
static void put_nan(struct sl_msg *m, const uint8_t *d)
{
    m->put_chunk.has_meta = true;
    m->put_chunk.meta.loss_sum = NAN;
}
static void put_inf(struct sl_msg *m, const uint8_t *d)
{
    m->put_chunk.has_meta = true;
    m->put_chunk.meta.loss_sum = 0;
    m->put_chunk.meta.first_loss = INFINITY;
}
static void put_eval_more_correct(struct sl_msg *m, const uint8_t *d)
{
    m->put_chunk.has_meta = true;
    m->put_chunk.meta = (struct sl_update_meta){.has_eval = true, .eval = {3, 4, 0}};
}
static void get_length_zero(struct sl_msg *m, const uint8_t *d)
{
    m->get_chunk.length = 0;
}
static void get_length_huge(struct sl_msg *m, const uint8_t *d)
{
    m->get_chunk.length = SL_CHUNK_BYTES + 1;
}
static void get_offset_huge(struct sl_msg *m, const uint8_t *d)
{
    m->get_chunk.offset = SL_BLOB_BYTES_MAX;
}
static void reg_index_low(struct sl_msg *m, const uint8_t *d)
{
    m->reg.index = -2;
}
static void reg_index_high(struct sl_msg *m, const uint8_t *d)
{
    m->reg.index = SL_CLIENTS_MAX;
}
static void reg_control(struct sl_msg *m, const uint8_t *d)
{
    strcpy(m->reg.name, "a\nb");
}
static void registered_high(struct sl_msg *m, const uint8_t *d)
{
    m->registered.index = SL_CLIENTS_MAX;
}
static void task_plan_huge(struct sl_msg *m, const uint8_t *d)
{
    struct sl_rng r = stream(5);
    m->poll_reply.task = (struct sl_task_order){.kind = SL_TASK_TRAIN,
                                                .plan = blob(&r, SL_PLAN_BYTES_MAX + 1),
                                                .model = blob(&r, 1)};
    m->attachment_bytes = 0;
}
static void task_model_short(struct sl_msg *m, const uint8_t *d)
{
    struct sl_rng r = stream(5);
    m->poll_reply.task = (struct sl_task_order){
        .kind = SL_TASK_TRAIN, .plan = blob(&r, 10), .model = blob(&r, 100)};
    m->attachment = d;
    m->attachment_bytes = 99;
}
static void task_unknown(struct sl_msg *m, const uint8_t *d)
{
    task_plan_huge(m, d);
    m->poll_reply.task.kind = (enum sl_task_kind)9;
}
static void model_without_task(struct sl_msg *m, const uint8_t *d)
{
    m->poll_reply.task.kind = SL_TASK_NONE;
    m->attachment = d;
    m->attachment_bytes = 5;
}
static void status_unknown(struct sl_msg *m, const uint8_t *d)
{
    m->put_reply.status = (enum sl_put_status)7;
}
static void next_offset_huge(struct sl_msg *m, const uint8_t *d)
{
    m->put_reply.next_offset = SL_BLOB_BYTES_MAX + 1;
}
static void chunk_not_found_with_bytes(struct sl_msg *m, const uint8_t *d)
{
    m->chunk.found = false;
    m->attachment = d;
    m->attachment_bytes = 4;
}
static void eval_more_correct(struct sl_msg *m, const uint8_t *d)
{
    m->eval_report.eval.correct = m->eval_report.eval.samples + 1;
}

static void probe_nan(struct sl_msg *m, const uint8_t *d)
{
    m->probe.loss = NAN;
}
static void probe_inf(struct sl_msg *m, const uint8_t *d)
{
    m->probe.loss = -INFINITY;
}
static void probe_no_samples(struct sl_msg *m, const uint8_t *d)
{
    m->probe.samples = 0;
}
static void probe_round_huge(struct sl_msg *m, const uint8_t *d)
{
    m->probe.round = SL_ROUNDS_MAX;
}
static void decision_unknown(struct sl_msg *m, const uint8_t *d)
{
    m->decision.go = (enum sl_go)3;
}

static const struct limit_case limit_cases[] = {
    {"probe NaN", "loss: not a finite", SL_MSG_PROBE, probe_nan},
    {"probe Inf", "loss: not a finite", SL_MSG_PROBE, probe_inf},
    {"probe without samples", "samples: 0", SL_MSG_PROBE, probe_no_samples},
    {"probe round", "round: 1000000 (below", SL_MSG_PROBE, probe_round_huge},
    {"decision", "go: 3 is unknown", SL_MSG_DECISION, decision_unknown},
    {"put beyond the end", "of a blob of", SL_MSG_PUT_CHUNK, put_beyond_end},
    {"put offset wraps", "of a blob of", SL_MSG_PUT_CHUNK, put_offset_wraps},
    {"put without bytes", "no bytes", SL_MSG_PUT_CHUNK, put_empty},
    {"put of size 0", "0 bytes (1 to", SL_MSG_PUT_CHUNK, put_size_zero},
    {"put of huge size", "bytes (1 to", SL_MSG_PUT_CHUNK, put_size_huge},
    {"round", "round: 1000000 (below", SL_MSG_PUT_CHUNK, put_round_huge},
    {"NaN loss", "not a finite", SL_MSG_PUT_CHUNK, put_nan},
    {"Inf loss", "not a finite", SL_MSG_PUT_CHUNK, put_inf},
    {"eval in update", "4 correct of 3", SL_MSG_PUT_CHUNK, put_eval_more_correct},
    {"get length 0", "length: 0 (1 to", SL_MSG_GET_CHUNK, get_length_zero},
    {"get length", "(1 to 262144 allowed)", SL_MSG_GET_CHUNK, get_length_huge},
    {"get offset", "offset:", SL_MSG_GET_CHUNK, get_offset_huge},
    {"index low", "index: -2", SL_MSG_REGISTER, reg_index_low},
    {"index high", "index: 100000", SL_MSG_REGISTER, reg_index_high},
    {"name", "control character 0x0a", SL_MSG_REGISTER, reg_control},
    {"registered", "index: 100000", SL_MSG_REGISTERED, registered_high},
    {"plan size", "task.plan", SL_MSG_POLL_REPLY, task_plan_huge},
    {"model size", "99 bytes attached", SL_MSG_POLL_REPLY, task_model_short},
    {"task kind", "kind 9 is unknown", SL_MSG_POLL_REPLY, task_unknown},
    {"stray model", "without a task", SL_MSG_POLL_REPLY, model_without_task},
    {"status", "status: 7", SL_MSG_PUT_REPLY, status_unknown},
    {"next offset", "next_offset", SL_MSG_PUT_REPLY, next_offset_huge},
    {"chunk not there", "not there", SL_MSG_CHUNK, chunk_not_found_with_bytes},
    {"eval report", "correct of", SL_MSG_EVAL_REPORT, eval_more_correct},
};

static void every_limit_is_kept(void **state)
{
    struct fixture *f = *state;
    struct sl_rng r = stream(6);
    for (size_t i = 0; i < sizeof(limit_cases) / sizeof(limit_cases[0]); i++) {
        const struct limit_case *c = &limit_cases[i];
        struct sl_msg m = draw(c->kind, &r, f->data), got;
        struct sl_err err = {0};
        size_t n;
        c->spoil(&m, f->data);
        assert_int_equal(sl_wire_pack(&m, f->buf, SL_WIRE_PLAIN_MAX, &n, &err), SL_OK);
        enum sl_code rc = sl_wire_unpack(f->buf, n, way(c->kind), &got, &err);
        if (rc == SL_OK || strstr(err.msg, c->says) == NULL)
            fail_msg("%s: got code %d, \"%s\"", c->what, (int)rc, err.msg);
    }
}

static void sizes_beyond_the_table_are_refused_before_unpacking(void **state)
{
    struct fixture *f = *state;
    struct sl_err err;
    struct sl_msg got;
    assert_int_equal(sl_wire_unpack(f->buf, SL_WIRE_PLAIN_MAX + 1, SL_TO_CLIENT, &got, &err),
                     SL_E_LIMIT);
    size_t header = SL_WIRE_HEADER_MAX + 1;
    memset(f->buf, 0, header + 2);
    f->buf[0] = (uint8_t)header;
    f->buf[1] = (uint8_t)(header >> 8);
    assert_int_equal(sl_wire_unpack(f->buf, header + 2, SL_TO_CLIENT, &got, &err), SL_E_LIMIT);
}

static void long_strings_are_refused(void **state)
{
    struct fixture *f = *state;
    char name[SL_WIRE_NAME + 1];
    memset(name, 'x', SL_WIRE_NAME);
    name[SL_WIRE_NAME] = '\0';
    Starling__Message m;
    Starling__Register reg;
    starling__message__init(&m);
    starling__register__init(&reg);
    reg.name = name;
    m.body_case = STARLING__MESSAGE__BODY_REGISTER;
    m.register_ = &reg;
    size_t n = starling__message__pack(&m, f->buf + 2);
    f->buf[0] = (uint8_t)n;
    f->buf[1] = (uint8_t)(n >> 8);
    struct sl_msg got;
    struct sl_err err;
    assert_int_equal(sl_wire_unpack(f->buf, n + 2, SL_TO_COORDINATOR, &got, &err), SL_E_LIMIT);
    assert_string_equal(err.msg, "register: name: 64 bytes (at most 63 allowed)");
}

static void what_is_no_utf8_becomes_question_marks(void **state)
{
    struct fixture *f = *state;
    struct sl_msg m = {.kind = SL_MSG_TASK_FAILED}, got;
    struct sl_err err;
    size_t n;
    strcpy(m.task_failed.reason, "caf\xe9 \xe2\x82\xac \xe2\x82");
    assert_int_equal(sl_wire_pack(&m, f->buf, SL_WIRE_PLAIN_MAX, &n, &err), SL_OK);
    assert_int_equal(sl_wire_unpack(f->buf, n, SL_TO_COORDINATOR, &got, &err), SL_OK);
    assert_string_equal(got.task_failed.reason, "caf? \xe2\x82\xac ??");
}

static void an_id_of_another_length_is_refused(void **state)
{
    struct fixture *f = *state;
    Starling__Message m;
    Starling__GetChunk g;
    starling__message__init(&m);
    starling__get_chunk__init(&g);
    g.id = (ProtobufCBinaryData){.len = 15, .data = f->data};
    g.length = 10;
    m.body_case = STARLING__MESSAGE__BODY_GET_CHUNK;
    m.get_chunk = &g;
    size_t n = starling__message__pack(&m, f->buf + 2);
    f->buf[0] = (uint8_t)n;
    f->buf[1] = 0;
    struct sl_msg got;
    struct sl_err err;
    assert_int_equal(sl_wire_unpack(f->buf, n + 2, SL_TO_COORDINATOR, &got, &err), SL_E_PROTO);
    assert_string_equal(err.msg, "get chunk: chunk: id of 15 bytes (16 expected)");
}

static void a_header_that_asks_for_much_memory_is_refused(void **state)
{
    struct fixture *f = *state;
    /* unknown length-delimited fields are kept by protobuf-c: each costs table space */
    size_t n = 0;
    while (n + 2 <= SL_WIRE_HEADER_MAX) {
        f->buf[2 + n++] = 0xfa; /* field 15... of type 2, length 0 below */
        f->buf[2 + n++] = 0x00;
    }
    f->buf[0] = (uint8_t)n;
    f->buf[1] = (uint8_t)(n >> 8);
    struct sl_msg got;
    struct sl_err err;
    enum sl_code rc = sl_wire_unpack(f->buf, n + 2, SL_TO_COORDINATOR, &got, &err);
    assert_true(rc == SL_E_PROTO || rc == SL_E_LIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_message_comes_back_as_it_went, setup, teardown),
        cmocka_unit_test_setup_teardown(a_message_of_the_other_direction_is_refused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_message_cut_anywhere_in_its_header_is_refused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(random_bytes_never_do_more_than_fail, setup, teardown),
        cmocka_unit_test_setup_teardown(every_limit_is_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(sizes_beyond_the_table_are_refused_before_unpacking,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(long_strings_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_no_utf8_becomes_question_marks, setup, teardown),
        cmocka_unit_test_setup_teardown(an_id_of_another_length_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_header_that_asks_for_much_memory_is_refused, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
