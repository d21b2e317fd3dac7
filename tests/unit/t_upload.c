/* SPDX-License-Identifier: Apache-2.0 */
/* An update on its way into the model, or refused, through the coordinator's interface.
 */
#include "server/coordinator.h"

#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/core_rig.h"

static int setup(void **state)
{
    struct rig *r = malloc(sizeof(*r));
    rig_init(r);
    *state = r;
    return 0;
}

static int teardown(void **state)
{
    rig_deinit(*state);
    free(*state);
    return 0;
}

/* --- an update's way in
 * ------------------------------------------------------------------------ */

static void equal_updates_of_all_members_make_a_round(void **state)
{
    struct rig *r = *state;
    uint64_t run = rig_start(r, &(struct rig_plan){.rounds = 1});
    float was = rig_value(r);
    rig_expect_put(r, rig_give(r, 0, run, 0, 1), SL_PUT_ACCEPTED, "");
    rig_expect_member(r, 0, "accepted", "");
    rig_expect_run(r, "1 0 0 open");
    rig_expect_put(r, rig_give(r, 1, run, 0, 4), SL_PUT_ACCEPTED, "");
    assert_true(rig_value(r) == was + 2.5f);
    enum sl_run_state end;
    assert_true(sl_coordinator_finished(r->c, run, &end));
    assert_int_equal(end, SL_RUN_DONE);
    const json_t *line = rig_line(r, "round", 0);
    assert_int_equal(rig_integer(line, "selected"), 2);
    assert_int_equal(rig_integer(line, "completed"), 2);
    assert_string_equal(rig_text(line, "model_digest"),
                        rig_text(rig_line(r, "run_end", 0), "model_digest"));
}

static void a_long_update_is_checked_and_added_from_the_spool(void **state)
{
    struct rig *r = *state;
    uint64_t run = rig_start(r, &(struct rig_plan){.rounds = 1, .shape = RIG_WIDE});
    float was = rig_value(r);
    rig_expect_put(r, rig_give(r, 0, run, 0, 1), SL_PUT_ACCEPTED, "");
    rig_expect_put(r, rig_give(r, 1, run, 0, 4), SL_PUT_ACCEPTED, "");
    assert_true(rig_value(r) == was + 2.5f);
}

static void chunks_may_come_in_any_order_and_twice(void **state)
{
    struct rig *r = *state;
    uint64_t run = rig_start(r, &(struct rig_plan){.shape = RIG_WIDE});
    struct rig_update u = rig_update(r, run, 0, 1);
    static const struct {
        size_t chunk, next;
    } steps[] = {{2, 0}, {1, 0}, {1, 0}, {0, 3}};
    assert_int_equal(rig_chunks(&u), 3);
    for (size_t i = 0; i < sizeof(steps) / sizeof(*steps); i++) {
        sl_request_id id = rig_put_chunk(r, 0, &u, steps[i].chunk);
        rig_expect_put(r, id, SL_PUT_MORE, "");
        uint64_t next = steps[i].next * SL_CHUNK_BYTES;
        assert_int_equal(rig_answer(r, id, SL_MSG_PUT_REPLY)->put_reply.next_offset,
                         next < u.blob.size ? next : u.blob.size);
    }
    rig_expect_put(r, rig_put_chunk(r, 0, &u, 2), SL_PUT_ACCEPTED, "");
    rig_update_deinit(&u);
}

static void another_update_than_the_one_begun_starts_from_nothing(void **state)
{
    struct rig *r = *state;
    uint64_t run = rig_start(r, &(struct rig_plan){.rounds = 1, .shape = RIG_WIDE});
    float was = rig_value(r);
    struct rig_update a = rig_update(r, run, 0, 1), b = rig_update(r, run, 0, 2);
    rig_put_chunk(r, 0, &a, 0);
    rig_put_chunk(r, 0, &a, 1);
    sl_request_id id = rig_put_chunk(r, 0, &b, 2);
    rig_expect_put(r, id, SL_PUT_MORE, "");
    assert_int_equal(rig_answer(r, id, SL_MSG_PUT_REPLY)->put_reply.next_offset, 0);
    rig_expect_put(r, rig_put(r, 0, &b), SL_PUT_ACCEPTED, "");
    rig_expect_put(r, rig_put(r, 1, &b), SL_PUT_ACCEPTED, "");
    assert_true(rig_value(r) == was + 2);
    rig_update_deinit(&a);
    rig_update_deinit(&b);
}

static void an_update_that_is_in_is_acknowledged_again_and_counts_once(void **state)
{
    struct rig *r = *state;
    for (int wide = 0; wide < 2; wide++) {
        struct rig_plan p = {.rounds = 1, .shape = wide ? RIG_WIDE : RIG_SMALL};
        uint64_t run = wide ? rig_submit(r, &p) : rig_start(r, &p);
        float was = rig_value(r);
        rig_give(r, 0, run, 0, 1);
        rig_expect_put(r, rig_give(r, 0, run, 0, 1), SL_PUT_ACCEPTED, "");
        rig_expect_put(r, rig_give(r, 0, run, 0, 3), SL_PUT_STALE,
                       "another update of this client is in");
        rig_give(r, 1, run, 0, 2);
        assert_true(rig_value(r) == was + 1.5f);
        rig_time(r, r->now + 1);
    }
}

static void weights_tell_the_mean(void **state)
{
    struct rig *r = *state;
    uint64_t run = rig_start(r, &(struct rig_plan){.rounds = 1});
    float was = rig_value(r);
    rig_register(r, 0, 60); /* its own data */
    struct rig_update u = rig_update(r, run, 0, 1);
    u.meta.weight = 60;
    rig_expect_put(r, rig_put(r, 0, &u), SL_PUT_ACCEPTED, "");
    rig_update_deinit(&u);
    rig_expect_put(r, rig_give(r, 1, run, 0, 5), SL_PUT_ACCEPTED, "");
    assert_true(rig_value(r) == was + 2);
}

static void values_at_the_bound_are_allowed(void **state)
{
    struct rig *r = *state;
    uint64_t run = rig_start(r, &(struct rig_plan){.rounds = 1});
    float was = rig_value(r);
    rig_expect_put(r, rig_give(r, 0, run, 0, -8), SL_PUT_ACCEPTED, "");
    rig_expect_put(r, rig_give(r, 1, run, 0, -8), SL_PUT_ACCEPTED, "");
    assert_true(rig_value(r) == was - 8);
}

/* --- refusals
 * ------------------------------------------------------------------------------------ */

struct spoilt {
    const char *what;
    void (*values)(struct rig_update *u);
    void (*last)(struct sl_msg *m); /* the chunk that ends the transfer */
    enum sl_put_status status;
    const char *reason;
};

static void make_nan(struct rig_update *u)
{
    u->values[u->blob.size / sizeof(float) - 1] = NAN;
    rig_rename(u);
}

static void make_infinite(struct rig_update *u)
{
    u->values[0] = -INFINITY;
    rig_rename(u);
}

static void make_large(struct rig_update *u)
{
    u->values[u->blob.size / sizeof(float) / 2] = nextafterf(8, 9);
    rig_rename(u);
}

static void change_after_naming(struct rig_update *u)
{
    u->values[u->blob.size / sizeof(float) - 1] = 0.5f;
}

static void weigh_nothing(struct rig_update *u)
{
    u->meta.weight = 0;
}

static void weigh_too_much(struct rig_update *u)
{
    u->meta.weight = 1000001;
}

static void weigh_more(struct rig_update *u)
{
    u->meta.weight++;
}

static void weigh_less(struct rig_update *u)
{
    u->meta.weight--;
}

static void encode_otherwise(struct rig_update *u)
{
    u->meta.encoding = 1;
}

static void lose_less_than_nothing(struct rig_update *u)
{
    u->meta.loss_sum = -1;
}

static void begin_below_nothing(struct rig_update *u)
{
    u->meta.first_loss = -1;
}

static void lose_too_much(struct rig_update *u)
{
    u->meta.loss_sum = 1.7e308;
}

static void lose_no_number(struct rig_update *u)
{
    u->meta.loss_sum = NAN;
}

static void begin_too_high(struct rig_update *u)
{
    u->meta.first_loss = 1e31;
}

static void see_too_many(struct rig_update *u)
{
    u->meta.samples++;
}

static void step_too_often(struct rig_update *u)
{
    u->meta.steps++;
}

static void size_down(struct sl_msg *m)
{
    m->put_chunk.blob.size -= 4;
}

static void size_up(struct sl_msg *m)
{
    m->put_chunk.blob.size += 4;
}

static void lie_askew(struct sl_msg *m)
{
    m->put_chunk.offset++;
}

static void lie_behind(struct sl_msg *m)
{
    m->put_chunk.offset += SL_CHUNK_BYTES;
}

static void be_short(struct sl_msg *m)
{
    m->attachment_bytes -= 4;
}

static void be_empty(struct sl_msg *m)
{
    m->attachment_bytes = 0;
}

static void wrong_run(struct sl_msg *m)
{
    m->put_chunk.run_id++;
}

static void wrong_round(struct sl_msg *m)
{
    m->put_chunk.round++;
}

static const struct spoilt spoilt[] = {
    {"NaN", make_nan, NULL, SL_PUT_REJECTED, "is NaN (finite and within 8 allowed)"},
    {"infinite", make_infinite, NULL, SL_PUT_REJECTED, "value 0 is infinite"},
    {"over max_abs", make_large, NULL, SL_PUT_REJECTED, "is beyond the bound"},
    {"wrong hash", change_after_naming, NULL, SL_PUT_REJECTED, "checksum of the update"},
    {"weight 0", weigh_nothing, NULL, SL_PUT_REJECTED, "weight 0 (1 to 1000000 allowed)"},
    {"weight too large", weigh_too_much, NULL, SL_PUT_REJECTED, "weight 1000001 (1 to"},
    {"more than its samples", weigh_more, NULL, SL_PUT_REJECTED,
     "weight 21 (20 expected)"},
    {"less than its samples", weigh_less, NULL, SL_PUT_REJECTED,
     "weight 19 (20 expected)"},
    {"encoding", encode_otherwise, NULL, SL_PUT_REJECTED, "encoding 1 (0 expected)"},
    {"loss", lose_less_than_nothing, NULL, SL_PUT_REJECTED,
     "loss_sum -1 of 20 samples (0 to 1e+30 each allowed)"},
    {"first loss", begin_below_nothing, NULL, SL_PUT_REJECTED,
     "first_loss -1 (0 to 1e+30 allowed)"},
    {"high loss", lose_too_much, NULL, SL_PUT_REJECTED, "loss_sum 1.7e+308 of 20"},
    {"no loss", lose_no_number, NULL, SL_PUT_REJECTED, "loss_sum nan of 20"},
    {"high first loss", begin_too_high, NULL, SL_PUT_REJECTED, "first_loss 1e+31"},
    {"samples", see_too_many, NULL, SL_PUT_REJECTED, "21 samples (at most 20 by the plan)"},
    {"steps", step_too_often, NULL, SL_PUT_REJECTED, "4 steps (at most 3 by the plan)"},
    {"too small", NULL, size_down, SL_PUT_REJECTED, "update of "},
    {"too large", NULL, size_up, SL_PUT_REJECTED, "update of "},
    {"wrong offset", NULL, lie_askew, SL_PUT_REJECTED, "chunk of "},
    {"behind the end", NULL, lie_behind, SL_PUT_REJECTED, "chunk of "},
    {"short chunk", NULL, be_short, SL_PUT_REJECTED, "chunk of "},
    {"empty chunk", NULL, be_empty, SL_PUT_REJECTED, "chunk of 0 bytes"},
    {"wrong run", NULL, wrong_run, SL_PUT_STALE, "run 2 round 0 is not open"},
    {"wrong round", NULL, wrong_round, SL_PUT_STALE, "run 1 round 1 is not open"},
};

static sl_request_id put_spoilt(struct rig *r, uint32_t client, struct rig_update *u,
                                const struct spoilt *s)
{
    sl_request_id id = 0;
    if (s->values != NULL)
        s->values(u);
    for (size_t i = 0; i < rig_chunks(u); i++) {
        struct sl_msg m = rig_chunk(u, i);
        if (i + 1 == rig_chunks(u) && s->last != NULL)
            s->last(&m);
        id = rig_send(r, client, &m);
    }
    return id;
}

/* Of three members, the middle one's update is spoilt. One that was refused is out of
 * this round, says why to whoever asks, and leaves nothing in the mean. */
static void try_spoilt(const struct spoilt *s, struct rig_plan p)
{
    struct rig rig, *r = &rig;
    rig_init(r);
    uint64_t run = rig_start(r, &p);
    float was = rig_value(r);
    rig_give(r, 0, run, 0, 1);
    struct rig_update u = rig_update(r, run, 0, 7), good = rig_update(r, run, 0, 3);
    print_message("           %s, %zu chunks\n", s->what, rig_chunks(&u));
    rig_expect_put(r, put_spoilt(r, 1, &u, s), s->status, s->reason);
    bool out = s->status == SL_PUT_REJECTED;
    rig_expect_member(r, 1, out ? "failed" : "waiting", out ? s->reason : "");
    rig_expect_put(r, rig_put(r, 1, &good), out ? SL_PUT_REJECTED : SL_PUT_ACCEPTED,
                   out ? s->reason : "");
    assert_false(rig_fault(r));
    rig_give(r, 2, run, 0, 2);
    assert_true(rig_value(r) == was + (out ? 1.5f : 2.0f));
    const json_t *line = rig_line(r, "round", 0);
    assert_int_equal(rig_integer(line, "completed"), out ? 2 : 3);
    const json_t *no = json_array_get(json_object_get(line, "not_included"), 0);
    if (out)
        assert_non_null(strstr(rig_text(no, "reason"), s->reason));
    else
        assert_null(no);
    rig_update_deinit(&u);
    rig_update_deinit(&good);
    rig_deinit(r);
}

static void a_spoilt_update_of_one_chunk_is_refused_with_its_reason(void **state)
{
    for (size_t i = 0; i < sizeof(spoilt) / sizeof(*spoilt); i++)
        try_spoilt(&spoilt[i],
                   (struct rig_plan){.rounds = 1, .clients = 3, .quorum = 0.5});
}

static void a_spoilt_update_of_many_chunks_is_refused_with_its_reason(void **state)
{
    for (size_t i = 0; i < sizeof(spoilt) / sizeof(*spoilt); i++)
        try_spoilt(&spoilt[i],
                   (struct rig_plan){
                       .rounds = 1, .clients = 3, .quorum = 0.5, .shape = RIG_WIDE});
}

static void whole_chunks_end_where_the_model_ends(void **state)
{
    const struct rig_plan plans[] = {{.shape = RIG_EXACT, .quorum = 0.5},
                                     {.shape = RIG_EIGHT, .quorum = 0.5}};
    for (size_t i = 0; i < 2; i++) {
        struct rig rig, *r = &rig;
        rig_init(r);
        uint64_t run = rig_start(r, &plans[i]);
        float was = rig_value(r);
        struct rig_update u = rig_update(r, run, 0, 1);
        assert_int_equal(u.blob.size, (i == 0 ? 1 : 8) * SL_CHUNK_BYTES);
        struct sl_msg m = rig_chunk(&u, rig_chunks(&u) - 1);
        m.put_chunk.offset = u.blob.size;
        m.attachment_bytes = 0;
        rig_expect_put(r, rig_send(r, 1, &m), SL_PUT_REJECTED, "chunk of 0 bytes");
        rig_expect_put(r, rig_put(r, 0, &u), SL_PUT_ACCEPTED, "");
        assert_true(rig_value(r) == was + 1);
        rig_update_deinit(&u);
        rig_deinit(r);
    }
}

static void an_update_of_a_client_that_was_not_selected_is_refused(void **state)
{
    struct rig *r = *state;
    uint64_t run = rig_start(r, &(struct rig_plan){.clients = 3, .per_round = 2});
    uint32_t out = 3;
    for (uint32_t k = 0; k < 3; k++)
        if (rig_task(r, k).kind == SL_TASK_NONE)
            out = k;
    assert_in_range(out, 0, 2);
    rig_expect_put(r, rig_give(r, out, run, 0, 1), SL_PUT_REJECTED, "not selected");
    rig_expect_member(r, out, NULL, NULL);
}

static void a_strangers_messages_are_refused(void **state)
{
    struct rig *r = *state;
    uint64_t run = rig_start(r, &(struct rig_plan){.rounds = 1});
    const struct sl_msg *m = rig_answer(r, rig_give(r, 7, run, 0, 1), SL_MSG_ACK);
    assert_false(m->ack.ok);
    assert_string_equal(m->ack.reason, "not enrolled");
    struct sl_msg no_request = {.kind = SL_MSG_REGISTERED};
    m = rig_answer(r, rig_send(r, 0, &no_request), SL_MSG_ACK);
    assert_false(m->ack.ok);
    struct sl_msg reg = {.kind = SL_MSG_REGISTER};
    reg.reg.index = 1;
    m = rig_answer(r, rig_send(r, 0, &reg), SL_MSG_ACK);
    assert_non_null(strstr(m->ack.reason, "index 1 is configured, 0 is enrolled"));
    m = rig_answer(r, rig_register(r, 0, 0), SL_MSG_REGISTERED);
    assert_int_equal(m->registered.index, 0);
}

static void nobody_weighs_more_than_the_samples_it_registered(void **state)
{
    struct rig *r = *state;
    uint64_t run = rig_start(r, &(struct rig_plan){.clients = 3, .quorum = 0.3});
    rig_register(r, 0, 60);
    struct rig_update u = rig_update(r, run, 0, 1);
    u.meta.weight = 61;
    rig_expect_put(r, rig_put(r, 0, &u), SL_PUT_REJECTED,
                   "weight 61 (60 samples registered)");
    rig_update_deinit(&u);
}

static void uniform_weights_are_one_whatever_was_registered(void **state)
{
    struct rig *r = *state;
    uint64_t run =
        rig_start(r, &(struct rig_plan){.rounds = 1,
                                        .clients = 3,
                                        .quorum = 0.5,
                                        .more = "aggregation: {weighting: uniform}\n"});
    float was = rig_value(r);
    rig_register(r, 0, 60);
    rig_expect_put(r, rig_give(r, 0, run, 0, 1), SL_PUT_REJECTED,
                   "weight 20 (1 expected)");
    for (uint32_t k = 1; k < 3; k++) {
        struct rig_update u = rig_update(r, run, 0, (float)k);
        u.meta.weight = 1;
        rig_expect_put(r, rig_put(r, k, &u), SL_PUT_ACCEPTED, "");
        rig_update_deinit(&u);
    }
    assert_true(rig_value(r) == was + 1.5f);
}

static void the_verdict_on_one_update_is_not_given_for_another(void **state)
{
    struct rig *r = *state;
    uint64_t run = rig_start(r, &(struct rig_plan){.shape = RIG_WIDE, .rounds = 2});
    struct rig_update a = rig_update(r, run, 0, 1), b = rig_update(r, run, 0, 2);
    r->holds = true;
    sl_request_id first = rig_put(r, 0, &a);
    sl_request_id id = rig_put_chunk(r, 0, &b, 2);
    rig_finish_all(r);
    rig_expect_put(r, first, SL_PUT_ACCEPTED, "");
    assert_false(rig_answered(r, id));
    rig_sleep(r, 1000);
    rig_expect_put(r, id, SL_PUT_MORE, "");
    assert_int_equal(rig_answer(r, id, SL_MSG_PUT_REPLY)->put_reply.next_offset, 0);
    rig_expect_put(r, rig_put_chunk(r, 0, &b, 0), SL_PUT_STALE, "another update of this client");
    rig_expect_put(r, rig_put_chunk(r, 0, &a, 2), SL_PUT_ACCEPTED, "");
    rig_give(r, 1, run, 0, 1); /* the round closes */
    rig_expect_put(r, rig_put_chunk(r, 0, &b, 2), SL_PUT_STALE, "another update of this client");
    rig_expect_put(r, rig_put_chunk(r, 0, &a, 2), SL_PUT_ACCEPTED, "");
    rig_update_deinit(&a);
    rig_update_deinit(&b);
}

static void an_update_that_is_lost_makes_room_for_another(void **state)
{
    struct rig *r = *state;
    uint64_t run = rig_start(r, &(struct rig_plan){.shape = RIG_WIDE, .rounds = 2});
    struct rig_update a = rig_update(r, run, 0, 1), b = rig_update(r, run, 0, 2);
    r->holds = true;
    rig_put(r, 0, &a);
    sl_request_id id = rig_put_chunk(r, 0, &b, 0);
    r->ops->refuse[RIG_SPOOL_READ] = 1;
    rig_finish_all(r);
    rig_sleep(r, 1000);
    rig_expect_put(r, id, SL_PUT_MORE, "");
    id = rig_put(r, 0, &b);
    rig_finish_all(r);
    rig_expect_put(r, id, SL_PUT_ACCEPTED, "");
    rig_update_deinit(&a);
    rig_update_deinit(&b);
}

/* With max_abs 1e6 the fraction gives way until the weights of the partition just fit. */
static void the_clients_of_the_partition_have_room_in_the_sum(void **state)
{
    struct rig *r = *state;
    uint64_t run = rig_start(r, &(struct rig_plan){.clients = 60,
                                                   .rounds = 1,
                                                   .more = "aggregation: {max_abs: 1000000}\n"});
    for (uint32_t k = 0; k < 60; k++)
        rig_expect_put(r, rig_give(r, k, run, 0, 1), SL_PUT_ACCEPTED, "");
    rig_expect_run(r, "1 1 0 over");
}

/* max_abs 2000 at 32 bits of fraction leaves room for weights of 2^63 / (2000 * 2^32) =
 * 1,073,741. */
static void weights_beyond_the_room_of_the_sum_are_refused(void **state)
{
    struct rig *r = *state;
    uint64_t run =
        rig_start(r, &(struct rig_plan){.rounds = 1,
                                        .clients = 4,
                                        .quorum = 0.5,
                                        .more = "aggregation: {max_abs: 2000}\n"});
    float was = rig_value(r);
    static const struct {
        uint64_t weight;
        enum sl_put_status status;
        const char *reason;
    } puts[] = {
        {1000000, SL_PUT_ACCEPTED, ""},
        {1000000, SL_PUT_REJECTED, "weight 1000000 (the round's sum has room for 73741)"},
        {73741, SL_PUT_ACCEPTED, ""},
        {1, SL_PUT_REJECTED, "weight 1 (the round's sum has room for 0)"},
    };
    for (uint32_t k = 0; k < 4; k++) {
        rig_register(r, k, 1000000);
        struct rig_update u = rig_update(r, run, 0, 1000);
        u.meta.weight = puts[k].weight;
        rig_expect_put(r, rig_put(r, k, &u), puts[k].status, puts[k].reason);
        rig_update_deinit(&u);
    }
    assert_true(rig_value(r) == was + 1000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(equal_updates_of_all_members_make_a_round),
        TEST(a_long_update_is_checked_and_added_from_the_spool),
        TEST(chunks_may_come_in_any_order_and_twice),
        TEST(another_update_than_the_one_begun_starts_from_nothing),
        TEST(an_update_that_is_in_is_acknowledged_again_and_counts_once),
        TEST(weights_tell_the_mean),
        TEST(values_at_the_bound_are_allowed),
        TEST(a_spoilt_update_of_one_chunk_is_refused_with_its_reason),
        TEST(a_spoilt_update_of_many_chunks_is_refused_with_its_reason),
        TEST(whole_chunks_end_where_the_model_ends),
        TEST(an_update_of_a_client_that_was_not_selected_is_refused),
        TEST(a_strangers_messages_are_refused),
        TEST(nobody_weighs_more_than_the_samples_it_registered),
        TEST(uniform_weights_are_one_whatever_was_registered),
        TEST(the_clients_of_the_partition_have_room_in_the_sum),
        TEST(the_verdict_on_one_update_is_not_given_for_another),
        TEST(an_update_that_is_lost_makes_room_for_another),
        TEST(weights_beyond_the_room_of_the_sum_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
