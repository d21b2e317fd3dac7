/* SPDX-License-Identifier: Apache-2.0 */
/* Updates on their way into the sum: spooled chunk by chunk, checked as a whole, journalled,
 * acknowledged, added. An update of one chunk takes all of that inside its request, straight from
 * memory; longer ones are checked and added by workers, piece by piece from the spool. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/crash_point.h"
#include "common/mem.h"
#include "server/core.h"

static uint32_t n_chunks(uint64_t bytes)
{
    return (uint32_t)((bytes + SL_CHUNK_BYTES - 1) / SL_CHUNK_BYTES);
}

uint64_t upload_bytes(const struct run *r)
{
    return calibrate_under_way(r) ? r->calib.bytes : r->codec.n_bytes;
}

static bool one_chunk(const struct run *r)
{
    return upload_bytes(r) <= SL_CHUNK_BYTES;
}

/* Bytes of the bits of an update's chunks, of the largest update there is. */
static size_t have_bytes(const struct run *r)
{
    return (n_chunks(calibrate_slot_bytes(r)) + 7) / 8;
}

void upload_reset(struct upload *u)
{
    if (u->have != NULL)
        memset(u->have, 0, have_bytes(u->run));
    u->n_have = 0;
    u->check = NULL; /* one under way finds that it is no longer wanted */
    u->here = false;
    u->added = false;
    u->kept = false;
    u->asks = false;
    u->blob = (struct sl_blob_ref){0};
    u->meta = (struct sl_update_meta){0};
    u->clip = 1;
}

uint32_t upload_slot(const struct run *r, uint32_t position)
{
    return calibrate_under_way(r) ? r->round.members[position].client : position;
}

static uint64_t next_missing(const struct upload *u)
{
    uint32_t n = n_chunks(upload_bytes(u->run));
    for (uint32_t i = 0; i < n; i++)
        if ((u->have[i / 8] & (1u << i % 8)) == 0)
            return (uint64_t)i * SL_CHUNK_BYTES;
    return upload_bytes(u->run);
}

static struct source in_spool(uint32_t slot)
{
    return (struct source){.slot = slot};
}

/* --- acceptance ------------------------------------------------------------------------------------ */

static void reject(struct run *r, uint32_t client, struct upload *u, const char *reason)
{
    struct sl_coordinator *c = r->c;
    char name[ROUND_NAME];
    sl_log_write(c->env.log, SL_LOG_WARN, "%s: %s of client %" PRIu32 " rejected: %s",
                 core_round_name(r->round.number, name),
                 calibrate_under_way(r) ? "statistics" : "update", client, reason);
    if (u->asks)
        core_reply_put(c, u->request, SL_PUT_REJECTED, 0, reason);
    u->asks = false;
    upload_reset(u);
    if (r->phase != RUN_OPEN) { /* between two buffers */
        buffer_void(r, client);
        return;
    }
    struct sl_round_event ev = {.kind = SL_ROUND_EV_FAILED,
                                .now_ms = c->now_ms,
                                .client = client,
                                .reason = reason};
    commit_act(r, sl_round_step(&r->round, &ev));
}

static void note_eval(struct run *r, uint32_t client, const struct sl_update_meta *m)
{
    if (!m->has_eval || !run_asks_eval(r) || client >= r->eval.n)
        return; /* not asked for: not reported */
    r->eval.there[client] = true;
    r->eval.counts[client] = m->eval;
}

static void added(struct run *r, struct upload *u)
{
    sl_sum_count(&r->sum, u->meta.weight);
    u->added = true;
    SL_CRASH_POINT("after_add");
}

/* Some pieces of an update may be in: the whole sum is made anew from the spool. */
static void add_failed(struct run *r, enum sl_code rc, const struct sl_err *err)
{
    sl_sum_clear(&r->sum);
    for (uint32_t i = 0; i < r->n_slots; i++)
        r->uploads[i].added = false;
    core_fault(r->c, rc, err);
}

static void add_from(struct run *r, struct upload *u, const uint8_t *bytes)
{
    struct sl_err err;
    struct source memory = {.bytes = bytes};
    enum sl_code rc = r->work.busy ? SL_OK : walk_add(u, memory, &err);
    if (r->work.busy)
        return; /* a worker has the sum; this one's turn comes */
    if (rc == SL_OK)
        added(r, u);
    else
        add_failed(r, rc, &err);
}

static bool journal(struct run *r, const struct sl_member_row *row)
{
    struct sl_store *s = r->c->env.store;
    struct sl_err err;
    if (!commit_attempt(r))
        return false;
    enum sl_code rc = s->ops->accept(s, r->id, r->round.number,
                                     sl_round_remaining_ms(&r->round, r->c->now_ms), row, &err);
    if (rc != SL_OK)
        core_fault(r->c, rc, &err);
    return rc == SL_OK;
}

void upload_accept(struct run *r, struct upload *u, const uint8_t *bytes)
{
    struct sl_coordinator *c = r->c;
    uint32_t client = r->round.members[u->position].client;
    uint64_t room = r->sum.bounds.sum_weight - r->weight_in;
    if (u->meta.weight > room) {
        char reason[SL_WIRE_REASON];
        snprintf(reason, sizeof(reason),
                 "weight %" PRIu64 " (the round's sum has room for %" PRIu64 ")", u->meta.weight,
                 room);
        reject(r, client, u, reason);
        return;
    }
    struct sl_member_row row = {.client = client,
                                .start = buffer_start(r, u->position),
                                .accepted = true,
                                .order = r->next_order,
                                .slot = upload_slot(r, u->position),
                                .blob = u->blob,
                                .meta = u->meta};
    memcpy(row.key, sl_registry_at(&c->registry, client)->row.key, SL_KEY_BYTES);
    if (!journal(r, &row)) { /* no acknowledgement: the client keeps it and is asked again */
        if (u->asks)
            core_stall(c, u->request, 0);
        upload_reset(u);
        return;
    }
    SL_CRASH_POINT(calibrate_under_way(r) ? "after_statistics" : "after_journal");
    r->weight_in += u->meta.weight;
    u->order = r->next_order++;
    u->accepted_ms = c->now_ms;
    probe_uploaded(r, u->position, n_chunks(u->blob.size));
    note_eval(r, client, &u->meta);
    if (bytes != NULL)
        add_from(r, u, bytes); /* before the reply, which takes the request's memory */
    if (u->asks)
        core_reply_put(c, u->request, SL_PUT_ACCEPTED, 0, "");
    u->asks = false;
    SL_CRASH_POINT("after_ack");
    struct sl_round_event ev = {.kind = SL_ROUND_EV_ACCEPTED, .now_ms = c->now_ms, .client = client};
    commit_act(r, sl_round_step(&r->round, &ev));
    upload_advance(r);
}

/* The update is good. bytes: of a one-chunk update, else NULL. */
static void accept(struct run *r, struct upload *u, const uint8_t *bytes)
{
    if (!buffer_on(r))
        upload_accept(r, u, bytes);
    else
        buffer_take(r, u, bytes);
}

static void check_run(struct sl_job *job)
{
    struct check *k = (struct check *)job;
    k->rc = walk_check(k->run, in_spool(k->slot), k->client, &k->meta, &k->blob.id, &k->clip, &k->err);
}

static void unlink_check(struct run *r, struct check *k)
{
    for (struct check **at = &r->checks; *at != NULL; at = &(*at)->next)
        if (*at == k) {
            *at = k->next;
            return;
        }
}

/* The spool can't be read, or there is no memory: not the client's fault. */
static void check_failed(struct run *r, struct upload *u, enum sl_code rc, const struct sl_err *err)
{
    if (u->asks)
        core_stall(r->c, u->request, 0);
    upload_reset(u);
    core_fault(r->c, rc, err);
}

static void check_done(struct sl_job *job, void *ctx)
{
    struct check *k = (struct check *)job;
    struct run *r = k->run;
    struct upload *u = &r->uploads[k->position];
    (void)ctx;
    unlink_check(r, k);
    if (u->check != k) { /* its round is over, or the update was begun anew */
        free(k);
        core_wake(r->c); /* the next run may have waited for it */
        return;
    }
    u->check = NULL;
    const struct sl_member *m = &r->round.members[k->position];
    if (m->state == SL_MEMBER_FAILED) { /* meanwhile */
        if (u->asks)
            core_reply_put(r->c, u->request, SL_PUT_REJECTED, 0, m->reason);
        upload_reset(u);
    } else if (k->rc == SL_OK) {
        u->clip = k->clip;
        accept(r, u, NULL);
    } else if (k->rc == SL_E_REJECTED) {
        reject(r, k->client, u, k->err.msg);
    } else {
        check_failed(r, u, k->rc, &k->err);
    }
    free(k);
    core_wake(r->c);
}

static void begin_check(struct run *r, struct upload *u)
{
    struct check *k = sl_calloc(1, sizeof(*k));
    if (k == NULL) {
        core_stall(r->c, u->request, 0);
        upload_reset(u);
        return;
    }
    *k = (struct check){.job = {.run = check_run, .done = check_done},
                        .next = r->checks,
                        .run = r,
                        .round = r->round.number,
                        .position = u->position,
                        .client = r->round.members[u->position].client,
                        .slot = upload_slot(r, u->position),
                        .blob = u->blob,
                        .meta = u->meta};
    r->checks = k;
    u->check = k;
    sl_executor_submit(r->c->env.executor, &k->job);
}

void upload_close(struct run *r)
{
    probe_close(r);
    for (size_t i = 0; i < r->round.n_members; i++) {
        struct upload *u = &r->uploads[i];
        if (u->asks)
            core_reply_put(r->c, u->request, SL_PUT_STALE, 0, "the round is closed");
        u->asks = false;
        u->check = NULL;
    }
}

void upload_drop(struct run *r, uint32_t client, const char *reason)
{
    const struct sl_member *m = sl_round_member(&r->round, client);
    if (m == NULL || m->state == SL_MEMBER_ACCEPTED)
        return;
    struct upload *u = &r->uploads[m - r->round.members];
    if (u->asks)
        core_reply_put(r->c, u->request, SL_PUT_REJECTED, 0, reason);
    upload_reset(u);
}

/* Every chunk is there and the client says that it is all. */
static void complete(struct run *r, struct upload *u, sl_request_id id, const struct sl_msg *m)
{
    uint32_t client = r->round.members[u->position].client;
    struct sl_err err = {0};
    u->asks = true;
    u->request = id;
    u->meta = m->put_chunk.meta;
    enum sl_code rc = meta_check(r, client, &u->meta, &err);
    if (rc != SL_OK) {
        reject(r, client, u, err.msg);
        return;
    }
    if (!one_chunk(r)) {
        begin_check(r, u);
        return;
    }
    struct source memory = {.bytes = m->attachment};
    rc = walk_check(r, memory, client, &u->meta, &u->blob.id, &u->clip, &err);
    if (rc == SL_OK)
        accept(r, u, m->attachment);
    else if (rc == SL_E_REJECTED)
        reject(r, client, u, err.msg);
    else
        check_failed(r, u, rc, &err);
}

/* --- requests --------------------------------------------------------------------------------------- */

static bool take_chunk(struct run *r, struct upload *u, const struct sl_msg *m, struct sl_err *err)
{
    uint32_t chunk = (uint32_t)(m->put_chunk.offset / SL_CHUNK_BYTES);
    enum sl_code rc = r->c->env.store->ops->spool_write(r->c->env.store, upload_slot(r, u->position),
                                                        m->put_chunk.offset, m->attachment,
                                                        m->attachment_bytes, err);
    if (rc != SL_OK)
        return false;
    SL_CRASH_POINT("after_spool");
    if ((u->have[chunk / 8] & (1u << chunk % 8)) == 0) {
        u->have[chunk / 8] |= (uint8_t)(1u << chunk % 8);
        u->n_have++;
    }
    return true;
}

/* The client's update is in. Another one of the same client is not: what was made with it must not be
 * taken for committed. */
static void answer_accepted(const struct run *r, const struct sl_member *member, sl_request_id id,
                            const struct sl_msg *m)
{
    const struct upload *u = &r->uploads[member - r->round.members];
    bool same = sl_blob_id_equal(&u->blob.id, &m->put_chunk.blob.id);
    core_reply_put(r->c, id, same ? SL_PUT_ACCEPTED : SL_PUT_STALE, 0,
                   same ? "" : "another update of this client is in");
}

/* A chunk for a round that is not open: an update that is in is acknowledged again. */
static void answer_late(struct sl_coordinator *c, uint32_t client, sl_request_id id,
                        const struct sl_msg *m)
{
    const struct run *r = c->run;
    char reason[SL_WIRE_REASON], name[ROUND_NAME];
    struct sl_err err;
    bool known = false, included = false;
    if (r != NULL && m->put_chunk.run_id == r->id && m->put_chunk.round == r->round.number &&
        !buffer_on(r)) {
        const struct sl_member *member = sl_round_member(&r->round, client);
        if (member != NULL && member->state == SL_MEMBER_ACCEPTED) {
            answer_accepted(r, member, id, m);
            return;
        }
    }
    enum sl_code rc = c->env.store->ops->was_included(c->env.store, m->put_chunk.run_id,
                                                      m->put_chunk.round, client, &known,
                                                      &included, &err);
    if (rc != SL_OK) { /* not to be dropped for that: asked for again */
        core_stall(c, id, m->put_chunk.offset);
        core_fault(c, rc, &err);
        return;
    }
    snprintf(reason, sizeof(reason), "run %" PRIu64 " %s is not open", m->put_chunk.run_id,
             core_round_name(m->put_chunk.round, name));
    core_reply_put(c, id, included ? SL_PUT_ACCEPTED : SL_PUT_STALE, 0, included ? "" : reason);
}

/* Does the run take this client's updates of that round now? */
static bool takes(const struct run *r, uint32_t client, uint32_t round)
{
    if (buffer_on(r))
        return buffer_awaits(r, client, round);
    return r->phase == RUN_OPEN && round == r->round.number;
}

/* Is this a chunk of an update this round waits for? Else answers and returns NULL. */
static struct upload *welcome(struct sl_coordinator *c, uint32_t client, sl_request_id id,
                              const struct sl_msg *m)
{
    struct run *r = c->run;
    if (r == NULL || m->put_chunk.run_id != r->id || !takes(r, client, m->put_chunk.round)) {
        answer_late(c, client, id, m);
        return NULL;
    }
    const struct sl_member *member = sl_round_member(&r->round, client);
    if (member == NULL && buffer_on(r)) { /* its buffer is not open again after a restart */
        core_stall(c, id, m->put_chunk.offset);
        return NULL;
    }
    if (member == NULL) {
        core_reply_put(c, id, SL_PUT_REJECTED, 0, "not selected in this round");
        return NULL;
    }
    if (member->state == SL_MEMBER_ACCEPTED) {
        answer_accepted(r, member, id, m);
        return NULL;
    }
    if (member->state == SL_MEMBER_FAILED) {
        core_reply_put(c, id, SL_PUT_REJECTED, 0, member->reason);
        return NULL;
    }
    if (member->state == SL_MEMBER_STOPPED || (r->round.cfg.probe_ms > 0 && !member->go)) {
        core_reply_put(c, id, SL_PUT_REJECTED, 0, "was not told to go on after its probe");
        return NULL;
    }
    return &r->uploads[member - r->round.members];
}

static bool misshapen(const struct run *r, const struct sl_msg *m, char reason[SL_WIRE_REASON])
{
    uint64_t size = upload_bytes(r), left = size - m->put_chunk.offset;
    uint64_t want = left < SL_CHUNK_BYTES ? left : SL_CHUNK_BYTES;
    if (m->put_chunk.blob.size != size) {
        snprintf(reason, SL_WIRE_REASON, "update of %" PRIu64 " bytes (%" PRIu64 " expected)",
                 m->put_chunk.blob.size, size);
        return true;
    }
    if (m->put_chunk.offset % SL_CHUNK_BYTES != 0 || m->put_chunk.offset >= size ||
        m->attachment_bytes != want) {
        snprintf(reason, SL_WIRE_REASON, "chunk of %zu bytes at %" PRIu64
                 " (chunks of %zu in a row expected)", m->attachment_bytes, m->put_chunk.offset,
                 SL_CHUNK_BYTES);
        return true;
    }
    return false;
}

void upload_put(struct sl_coordinator *c, uint32_t client, sl_request_id id, const struct sl_msg *m)
{
    struct upload *u = welcome(c, client, id, m);
    if (u == NULL)
        return;
    struct run *r = u->run;
    char reason[SL_WIRE_REASON];
    bool waits = u->check != NULL || u->here;
    if (waits && !sl_blob_id_equal(&u->blob.id, &m->put_chunk.blob.id)) {
        core_stall(c, id, 0); /* another update: its turn comes after the verdict */
        return;
    }
    if (waits) { /* asked again before the verdict: the later request gets the answer */
        bool takes_over = m->put_chunk.has_meta;
        sl_request_id other = takes_over ? u->request : id;
        if (!takes_over || u->asks)
            core_reply_put(c, other, SL_PUT_MORE, upload_bytes(r), "");
        if (takes_over)
            u->request = id;
        u->asks = u->asks || takes_over;
        return;
    }
    if (misshapen(r, m, reason)) {
        u->asks = true;
        u->request = id;
        reject(r, client, u, reason);
        return;
    }
    if (u->have == NULL && (u->have = sl_calloc(have_bytes(r), 1)) == NULL) {
        core_stall(c, id, 0);
        return;
    }
    if (u->n_have > 0 && !sl_blob_id_equal(&u->blob.id, &m->put_chunk.blob.id))
        upload_reset(u); /* another update than the one begun: from the start */
    u->blob = m->put_chunk.blob;
    if (u->n_have == 0)
        probe_first_chunk(r, u->position);
    struct sl_err err;
    if (!take_chunk(r, u, m, &err)) {
        core_stall(c, id, m->put_chunk.offset);
        core_fault(c, err.code, &err);
        return;
    }
    if (m->put_chunk.has_meta && u->n_have == n_chunks(upload_bytes(r)))
        complete(r, u, id, m);
    else
        core_reply_put(c, id, SL_PUT_MORE, next_missing(u), "");
}

/* --- into the sum ----------------------------------------------------------------------------------- */

static void add_run(struct sl_job *job)
{
    struct work *w = (struct work *)job;
    w->rc = walk_add(w->adds, in_spool(w->adds->position), &w->err);
}

static void add_done(struct sl_job *job, void *ctx)
{
    struct work *w = (struct work *)job;
    struct run *r = w->adds->run;
    (void)ctx;
    w->busy = false;
    if (r->phase != RUN_OVER && w->rc != SL_OK) {
        add_failed(r, w->rc, &w->err);
    } else if (r->phase != RUN_OVER) {
        added(r, w->adds);
        upload_advance(r);
    }
    core_wake(r->c);
}

void upload_advance(struct run *r)
{
    if (r->work.busy || r->c->fault.code != SL_OK ||
        (r->phase != RUN_OPEN && r->phase != RUN_CLOSING))
        return;
    for (size_t i = 0; i < r->round.n_members; i++) {
        struct upload *u = &r->uploads[i];
        if (r->round.members[i].state != SL_MEMBER_ACCEPTED || u->added)
            continue;
        r->work.busy = true;
        r->work.adds = u;
        r->work.job = (struct sl_job){.run = add_run, .done = add_done};
        sl_executor_submit(r->c->env.executor, &r->work.job);
        return;
    }
    if (r->phase == RUN_CLOSING)
        commit_start(r);
}

/* --- after a restart, and from one calibration to the next ------------------------------------------- */

void upload_take_up(struct run *r, uint32_t position, const struct sl_member_row *row)
{
    struct upload *u = &r->uploads[position];
    u->order = row->order;
    u->accepted_ms = r->c->now_ms;
    r->weight_in += u->meta.weight;
    if (row->order >= r->next_order)
        r->next_order = row->order + 1;
    note_eval(r, row->client, &u->meta);
    struct sl_round_event ev = {
        .kind = SL_ROUND_EV_ACCEPTED, .now_ms = r->c->now_ms, .client = row->client};
    if (sl_round_step(&r->round, &ev) == SL_ROUND_COMMIT)
        r->phase = RUN_CLOSING;
}

enum sl_code upload_restore(struct run *r, uint32_t position, const struct sl_member_row *row,
                            struct sl_err *err)
{
    struct sl_coordinator *c = r->c;
    struct upload *u = &r->uploads[position];
    struct sl_err why = {0};
    u->blob = row->blob;
    u->meta = row->meta;
    bool good = row->slot == upload_slot(r, position) && row->blob.size == upload_bytes(r) &&
                walk_check(r, in_spool(row->slot), row->client, &u->meta, &u->blob.id, &u->clip,
                             &why) == SL_OK;
    if (!good) {
        sl_log_write(c->env.log, SL_LOG_WARN,
                     "spooled update of client %" PRIu32 " is damaged; asking for it again",
                     row->client);
        upload_reset(u);
        return c->env.store->ops->unaccept(c->env.store, r->id, r->round.number, row->start, row->client,
                                           err);
    }
    upload_take_up(r, position, row);
    return SL_OK;
}
