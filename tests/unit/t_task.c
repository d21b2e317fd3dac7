/* SPDX-License-Identifier: Apache-2.0 */
/* The machine alone: every state against every event, and the transitions by name. */
#include "client/task.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/limits.h"

#define CHUNKS 6 /* of a blob here, the last one short */
#define SIZE (5 * SL_CHUNK_BYTES + 100)

static const struct sl_task_order order = {
    .kind = SL_TASK_TRAIN,
    .run_id = 4,
    .round = 9,
    .attempt = 1,
    .plan = {{{1}}, 700},
    .model = {{{2}}, SIZE},
};

/* The same of a model with a fixed head. */
static struct sl_task_order headed(void)
{
    struct sl_task_order o = order;
    o.head = (struct sl_blob_ref){{{7}}, 3 * SL_CHUNK_BYTES + 8};
    return o;
}

static const struct sl_kept_update kept = {
    .run_id = 4, .round = 9, .plan = {{1}}, .model = {{2}}, .blob = {{{3}}, SIZE}};

static struct sl_task_actions step(struct sl_task *t, const struct sl_task_event *ev)
{
    struct sl_task_actions out;
    sl_task_step(t, ev, &out);
    return out;
}

static struct sl_task_actions event(struct sl_task *t, enum sl_task_event_kind kind)
{
    return step(t, &(struct sl_task_event){.kind = kind, .now_ms = 100, .reason = "why"});
}

static struct sl_task_actions reply(struct sl_task *t, uint64_t id,
                                    const struct sl_msg *m)
{
    return step(t, &(struct sl_task_event){
                       .kind = SL_TASK_EV_REPLY, .now_ms = 100, .id = id, .msg = m});
}

static const struct sl_task_action *find(const struct sl_task_actions *out,
                                         enum sl_task_action_kind kind)
{
    for (size_t i = 0; i < out->n; i++)
        if (out->a[i].kind == kind)
            return &out->a[i];
    return NULL;
}

static size_t count(const struct sl_task_actions *out, enum sl_task_action_kind kind)
{
    size_t n = 0;
    for (size_t i = 0; i < out->n; i++)
        n += out->a[i].kind == kind;
    return n;
}

static bool says(const struct sl_task_actions *out, enum sl_task_note note)
{
    for (size_t i = 0; i < out->n; i++)
        if (out->a[i].kind == SL_TASK_SAY && out->a[i].note == note)
            return true;
    return false;
}

/* --- into each state
 * --------------------------------------------------------------------------------- */

/* Registered and polling; the poll's id. */
static uint64_t to_polling(struct sl_task *t, const struct sl_kept_update *k)
{
    sl_task_init(t, k);
    struct sl_task_actions out = event(t, SL_TASK_EV_CONNECTED);
    struct sl_msg m = {.kind = SL_MSG_REGISTERED, .registered.index = 5};
    out = reply(t, find(&out, SL_TASK_SEND_REGISTER)->id, &m);
    assert_int_equal(t->state, SL_TASK_POLLING);
    return find(&out, SL_TASK_SEND_POLL)->id;
}

static struct sl_task_actions give(struct sl_task *t, uint64_t poll,
                                   const struct sl_task_order *o)
{
    struct sl_msg m = {.kind = SL_MSG_POLL_REPLY, .poll_reply.task = *o};
    return reply(t, poll, &m);
}

static struct sl_task_actions chunk(struct sl_task *t, const struct sl_task_action *get)
{
    static const uint8_t bytes[1];
    struct sl_msg m = {.kind = SL_MSG_CHUNK,
                       .chunk = {get->ref.id, get->offset, get->ref.size, true},
                       .attachment = bytes,
                       .attachment_bytes = get->n};
    return reply(t, get->id, &m);
}

static struct sl_task_actions to_plan(struct sl_task *t)
{
    uint64_t poll = to_polling(t, NULL);
    struct sl_task_actions out = give(t, poll, &order);
    assert_int_equal(t->state, SL_TASK_PLAN);
    return out;
}

static struct sl_task_actions to_model(struct sl_task *t)
{
    struct sl_task_actions out = to_plan(t);
    out = chunk(t, find(&out, SL_TASK_SEND_GET));
    assert_non_null(find(&out, SL_TASK_FINISH_BLOB));
    out = event(t, SL_TASK_EV_BLOB);
    assert_int_equal(t->state, SL_TASK_MODEL);
    return out;
}

static struct sl_task_actions to_head(struct sl_task *t)
{
    struct sl_task_order o = headed();
    struct sl_task_actions out = give(t, to_polling(t, NULL), &o);
    out = chunk(t, find(&out, SL_TASK_SEND_GET));
    out = event(t, SL_TASK_EV_BLOB);
    assert_int_equal(t->state, SL_TASK_HEAD);
    return out;
}

/* Answers gets in the order they were made until all are answered. */
static struct sl_task_actions fetch_all(struct sl_task *t, struct sl_task_actions out)
{
    struct sl_task_action queue[CHUNKS + 2];
    size_t n = 0;
    for (size_t done = 0;; done++) {
        for (size_t i = 0; i < out.n; i++)
            if (out.a[i].kind == SL_TASK_SEND_GET)
                queue[n++] = out.a[i];
        if (done == n)
            return out;
        out = chunk(t, &queue[done]);
    }
}

static void to_working(struct sl_task *t)
{
    struct sl_task_actions out = fetch_all(t, to_model(t));
    assert_non_null(find(&out, SL_TASK_FINISH_BLOB));
    out = event(t, SL_TASK_EV_BLOB);
    assert_non_null(find(&out, SL_TASK_WORK));
    assert_int_equal(t->state, SL_TASK_WORKING);
}

/* The report is sent. */
static struct sl_task_actions to_probed(struct sl_task *t)
{
    to_working(t);
    struct sl_task_actions out = step(t, &(struct sl_task_event){.kind = SL_TASK_EV_PROBED,
                                                                 .now_ms = 100,
                                                                 .loss = 0.5f,
                                                                 .samples = 30});
    assert_int_equal(t->state, SL_TASK_PROBED);
    return out;
}

static struct sl_task_actions to_pushing(struct sl_task *t)
{
    to_working(t);
    struct sl_task_actions out = step(
        t,
        &(struct sl_task_event){.kind = SL_TASK_EV_DONE, .now_ms = 100, .kept = &kept});
    assert_int_equal(t->state, SL_TASK_PUSHING);
    return out;
}

static struct sl_task_actions to_reporting(struct sl_task *t)
{
    to_working(t);
    struct sl_task_actions out = event(t, SL_TASK_EV_DONE);
    assert_int_equal(t->state, SL_TASK_REPORTING);
    return out;
}

static void to_checking(struct sl_task *t)
{
    uint64_t poll = to_polling(t, &kept);
    struct sl_task_actions out = give(t, poll, &order);
    assert_non_null(find(&out, SL_TASK_LOAD_KEPT));
    assert_int_equal(t->state, SL_TASK_CHECKING);
}

static void to_idle(struct sl_task *t)
{
    uint64_t poll = to_polling(t, NULL);
    struct sl_msg m = {.kind = SL_MSG_POLL_REPLY, .poll_reply.again_ms = 50};
    reply(t, poll, &m);
    assert_int_equal(t->state, SL_TASK_IDLE);
}

static void reach(struct sl_task *t, enum sl_task_state s)
{
    switch (s) {
    case SL_TASK_IDLE:
        to_idle(t);
        break;
    case SL_TASK_POLLING:
        to_polling(t, NULL);
        break;
    case SL_TASK_CHECKING:
        to_checking(t);
        break;
    case SL_TASK_PLAN:
        to_plan(t);
        break;
    case SL_TASK_HEAD:
        to_head(t);
        break;
    case SL_TASK_MODEL:
        to_model(t);
        break;
    case SL_TASK_WORKING:
        to_working(t);
        break;
    case SL_TASK_PROBED:
        to_probed(t);
        break;
    case SL_TASK_PUSHING:
        to_pushing(t);
        break;
    case SL_TASK_REPORTING:
        to_reporting(t);
        break;
    }
}

/* --- tests
 * ----------------------------------------------------------------------------------------------
 */

static void foreign_replies_and_losses_change_nothing_in_any_state(void **state)
{
    for (int s = SL_TASK_IDLE; s <= SL_TASK_REPORTING; s++) {
        for (int kind = SL_MSG_REGISTER; kind <= SL_MSG_LAST; kind++) {
            struct sl_task t, before;
            struct sl_msg m = {.kind = (enum sl_msg_kind)kind};
            memset(&t, 0, sizeof t);
            reach(&t, (enum sl_task_state)s);
            memcpy(&before, &t, sizeof t);
            struct sl_task_actions out = reply(&t, 0, &m);
            assert_int_equal(out.n, 0);
            out = reply(&t, 1, &m); /* the registration, answered already */
            assert_int_equal(out.n, 0);
            out = reply(&t, 1000, &m);
            assert_int_equal(out.n, 0);
            out = step(&t, &(struct sl_task_event){.kind = SL_TASK_EV_LOST, .id = 1000});
            assert_int_equal(out.n, 0);
            out = step(&t, &(struct sl_task_event){.kind = SL_TASK_EV_LOST, .id = 0});
            assert_int_equal(out.n, 0);
            assert_memory_equal(&t, &before, sizeof t);
        }
    }
}

static void answers_nobody_waits_for_change_nothing(void **state)
{
    static const struct {
        enum sl_task_event_kind kind;
        unsigned where; /* bit set of states in which the event means something */
    } events[] = {
        {SL_TASK_EV_KEPT, 1u << SL_TASK_CHECKING},
        {SL_TASK_EV_BLOB, 1u << SL_TASK_PLAN | 1u << SL_TASK_HEAD | 1u << SL_TASK_MODEL},
        {SL_TASK_EV_BLOB_FAILED, 1u << SL_TASK_PLAN | 1u << SL_TASK_HEAD | 1u << SL_TASK_MODEL},
        {SL_TASK_EV_UNREADABLE, 0},
        {SL_TASK_EV_DONE, 1u << SL_TASK_WORKING},
        {SL_TASK_EV_PROBED, 1u << SL_TASK_WORKING},
        {SL_TASK_EV_TIME, 1u << SL_TASK_IDLE},
    };
    for (int s = SL_TASK_IDLE; s <= SL_TASK_REPORTING; s++) {
        for (size_t e = 0; e < sizeof events / sizeof events[0]; e++) {
            struct sl_task t, before;
            memset(&t, 0, sizeof t);
            reach(&t, (enum sl_task_state)s);
            memcpy(&before, &t, sizeof t);
            if (events[e].where & 1u << s)
                continue;
            struct sl_task_actions out = event(&t, events[e].kind);
            assert_int_equal(out.n, 0);
            assert_memory_equal(&t, &before, sizeof t);
        }
    }
}

static void nothing_is_sent_while_the_session_is_down(void **state)
{
    for (int s = SL_TASK_IDLE; s <= SL_TASK_REPORTING; s++) {
        struct sl_task t;
        reach(&t, (enum sl_task_state)s);
        event(&t, SL_TASK_EV_DISCONNECTED);
        struct sl_task_actions out =
            step(&t, &(struct sl_task_event){.kind = SL_TASK_EV_TIME, .now_ms = 1000000});
        for (size_t i = 0; i < out.n; i++)
            assert_true(out.a[i].kind > SL_TASK_SEND_PROBE);
    }
}

static void new_session_repeats_what_was_open_and_nothing_else(void **state)
{
    static const size_t open[] = {1, 1, 0, 1, SL_TASK_WINDOW, SL_TASK_WINDOW, 0, 1, SL_TASK_WINDOW, 1};
    for (int s = SL_TASK_IDLE; s <= SL_TASK_REPORTING; s++) {
        struct sl_task t;
        reach(&t, (enum sl_task_state)s);
        struct sl_task_actions out = event(&t, SL_TASK_EV_CONNECTED);
        assert_int_equal(out.n, 1);
        struct sl_msg m = {.kind = SL_MSG_REGISTERED, .registered.index = 5};
        out = reply(&t, find(&out, SL_TASK_SEND_REGISTER)->id, &m);
        assert_int_equal(out.n, 1 + open[s]);
        assert_true(says(&out, SL_NOTE_REGISTERED));
    }
}

static void window_bounds_open_requests(void **state)
{
    struct sl_task t;
    struct sl_task_actions out = to_model(&t);
    assert_int_equal(count(&out, SL_TASK_SEND_GET), SL_TASK_WINDOW);
    struct sl_task_action first = *find(&out, SL_TASK_SEND_GET);
    out = chunk(&t, &first);
    assert_int_equal(count(&out, SL_TASK_SEND_GET), 1);
    assert_int_equal(find(&out, SL_TASK_SEND_GET)->offset,
                     SL_TASK_WINDOW * SL_CHUNK_BYTES);
    out = chunk(&t, &first); /* repeated */
    assert_int_equal(out.n, 0);
}

static void lost_chunk_is_asked_for_again_at_its_offset(void **state)
{
    struct sl_task t;
    struct sl_task_actions out = to_model(&t);
    struct sl_task_action gets[SL_TASK_WINDOW];
    size_t n = 0;
    for (size_t i = 0; i < out.n; i++)
        if (out.a[i].kind == SL_TASK_SEND_GET)
            gets[n++] = out.a[i];
    chunk(&t, &gets[1]); /* 0 and the next one are open now */
    step(&t, &(struct sl_task_event){.kind = SL_TASK_EV_LOST, .id = gets[0].id});
    out = event(&t, SL_TASK_EV_CONNECTED);
    struct sl_msg m = {.kind = SL_MSG_REGISTERED, .registered.index = 5};
    out = reply(&t, find(&out, SL_TASK_SEND_REGISTER)->id, &m);
    bool seen[CHUNKS] = {0};
    for (size_t i = 0; i < out.n; i++)
        if (out.a[i].kind == SL_TASK_SEND_GET)
            seen[out.a[i].offset / SL_CHUNK_BYTES] = true;
    assert_true(seen[0]);
    for (size_t i = 1; i < CHUNKS; i++)
        assert_int_equal(seen[i], i > SL_TASK_WINDOW - 1 && i <= SL_TASK_WINDOW);
    out = fetch_all(&t, out);
    assert_non_null(find(&out, SL_TASK_FINISH_BLOB));
}

static void wrong_chunks_are_not_written(void **state)
{
    static const uint8_t bytes[1];
    for (int wrong = 0; wrong < 4; wrong++) {
        struct sl_task t;
        struct sl_task_actions out = to_model(&t);
        const struct sl_task_action *get = find(&out, SL_TASK_SEND_GET);
        struct sl_msg m = {.kind = SL_MSG_CHUNK,
                           .chunk = {get->ref.id, get->offset, get->ref.size, true},
                           .attachment = bytes,
                           .attachment_bytes = get->n};
        if (wrong == 0)
            m.chunk.id.bytes[5] = 1;
        else if (wrong == 1)
            m.chunk.offset += 1;
        else if (wrong == 2)
            m.chunk.total += 1;
        else
            m.attachment_bytes -= 1;
        out = reply(&t, get->id, &m);
        assert_null(find(&out, SL_TASK_WRITE_BLOB));
        assert_true(says(&out, SL_NOTE_REFUSED));
        assert_int_equal(t.link, SL_LINK_PAUSED);
        assert_int_equal(sl_task_wake_at(&t), 100 + SL_TASK_REFUSED_MS);
        out = step(&t, &(struct sl_task_event){.kind = SL_TASK_EV_TIME,
                                               .now_ms = 100 + SL_TASK_REFUSED_MS});
        assert_non_null(find(&out, SL_TASK_SEND_REGISTER));
    }
}

static void blob_that_is_gone_ends_the_task(void **state)
{
    struct sl_task t;
    struct sl_task_actions out = to_model(&t);
    const struct sl_task_action *get = find(&out, SL_TASK_SEND_GET);
    struct sl_msg m = {.kind = SL_MSG_CHUNK, .chunk = {.id = get->ref.id}};
    out = reply(&t, get->id, &m);
    assert_true(says(&out, SL_NOTE_GONE));
    assert_int_equal(find(&out, SL_TASK_RELEASE_BLOB)->blob, SL_BLOB_MODEL);
    assert_int_equal(t.state, SL_TASK_IDLE);
    assert_int_equal(t.hold[SL_BLOB_PLAN], SL_HOLD_WHOLE);
    out = step(&t, &(struct sl_task_event){.kind = SL_TASK_EV_TIME,
                                           .now_ms = 100 + SL_TASK_PAUSE_MS});
    assert_non_null(find(&out, SL_TASK_SEND_POLL)); /* in the slot that is free */
    assert_int_equal(t.state, SL_TASK_POLLING);
}

static void last_chunk_waits_for_all_others(void **state)
{
    struct sl_task t;
    struct sl_task_actions out = to_pushing(&t);
    struct sl_task_action queue[CHUNKS + 2];
    struct sl_msg more = {.kind = SL_MSG_PUT_REPLY};
    size_t n = 0, done = 0;
    for (;; done++) {
        for (size_t i = 0; i < out.n; i++) {
            if (out.a[i].kind != SL_TASK_SEND_PUT)
                continue;
            queue[n++] = out.a[i];
            if (out.a[i].last)
                assert_int_equal(done, CHUNKS - 1);
        }
        if (done == n || queue[done].last)
            break;
        out = reply(&t, queue[done].id, &more);
    }
    assert_int_equal(n, CHUNKS);
    assert_true(queue[CHUNKS - 1].last);
    assert_int_equal(queue[CHUNKS - 1].n, 100);
    struct sl_msg accepted = {.kind = SL_MSG_PUT_REPLY,
                              .put_reply.status = SL_PUT_ACCEPTED};
    out = reply(&t, queue[CHUNKS - 1].id, &accepted);
    assert_true(says(&out, SL_NOTE_ACCEPTED));
    assert_true(t.kept_present && t.kept_accepted);
    assert_non_null(find(&out, SL_TASK_SEND_POLL));
}

static void last_chunk_answered_by_more_goes_back_to_that_offset(void **state)
{
    struct sl_task t;
    struct sl_msg more = {.kind = SL_MSG_PUT_REPLY};
    struct sl_task_actions out = to_pushing(&t);
    uint64_t ids[64];
    size_t n = 0;
    const struct sl_task_action *put;
    for (size_t done = 0;; done++) {
        for (size_t i = 0; i < out.n; i++)
            if (out.a[i].kind == SL_TASK_SEND_PUT)
                ids[n++] = out.a[i].id;
        put = find(&out, SL_TASK_SEND_PUT);
        if (put != NULL && put->last)
            break;
        out = reply(&t, ids[done], &more);
    }
    more.put_reply.next_offset = 3 * SL_CHUNK_BYTES + 17;
    out = reply(&t, put->id, &more);
    assert_int_equal(count(&out, SL_TASK_SEND_PUT), 2);
    assert_int_equal(find(&out, SL_TASK_SEND_PUT)->offset, 3 * SL_CHUNK_BYTES);
}

static void refusals_drop_what_is_kept(void **state)
{
    static const enum sl_put_status statuses[] = {SL_PUT_REJECTED, SL_PUT_STALE};
    for (size_t i = 0; i < 2; i++) {
        struct sl_task t;
        struct sl_task_actions out = to_pushing(&t);
        struct sl_msg m = {.kind = SL_MSG_PUT_REPLY,
                           .put_reply = {.status = statuses[i], .reason = "bad\nweight"}};
        out = reply(&t, find(&out, SL_TASK_SEND_PUT)->id, &m);
        assert_non_null(find(&out, SL_TASK_DROP_KEPT));
        assert_string_equal(t.reason, "bad weight");
        assert_int_equal(t.state, SL_TASK_POLLING);
        assert_non_null(find(&out, SL_TASK_SEND_POLL)); /* the others may be open still */
    }
}

static void settled_drops_only_the_round_it_names(void **state)
{
    struct sl_task t;
    uint64_t poll = to_polling(&t, &kept);
    struct sl_msg m = {
        .kind = SL_MSG_POLL_REPLY,
        .poll_reply = {.has_settled = true, .settled_run = 4, .settled_round = 8}};
    struct sl_task_actions out = reply(&t, poll, &m);
    assert_null(find(&out, SL_TASK_DROP_KEPT));
    m.poll_reply.settled_round = 9;
    m.poll_reply.settled_committed = true;
    out = reply(&t, find(&out, SL_TASK_SEND_POLL)->id, &m);
    assert_non_null(find(&out, SL_TASK_DROP_KEPT));
    assert_true(says(&out, SL_NOTE_COMMITTED));
    assert_false(t.kept_present);
}

static void task_of_another_round_ends_the_kept_update(void **state)
{
    struct sl_task t;
    uint64_t poll = to_polling(&t, &kept);
    struct sl_task_order next = order;
    next.round++;
    struct sl_task_actions out = give(&t, poll, &next);
    assert_non_null(find(&out, SL_TASK_DROP_KEPT));
    assert_int_equal(t.state, SL_TASK_PLAN);
}

static void evaluation_leaves_the_kept_update(void **state)
{
    struct sl_task t;
    uint64_t poll = to_polling(&t, &kept);
    struct sl_task_order eval = order;
    eval.kind = SL_TASK_EVALUATE;
    struct sl_task_actions out = give(&t, poll, &eval);
    assert_null(find(&out, SL_TASK_DROP_KEPT));
    assert_int_equal(t.state, SL_TASK_PLAN);
    assert_true(t.kept_present);
}

static void held_poll_is_repeated_at_once_and_drained_one_after_a_pause(void **state)
{
    struct sl_task t;
    uint64_t poll = to_polling(&t, NULL);
    struct sl_msg m = {.kind = SL_MSG_POLL_REPLY};
    struct sl_task_actions out = reply(&t, poll, &m);
    assert_int_equal(t.state, SL_TASK_POLLING);
    m.poll_reply.draining = true;
    out = reply(&t, find(&out, SL_TASK_SEND_POLL)->id, &m);
    assert_int_equal(sl_task_wake_at(&t), 100 + SL_TASK_PAUSE_MS);
    out = step(&t, &(struct sl_task_event){.kind = SL_TASK_EV_TIME,
                                           .now_ms = 99 + SL_TASK_PAUSE_MS});
    assert_int_equal(out.n, 0);
    out = step(&t, &(struct sl_task_event){.kind = SL_TASK_EV_TIME,
                                           .now_ms = 100 + SL_TASK_PAUSE_MS});
    assert_non_null(find(&out, SL_TASK_SEND_POLL));
}

static void model_in_the_task_is_written_before_the_plan_is_fetched(void **state)
{
    static const uint8_t bytes[100];
    struct sl_task t;
    uint64_t poll = to_polling(&t, NULL);
    struct sl_msg m = {.kind = SL_MSG_POLL_REPLY,
                       .poll_reply.task = order,
                       .attachment = bytes,
                       .attachment_bytes = sizeof bytes};
    m.poll_reply.task.model.size = sizeof bytes;
    struct sl_task_actions out = reply(&t, poll, &m);
    assert_int_equal(find(&out, SL_TASK_WRITE_BLOB)->blob, SL_BLOB_MODEL);
    out = chunk(&t, find(&out, SL_TASK_SEND_GET));
    out = event(&t, SL_TASK_EV_BLOB);
    assert_int_equal(find(&out, SL_TASK_FINISH_BLOB)->blob, SL_BLOB_MODEL);
    assert_null(find(&out, SL_TASK_SEND_GET));
    out = event(&t, SL_TASK_EV_BLOB);
    assert_non_null(find(&out, SL_TASK_WORK));
}

static void a_head_is_fetched_between_plan_and_model_and_then_kept(void **state)
{
    struct sl_task t;
    struct sl_task_order o = headed();
    struct sl_task_actions out = to_head(&t);
    assert_int_equal(find(&out, SL_TASK_BEGIN_BLOB)->blob, SL_BLOB_HEAD);
    out = fetch_all(&t, out);
    assert_int_equal(find(&out, SL_TASK_FINISH_BLOB)->blob, SL_BLOB_HEAD);
    out = event(&t, SL_TASK_EV_BLOB);
    assert_int_equal(t.state, SL_TASK_MODEL);
    fetch_all(&t, out);
    event(&t, SL_TASK_EV_BLOB);
    out = event(&t, SL_TASK_EV_DONE); /* failed */
    for (size_t i = 0; i < out.n; i++)
        assert_false(out.a[i].kind == SL_TASK_RELEASE_BLOB && out.a[i].blob == SL_BLOB_HEAD);
    assert_int_equal(t.hold[SL_BLOB_HEAD], SL_HOLD_WHOLE);
    struct sl_msg ack = {.kind = SL_MSG_ACK, .ack.ok = true};
    reply(&t, find(&out, SL_TASK_SEND_FAILED)->id, &ack);
    out = step(&t, &(struct sl_task_event){.kind = SL_TASK_EV_TIME,
                                           .now_ms = 100 + SL_TASK_PAUSE_MS});
    out = give(&t, find(&out, SL_TASK_SEND_POLL)->id, &o);
    assert_int_equal(t.state, SL_TASK_MODEL); /* plan and head are there */
    fetch_all(&t, out);
    event(&t, SL_TASK_EV_BLOB);
    out = event(&t, SL_TASK_EV_DONE);
    reply(&t, find(&out, SL_TASK_SEND_FAILED)->id, &ack);
    out = step(&t, &(struct sl_task_event){.kind = SL_TASK_EV_TIME,
                                           .now_ms = 100 + SL_TASK_PAUSE_MS});
    o.head.id.bytes[0] = 8; /* another run's */
    out = give(&t, find(&out, SL_TASK_SEND_POLL)->id, &o);
    assert_int_equal(t.state, SL_TASK_HEAD);
    assert_int_equal(find(&out, SL_TASK_RELEASE_BLOB)->blob, SL_BLOB_HEAD);
    assert_int_equal(find(&out, SL_TASK_RELEASE_BLOB)->ref.id.bytes[0], 7);
}

static void failed_work_is_reported_and_followed_by_a_pause(void **state)
{
    struct sl_task t;
    struct sl_task_actions out = to_reporting(&t);
    assert_true(says(&out, SL_NOTE_FAILED));
    assert_string_equal(t.reason, "why");
    struct sl_msg m = {.kind = SL_MSG_ACK, .ack.ok = true};
    out = reply(&t, find(&out, SL_TASK_SEND_FAILED)->id, &m);
    assert_int_equal(t.state, SL_TASK_IDLE);
    assert_int_equal(sl_task_wake_at(&t), 100 + SL_TASK_PAUSE_MS);
}

static void result_of_another_round_is_a_failure(void **state)
{
    struct sl_task t;
    to_working(&t);
    struct sl_kept_update other = kept;
    other.round = 3;
    struct sl_task_actions out =
        step(&t, &(struct sl_task_event){.kind = SL_TASK_EV_DONE, .kept = &other});
    assert_non_null(find(&out, SL_TASK_SEND_FAILED));
}

static void drain_ends_fetching_and_takes_no_task(void **state)
{
    struct sl_task t;
    to_model(&t);
    struct sl_task_actions out = event(&t, SL_TASK_EV_DRAIN);
    assert_non_null(find(&out, SL_TASK_RELEASE_BLOB));
    assert_true(sl_task_at_rest(&t));
    assert_true(sl_task_wake_at(&t) == SL_TASK_NEVER);
    uint64_t poll = to_polling(&t, NULL);
    event(&t, SL_TASK_EV_DRAIN);
    out = give(&t, poll, &order);
    assert_int_equal(out.n, 0);
    assert_true(sl_task_at_rest(&t));
}

static void drain_lets_work_and_push_end(void **state)
{
    struct sl_task t;
    to_working(&t);
    event(&t, SL_TASK_EV_DRAIN);
    assert_false(sl_task_at_rest(&t));
    struct sl_task_actions out =
        step(&t, &(struct sl_task_event){.kind = SL_TASK_EV_DONE, .kept = &kept});
    struct sl_msg m = {.kind = SL_MSG_PUT_REPLY, .put_reply.status = SL_PUT_ACCEPTED};
    out = reply(&t, find(&out, SL_TASK_SEND_PUT)->id, &m);
    assert_true(sl_task_at_rest(&t));
    assert_null(find(&out, SL_TASK_SEND_POLL));
}

static struct sl_task_actions decide(struct sl_task *t, uint64_t id, enum sl_go go,
                                     uint32_t again_ms)
{
    struct sl_msg m = {.kind = SL_MSG_DECISION};
    m.decision.go = go;
    m.decision.again_ms = again_ms;
    return reply(t, id, &m);
}

static void who_is_told_so_goes_on_from_where_it_stood(void **state)
{
    struct sl_task t;
    struct sl_task_actions out = to_probed(&t);
    assert_true(t.loss == 0.5f && t.samples == 30);
    out = decide(&t, find(&out, SL_TASK_SEND_PROBE)->id, SL_GO_ON, 0);
    assert_non_null(find(&out, SL_TASK_GO_ON));
    assert_null(find(&out, SL_TASK_RELEASE_BLOB)); /* the training reads the model */
    assert_int_equal(t.state, SL_TASK_WORKING);
    out = step(&t, &(struct sl_task_event){.kind = SL_TASK_EV_DONE, .kept = &kept});
    assert_int_equal(t.state, SL_TASK_PUSHING);
}

static void who_is_stopped_asks_for_another_task(void **state)
{
    struct sl_task t;
    struct sl_task_actions out = to_probed(&t);
    out = decide(&t, find(&out, SL_TASK_SEND_PROBE)->id, SL_GO_STOP, 0);
    assert_non_null(find(&out, SL_TASK_STOP));
    assert_non_null(find(&out, SL_TASK_RELEASE_BLOB));
    assert_non_null(find(&out, SL_TASK_SEND_POLL));
    assert_true(says(&out, SL_NOTE_STOPPED));
}

static void a_report_is_repeated_until_there_is_a_decision(void **state)
{
    struct sl_task t;
    struct sl_task_actions out = to_probed(&t);
    out = decide(&t, find(&out, SL_TASK_SEND_PROBE)->id, SL_GO_WAIT, 0);
    assert_non_null(find(&out, SL_TASK_SEND_PROBE)); /* held long enough: at once */
    out = decide(&t, find(&out, SL_TASK_SEND_PROBE)->id, SL_GO_WAIT, 500);
    assert_int_equal(out.n, 0);
    assert_int_equal(sl_task_wake_at(&t), 600);
    out = step(&t, &(struct sl_task_event){.kind = SL_TASK_EV_TIME, .now_ms = 600});
    assert_non_null(find(&out, SL_TASK_SEND_PROBE));
    event(&t, SL_TASK_EV_DISCONNECTED); /* lost with the session, sent in the next one */
    out = event(&t, SL_TASK_EV_CONNECTED);
    struct sl_msg m = {.kind = SL_MSG_REGISTERED, .registered.index = 5};
    out = reply(&t, find(&out, SL_TASK_SEND_REGISTER)->id, &m);
    assert_int_equal(count(&out, SL_TASK_SEND_PROBE), 1);
}

static void drain_does_not_wait_for_a_decision(void **state)
{
    struct sl_task t;
    to_probed(&t);
    struct sl_task_actions out = event(&t, SL_TASK_EV_DRAIN);
    assert_non_null(find(&out, SL_TASK_STOP));
    assert_true(sl_task_at_rest(&t));
    to_working(&t);
    event(&t, SL_TASK_EV_DRAIN);
    out = event(&t, SL_TASK_EV_PROBED);
    assert_non_null(find(&out, SL_TASK_STOP));
    assert_null(find(&out, SL_TASK_SEND_PROBE));
    assert_true(sl_task_at_rest(&t));
}

static void refusal_while_another_answer_comes_still_ends_the_pause(void **state)
{
    struct sl_task t;
    struct sl_task_actions out = to_pushing(&t);
    uint64_t a = out.a[out.n - 1].id, b = out.a[out.n - 2].id;
    struct sl_msg nonsense = {.kind = SL_MSG_REGISTERED};
    struct sl_msg accepted = {.kind = SL_MSG_PUT_REPLY,
                              .put_reply.status = SL_PUT_ACCEPTED};
    reply(&t, a, &nonsense);
    assert_int_equal(t.link, SL_LINK_PAUSED);
    reply(&t, b, &accepted);
    assert_int_equal(t.state, SL_TASK_POLLING);
    assert_int_equal(sl_task_wake_at(&t), 100 + SL_TASK_REFUSED_MS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(foreign_replies_and_losses_change_nothing_in_any_state),
        cmocka_unit_test(answers_nobody_waits_for_change_nothing),
        cmocka_unit_test(who_is_told_so_goes_on_from_where_it_stood),
        cmocka_unit_test(who_is_stopped_asks_for_another_task),
        cmocka_unit_test(a_report_is_repeated_until_there_is_a_decision),
        cmocka_unit_test(drain_does_not_wait_for_a_decision),
        cmocka_unit_test(nothing_is_sent_while_the_session_is_down),
        cmocka_unit_test(new_session_repeats_what_was_open_and_nothing_else),
        cmocka_unit_test(window_bounds_open_requests),
        cmocka_unit_test(lost_chunk_is_asked_for_again_at_its_offset),
        cmocka_unit_test(wrong_chunks_are_not_written),
        cmocka_unit_test(blob_that_is_gone_ends_the_task),
        cmocka_unit_test(last_chunk_waits_for_all_others),
        cmocka_unit_test(last_chunk_answered_by_more_goes_back_to_that_offset),
        cmocka_unit_test(refusals_drop_what_is_kept),
        cmocka_unit_test(settled_drops_only_the_round_it_names),
        cmocka_unit_test(task_of_another_round_ends_the_kept_update),
        cmocka_unit_test(evaluation_leaves_the_kept_update),
        cmocka_unit_test(held_poll_is_repeated_at_once_and_drained_one_after_a_pause),
        cmocka_unit_test(model_in_the_task_is_written_before_the_plan_is_fetched),
        cmocka_unit_test(a_head_is_fetched_between_plan_and_model_and_then_kept),
        cmocka_unit_test(failed_work_is_reported_and_followed_by_a_pause),
        cmocka_unit_test(result_of_another_round_is_a_failure),
        cmocka_unit_test(drain_ends_fetching_and_takes_no_task),
        cmocka_unit_test(drain_lets_work_and_push_end),
        cmocka_unit_test(refusal_while_another_answer_comes_still_ends_the_pause),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
