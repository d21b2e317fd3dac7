/* SPDX-License-Identifier: Apache-2.0 */
/* A run of three clients and two rounds, with the coordinator killed after any one of its
 * messages, or after every one: the model's bytes are those of the run that nothing
 * happened to. */
#include "server/coordinator.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/core_rig.h"

#define CLIENTS 3
#define ROUNDS 2
#define NO_KILL UINT32_MAX
#define EVERY (UINT32_MAX - 1)

/* --- a client of a few lines: it repeats what was not answered
 * ----------------------------------- */

struct learner {
    uint32_t k;
    enum { REGISTERS, POLLS, FETCHES, PUSHES } state;
    bool pending; /* the update was acknowledged, its round is not settled */
    uint32_t settled;
    struct sl_task_order task;
    struct rig_update update; /* kept until its round is settled; values NULL = none */
    uint8_t *model;
    size_t at;
    bool waits;
    sl_request_id asked;
};

/* Values that follow the client, the round, the place and the model, all within the
 * bound. */
static void train(const struct rig *r, struct learner *l)
{
    rig_update_deinit(&l->update);
    l->update = rig_update(r, l->task.run_id, l->task.round, 0);
    assert_int_equal(l->task.model.size, l->update.blob.size);
    for (size_t i = 0; i < l->update.blob.size / sizeof(float); i++) {
        float w;
        memcpy(&w, l->model + i * sizeof(w), sizeof(w));
        uint32_t h =
            ((uint32_t)i * 2654435761u + l->k * 40503u + l->task.round * 977u) >> 20;
        l->update.values[i] = (float)h / 4096.0f - 0.125f * w;
    }
    l->update.meta.weight = l->update.meta.samples = 20 + 10 * l->k;
    rig_rename(&l->update);
    l->at = 0;
    l->state = PUSHES;
}

static sl_request_id ask(struct rig *r, struct learner *l)
{
    if (l->state == REGISTERS)
        return rig_register(r, l->k, 20 + 10 * l->k);
    if (l->state == PUSHES)
        return rig_put_chunk(r, l->k, &l->update, l->at);
    if (l->state == POLLS && l->pending)
        return rig_poll_pending(r, l->k, l->update.run, l->update.round);
    if (l->state == POLLS)
        return rig_poll(r, l->k);
    struct sl_msg get = {.kind = SL_MSG_GET_CHUNK};
    get.get_chunk.id = l->task.model.id;
    get.get_chunk.offset = l->at;
    get.get_chunk.length = SL_CHUNK_BYTES;
    return rig_send(r, l->k, &get);
}

static void take_task(const struct rig *r, struct learner *l, const struct sl_msg *m)
{
    if (m->poll_reply.has_settled) {
        assert_true(l->pending && m->poll_reply.settled_committed);
        assert_int_equal(m->poll_reply.settled_round, l->settled);
        l->settled++;
        l->pending = false;
        rig_update_deinit(&l->update);
    }
    if (m->poll_reply.task.kind != SL_TASK_TRAIN)
        return;
    l->task = m->poll_reply.task;
    l->at = 0;
    if (l->update.values != NULL && l->update.round == l->task.round) {
        l->state = PUSHES; /* it is kept, and asked for again */
        return;
    }
    assert_false(l->pending);
    l->state = FETCHES;
    if (m->attachment_bytes == 0)
        return;
    l->model = realloc(l->model, m->attachment_bytes);
    memcpy(l->model, m->attachment, m->attachment_bytes);
    train(r, l);
}

static void take_chunk(const struct rig *r, struct learner *l, const struct sl_msg *m)
{
    if (!m->chunk.found) {
        l->state = POLLS;
        return;
    }
    l->model = realloc(l->model, m->chunk.total);
    memcpy(l->model + l->at, m->attachment, m->attachment_bytes);
    l->at += m->attachment_bytes;
    if (l->at < m->chunk.total)
        return;
    struct sl_blob_id id;
    sl_xxh3_128(l->model, m->chunk.total, &id);
    assert_true(sl_blob_id_equal(&id, &l->task.model.id));
    train(r, l);
}

static void take_verdict(struct learner *l, const struct sl_msg *m)
{
    size_t last = rig_chunks(&l->update) - 1,
           next = m->put_reply.next_offset / SL_CHUNK_BYTES;
    if (m->put_reply.status == SL_PUT_MORE) {
        l->at = next < last ? next : last;
        return;
    }
    if (m->put_reply.status != SL_PUT_ACCEPTED)
        fail_msg("client %" PRIu32 ": %s", l->k, m->put_reply.reason);
    l->pending = true;
    l->state = POLLS;
}

/* Takes the answer that is there, and asks what is next. false: still waiting. */
static bool go_on(struct rig *r, struct learner *l)
{
    if (l->waits && !rig_answered(r, l->asked))
        return false;
    if (l->waits) {
        const struct sl_msg *m = &r->answers[l->asked].m;
        if (m->kind == SL_MSG_REGISTERED)
            l->state = l->update.values != NULL && !l->pending ? PUSHES : POLLS;
        else if (m->kind == SL_MSG_POLL_REPLY)
            take_task(r, l, m);
        else if (m->kind == SL_MSG_CHUNK)
            take_chunk(r, l, m);
        else
            take_verdict(l, rig_answer(r, l->asked, SL_MSG_PUT_REPLY));
    }
    l->asked = ask(r, l);
    l->waits = true;
    return true;
}

/* --- the run
 * ----------------------------------------------------------------------------------------
 */

struct storm {
    uint32_t kill_at; /* message; EVERY, NO_KILL */
    bool power_cut;
    bool reply_lost; /* the answer to the last message before the kill does not arrive */
    bool jobs_held;  /* one ends after each message; else at once */
    unsigned shape;
    uint32_t n_messages; /* out */
};

struct outcome {
    char digest[SL_DIGEST_HEX], first[SL_DIGEST_HEX]; /* of the end, of round 0 */
    json_int_t up, down;
    double accuracy;
};

static void kill_and_boot(struct rig *r, const struct storm *s, struct learner l[CLIENTS],
                          uint32_t last)
{
    rig_kill(r, s->power_cut);
    rig_boot(r);
    for (uint32_t k = 0; k < CLIENTS; k++) { /* on a new connection */
        if (l[k].waits && rig_answered(r, l[k].asked) && !(k == last && s->reply_lost))
            continue; /* it has the answer, and takes it first */
        l[k].waits = false;
    }
}

static bool all_settled(const struct learner l[CLIENTS])
{
    for (uint32_t k = 0; k < CLIENTS; k++)
        if (l[k].settled < ROUNDS)
            return false;
    return true;
}

/* What clients register is not stored: they say it again before they go on. */
static void register_again(struct rig *r)
{
    for (uint32_t k = 0; k < CLIENTS; k++)
        rig_register(r, k, 20 + 10 * k);
}

static void play(struct rig *r, struct storm *s, struct learner l[CLIENTS])
{
    for (uint32_t turn = 0; !all_settled(l); turn++) {
        assert_true(turn < 5000);
        bool moved = false;
        for (uint32_t k = 0; k < CLIENTS; k++) {
            if (!go_on(r, &l[k]))
                continue;
            moved = true;
            uint32_t n = s->n_messages++;
            if (n == s->kill_at || s->kill_at == EVERY) {
                kill_and_boot(r, s, l, k);
                register_again(r);
            }
            if (r->n_jobs > 0)
                rig_finish(r, (n * 7 + 3) % r->n_jobs);
        }
        if (!moved && r->n_jobs > 0)
            rig_finish(r, 0);
        else if (!moved)
            rig_sleep(r, r->now + 1000);
    }
}

static struct outcome run_storm(struct storm *s)
{
    struct rig rig, *r = &rig;
    struct learner l[CLIENTS] = {0};
    rig_init(r);
    r->holds = s->jobs_held;
    const struct rig_plan plan = {
        .clients = CLIENTS, .rounds = ROUNDS, .shape = s->shape};
    uint64_t run = rig_start(r, &plan);
    for (uint32_t k = 0; k < CLIENTS; k++)
        l[k].k = k;
    play(r, s, l);
    enum sl_run_state end;
    assert_true(sl_coordinator_finished(r->c, run, &end));
    assert_int_equal(end, SL_RUN_DONE);
    const json_t *line = rig_line(r, "run_end", -1);
    struct outcome o = {.up = rig_integer(line, "bytes_up"),
                        .down = rig_integer(line, "bytes_down"),
                        .accuracy = json_number_value(json_object_get(line, "accuracy"))};
    strcpy(o.digest, rig_text(line, "model_digest"));
    strcpy(o.first, rig_text(rig_line(r, "round", 0), "model_digest"));
    assert_int_equal(rig_lines(r, "round"), ROUNDS);
    for (uint32_t k = 0; k < CLIENTS; k++) {
        rig_update_deinit(&l[k].update);
        free(l[k].model);
    }
    rig_deinit(r);
    return o;
}

static void expect_equal(const struct storm *s, const struct outcome *is,
                         const struct outcome *want)
{
    if (strcmp(is->digest, want->digest) != 0 || strcmp(is->first, want->first) != 0)
        fail_msg("killed at message %" PRIu32 ": model %.16s, not %.16s", s->kill_at,
                 is->digest, want->digest);
    assert_int_equal(is->up, want->up);
    assert_int_equal(is->down, want->down);
    assert_true(is->accuracy == want->accuracy);
}

/* Kills after each message in turn, until there is none that late. */
static void kill_everywhere(unsigned shape, bool jobs_held, bool power_cut,
                            bool reply_lost)
{
    struct storm calm = {.kill_at = NO_KILL, .shape = shape};
    struct outcome want = run_storm(&calm);
    assert_true(strcmp(want.digest, want.first) != 0);
    assert_true(calm.n_messages >= CLIENTS * (1 + 2 * ROUNDS + 1));
    for (uint32_t at = 0;; at++) {
        struct storm s = {.kill_at = at,
                          .power_cut = power_cut,
                          .reply_lost = reply_lost,
                          .jobs_held = jobs_held,
                          .shape = shape};
        struct outcome is = run_storm(&s);
        expect_equal(&s, &is, &want);
        if (s.n_messages <= at)
            break;
    }
}

static void a_kill_after_any_message_leaves_the_same_model(void **state)
{
    for (int i = 0; i < 4; i++)
        kill_everywhere(RIG_SMALL, i & 1, false, i & 2);
}

static void a_power_cut_after_any_message_leaves_the_same_model(void **state)
{
    for (int i = 0; i < 4; i++)
        kill_everywhere(RIG_SMALL, i & 1, true, i & 2);
}

static void a_kill_after_any_message_leaves_the_same_model_of_many_chunks(void **state)
{
    kill_everywhere(RIG_TWO, true, false, false);
    kill_everywhere(RIG_TWO, true, false, true);
}

static void
a_power_cut_after_any_message_leaves_the_same_model_of_many_chunks(void **state)
{
    kill_everywhere(RIG_TWO, true, true, true);
}

static void kills_after_every_message_leave_the_same_model(void **state)
{
    struct storm calm = {.kill_at = NO_KILL};
    struct outcome want = run_storm(&calm);
    struct storm s = {.kill_at = EVERY};
    struct outcome is = run_storm(&s);
    expect_equal(&s, &is, &want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_kill_after_any_message_leaves_the_same_model),
        cmocka_unit_test(a_power_cut_after_any_message_leaves_the_same_model),
        cmocka_unit_test(a_kill_after_any_message_leaves_the_same_model_of_many_chunks),
        cmocka_unit_test(
            a_power_cut_after_any_message_leaves_the_same_model_of_many_chunks),
        cmocka_unit_test(kills_after_every_message_leave_the_same_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
