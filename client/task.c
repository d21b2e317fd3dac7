/* SPDX-License-Identifier: Apache-2.0 */
/* Every step ends in pump(), which sends whatever the state wants sent and the link and
 * the window allow. So a reply only has to note what is there now, a new session only to
 * mark requests as lost; what follows from it is said in one place. */
#include "client/task.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "common/limits.h"

static struct sl_task_action *add(struct sl_task_actions *out,
                                  enum sl_task_action_kind kind)
{
    assert(out->n < SL_TASK_ACTIONS_MAX);
    struct sl_task_action *a = &out->a[out->n++];
    *a = (struct sl_task_action){.kind = kind};
    return a;
}

static void say(struct sl_task_actions *out, enum sl_task_note note)
{
    add(out, SL_TASK_SAY)->note = note;
}

/* Reasons travel: printable ASCII, cut to what the wire takes. */
static void set_reason(struct sl_task *t, const char *text)
{
    size_t n = 0;
    if (text == NULL || *text == 0)
        text = "no reason given";
    for (; text[n] != 0 && n + 1 < sizeof t->reason; n++)
        t->reason[n] = text[n] < 0x20 || text[n] > 0x7e ? ' ' : text[n];
    t->reason[n] = 0;
}

/* --- requests
 * -------------------------------------------------------------------------------- */

static struct sl_task_slot *slot_free(struct sl_task *t)
{
    for (size_t i = 0; i < SL_TASK_WINDOW; i++)
        if (t->slot[i].use == SL_SLOT_FREE)
            return &t->slot[i];
    return NULL;
}

static struct sl_task_slot *slot_find(struct sl_task *t, uint64_t id)
{
    for (size_t i = 0; i < SL_TASK_WINDOW; i++)
        if (t->slot[i].id == id &&
            (t->slot[i].use == SL_SLOT_OPEN || t->slot[i].use == SL_SLOT_ABANDONED))
            return &t->slot[i];
    return NULL;
}

/* Requests of this state that are not answered. */
static size_t slots_open(const struct sl_task *t)
{
    size_t n = 0;
    for (size_t i = 0; i < SL_TASK_WINDOW; i++)
        n += t->slot[i].use == SL_SLOT_OPEN || t->slot[i].use == SL_SLOT_LOST;
    return n;
}

/* The state they belong to is left: their answers are waited for, and then ignored. */
static void slots_abandon(struct sl_task *t)
{
    for (size_t i = 0; i < SL_TASK_WINDOW; i++) {
        if (t->slot[i].use == SL_SLOT_OPEN)
            t->slot[i].use = SL_SLOT_ABANDONED;
        else if (t->slot[i].use == SL_SLOT_LOST)
            t->slot[i].use = SL_SLOT_FREE;
    }
}

static void slots_lost(struct sl_task *t)
{
    for (size_t i = 0; i < SL_TASK_WINDOW; i++) {
        if (t->slot[i].use == SL_SLOT_OPEN)
            t->slot[i].use = SL_SLOT_LOST;
        else if (t->slot[i].use == SL_SLOT_ABANDONED)
            t->slot[i].use = SL_SLOT_FREE;
    }
}

static uint64_t last_offset(uint64_t size)
{
    return (size - 1) / SL_CHUNK_BYTES * SL_CHUNK_BYTES;
}

static uint32_t chunk_at(uint64_t size, uint64_t offset)
{
    return (uint32_t)(size - offset < SL_CHUNK_BYTES ? size - offset : SL_CHUNK_BYTES);
}

/* The blob that a fetching state is about. */
static enum sl_blob_kind fetched(const struct sl_task *t)
{
    return t->state == SL_TASK_PLAN   ? SL_BLOB_PLAN
           : t->state == SL_TASK_HEAD ? SL_BLOB_HEAD
                                      : SL_BLOB_MODEL;
}

static bool fetches(const struct sl_task *t)
{
    return t->state == SL_TASK_PLAN || t->state == SL_TASK_HEAD || t->state == SL_TASK_MODEL;
}

static const struct sl_blob_ref *ordered(const struct sl_task *t, enum sl_blob_kind kind)
{
    return kind == SL_BLOB_PLAN   ? &t->order.plan
           : kind == SL_BLOB_HEAD ? &t->order.head
                                  : &t->order.model;
}

static const struct sl_blob_ref *wanted(const struct sl_task *t)
{
    return ordered(t, fetched(t));
}

/* Sends what the state wants at `offset`, in this slot. */
static void send_slot(struct sl_task *t, struct sl_task_slot *s, uint64_t offset,
                      struct sl_task_actions *out)
{
    struct sl_task_action *a = NULL;
    switch (t->state) {
    case SL_TASK_POLLING:
        a = add(out, SL_TASK_SEND_POLL);
        break;
    case SL_TASK_PLAN:
    case SL_TASK_HEAD:
    case SL_TASK_MODEL:
        a = add(out, SL_TASK_SEND_GET);
        a->blob = fetched(t);
        a->ref = *wanted(t);
        a->n = chunk_at(a->ref.size, offset);
        break;
    case SL_TASK_PUSHING:
        a = add(out, SL_TASK_SEND_PUT);
        a->n = chunk_at(t->kept.blob.size, offset);
        a->last = offset == last_offset(t->kept.blob.size);
        break;
    case SL_TASK_REPORTING:
        a = add(out, t->failed ? SL_TASK_SEND_FAILED : SL_TASK_SEND_EVAL);
        break;
    case SL_TASK_PROBED:
        a = add(out, SL_TASK_SEND_PROBE);
        break;
    case SL_TASK_IDLE:
    case SL_TASK_CHECKING:
    case SL_TASK_WORKING:
        return;
    }
    *s = (struct sl_task_slot){t->next_id++, offset, SL_SLOT_OPEN};
    a->id = s->id;
    a->offset = offset;
}

static void pump_window(struct sl_task *t, uint64_t end, struct sl_task_actions *out)
{
    struct sl_task_slot *s;
    while (t->next_offset < end && (s = slot_free(t)) != NULL) {
        send_slot(t, s, t->next_offset, out);
        t->next_offset += SL_CHUNK_BYTES;
    }
}

static void pump(struct sl_task *t, struct sl_task_actions *out)
{
    struct sl_task_slot *s;
    if (t->link != SL_LINK_UP)
        return;
    if (t->state == SL_TASK_POLLING && t->draining)
        return;
    for (size_t i = 0; i < SL_TASK_WINDOW; i++)
        if (t->slot[i].use == SL_SLOT_LOST)
            send_slot(t, &t->slot[i], t->slot[i].offset, out);
    switch (t->state) {
    case SL_TASK_PROBED:
    case SL_TASK_POLLING:
    case SL_TASK_REPORTING:
        if (t->state == SL_TASK_PROBED && t->probe_waits)
            return;
        if (slots_open(t) == 0 && (s = slot_free(t)) != NULL)
            send_slot(t, s, 0, out);
        return;
    case SL_TASK_PLAN:
    case SL_TASK_HEAD:
    case SL_TASK_MODEL:
        pump_window(t, wanted(t)->size, out);
        return;
    case SL_TASK_PUSHING:
        pump_window(t, last_offset(t->kept.blob.size), out);
        if (t->next_offset == last_offset(t->kept.blob.size) && slots_open(t) == 0)
            pump_window(t, t->kept.blob.size, out);
        return;
    case SL_TASK_IDLE:
    case SL_TASK_CHECKING:
    case SL_TASK_WORKING:
        return;
    }
}

/* --- entering states
 * -------------------------------------------------------------------------- */

static void release(struct sl_task *t, enum sl_blob_kind kind,
                    struct sl_task_actions *out)
{
    if (t->hold[kind] == SL_HOLD_NONE)
        return;
    struct sl_task_action *a = add(out, SL_TASK_RELEASE_BLOB);
    a->blob = kind;
    a->ref = t->blob[kind];
    t->hold[kind] = SL_HOLD_NONE;
}

/* The task is over, one way or the other. A whole plan or head is kept for the next
 * round. */
static void leave_task(struct sl_task *t, struct sl_task_actions *out)
{
    slots_abandon(t);
    release(t, SL_BLOB_MODEL, out);
    if (t->hold[SL_BLOB_PLAN] == SL_HOLD_PART)
        release(t, SL_BLOB_PLAN, out);
    if (t->hold[SL_BLOB_HEAD] == SL_HOLD_PART)
        release(t, SL_BLOB_HEAD, out);
}

static void enter_polling(struct sl_task *t)
{
    t->state = SL_TASK_POLLING;
}

static void enter_idle(struct sl_task *t, uint64_t until_ms)
{
    t->state = SL_TASK_IDLE;
    t->idle_until_ms = until_ms;
}

static void enter_reporting(struct sl_task *t, const char *reason,
                            struct sl_task_actions *out)
{
    leave_task(t, out);
    t->failed = reason != NULL;
    if (reason != NULL) {
        set_reason(t, reason);
        say(out, SL_NOTE_FAILED);
    }
    t->state = SL_TASK_REPORTING;
}

static void enter_pushing(struct sl_task *t)
{
    t->state = SL_TASK_PUSHING;
    t->next_offset = 0;
    t->again = 0;
    t->kept_accepted = false;
}

static void begin_blob(struct sl_task *t, enum sl_blob_kind kind,
                       struct sl_task_actions *out)
{
    struct sl_task_action *a = add(out, SL_TASK_BEGIN_BLOB);
    a->blob = kind;
    a->ref = t->blob[kind] = *ordered(t, kind);
    t->hold[kind] = SL_HOLD_PART;
}

static void finish_blob(const struct sl_task *t, struct sl_task_actions *out)
{
    struct sl_task_action *a = add(out, SL_TASK_FINISH_BLOB);
    a->blob = fetched(t);
    a->ref = *wanted(t);
}

/* Is what is held the whole of what the order names? */
static bool holds(const struct sl_task *t, enum sl_blob_kind kind)
{
    const struct sl_blob_ref *want = ordered(t, kind);
    return t->hold[kind] == SL_HOLD_WHOLE && t->blob[kind].size == want->size &&
           sl_blob_id_equal(&t->blob[kind].id, &want->id);
}

static void enter_model(struct sl_task *t, struct sl_task_actions *out)
{
    t->state = SL_TASK_MODEL;
    if (t->hold[SL_BLOB_MODEL] == SL_HOLD_WHOLE) { /* it came with the task */
        t->next_offset = t->order.model.size;
        finish_blob(t, out);
        return;
    }
    begin_blob(t, SL_BLOB_MODEL, out);
    t->next_offset = 0;
}

/* The head, unless there is none or it is held, then the model. */
static void enter_head(struct sl_task *t, struct sl_task_actions *out)
{
    bool held = holds(t, SL_BLOB_HEAD);
    if (!held)
        release(t, SL_BLOB_HEAD, out);
    if (held || t->order.head.size == 0) {
        enter_model(t, out);
        return;
    }
    t->state = SL_TASK_HEAD;
    begin_blob(t, SL_BLOB_HEAD, out);
    t->next_offset = 0;
}

/* inline_model: the message at hand carries all of it. */
static void begin_task(struct sl_task *t, bool inline_model, struct sl_task_actions *out)
{
    say(out, SL_NOTE_TASK);
    if (inline_model) {
        begin_blob(t, SL_BLOB_MODEL, out);
        struct sl_task_action *a = add(out, SL_TASK_WRITE_BLOB);
        a->blob = SL_BLOB_MODEL;
        a->ref = t->order.model;
        t->hold[SL_BLOB_MODEL] = SL_HOLD_WHOLE;
    }
    if (holds(t, SL_BLOB_PLAN)) {
        enter_head(t, out);
        return;
    }
    release(t, SL_BLOB_PLAN, out);
    t->state = SL_TASK_PLAN;
    begin_blob(t, SL_BLOB_PLAN, out);
    t->next_offset = 0;
}

static void drop_kept(struct sl_task *t, struct sl_task_actions *out)
{
    if (!t->kept_present)
        return;
    t->kept_present = false;
    t->kept_accepted = false;
    add(out, SL_TASK_DROP_KEPT);
}

static bool makes_update(const struct sl_task_order *o)
{
    return o->kind == SL_TASK_TRAIN || o->kind == SL_TASK_CALIBRATE;
}

/* Is this what the task asks for? Equal inputs give equal bytes, whatever the attempt. */
static bool answers(const struct sl_kept_update *k, const struct sl_task_order *o)
{
    return makes_update(o) && k->run_id == o->run_id && k->round == o->round &&
           sl_blob_id_equal(&k->plan, &o->plan.id) &&
           sl_blob_id_equal(&k->model, &o->model.id);
}

/* --- replies
 * ---------------------------------------------------------------------------------- */

/* An answer that makes no sense: its request is repeated in a while, after registering
 * anew. */
static void refuse(struct sl_task *t, const struct sl_task_event *ev, const char *reason,
                   struct sl_task_actions *out)
{
    set_reason(t, ev->msg->kind == SL_MSG_ACK && ev->msg->ack.reason[0] != 0
                      ? ev->msg->ack.reason
                      : reason);
    say(out, SL_NOTE_REFUSED);
    t->link = SL_LINK_PAUSED;
    t->register_id = 0;
    t->pause_until_ms = ev->now_ms + SL_TASK_REFUSED_MS;
}

static void on_registered(struct sl_task *t, const struct sl_task_event *ev,
                          struct sl_task_actions *out)
{
    t->register_id = 0;
    if (ev->msg->kind != SL_MSG_REGISTERED) {
        refuse(t, ev, "registration was not answered by an index", out);
        return;
    }
    t->index = ev->msg->registered.index;
    t->link = SL_LINK_UP;
    say(out, SL_NOTE_REGISTERED);
    if (t->state == SL_TASK_IDLE && !t->draining)
        enter_polling(t);
}

static void on_settled(struct sl_task *t, const struct sl_msg *m,
                       struct sl_task_actions *out)
{
    if (!m->poll_reply.has_settled || !t->kept_present ||
        t->kept.run_id != m->poll_reply.settled_run ||
        t->kept.round != m->poll_reply.settled_round)
        return;
    say(out, m->poll_reply.settled_committed ? SL_NOTE_COMMITTED : SL_NOTE_LEFT_OUT);
    if (m->poll_reply.settled_committed)
        add(out, SL_TASK_COMMIT_STATE);
    drop_kept(t, out);
}

static void on_poll_reply(struct sl_task *t, const struct sl_task_event *ev,
                          struct sl_task_actions *out)
{
    const struct sl_msg *m = ev->msg;
    on_settled(t, m, out);
    const struct sl_task_order *o = &m->poll_reply.task;
    if (m->poll_reply.draining)
        say(out, SL_NOTE_DRAINING);
    if (o->kind == SL_TASK_NONE) {
        uint64_t wait =
            m->poll_reply.draining ? SL_TASK_PAUSE_MS : m->poll_reply.again_ms;
        if (wait == 0)
            enter_polling(t);
        else
            enter_idle(t, ev->now_ms + wait);
        return;
    }
    if (t->draining && !(t->kept_present && answers(&t->kept, o))) {
        enter_idle(t, SL_TASK_NEVER);
        return;
    }
    t->order = *o;
    if (t->kept_present && answers(&t->kept, o)) {
        t->state = SL_TASK_CHECKING;
        add(out, SL_TASK_LOAD_KEPT);
        return;
    }
    if (makes_update(o))
        drop_kept(t, out);
    begin_task(t, m->attachment_bytes == o->model.size, out);
}

static void on_chunk(struct sl_task *t, const struct sl_task_event *ev,
                     struct sl_task_slot *s, struct sl_task_actions *out)
{
    const struct sl_msg *m = ev->msg;
    const struct sl_blob_ref *ref = wanted(t);
    if (!m->chunk.found) {
        s->use = SL_SLOT_FREE;
        leave_task(t, out);
        set_reason(t, "the coordinator does not have it any more");
        say(out, SL_NOTE_GONE);
        enter_idle(t, ev->now_ms + SL_TASK_PAUSE_MS);
        return;
    }
    if (!sl_blob_id_equal(&m->chunk.id, &ref->id) || m->chunk.total != ref->size ||
        m->chunk.offset != s->offset ||
        m->attachment_bytes != chunk_at(ref->size, s->offset)) {
        s->use = SL_SLOT_LOST;
        refuse(t, ev, "a chunk is not the one asked for", out);
        return;
    }
    struct sl_task_action *a = add(out, SL_TASK_WRITE_BLOB);
    a->blob = fetched(t);
    a->ref = *ref;
    a->offset = s->offset;
    s->use = SL_SLOT_FREE;
    if (t->next_offset >= ref->size && slots_open(t) == 0)
        finish_blob(t, out);
}

/* MORE. To a last chunk it says where the coordinator's copy ends, which lost something
 * in a restart: everything from there is sent again. To another one it may say that the
 * coordinator has more than was sent in this session: sending goes on from there. */
static void on_more(struct sl_task *t, const struct sl_task_event *ev,
                    struct sl_task_slot *s, struct sl_task_actions *out)
{
    uint64_t last = last_offset(t->kept.blob.size);
    uint64_t next = ev->msg->put_reply.next_offset / SL_CHUNK_BYTES * SL_CHUNK_BYTES;
    if (s->offset == last) {
        s->use = SL_SLOT_FREE;
        t->next_offset = next < last ? next : last;
        if (++t->again >= SL_TASK_AGAIN_MAX) {
            t->again = 0;
            refuse(t, ev, "the update is asked for again and again", out);
        }
        return;
    }
    s->use = SL_SLOT_FREE;
    if (next > t->next_offset)
        t->next_offset = next < last ? next : last;
}

static void on_put_reply(struct sl_task *t, const struct sl_task_event *ev,
                         struct sl_task_slot *s, struct sl_task_actions *out)
{
    const struct sl_msg *m = ev->msg;
    if (m->put_reply.status == SL_PUT_MORE) {
        on_more(t, ev, s, out);
        return;
    }
    s->use = SL_SLOT_FREE;
    slots_abandon(t);
    if (m->put_reply.status == SL_PUT_ACCEPTED) {
        t->kept_accepted = true;
        say(out, SL_NOTE_ACCEPTED);
    } else {
        set_reason(t, m->put_reply.reason);
        say(out, m->put_reply.status == SL_PUT_STALE ? SL_NOTE_STALE : SL_NOTE_REJECTED);
        drop_kept(t, out);
    }
    enter_polling(t);
}

/* Pushing was answered by a plain no. */
static void on_put_refused(struct sl_task *t, const struct sl_msg *m,
                           struct sl_task_slot *s, struct sl_task_actions *out)
{
    s->use = SL_SLOT_FREE;
    slots_abandon(t);
    set_reason(t, m->ack.reason);
    say(out, SL_NOTE_REJECTED);
    drop_kept(t, out);
    enter_polling(t);
}

static void on_decision(struct sl_task *t, const struct sl_task_event *ev,
                        struct sl_task_slot *s, struct sl_task_actions *out)
{
    const struct sl_msg *m = ev->msg;
    s->use = SL_SLOT_FREE;
    if (m->decision.go == SL_GO_ON) {
        t->state = SL_TASK_WORKING;
        add(out, SL_TASK_GO_ON);
    } else if (m->decision.go == SL_GO_STOP) {
        snprintf(t->reason, sizeof t->reason, "%s", m->decision.reason);
        say(out, SL_NOTE_STOPPED);
        add(out, SL_TASK_STOP);
        leave_task(t, out);
        enter_polling(t);
    } else if (m->decision.again_ms > 0) {
        t->probe_waits = true;
        t->idle_until_ms = ev->now_ms + m->decision.again_ms;
    }
}

static void on_reported(struct sl_task *t, const struct sl_task_event *ev,
                        struct sl_task_slot *s)
{
    s->use = SL_SLOT_FREE;
    if (t->failed)
        enter_idle(t, ev->now_ms + SL_TASK_PAUSE_MS);
    else
        enter_polling(t);
}

static void on_reply(struct sl_task *t, const struct sl_task_event *ev,
                     struct sl_task_actions *out)
{
    if (ev->id == 0)
        return;
    if (ev->id == t->register_id) {
        on_registered(t, ev, out);
        return;
    }
    struct sl_task_slot *s = slot_find(t, ev->id);
    if (s == NULL)
        return;
    enum sl_msg_kind kind = ev->msg->kind;
    if (s->use == SL_SLOT_ABANDONED) {
        s->use = SL_SLOT_FREE;
    } else if (t->state == SL_TASK_POLLING && kind == SL_MSG_POLL_REPLY) {
        s->use = SL_SLOT_FREE;
        on_poll_reply(t, ev, out);
    } else if (fetches(t) && kind == SL_MSG_CHUNK) {
        on_chunk(t, ev, s, out);
    } else if (t->state == SL_TASK_PUSHING && kind == SL_MSG_PUT_REPLY) {
        on_put_reply(t, ev, s, out);
    } else if (t->state == SL_TASK_PUSHING && kind == SL_MSG_ACK && !ev->msg->ack.ok) {
        on_put_refused(t, ev->msg, s, out);
    } else if (t->state == SL_TASK_PROBED && kind == SL_MSG_DECISION) {
        on_decision(t, ev, s, out);
    } else if (t->state == SL_TASK_REPORTING && kind == SL_MSG_ACK) {
        on_reported(t, ev, s);
    } else {
        s->use = SL_SLOT_LOST;
        refuse(t, ev, "an answer of another kind than asked for", out);
    }
}

/* --- other events
 * ------------------------------------------------------------------------------ */

static void send_register(struct sl_task *t, struct sl_task_actions *out)
{
    t->link = SL_LINK_REGISTERING;
    t->register_id = t->next_id++;
    add(out, SL_TASK_SEND_REGISTER)->id = t->register_id;
}

static void on_disconnected(struct sl_task *t)
{
    slots_lost(t);
    t->register_id = 0;
    t->link = SL_LINK_DOWN;
}

static void on_connected(struct sl_task *t, struct sl_task_actions *out)
{
    on_disconnected(t);
    t->again = 0;
    send_register(t, out);
}

static void on_lost(struct sl_task *t, uint64_t id)
{
    if (id == 0)
        return;
    struct sl_task_slot *s = slot_find(t, id);
    if (s == NULL && id != t->register_id)
        return;
    if (s != NULL)
        s->use = s->use == SL_SLOT_OPEN ? SL_SLOT_LOST : SL_SLOT_FREE;
    t->register_id = 0;
    t->link = SL_LINK_DOWN;
}

static void on_time(struct sl_task *t, uint64_t now_ms, struct sl_task_actions *out)
{
    if (t->state == SL_TASK_IDLE && now_ms >= t->idle_until_ms && !t->draining)
        enter_polling(t);
    if (t->state == SL_TASK_PROBED && now_ms >= t->idle_until_ms)
        t->probe_waits = false;
    if (t->link == SL_LINK_PAUSED && now_ms >= t->pause_until_ms)
        send_register(t, out);
}

static void on_drain(struct sl_task *t, struct sl_task_actions *out)
{
    t->draining = true;
    if (t->state == SL_TASK_PROBED) /* it may be long till the decision */
        add(out, SL_TASK_STOP);
    if (fetches(t) || t->state == SL_TASK_PROBED) {
        leave_task(t, out);
        enter_idle(t, SL_TASK_NEVER);
    }
}

static void on_kept(struct sl_task *t, const struct sl_task_event *ev,
                    struct sl_task_actions *out)
{
    if (t->state != SL_TASK_CHECKING)
        return;
    if (ev->kept != NULL && answers(ev->kept, &t->order)) {
        t->kept = *ev->kept;
        say(out, SL_NOTE_AGAIN);
        enter_pushing(t);
        return;
    }
    say(out, SL_NOTE_DAMAGED);
    drop_kept(t, out);
    if (t->draining)
        enter_idle(t, SL_TASK_NEVER);
    else
        begin_task(t, false,
                   out); /* the message that may have carried the model is gone */
}

static void on_blob(struct sl_task *t, struct sl_task_actions *out)
{
    if (t->state == SL_TASK_PLAN) {
        t->hold[SL_BLOB_PLAN] = SL_HOLD_WHOLE;
        enter_head(t, out);
    } else if (t->state == SL_TASK_HEAD) {
        t->hold[SL_BLOB_HEAD] = SL_HOLD_WHOLE;
        enter_model(t, out);
    } else if (t->state == SL_TASK_MODEL) {
        t->hold[SL_BLOB_MODEL] = SL_HOLD_WHOLE;
        t->state = SL_TASK_WORKING;
        add(out, SL_TASK_WORK);
    }
}

static void on_unreadable(struct sl_task *t, const struct sl_task_event *ev,
                          struct sl_task_actions *out)
{
    struct sl_task_slot *s = slot_find(t, ev->id);
    if (s == NULL)
        return;
    s->use = SL_SLOT_FREE;
    if (t->state != SL_TASK_PUSHING)
        return;
    slots_abandon(t);
    say(out, SL_NOTE_DAMAGED);
    drop_kept(t, out);
    enter_idle(t, ev->now_ms + SL_TASK_PAUSE_MS);
}

static void on_done(struct sl_task *t, const struct sl_task_event *ev,
                    struct sl_task_actions *out)
{
    if (t->state != SL_TASK_WORKING)
        return;
    bool update = makes_update(&t->order);
    if (update && ev->kept != NULL && answers(ev->kept, &t->order) &&
        ev->kept->blob.size > 0) {
        leave_task(t, out);
        t->kept = *ev->kept;
        t->kept_present = true;
        enter_pushing(t);
    } else if (!update && ev->eval != NULL) {
        t->eval = *ev->eval;
        enter_reporting(t, NULL, out);
    } else {
        enter_reporting(t, ev->reason != NULL ? ev->reason : "the work gave no result",
                        out);
    }
}

static void on_probe_done(struct sl_task *t, const struct sl_task_event *ev,
                          struct sl_task_actions *out)
{
    if (t->state != SL_TASK_WORKING || t->order.kind != SL_TASK_TRAIN)
        return;
    if (t->draining) {
        add(out, SL_TASK_STOP);
        leave_task(t, out);
        enter_idle(t, SL_TASK_NEVER);
        return;
    }
    t->state = SL_TASK_PROBED;
    t->loss = ev->loss;
    t->samples = ev->samples;
    t->probe_waits = false;
}

void sl_task_init(struct sl_task *t, const struct sl_kept_update *kept)
{
    *t = (struct sl_task){
        .next_id = 1, .index = UINT32_MAX, .idle_until_ms = SL_TASK_NEVER};
    if (kept != NULL) {
        t->kept = *kept;
        t->kept_present = true;
    }
}

void sl_task_step(struct sl_task *t, const struct sl_task_event *ev,
                  struct sl_task_actions *out)
{
    out->n = 0;
    switch (ev->kind) {
    case SL_TASK_EV_CONNECTED:
        on_connected(t, out);
        break;
    case SL_TASK_EV_DISCONNECTED:
        on_disconnected(t);
        break;
    case SL_TASK_EV_REPLY:
        on_reply(t, ev, out);
        break;
    case SL_TASK_EV_LOST:
        on_lost(t, ev->id);
        break;
    case SL_TASK_EV_TIME:
        on_time(t, ev->now_ms, out);
        break;
    case SL_TASK_EV_DRAIN:
        on_drain(t, out);
        break;
    case SL_TASK_EV_KEPT:
        on_kept(t, ev, out);
        break;
    case SL_TASK_EV_BLOB:
        on_blob(t, out);
        break;
    case SL_TASK_EV_BLOB_FAILED:
        if (fetches(t))
            enter_reporting(t, ev->reason, out);
        break;
    case SL_TASK_EV_UNREADABLE:
        on_unreadable(t, ev, out);
        break;
    case SL_TASK_EV_DONE:
        on_done(t, ev, out);
        break;
    case SL_TASK_EV_PROBED:
        on_probe_done(t, ev, out);
        break;
    }
    pump(t, out);
}

uint64_t sl_task_wake_at(const struct sl_task *t)
{
    uint64_t at = SL_TASK_NEVER;
    if (t->state == SL_TASK_IDLE && !t->draining)
        at = t->idle_until_ms;
    if (t->state == SL_TASK_PROBED && t->probe_waits)
        at = t->idle_until_ms;
    if (t->link == SL_LINK_PAUSED && t->pause_until_ms < at)
        at = t->pause_until_ms;
    return at;
}

bool sl_task_at_rest(const struct sl_task *t)
{
    return t->state == SL_TASK_IDLE || t->state == SL_TASK_POLLING;
}
