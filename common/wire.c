/* SPDX-License-Identifier: Apache-2.0 */
/* One table row a message kind: which way it goes, whether it may carry an attachment, and how
 * it is written to and read from its protobuf form. Packing builds the protobuf structs on the
 * stack; unpacking lets protobuf-c allocate from a fixed buffer, so a hostile header can ask for no
 * more memory than that. */
#include "common/wire.h"

#include <assert.h>
#include <limits.h>
#include <math.h>
#include <string.h>

#include "common/envelope.h"
#include "common/plan.h"
#include "common/text.h"
#include "proto/starling.pb-c.h"

#define POOL_BYTES ((size_t)16 << 10) /* what unpacking one header may allocate */

/* Everything a packed message points into while it is built. */
struct build {
    Starling__Message message;
    union {
        Starling__Register reg;
        Starling__Registered registered;
        Starling__Poll poll;
        Starling__PollReply poll_reply;
        Starling__GetChunk get_chunk;
        Starling__Chunk chunk;
        Starling__PutChunk put_chunk;
        Starling__PutReply put_reply;
        Starling__TaskFailed task_failed;
        Starling__EvalReport eval_report;
        Starling__Ack ack;
        Starling__Probe probe;
        Starling__Decision decision;
    };
    Starling__BlobRef blob[3];
    Starling__Settled settled;
    Starling__Task task;
    Starling__UpdateMeta meta;
    Starling__EvalResult eval;
    Starling__Cost cost;
};

static ProtobufCBinaryData id_bytes(const struct sl_blob_id *id)
{
    return (ProtobufCBinaryData){.len = SL_XXH_BYTES, .data = (uint8_t *)id->bytes};
}

static Starling__BlobRef *put_blob(Starling__BlobRef *out, const struct sl_blob_ref *in)
{
    starling__blob_ref__init(out);
    out->id = id_bytes(&in->id);
    out->size = in->size;
    return out;
}

static Starling__EvalResult *put_eval(Starling__EvalResult *out, const struct sl_eval_counts *in)
{
    starling__eval_result__init(out);
    out->samples = in->samples;
    out->correct = in->correct;
    out->loss_sum = in->loss_sum;
    return out;
}

/* --- reading: checks ------------------------------------------------------------------------ */

static enum sl_code get_text(char *out, size_t cap, const char *in, const char *field,
                             struct sl_err *err)
{
    size_t n = strlen(in);
    if (n >= cap)
        return sl_err_set(err, SL_E_LIMIT, "%s: %zu bytes (at most %zu allowed)", field, n,
                          cap - 1);
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)in[i] < 0x20 || in[i] == 0x7f)
            return sl_err_set(err, SL_E_PROTO, "%s: control character 0x%02x", field,
                              (unsigned char)in[i]);
    sl_text_copy(out, cap, in);
    return SL_OK;
}

static enum sl_code get_id(struct sl_blob_id *out, ProtobufCBinaryData in, const char *field,
                           struct sl_err *err)
{
    if (in.len != SL_XXH_BYTES)
        return sl_err_set(err, SL_E_PROTO, "%s: id of %zu bytes (%d expected)", field, in.len,
                          SL_XXH_BYTES);
    memcpy(out->bytes, in.data, SL_XXH_BYTES);
    return SL_OK;
}

static enum sl_code get_blob(struct sl_blob_ref *out, const Starling__BlobRef *in,
                             const char *field, struct sl_err *err)
{
    if (in == NULL)
        return sl_err_set(err, SL_E_PROTO, "%s: missing", field);
    if (in->size == 0 || in->size > SL_BLOB_BYTES_MAX)
        return sl_err_set(err, SL_E_LIMIT, "%s: %llu bytes (1 to %zu allowed)", field,
                          (unsigned long long)in->size, SL_BLOB_BYTES_MAX);
    enum sl_code rc = get_id(&out->id, in->id, field, err);
    if (rc == SL_OK)
        out->size = in->size;
    return rc;
}

static enum sl_code get_finite(double *out, double in, const char *field, struct sl_err *err)
{
    if (!isfinite(in))
        return sl_err_set(err, SL_E_PROTO, "%s: not a finite number", field);
    *out = in;
    return SL_OK;
}

static enum sl_code get_eval(struct sl_eval_counts *out, const Starling__EvalResult *in,
                             struct sl_err *err)
{
    if (in == NULL)
        return sl_err_set(err, SL_E_PROTO, "eval: missing");
    if (in->correct > in->samples)
        return sl_err_set(err, SL_E_PROTO, "eval: %llu correct of %llu samples",
                          (unsigned long long)in->correct, (unsigned long long)in->samples);
    out->samples = in->samples;
    out->correct = in->correct;
    return get_finite(&out->loss_sum, in->loss_sum, "eval.loss_sum", err);
}

static enum sl_code get_round(uint32_t round, struct sl_err *err)
{
    if ((round & ~SL_ROUND_CALIBRATION) >= SL_ROUNDS_MAX)
        return sl_err_set(err, SL_E_LIMIT, "round: %u (below %d allowed)", round, SL_ROUNDS_MAX);
    return SL_OK;
}

/* --- register, registered ------------------------------------------------------------------- */

static void put_register(struct build *b, const struct sl_msg *m)
{
    starling__register__init(&b->reg);
    b->reg.name = (char *)m->reg.name;
    b->reg.index = m->reg.index;
    b->reg.version = (char *)m->reg.version;
    b->reg.blas = (char *)m->reg.blas;
    b->reg.hardware = (char *)m->reg.hardware;
    b->reg.own_samples = m->reg.own_samples;
    b->reg.boot_id = m->reg.boot_id;
    b->message.register_ = &b->reg;
}

static enum sl_code get_register(const Starling__Message *in, struct sl_msg *m,
                                 struct sl_err *err)
{
    const Starling__Register *r = in->register_;
    if (r->index < -1 || r->index >= SL_CLIENTS_MAX)
        return sl_err_set(err, SL_E_LIMIT, "index: %d (-1 to %d allowed)", r->index,
                          SL_CLIENTS_MAX - 1);
    m->reg.index = r->index;
    m->reg.own_samples = r->own_samples;
    m->reg.boot_id = r->boot_id;
    enum sl_code rc = get_text(m->reg.name, sizeof(m->reg.name), r->name, "name", err);
    if (rc == SL_OK)
        rc = get_text(m->reg.version, sizeof(m->reg.version), r->version, "version", err);
    if (rc == SL_OK)
        rc = get_text(m->reg.blas, sizeof(m->reg.blas), r->blas, "blas", err);
    if (rc == SL_OK)
        rc = get_text(m->reg.hardware, sizeof(m->reg.hardware), r->hardware, "hardware", err);
    return rc;
}

static void put_registered(struct build *b, const struct sl_msg *m)
{
    starling__registered__init(&b->registered);
    b->registered.index = m->registered.index;
    b->message.registered = &b->registered;
}

static enum sl_code get_registered(const Starling__Message *in, struct sl_msg *m,
                                   struct sl_err *err)
{
    if (in->registered->index >= SL_CLIENTS_MAX)
        return sl_err_set(err, SL_E_LIMIT, "index: %u (below %d allowed)",
                          in->registered->index, SL_CLIENTS_MAX);
    m->registered.index = in->registered->index;
    return SL_OK;
}

/* --- poll and its reply --------------------------------------------------------------------- */

static void put_poll(struct build *b, const struct sl_msg *m)
{
    starling__poll__init(&b->poll);
    b->poll.boot_id = m->poll.boot_id;
    b->poll.has_pending = m->poll.has_pending;
    if (m->poll.has_pending) {
        b->poll.run_id = m->poll.run_id;
        b->poll.round = m->poll.round;
        b->poll.blob = put_blob(&b->blob[0], &m->poll.blob);
    }
    b->message.poll = &b->poll;
}

static enum sl_code get_poll(const Starling__Message *in, struct sl_msg *m, struct sl_err *err)
{
    const Starling__Poll *p = in->poll;
    m->poll.boot_id = p->boot_id;
    m->poll.has_pending = p->has_pending;
    if (!p->has_pending)
        return SL_OK;
    m->poll.run_id = p->run_id;
    m->poll.round = p->round;
    enum sl_code rc = get_round(p->round, err);
    return rc == SL_OK ? get_blob(&m->poll.blob, p->blob, "pending", err) : rc;
}

static void put_poll_reply(struct build *b, const struct sl_msg *m)
{
    starling__poll_reply__init(&b->poll_reply);
    b->poll_reply.again_ms = m->poll_reply.again_ms;
    b->poll_reply.draining = m->poll_reply.draining;
    if (m->poll_reply.has_settled) {
        starling__settled__init(&b->settled);
        b->settled.run_id = m->poll_reply.settled_run;
        b->settled.round = m->poll_reply.settled_round;
        b->settled.committed = m->poll_reply.settled_committed;
        b->poll_reply.settled = &b->settled;
    }
    const struct sl_task_order *t = &m->poll_reply.task;
    if (t->kind != SL_TASK_NONE) {
        starling__task__init(&b->task);
        b->task.kind = (Starling__Task__Kind)t->kind;
        b->task.run_id = t->run_id;
        b->task.round = t->round;
        b->task.attempt = t->attempt;
        b->task.plan = put_blob(&b->blob[0], &t->plan);
        b->task.model = put_blob(&b->blob[1], &t->model);
        if (t->head.size > 0)
            b->task.head = put_blob(&b->blob[2], &t->head);
        b->task.deadline_ms = t->deadline_ms;
        b->task.evaluate = t->evaluate;
        b->poll_reply.task = &b->task;
    }
    b->message.poll_reply = &b->poll_reply;
}

static enum sl_code get_task(const Starling__Task *in, struct sl_task_order *t,
                             struct sl_err *err)
{
    if ((int)in->kind <= SL_TASK_NONE || (int)in->kind > SL_TASK_CALIBRATE)
        return sl_err_set(err, SL_E_PROTO, "task: kind %d is unknown", (int)in->kind);
    if ((in->kind == STARLING__TASK__KIND__CALIBRATE) != (in->round >= SL_ROUND_CALIBRATION))
        return sl_err_set(err, SL_E_PROTO, "task: kind %d with round %u", (int)in->kind, in->round);
    enum sl_code rc = get_round(in->round, err);
    if (rc == SL_OK)
        rc = get_blob(&t->plan, in->plan, "task.plan", err);
    if (rc == SL_OK)
        rc = get_blob(&t->model, in->model, "task.model", err);
    if (rc == SL_OK && in->head != NULL)
        rc = get_blob(&t->head, in->head, "task.head", err);
    if (rc != SL_OK)
        return rc;
    if (t->plan.size > SL_PLAN_BYTES_MAX)
        return sl_err_set(err, SL_E_LIMIT, "task.plan: %llu bytes (at most %u allowed)",
                          (unsigned long long)t->plan.size, SL_PLAN_BYTES_MAX);
    t->kind = (enum sl_task_kind)in->kind;
    t->run_id = in->run_id;
    t->round = in->round;
    t->attempt = in->attempt;
    t->deadline_ms = in->deadline_ms;
    t->evaluate = in->evaluate;
    return SL_OK;
}

static enum sl_code get_poll_reply(const Starling__Message *in, struct sl_msg *m,
                                   struct sl_err *err)
{
    const Starling__PollReply *p = in->poll_reply;
    m->poll_reply.again_ms = p->again_ms;
    m->poll_reply.draining = p->draining;
    if (p->settled != NULL) {
        m->poll_reply.has_settled = true;
        m->poll_reply.settled_run = p->settled->run_id;
        m->poll_reply.settled_round = p->settled->round;
        m->poll_reply.settled_committed = p->settled->committed;
    }
    if (p->task == NULL)
        return m->attachment_bytes == 0
                   ? SL_OK
                   : sl_err_set(err, SL_E_PROTO, "poll reply: model without a task");
    enum sl_code rc = get_task(p->task, &m->poll_reply.task, err);
    if (rc == SL_OK && m->attachment_bytes != 0 &&
        m->attachment_bytes != m->poll_reply.task.model.size)
        return sl_err_set(err, SL_E_PROTO, "poll reply: %zu bytes attached, model has %llu",
                          m->attachment_bytes,
                          (unsigned long long)m->poll_reply.task.model.size);
    return rc;
}

/* --- chunks down ---------------------------------------------------------------------------- */

static void put_get_chunk(struct build *b, const struct sl_msg *m)
{
    starling__get_chunk__init(&b->get_chunk);
    b->get_chunk.id = id_bytes(&m->get_chunk.id);
    b->get_chunk.offset = m->get_chunk.offset;
    b->get_chunk.length = m->get_chunk.length;
    b->message.get_chunk = &b->get_chunk;
}

static enum sl_code get_get_chunk(const Starling__Message *in, struct sl_msg *m,
                                  struct sl_err *err)
{
    const Starling__GetChunk *g = in->get_chunk;
    if (g->length == 0 || g->length > SL_CHUNK_BYTES)
        return sl_err_set(err, SL_E_LIMIT, "length: %u (1 to %zu allowed)", g->length,
                          SL_CHUNK_BYTES);
    if (g->offset >= SL_BLOB_BYTES_MAX)
        return sl_err_set(err, SL_E_LIMIT, "offset: %llu (below %zu allowed)",
                          (unsigned long long)g->offset, SL_BLOB_BYTES_MAX);
    m->get_chunk.offset = g->offset;
    m->get_chunk.length = g->length;
    return get_id(&m->get_chunk.id, g->id, "chunk", err);
}

static void put_chunk_down(struct build *b, const struct sl_msg *m)
{
    starling__chunk__init(&b->chunk);
    b->chunk.id = id_bytes(&m->chunk.id);
    b->chunk.offset = m->chunk.offset;
    b->chunk.total = m->chunk.total;
    b->chunk.found = m->chunk.found;
    b->message.chunk = &b->chunk;
}

/* offset + attachment within total, total within the limit. */
static enum sl_code check_extent(uint64_t offset, size_t n, uint64_t total, struct sl_err *err)
{
    if (total == 0 || total > SL_BLOB_BYTES_MAX)
        return sl_err_set(err, SL_E_LIMIT, "blob: %llu bytes (1 to %zu allowed)",
                          (unsigned long long)total, SL_BLOB_BYTES_MAX);
    if (n == 0)
        return sl_err_set(err, SL_E_PROTO, "chunk: no bytes");
    if (offset > total || n > total - offset)
        return sl_err_set(err, SL_E_PROTO, "chunk: bytes %llu to %llu of a blob of %llu",
                          (unsigned long long)offset, (unsigned long long)(offset + n),
                          (unsigned long long)total);
    return SL_OK;
}

static enum sl_code get_chunk_down(const Starling__Message *in, struct sl_msg *m,
                                   struct sl_err *err)
{
    const Starling__Chunk *c = in->chunk;
    m->chunk.offset = c->offset;
    m->chunk.total = c->total;
    m->chunk.found = c->found;
    enum sl_code rc = get_id(&m->chunk.id, c->id, "chunk", err);
    if (rc != SL_OK)
        return rc;
    if (!c->found)
        return m->attachment_bytes == 0
                   ? SL_OK
                   : sl_err_set(err, SL_E_PROTO, "chunk: bytes of a blob that is not there");
    return check_extent(c->offset, m->attachment_bytes, c->total, err);
}

/* --- chunks up ------------------------------------------------------------------------------ */

static Starling__Cost *put_cost(Starling__Cost *out, const struct sl_task_cost *in)
{
    starling__cost__init(out);
    out->macs = in->macs;
    out->work = in->work;
    out->cycles = in->cycles;
    out->conversions = in->conversions;
    out->bits = in->bits;
    out->energy = in->energy;
    return out;
}

/* Counts that still add up over a cohort. */
static enum sl_code get_cost(struct sl_task_cost *out, const Starling__Cost *in,
                             struct sl_err *err)
{
    const uint64_t counts[] = {in->macs, in->work, in->cycles, in->conversions, in->bits};
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
        if (counts[i] > SL_WIRE_COST_MAX)
            return sl_err_set(err, SL_E_LIMIT, "update.cost: %llu (at most %llu)",
                              (unsigned long long)counts[i],
                              (unsigned long long)SL_WIRE_COST_MAX);
    if (!(in->energy >= 0 && in->energy <= (double)SL_WIRE_COST_MAX))
        return sl_err_set(err, SL_E_PROTO, "update.cost: energy %g (0 to %g)", in->energy,
                          (double)SL_WIRE_COST_MAX);
    *out = (struct sl_task_cost){.macs = in->macs,
                                 .work = in->work,
                                 .cycles = in->cycles,
                                 .conversions = in->conversions,
                                 .bits = in->bits,
                                 .energy = in->energy};
    return SL_OK;
}

static void put_put_chunk(struct build *b, const struct sl_msg *m)
{
    starling__put_chunk__init(&b->put_chunk);
    b->put_chunk.run_id = m->put_chunk.run_id;
    b->put_chunk.round = m->put_chunk.round;
    b->put_chunk.attempt = m->put_chunk.attempt;
    b->put_chunk.blob = put_blob(&b->blob[0], &m->put_chunk.blob);
    b->put_chunk.offset = m->put_chunk.offset;
    if (m->put_chunk.has_meta) {
        const struct sl_update_meta *u = &m->put_chunk.meta;
        starling__update_meta__init(&b->meta);
        b->meta.weight = u->weight;
        b->meta.samples = u->samples;
        b->meta.steps = u->steps;
        b->meta.loss_sum = u->loss_sum;
        b->meta.first_loss = u->first_loss;
        b->meta.encoding = u->encoding;
        b->meta.cost = put_cost(&b->cost, &u->cost);
        if (u->has_eval)
            b->meta.eval = put_eval(&b->eval, &u->eval);
        b->put_chunk.meta = &b->meta;
    }
    b->message.put_chunk = &b->put_chunk;
}

static enum sl_code get_meta(const Starling__UpdateMeta *in, struct sl_update_meta *u,
                             struct sl_err *err)
{
    u->weight = in->weight;
    u->samples = in->samples;
    u->steps = in->steps;
    u->encoding = in->encoding;
    enum sl_code rc = get_finite(&u->loss_sum, in->loss_sum, "update.loss_sum", err);
    if (rc == SL_OK)
        rc = get_finite(&u->first_loss, in->first_loss, "update.first_loss", err);
    if (rc == SL_OK && in->eval != NULL) {
        u->has_eval = true;
        rc = get_eval(&u->eval, in->eval, err);
    }
    return rc == SL_OK && in->cost != NULL ? get_cost(&u->cost, in->cost, err) : rc;
}

static enum sl_code get_put_chunk(const Starling__Message *in, struct sl_msg *m,
                                  struct sl_err *err)
{
    const Starling__PutChunk *p = in->put_chunk;
    m->put_chunk.run_id = p->run_id;
    m->put_chunk.round = p->round;
    m->put_chunk.attempt = p->attempt;
    m->put_chunk.offset = p->offset;
    enum sl_code rc = get_round(p->round, err);
    if (rc == SL_OK)
        rc = get_blob(&m->put_chunk.blob, p->blob, "update", err);
    if (rc == SL_OK)
        rc = check_extent(p->offset, m->attachment_bytes, m->put_chunk.blob.size, err);
    if (rc == SL_OK && p->meta != NULL) {
        m->put_chunk.has_meta = true;
        rc = get_meta(p->meta, &m->put_chunk.meta, err);
    }
    return rc;
}

static void put_put_reply(struct build *b, const struct sl_msg *m)
{
    starling__put_reply__init(&b->put_reply);
    b->put_reply.status = (Starling__PutReply__Status)m->put_reply.status;
    b->put_reply.next_offset = m->put_reply.next_offset;
    b->put_reply.reason = (char *)m->put_reply.reason;
    b->message.put_reply = &b->put_reply;
}

static enum sl_code get_put_reply(const Starling__Message *in, struct sl_msg *m,
                                  struct sl_err *err)
{
    const Starling__PutReply *p = in->put_reply;
    if ((int)p->status < SL_PUT_MORE || (int)p->status > SL_PUT_STALE)
        return sl_err_set(err, SL_E_PROTO, "status: %d is unknown", (int)p->status);
    if (p->next_offset > SL_BLOB_BYTES_MAX)
        return sl_err_set(err, SL_E_LIMIT, "next_offset: %llu (at most %zu allowed)",
                          (unsigned long long)p->next_offset, SL_BLOB_BYTES_MAX);
    m->put_reply.status = (enum sl_put_status)p->status;
    m->put_reply.next_offset = p->next_offset;
    return get_text(m->put_reply.reason, sizeof(m->put_reply.reason), p->reason, "reason", err);
}

/* --- failures, evaluation, acknowledgement -------------------------------------------------- */

static void put_task_failed(struct build *b, const struct sl_msg *m)
{
    starling__task_failed__init(&b->task_failed);
    b->task_failed.run_id = m->task_failed.run_id;
    b->task_failed.round = m->task_failed.round;
    b->task_failed.attempt = m->task_failed.attempt;
    b->task_failed.reason = (char *)m->task_failed.reason;
    b->message.task_failed = &b->task_failed;
}

static enum sl_code get_task_failed(const Starling__Message *in, struct sl_msg *m,
                                    struct sl_err *err)
{
    const Starling__TaskFailed *t = in->task_failed;
    m->task_failed.run_id = t->run_id;
    m->task_failed.round = t->round;
    m->task_failed.attempt = t->attempt;
    enum sl_code rc = get_round(t->round, err);
    if (rc != SL_OK)
        return rc;
    return get_text(m->task_failed.reason, sizeof(m->task_failed.reason), t->reason, "reason",
                    err);
}

static void put_eval_report(struct build *b, const struct sl_msg *m)
{
    starling__eval_report__init(&b->eval_report);
    b->eval_report.run_id = m->eval_report.run_id;
    b->eval_report.round = m->eval_report.round;
    b->eval_report.eval = put_eval(&b->eval, &m->eval_report.eval);
    b->message.eval_report = &b->eval_report;
}

static enum sl_code get_eval_report(const Starling__Message *in, struct sl_msg *m,
                                    struct sl_err *err)
{
    m->eval_report.run_id = in->eval_report->run_id;
    m->eval_report.round = in->eval_report->round;
    enum sl_code rc = get_round(in->eval_report->round, err);
    return rc == SL_OK ? get_eval(&m->eval_report.eval, in->eval_report->eval, err) : rc;
}

static void put_ack(struct build *b, const struct sl_msg *m)
{
    starling__ack__init(&b->ack);
    b->ack.ok = m->ack.ok;
    b->ack.reason = (char *)m->ack.reason;
    b->message.ack = &b->ack;
}

static enum sl_code get_ack(const Starling__Message *in, struct sl_msg *m, struct sl_err *err)
{
    m->ack.ok = in->ack->ok;
    return get_text(m->ack.reason, sizeof(m->ack.reason), in->ack->reason, "reason", err);
}

/* --- probes --------------------------------------------------------------------------------- */

static void put_probe(struct build *b, const struct sl_msg *m)
{
    starling__probe__init(&b->probe);
    b->probe.run_id = m->probe.run_id;
    b->probe.round = m->probe.round;
    b->probe.attempt = m->probe.attempt;
    b->probe.loss = m->probe.loss;
    b->probe.samples = m->probe.samples;
    b->message.probe = &b->probe;
}

static enum sl_code get_probe(const Starling__Message *in, struct sl_msg *m, struct sl_err *err)
{
    const Starling__Probe *p = in->probe;
    m->probe.run_id = p->run_id;
    m->probe.round = p->round;
    m->probe.attempt = p->attempt;
    m->probe.loss = p->loss;
    m->probe.samples = p->samples;
    if (!isfinite(p->loss))
        return sl_err_set(err, SL_E_PROTO, "loss: not a finite number");
    if (p->samples == 0)
        return sl_err_set(err, SL_E_PROTO, "samples: 0 (at least 1)");
    return get_round(p->round, err);
}

static void put_decision(struct build *b, const struct sl_msg *m)
{
    starling__decision__init(&b->decision);
    b->decision.go = (Starling__Decision__Go)m->decision.go;
    b->decision.again_ms = m->decision.again_ms;
    b->decision.reason = (char *)m->decision.reason;
    b->message.decision = &b->decision;
}

static enum sl_code get_decision(const Starling__Message *in, struct sl_msg *m,
                                 struct sl_err *err)
{
    const Starling__Decision *d = in->decision;
    if ((int)d->go < SL_GO_WAIT || (int)d->go > SL_GO_STOP)
        return sl_err_set(err, SL_E_PROTO, "go: %d is unknown", (int)d->go);
    m->decision.go = (enum sl_go)d->go;
    m->decision.again_ms = d->again_ms;
    return get_text(m->decision.reason, sizeof(m->decision.reason), d->reason, "reason", err);
}

/* --- the table ------------------------------------------------------------------------------ */

static const struct row {
    const char *name;
    enum sl_direction direction;
    bool attachment;
    void (*put)(struct build *b, const struct sl_msg *m);
    enum sl_code (*get)(const Starling__Message *in, struct sl_msg *m, struct sl_err *err);
} rows[] = {
    [SL_MSG_REGISTER] = {"register", SL_TO_COORDINATOR, false, put_register, get_register},
    [SL_MSG_REGISTERED] = {"registered", SL_TO_CLIENT, false, put_registered, get_registered},
    [SL_MSG_POLL] = {"poll", SL_TO_COORDINATOR, false, put_poll, get_poll},
    [SL_MSG_POLL_REPLY] = {"poll reply", SL_TO_CLIENT, true, put_poll_reply, get_poll_reply},
    [SL_MSG_GET_CHUNK] = {"get chunk", SL_TO_COORDINATOR, false, put_get_chunk, get_get_chunk},
    [SL_MSG_CHUNK] = {"chunk", SL_TO_CLIENT, true, put_chunk_down, get_chunk_down},
    [SL_MSG_PUT_CHUNK] = {"put chunk", SL_TO_COORDINATOR, true, put_put_chunk, get_put_chunk},
    [SL_MSG_PUT_REPLY] = {"put reply", SL_TO_CLIENT, false, put_put_reply, get_put_reply},
    [SL_MSG_TASK_FAILED] = {"task failed", SL_TO_COORDINATOR, false, put_task_failed,
                            get_task_failed},
    [SL_MSG_EVAL_REPORT] = {"eval report", SL_TO_COORDINATOR, false, put_eval_report,
                            get_eval_report},
    [SL_MSG_ACK] = {"ack", SL_TO_CLIENT, false, put_ack, get_ack},
    [SL_MSG_PROBE] = {"probe", SL_TO_COORDINATOR, false, put_probe, get_probe},
    [SL_MSG_DECISION] = {"decision", SL_TO_CLIENT, false, put_decision, get_decision},
};

#define N_ROWS (sizeof(rows) / sizeof(rows[0]))

static_assert((int)SL_MSG_REGISTER == STARLING__MESSAGE__BODY_REGISTER &&
                  (int)SL_MSG_PUT_REPLY == STARLING__MESSAGE__BODY_PUT_REPLY &&
                  (int)SL_MSG_ACK == STARLING__MESSAGE__BODY_ACK &&
                  (int)SL_MSG_LAST == STARLING__MESSAGE__BODY_DECISION,
              "message kinds are the field numbers of Message.body");
static_assert(SL_WIRE_ENVELOPE_BYTES == SL_RECORD_EXTRA,
              "byte counts are those of sealed records");

static const struct row *row_of(unsigned kind)
{
    return kind < N_ROWS && rows[kind].name != NULL ? &rows[kind] : NULL;
}

const char *sl_msg_kind_name(enum sl_msg_kind kind)
{
    const struct row *r = row_of(kind);
    return r != NULL ? r->name : "unknown";
}

/* Fills b with the protobuf form of *m; NULL row for a kind that does not exist. */
static const struct row *build(struct build *b, const struct sl_msg *m)
{
    const struct row *r = row_of(m->kind);
    if (r == NULL)
        return NULL;
    starling__message__init(&b->message);
    b->message.body_case = (Starling__Message__BodyCase)m->kind;
    r->put(b, m);
    return r;
}

size_t sl_wire_size(const struct sl_msg *m)
{
    struct build b;
    if (build(&b, m) == NULL)
        return 0;
    return 2 + starling__message__get_packed_size(&b.message) + m->attachment_bytes;
}

enum sl_code sl_wire_pack(const struct sl_msg *m, uint8_t *buf, size_t cap, size_t *ret_n,
                          struct sl_err *err)
{
    struct build b;
    const struct row *r = build(&b, m);
    if (r == NULL)
        return sl_err_set(err, SL_E_BUG, "message of kind %d", (int)m->kind);
    if (m->attachment_bytes > SL_CHUNK_BYTES || (m->attachment_bytes > 0 && !r->attachment))
        return sl_err_set(err, SL_E_LIMIT, "%s: attachment of %zu bytes (at most %zu allowed)",
                          r->name, m->attachment_bytes, r->attachment ? SL_CHUNK_BYTES : 0);
    size_t header = starling__message__get_packed_size(&b.message);
    if (header > SL_WIRE_HEADER_MAX)
        return sl_err_set(err, SL_E_LIMIT, "%s: header of %zu bytes (at most %zu allowed)",
                          r->name, header, SL_WIRE_HEADER_MAX);
    size_t n = 2 + header + m->attachment_bytes;
    if (n > cap)
        return sl_err_set(err, SL_E_LIMIT, "%s: %zu bytes do not fit %zu", r->name, n, cap);
    buf[0] = (uint8_t)header;
    buf[1] = (uint8_t)(header >> 8);
    starling__message__pack(&b.message, buf + 2);
    if (m->attachment_bytes > 0)
        memcpy(buf + 2 + header, m->attachment, m->attachment_bytes);
    *ret_n = n;
    return SL_OK;
}

/* --- unpacking from a fixed pool ------------------------------------------------------------- */

struct pool {
    _Alignas(16) uint8_t bytes[POOL_BYTES];
    size_t used;
    bool full;
};

static void *pool_alloc(void *ctx, size_t n)
{
    struct pool *p = ctx;
    size_t cost = (n + 15) & ~(size_t)15;
    if (cost < n || cost > POOL_BYTES - p->used) {
        p->full = true;
        return NULL;
    }
    void *at = p->bytes + p->used;
    p->used += cost;
    return at;
}

static void pool_free(void *ctx, void *at)
{
    (void)ctx;
    (void)at; /* the pool goes as a whole */
}

enum sl_code sl_wire_unpack(const uint8_t *buf, size_t n, enum sl_direction direction,
                            struct sl_msg *ret, struct sl_err *err)
{
    if (n > SL_WIRE_PLAIN_MAX)
        return sl_err_set(err, SL_E_LIMIT, "message of %zu bytes (at most %zu allowed)", n,
                          SL_WIRE_PLAIN_MAX);
    size_t header = n < 2 ? 0 : (size_t)buf[0] | (size_t)buf[1] << 8;
    if (n < 2 || header > n - 2)
        return sl_err_set(err, SL_E_PROTO, "message of %zu bytes ends inside its header", n);
    if (header > SL_WIRE_HEADER_MAX)
        return sl_err_set(err, SL_E_LIMIT, "header of %zu bytes (at most %zu allowed)", header,
                          SL_WIRE_HEADER_MAX);
    struct pool pool;
    pool.used = 0;
    pool.full = false;
    ProtobufCAllocator alloc = {.alloc = pool_alloc, .free = pool_free, .allocator_data = &pool};
    const Starling__Message *in = starling__message__unpack(&alloc, header, buf + 2);
    if (in == NULL)
        return pool.full ? sl_err_set(err, SL_E_LIMIT, "header asks for more than %zu bytes",
                                      POOL_BYTES)
                         : sl_err_set(err, SL_E_PROTO, "header is not a Message");
    const struct row *r = row_of((unsigned)in->body_case);
    if (r == NULL)
        return sl_err_set(err, SL_E_PROTO, "message of unknown kind %d", (int)in->body_case);
    if (r->direction != direction)
        return sl_err_set(err, SL_E_PROTO, "%s: goes the other way", r->name);
    struct sl_msg m = {.kind = (enum sl_msg_kind)in->body_case};
    m.attachment_bytes = n - 2 - header;
    m.attachment = m.attachment_bytes > 0 ? buf + 2 + header : NULL;
    if (m.attachment_bytes > (r->attachment ? SL_CHUNK_BYTES : 0))
        return sl_err_set(err, SL_E_LIMIT, "%s: attachment of %zu bytes (at most %zu allowed)",
                          r->name, m.attachment_bytes, r->attachment ? SL_CHUNK_BYTES : 0);
    enum sl_code rc = r->get(in, &m, err);
    if (rc != SL_OK)
        return sl_err_wrap(err, rc, "%s", r->name);
    *ret = m;
    return SL_OK;
}
