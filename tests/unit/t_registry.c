/* SPDX-License-Identifier: Apache-2.0 */
#include "server/registry.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/plan.h"
#include "tests/unit/core_rig.h"

/* --- the table
 * ----------------------------------------------------------------------------------- */

static enum sl_code try_add(struct sl_registry *r, const struct sl_client_row *row)
{
    struct sl_err err;
    enum sl_code rc = sl_registry_check(r, row, &err);
    return rc == SL_OK ? sl_registry_add(r, row, &err) : rc;
}

static void clients_are_found_by_index_and_by_key(void **state)
{
    struct sl_registry r = {.max_clients = 1000};
    for (uint32_t i = 0; i < 300; i++) { /* in no order, with gaps */
        struct sl_client_row row = rig_client(i * 7 % 300 * 2 + 1);
        assert_int_equal(try_add(&r, &row), SL_OK);
    }
    assert_int_equal(r.n_enrolled, 300);
    for (uint32_t i = 0; i < 700; i++) {
        struct sl_client_row row = rig_client(i);
        struct sl_client_entry *e = sl_registry_at(&r, i);
        assert_true((e != NULL) == (i % 2 == 1 && i < 600));
        assert_ptr_equal(sl_registry_of_key(&r, row.key), e);
        if (e != NULL)
            assert_string_equal(e->row.name, row.name);
    }
    assert_null(sl_registry_at(&r, UINT32_MAX));
    sl_registry_deinit(&r);
    sl_registry_deinit(&r);
    sl_registry_deinit(NULL);
}

static void candidates_are_enrolled_indices_in_order(void **state)
{
    struct sl_registry r = {.max_clients = 10};
    static const uint32_t in[] = {70, 3, 0, 65, 9};
    uint32_t got[100];
    assert_int_equal(sl_registry_candidates(&r, 100, got), 0);
    for (size_t i = 0; i < 5; i++) {
        struct sl_client_row row = rig_client(in[i]);
        assert_int_equal(try_add(&r, &row), SL_OK);
    }
    sl_registry_revoke(&r, sl_registry_at(&r, 9));
    static const uint32_t want[] = {0, 3, 65, 70};
    assert_int_equal(sl_registry_candidates(&r, 100, got), 4);
    assert_memory_equal(got, want, sizeof(want));
    assert_int_equal(sl_registry_candidates(&r, 70, got), 3);
    assert_int_equal(sl_registry_candidates(&r, 3, got), 1);
    sl_registry_deinit(&r);
}

static void the_lowest_free_index_is_given(void **state)
{
    struct sl_registry r = {.max_clients = 1000};
    for (uint32_t i = 0; i < 200; i++) { /* past where the table grows */
        assert_int_equal(sl_registry_lowest_free(&r), i);
        struct sl_client_row row = rig_client(i);
        assert_int_equal(try_add(&r, &row), SL_OK);
    }
    sl_registry_revoke(&r, sl_registry_at(&r, 150));
    sl_registry_revoke(&r, sl_registry_at(&r, 20));
    assert_int_equal(sl_registry_lowest_free(&r), 20);
    sl_registry_deinit(&r);
}

static void a_key_or_an_index_is_not_given_twice(void **state)
{
    struct sl_registry r = {.max_clients = 10};
    struct sl_err err;
    struct sl_client_row a = rig_client(4), same_key = a, same_index = rig_client(5);
    assert_int_equal(try_add(&r, &a), SL_OK);
    same_key.index = 6;
    assert_int_equal(sl_registry_check(&r, &same_key, &err), SL_E_EXISTS);
    same_index.index = 4;
    assert_int_equal(sl_registry_check(&r, &same_index, &err), SL_E_EXISTS);
    assert_string_equal(err.msg, "index 4 is taken by client \"client-4\"");
    assert_int_equal(r.n, 1);
    sl_registry_deinit(&r);
}

static void a_revoked_clients_index_is_free_and_its_key_is_not(void **state)
{
    struct sl_registry r = {.max_clients = 10};
    struct sl_client_row a = rig_client(4), b = rig_client(5);
    assert_int_equal(try_add(&r, &a), SL_OK);
    struct sl_client_entry *e = sl_registry_at(&r, 4);
    sl_registry_revoke(&r, e);
    sl_registry_revoke(&r, e); /* again: nothing */
    assert_int_equal(r.n_enrolled, 0);
    assert_null(sl_registry_at(&r, 4));
    assert_int_equal(sl_registry_of_key(&r, a.key)->row.state, SL_CLIENT_REVOKED);
    assert_int_equal(try_add(&r, &a), SL_E_EXISTS);
    b.index = 4;
    assert_int_equal(try_add(&r, &b), SL_OK);
    assert_memory_equal(sl_registry_at(&r, 4)->row.key, b.key, SL_KEY_BYTES);
    sl_registry_revoke(&r, sl_registry_of_key(&r, a.key)); /* not the new one */
    assert_non_null(sl_registry_at(&r, 4));
    sl_registry_deinit(&r);
}

static void clients_and_indices_have_limits(void **state)
{
    struct sl_registry r = {.max_clients = 2};
    struct sl_err err;
    struct sl_client_row far = rig_client(SL_CLIENTS_MAX),
                         last = rig_client(SL_CLIENTS_MAX - 1);
    struct sl_client_row a = rig_client(0), b = rig_client(1);
    assert_int_equal(try_add(&r, &far), SL_E_RANGE);
    far.index = UINT32_MAX;
    assert_int_equal(try_add(&r, &far), SL_E_RANGE);
    assert_int_equal(try_add(&r, &last), SL_OK);
    assert_int_equal(try_add(&r, &a), SL_OK);
    assert_int_equal(sl_registry_check(&r, &b, &err), SL_E_LIMIT);
    assert_string_equal(err.msg, "2 clients are enrolled (limits.max_clients)");
    sl_registry_revoke(&r, sl_registry_at(&r, 0));
    assert_int_equal(try_add(&r, &b), SL_OK); /* revoked ones do not count */
    assert_non_null(sl_registry_at(&r, SL_CLIENTS_MAX - 1));
    sl_registry_deinit(&r);
}

static void the_stored_table_comes_back(void **state)
{
    struct sl_store *s;
    struct sl_err err;
    struct sl_registry r;
    assert_int_equal(sl_store_mem_new(&s, &err), SL_OK);
    struct sl_client_row a = rig_client(3), b = rig_client(8), waits = rig_client(5);
    a.state = SL_CLIENT_REVOKED;
    b.index = 3; /* in a's place */
    waits.state = SL_CLIENT_PENDING;
    assert_int_equal(s->ops->put_client(s, &b, &err), SL_OK);
    assert_int_equal(s->ops->put_client(s, &a, &err), SL_OK);
    assert_int_equal(s->ops->put_client(s, &waits, &err), SL_OK);
    assert_int_equal(sl_registry_load(&r, s, 7, &err), SL_OK);
    assert_int_equal(r.n, 3);
    assert_int_equal(r.n_enrolled, 1);
    assert_int_equal(r.max_clients, 7);
    assert_memory_equal(sl_registry_at(&r, 3)->row.key, b.key, SL_KEY_BYTES);
    assert_int_equal(sl_registry_of_key(&r, a.key)->row.state, SL_CLIENT_REVOKED);
    assert_null(sl_registry_at(&r, 5));
    assert_false(sl_registry_at(&r, 3)->registered);
    sl_registry_deinit(&r);
    sl_store_mem_free(s);
}

/* --- the coordinator's ways in
 * --------------------------------------------------------------- */

static int setup(void **state)
{
    struct rig *r = malloc(sizeof(*r));
    rig_init(r);
    r->env.max_clients = 4;
    rig_boot(r);
    *state = r;
    return 0;
}

static int teardown(void **state)
{
    rig_deinit(*state);
    free(*state);
    return 0;
}

static void add_token(struct rig *r, uint8_t id, int32_t index)
{
    struct sl_err err;
    struct sl_token_row t = {.id = {id}, .psk = {id, 1, 2}, .index = index};
    assert_int_equal(sl_coordinator_token_add(r->c, &t, &err), SL_OK);
}

/* Enrols client k with a token; *ret is its index. */
static enum sl_code enrol(struct rig *r, uint8_t token, uint32_t k, int32_t wanted,
                          uint32_t *ret, struct sl_err *err)
{
    struct sl_client_row row = rig_client(k);
    return sl_coordinator_enrol(r->c, r->now, (uint8_t[SL_TOKEN_ID_BYTES]){token},
                                row.key, row.name, wanted, ret, err);
}

static void a_token_gives_its_index_or_the_wish_or_the_lowest(void **state)
{
    struct rig *r = *state;
    static const struct {
        int32_t token, wish;
        uint32_t want;
    } cases[] = {{2, -1, 2}, {3, 3, 3}, {-1, 1, 1}, {-1, -1, 0}};
    struct sl_err err;
    for (uint8_t i = 0; i < 4; i++) {
        uint32_t index = 99;
        add_token(r, i, cases[i].token);
        assert_int_equal(enrol(r, i, i, cases[i].wish, &index, &err), SL_OK);
        assert_int_equal(index, cases[i].want);
        struct sl_client_row row = rig_client(i), known;
        assert_int_equal(sl_coordinator_key_known(r->c, row.key, &known), SL_OK);
        assert_int_equal(known.index, index);
        assert_int_equal(known.state, SL_CLIENT_ENROLLED);
        assert_string_equal(known.name, row.name);
    }
}

static void a_token_is_used_up_by_the_one_who_joins(void **state)
{
    struct rig *r = *state;
    struct sl_err err;
    uint32_t index = 99;
    uint8_t psk[32];
    const uint8_t id[SL_TOKEN_ID_BYTES] = {1}, unknown[SL_TOKEN_ID_BYTES] = {2};
    add_token(r, 1, -1);
    assert_int_equal(sl_coordinator_token_psk(r->c, id, psk, &err), SL_OK);
    assert_memory_equal(psk, ((uint8_t[32]){1, 1, 2}), 32);
    assert_int_equal(sl_coordinator_token_psk(r->c, unknown, psk, &err), SL_E_NOTFOUND);
    assert_int_equal(enrol(r, 2, 0, -1, &index, &err), SL_E_NOTFOUND);
    assert_int_equal(enrol(r, 1, 0, -1, &index, &err), SL_OK);
    assert_int_equal(enrol(r, 1, 1, -1, &index, &err), SL_E_REFUSED);
    assert_int_equal(sl_coordinator_token_psk(r->c, id, psk, &err), SL_E_REFUSED);
    rig_kill(r, true);
    rig_boot(r);
    assert_int_equal(enrol(r, 1, 1, -1, &index, &err), SL_E_REFUSED);
    assert_int_equal(index, 0);
}

static void a_refusal_leaves_the_token_to_be_used(void **state)
{
    struct rig *r = *state;
    struct sl_err err;
    uint32_t index = 99;
    rig_enrol(r, 0, 1);
    add_token(r, 1, 2);
    assert_int_equal(enrol(r, 1, 9, 3, &index, &err), SL_E_REFUSED);
    assert_string_equal(err.msg, "index 3 is configured, the token gives 2");
    assert_int_equal(enrol(r, 1, 0, -1, &index, &err),
                     SL_E_EXISTS); /* the key is known */
    add_token(r, 2, -1);
    assert_int_equal(enrol(r, 2, 9, 0, &index, &err),
                     SL_E_EXISTS); /* the index is taken */
    assert_int_equal(enrol(r, 2, 9, SL_CLIENTS_MAX, &index, &err), SL_E_RANGE);
    assert_int_equal(index, 99);
    struct sl_client_row row = rig_client(9), known;
    assert_int_equal(sl_coordinator_key_known(r->c, row.key, &known), SL_E_NOTFOUND);
    assert_int_equal(enrol(r, 1, 9, 2, &index, &err), SL_OK);
    assert_int_equal(enrol(r, 2, 10, -1, &index, &err), SL_OK);
    assert_int_equal(index, 1);
}

static void no_more_clients_join_than_are_allowed(void **state)
{
    struct rig *r = *state;
    struct sl_err err;
    uint32_t index = 99;
    rig_enrol(r, 0, 4);
    add_token(r, 1, -1);
    assert_int_equal(enrol(r, 1, 9, -1, &index, &err), SL_E_LIMIT);
    struct sl_client_row row = rig_client(9);
    assert_int_equal(sl_coordinator_approve(r->c, 0, &row, &err), SL_E_LIMIT);
    assert_int_equal(sl_coordinator_revoke(r->c, 0, 2, &err), SL_OK);
    assert_int_equal(enrol(r, 1, 9, -1, &index, &err), SL_OK);
    assert_int_equal(index, 2);
}

static void a_client_the_store_does_not_take_is_not_enrolled(void **state)
{
    struct rig *r = *state;
    struct sl_err err;
    struct sl_client_row row = rig_client(0), known;
    r->ops->refuse[RIG_PUT_CLIENT] = 1;
    assert_int_equal(sl_coordinator_approve(r->c, 0, &row, &err), SL_E_NOSPACE);
    assert_int_equal(sl_coordinator_key_known(r->c, row.key, &known), SL_E_NOTFOUND);
    rig_enrol(r, 0, 1);
    r->ops->refuse[RIG_PUT_CLIENT] = 1;
    assert_int_equal(sl_coordinator_revoke(r->c, 0, 0, &err), SL_E_NOSPACE);
    assert_int_equal(sl_coordinator_key_known(r->c, row.key, &known), SL_OK);
    assert_int_equal(known.state,
                     SL_CLIENT_ENROLLED); /* it stays until it is out for good */
}

static void a_revoked_client_is_refused_and_stays_so(void **state)
{
    struct rig *r = *state;
    struct sl_err err;
    rig_enrol(r, 0, 2);
    sl_request_id held = rig_poll(r, 1);
    assert_int_equal(sl_coordinator_revoke(r->c, 0, 1, &err), SL_OK);
    assert_string_equal(rig_answer(r, held, SL_MSG_ACK)->ack.reason, "revoked");
    assert_false(rig_answer(r, rig_poll(r, 1), SL_MSG_ACK)->ack.ok);
    assert_int_equal(sl_coordinator_revoke(r->c, 0, 1, &err), SL_E_NOTFOUND);
    assert_int_equal(sl_coordinator_revoke(r->c, 0, 77, &err), SL_E_NOTFOUND);
    rig_kill(r, true);
    rig_boot(r);
    struct sl_client_row row = rig_client(1), known;
    assert_int_equal(sl_coordinator_key_known(r->c, row.key, &known), SL_OK);
    assert_int_equal(known.state, SL_CLIENT_REVOKED);
    assert_false(rig_answer(r, rig_poll(r, 1), SL_MSG_ACK)->ack.ok);
    assert_int_equal(sl_coordinator_approve(r->c, 0, &row, &err), SL_E_EXISTS);
}

/* A new key takes the old one's index, while a round is open: it does the old one's part
 * in the next. */
static void a_key_is_rotated_in_a_running_federation(void **state)
{
    struct rig *r = *state;
    struct sl_err err;
    rig_enrol(r, 0, 3);
    uint64_t run = rig_submit(r, &(struct rig_plan){.clients = 3, .quorum = 0.6});
    rig_give(r, 0, run, 0, 1);
    assert_int_equal(sl_coordinator_revoke(r->c, r->now, 1, &err), SL_OK);
    rig_expect_member(r, 1, "failed", "revoked");
    struct sl_client_row row = rig_client(50);
    row.index = 1;
    assert_int_equal(sl_coordinator_approve(r->c, r->now, &row, &err), SL_OK);
    rig_expect_put(r, rig_give(r, 1, run, 0, 1), SL_PUT_REJECTED, "revoked");
    rig_give(r, 2, run, 0, 1);
    rig_expect_run(r, "1 1 0 open");
    assert_int_equal(rig_task(r, 1).kind, SL_TASK_TRAIN);
    rig_expect_put(r, rig_give(r, 1, run, 1, 1), SL_PUT_ACCEPTED, "");
    rig_kill(r, true);
    rig_boot(r);
    struct sl_client_row known;
    assert_int_equal(sl_coordinator_key_known(r->c, row.key, &known), SL_OK);
    assert_int_equal(known.index, 1);
    assert_int_equal(known.state, SL_CLIENT_ENROLLED);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clients_are_found_by_index_and_by_key),
        cmocka_unit_test(candidates_are_enrolled_indices_in_order),
        cmocka_unit_test(the_lowest_free_index_is_given),
        cmocka_unit_test(a_key_or_an_index_is_not_given_twice),
        cmocka_unit_test(a_revoked_clients_index_is_free_and_its_key_is_not),
        cmocka_unit_test(clients_and_indices_have_limits),
        cmocka_unit_test(the_stored_table_comes_back),
        TEST(a_token_gives_its_index_or_the_wish_or_the_lowest),
        TEST(a_token_is_used_up_by_the_one_who_joins),
        TEST(a_refusal_leaves_the_token_to_be_used),
        TEST(no_more_clients_join_than_are_allowed),
        TEST(a_client_the_store_does_not_take_is_not_enrolled),
        TEST(a_revoked_client_is_refused_and_stays_so),
        TEST(a_key_is_rotated_in_a_running_federation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
