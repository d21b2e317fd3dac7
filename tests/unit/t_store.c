/* SPDX-License-Identifier: Apache-2.0 */
/* One set of promises, held by both stores. `kill` does to each what kill -9 does: the
 * SQLite store's folder is copied while it is open, and the copy is opened; the store in
 * memory is told. */
#include "server/store.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

struct fix {
    bool memory;
    struct sl_store *s;
    char root[64], dir[96];
    int generation;
    struct sl_layout layout;
    struct sl_err err;
};

static void sh(const char *fmt, ...)
{
    char cmd[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(cmd, sizeof(cmd), fmt, ap);
    va_end(ap);
    assert_int_equal(system(cmd), 0);
}

static void open_store(struct fix *f)
{
    enum sl_code rc = f->memory ? sl_store_mem_new(&f->s, &f->err)
                                : sl_store_sqlite_open(f->dir, NULL, &f->s, &f->err);
    if (rc != SL_OK)
        fail_msg("%s", f->err.msg);
}

static int setup(void **state, bool memory)
{
    struct fix *f = calloc(1, sizeof(*f));
    f->memory = memory;
    strcpy(f->root, "/tmp/t_store.XXXXXX");
    assert_non_null(mkdtemp(f->root));
    snprintf(f->dir, sizeof(f->dir), "%s/state0", f->root);
    uint32_t dim[2] = {3, 5};
    assert_int_equal(
        sl_layout_add(&f->layout, "fc1.weight", SL_TENSOR_PARAM, 2, dim, &f->err), SL_OK);
    open_store(f);
    *state = f;
    return 0;
}

static int setup_sqlite(void **state)
{
    return setup(state, false);
}

static int setup_memory(void **state)
{
    return setup(state, true);
}

static int teardown(void **state)
{
    struct fix *f = *state;
    if (f->s != NULL)
        f->s->ops->close(f->s);
    if (f->memory)
        sl_store_mem_free(f->s);
    sl_layout_deinit(&f->layout);
    sh("rm -rf '%s'", f->root);
    free(f);
    return 0;
}

static void kill_store(struct fix *f)
{
    if (f->memory) {
        sl_store_mem_crash(f->s, false);
        return;
    }
    char killed[96];
    snprintf(killed, sizeof(killed), "%s/state%d", f->root, ++f->generation);
    sh("cp -r '%s' '%s' && rm -f '%s/starling.db-shm'", f->dir, killed, killed);
    f->s->ops->close(f->s);
    strcpy(f->dir, killed);
    open_store(f);
}

#define OK(call) assert_code(f, SL_OK, (call), #call)
#define FAILS(code, call) assert_code(f, (code), (call), #call)

static void assert_code(struct fix *f, enum sl_code want, enum sl_code got,
                        const char *call)
{
    if (got != want)
        fail_msg("%s: %s (%s), %s wanted", call, sl_code_text(got), f->err.msg,
                 sl_code_text(want));
    f->err.msg[0] = '\0';
}

/* --- rows for tests
 * --------------------------------------------------------------------------- */

static struct sl_client_row client(uint8_t key, uint32_t index,
                                   enum sl_client_state state)
{
    struct sl_client_row c = {.index = index, .state = state};
    memset(c.key, key, sizeof(c.key));
    snprintf(c.name, sizeof(c.name), "client-%u", key);
    return c;
}

static struct sl_member_row member(uint32_t index, uint32_t order, uint32_t slot)
{
    struct sl_member_row m = {.client = index,
                              .accepted = true,
                              .order = order,
                              .slot = slot,
                              .blob.size = 60,
                              .meta = {.weight = 100 + index,
                                       .samples = 500,
                                       .steps = 7,
                                       .loss_sum = 0.1 + index,
                                       .first_loss = 2.302585092994046,
                                       .has_eval = true,
                                       .eval = {10, 9, 0.25}}};
    memset(m.blob.id.bytes, (int)index, SL_XXH_BYTES);
    memset(m.key, (int)index + 1, SL_KEY_BYTES);
    return m;
}

static uint64_t add_run(struct fix *f)
{
    uint64_t id = 0;
    struct sl_run_row r = {
        .state = SL_RUN_QUEUED, .plan_text = "plan\0text", .plan_bytes = 9};
    OK(f->s->ops->put_run(f->s, &r, &id, &f->err));
    return id;
}

static void open_round(struct fix *f, uint64_t run, uint32_t round, uint32_t attempt,
                       uint64_t remaining)
{
    const uint32_t members[3] = {2, 5, 9};
    OK(f->s->ops->round_open(f->s, run, round, attempt, members, 3, remaining, &f->err));
}

static void accept_one(struct fix *f, uint64_t run, uint32_t round, uint32_t index,
                       uint32_t order)
{
    struct sl_member_row m = member(index, order, order);
    m.start = round;
    OK(f->s->ops->accept(f->s, run, round, 900, &m, &f->err));
}

static void commit_keeping(struct fix *f, uint64_t run, uint32_t round,
                           const uint32_t *included, size_t n, const char *state,
                           const char *keep)
{
    float values[15] = {(float)round};
    struct sl_commit_row c = {.round = round,
                              .report_json = "{\"event\":\"round\"}",
                              .included = included,
                              .n_included = n,
                              .keep = keep,
                              .state = (const uint8_t *)state,
                              .state_bytes = state == NULL ? 0 : strlen(state)};
    memset(c.model_digest, (int)round + 1, sizeof(c.model_digest));
    OK(f->s->ops->checkpoint_write(f->s, run, round + 1, &f->layout, values, c.checkpoint,
                                   &f->err));
    OK(f->s->ops->round_commit(f->s, run, &c, &f->err));
}

static void commit(struct fix *f, uint64_t run, uint32_t round, const uint32_t *included,
                   size_t n, const char *state)
{
    commit_keeping(f, run, round, included, n, state, NULL);
}

/* --- promises
 * ----------------------------------------------------------------------------------- */

struct seen {
    size_t n;
    struct sl_client_row client[8];
    struct sl_run_row run[4];
    char plan[16], text[512];
};

static enum sl_code see_client(void *ctx, const struct sl_client_row *c)
{
    struct seen *seen = ctx;
    assert_true(seen->n < 8);
    seen->client[seen->n++] = *c;
    return SL_OK;
}

static enum sl_code see_run(void *ctx, const struct sl_run_row *r)
{
    struct seen *seen = ctx;
    assert_true(seen->n < 4);
    memcpy(seen->plan, r->plan_text, r->plan_bytes);
    seen->run[seen->n++] = *r;
    return SL_OK;
}

static enum sl_code see_report(void *ctx, const char *json)
{
    struct seen *seen = ctx;
    seen->n++;
    strcat(strcat(seen->text, json), "|");
    return SL_OK;
}

static enum sl_code stop_at_once(void *ctx, const struct sl_client_row *c)
{
    ++*(int *)ctx;
    return SL_E_CANCELLED;
}

static void clients_come_back_in_order_of_index(void **state)
{
    struct fix *f = *state;
    struct sl_client_row a = client(1, 7, SL_CLIENT_ENROLLED),
                         b = client(2, 3, SL_CLIENT_PENDING);
    OK(f->s->ops->put_client(f->s, &a, &f->err));
    OK(f->s->ops->put_client(f->s, &b, &f->err));
    a.state = SL_CLIENT_REVOKED;
    OK(f->s->ops->put_client(f->s, &a, &f->err));
    kill_store(f);
    struct seen seen = {0};
    OK(f->s->ops->each_client(f->s, see_client, &seen, &f->err));
    assert_int_equal(seen.n, 2);
    assert_int_equal(seen.client[0].index, 3);
    assert_string_equal(seen.client[1].name, "client-1");
    assert_int_equal(seen.client[1].state, SL_CLIENT_REVOKED);
    assert_memory_equal(seen.client[1].key, a.key, SL_KEY_BYTES);
}

static void an_index_belongs_to_one_enrolled_client(void **state)
{
    struct fix *f = *state;
    struct sl_client_row a = client(1, 4, SL_CLIENT_ENROLLED),
                         b = client(2, 4, SL_CLIENT_ENROLLED);
    OK(f->s->ops->put_client(f->s, &a, &f->err));
    FAILS(SL_E_EXISTS, f->s->ops->put_client(f->s, &b, &f->err));
    a.state = SL_CLIENT_REVOKED;
    OK(f->s->ops->put_client(f->s, &a, &f->err));
    OK(f->s->ops->put_client(f->s, &b, &f->err));
    a.state = SL_CLIENT_ENROLLED;
    FAILS(SL_E_EXISTS, f->s->ops->put_client(f->s, &a, &f->err));
    a.index = 5;
    OK(f->s->ops->put_client(f->s, &a, &f->err));
}

static void a_loop_over_rows_stops_when_told(void **state)
{
    struct fix *f = *state;
    struct sl_client_row a = client(1, 0, SL_CLIENT_ENROLLED),
                         b = client(2, 1, SL_CLIENT_ENROLLED);
    OK(f->s->ops->put_client(f->s, &a, &f->err));
    OK(f->s->ops->put_client(f->s, &b, &f->err));
    int calls = 0;
    FAILS(SL_E_CANCELLED, f->s->ops->each_client(f->s, stop_at_once, &calls, &f->err));
    assert_int_equal(calls, 1);
    OK(f->s->ops->put_client(f->s, &a, &f->err));
}

static void a_join_token_enrols_once(void **state)
{
    struct fix *f = *state;
    struct sl_token_row t = {.id = {1, 2}, .psk = {9}, .index = -1}, got;
    struct sl_client_row a = client(1, 0, SL_CLIENT_ENROLLED),
                         b = client(2, 1, SL_CLIENT_ENROLLED);
    FAILS(SL_E_NOTFOUND, f->s->ops->find_token(f->s, t.id, &got, &f->err));
    FAILS(SL_E_REFUSED, f->s->ops->enrol(f->s, t.id, &a, &f->err));
    OK(f->s->ops->put_token(f->s, &t, &f->err));
    OK(f->s->ops->enrol(f->s, t.id, &a, &f->err));
    kill_store(f);
    OK(f->s->ops->find_token(f->s, t.id, &got, &f->err));
    assert_true(got.used);
    assert_int_equal(got.index, -1);
    assert_memory_equal(got.psk, t.psk, sizeof(t.psk));
    FAILS(SL_E_REFUSED, f->s->ops->enrol(f->s, t.id, &b, &f->err));
    struct seen seen = {0};
    OK(f->s->ops->each_client(f->s, see_client, &seen, &f->err));
    assert_int_equal(seen.n, 1);
}

static void a_token_is_kept_when_enrolment_fails(void **state)
{
    struct fix *f = *state;
    struct sl_token_row t = {.id = {3}, .index = 0}, got;
    struct sl_client_row a = client(1, 0, SL_CLIENT_ENROLLED),
                         b = client(2, 0, SL_CLIENT_ENROLLED);
    OK(f->s->ops->put_client(f->s, &a, &f->err));
    OK(f->s->ops->put_token(f->s, &t, &f->err));
    FAILS(SL_E_EXISTS, f->s->ops->enrol(f->s, t.id, &b, &f->err));
    OK(f->s->ops->find_token(f->s, t.id, &got, &f->err));
    assert_false(got.used);
}

static void runs_are_numbered_in_order_of_submission(void **state)
{
    struct fix *f = *state;
    assert_int_equal(add_run(f), 1);
    assert_int_equal(add_run(f), 2);
    OK(f->s->ops->set_run_state(f->s, 1, SL_RUN_FAILED, "quorum", &f->err));
    FAILS(SL_E_NOTFOUND, f->s->ops->set_run_state(f->s, 8, SL_RUN_DONE, NULL, &f->err));
    kill_store(f);
    struct seen seen = {0};
    OK(f->s->ops->each_run(f->s, see_run, &seen, &f->err));
    assert_int_equal(seen.n, 2);
    assert_int_equal(seen.run[0].state, SL_RUN_FAILED);
    assert_string_equal(seen.run[0].reason, "quorum");
    assert_int_equal(seen.run[1].state, SL_RUN_QUEUED);
    assert_int_equal(seen.run[1].plan_bytes, 9);
    assert_memory_equal(seen.plan, "plan\0text", 9);
}

static void an_open_round_survives_a_kill(void **state)
{
    struct fix *f = *state;
    uint64_t run = add_run(f);
    bool present = true;
    struct sl_open_round r = {0};
    OK(f->s->ops->load_open_round(f->s, run, &present, &r, &f->err));
    assert_false(present);
    open_round(f, run, 4, 0, 1000);
    accept_one(f, run, 4, 5, 0);
    OK(f->s->ops->round_progress(f->s, run, 4, 777, &f->err));
    kill_store(f);
    OK(f->s->ops->load_open_round(f->s, run, &present, &r, &f->err));
    assert_true(present);
    assert_int_equal(r.round, 4);
    assert_int_equal(r.remaining_ms, 777);
    assert_int_equal(r.n_members, 3);
    assert_int_equal(r.members[0].client, 2);
    assert_false(r.members[0].accepted);
    struct sl_member_row want = member(5, 0, 0);
    assert_true(r.members[1].accepted);
    assert_memory_equal(&r.members[1].blob, &want.blob, sizeof(want.blob));
    assert_memory_equal(r.members[1].key, want.key, sizeof(want.key));
    assert_true(r.members[1].meta.loss_sum == want.meta.loss_sum);
    assert_true(r.members[1].meta.first_loss == want.meta.first_loss);
    assert_int_equal(r.members[1].meta.weight, 105);
    assert_int_equal(r.members[1].meta.eval.correct, 9);
    free(r.members);
}

static void the_last_calibration_keeps_its_members(void **state)
{
    struct fix *f = *state;
    uint64_t run = add_run(f);
    const uint32_t included[] = {2, 9}, first = SL_ROUND_CALIBRATION;
    bool present = true;
    struct sl_open_round r = {0};
    OK(f->s->ops->load_calibration(f->s, run, first, &present, &r, &f->err));
    assert_false(present);
    open_round(f, run, first, 0, 1000);
    accept_one(f, run, first, 2, 0);
    accept_one(f, run, first, 9, 1);
    commit_keeping(f, run, first, included, 2, NULL, NULL);
    kill_store(f);
    OK(f->s->ops->load_calibration(f->s, run, first, &present, &r, &f->err));
    assert_true(present);
    assert_int_equal(r.n_members, 3);
    assert_false(r.members[1].accepted);
    struct sl_member_row want = member(9, 1, 1);
    assert_true(r.members[0].accepted && r.members[2].accepted);
    assert_int_equal(r.members[2].slot, 1);
    assert_memory_equal(&r.members[2].blob, &want.blob, sizeof(want.blob));
    assert_memory_equal(r.members[2].key, want.key, sizeof(want.key));
    free(r.members);
    open_round(f, run, first + 1, 0, 1000); /* while the next one is open */
    OK(f->s->ops->load_calibration(f->s, run, first, &present, &r, &f->err));
    assert_true(present && r.members[0].accepted);
    free(r.members);
}

static enum sl_code see_wanted(void *ctx, const struct sl_run_row *row)
{
    *(struct sl_run_row *)ctx = *row;
    return SL_OK;
}

static void wanted_calibrations_survive_a_kill(void **state)
{
    struct fix *f = *state;
    uint64_t run = add_run(f);
    struct sl_run_row seen;
    OK(f->s->ops->each_run(f->s, see_wanted, &seen, &f->err));
    assert_int_equal(seen.calibrations, 0);
    OK(f->s->ops->set_run_state(f->s, run, SL_RUN_DONE, "all rounds done", &f->err));
    OK(f->s->ops->want_calibrations(f->s, run, 3, &f->err));
    kill_store(f);
    OK(f->s->ops->each_run(f->s, see_wanted, &seen, &f->err));
    assert_int_equal(seen.calibrations, 3);
    assert_int_equal(seen.state, SL_RUN_ACTIVE);
    OK(f->s->ops->set_run_state(f->s, run, SL_RUN_DONE, "", &f->err));
    OK(f->s->ops->each_run(f->s, see_wanted, &seen, &f->err));
    assert_int_equal(seen.calibrations, 3);
    FAILS(SL_E_NOTFOUND, f->s->ops->want_calibrations(f->s, run + 1, 1, &f->err));
}

static void another_attempt_keeps_what_was_accepted(void **state)
{
    struct fix *f = *state;
    uint64_t run = add_run(f);
    open_round(f, run, 0, 0, 1000);
    accept_one(f, run, 0, 9, 0);
    open_round(f, run, 0, 1, 2000);
    bool present = false;
    struct sl_open_round r = {0};
    OK(f->s->ops->load_open_round(f->s, run, &present, &r, &f->err));
    assert_int_equal(r.attempt, 1);
    assert_int_equal(r.remaining_ms, 2000);
    assert_int_equal(r.n_members, 3);
    assert_false(r.members[1].accepted);
    assert_true(r.members[2].accepted);
    free(r.members);
}

static void an_unreadable_update_is_asked_for_again(void **state)
{
    struct fix *f = *state;
    uint64_t run = add_run(f);
    open_round(f, run, 0, 0, 1000);
    accept_one(f, run, 0, 2, 0);
    OK(f->s->ops->unaccept(f->s, run, 0, 0, 2, &f->err));
    FAILS(SL_E_NOTFOUND, f->s->ops->unaccept(f->s, run, 0, 0, 2, &f->err));
    bool present = false;
    struct sl_open_round r = {0};
    OK(f->s->ops->load_open_round(f->s, run, &present, &r, &f->err));
    assert_false(r.members[0].accepted);
    free(r.members);
    accept_one(f, run, 0, 2, 0);
}

static void what_the_journal_does_not_know_is_refused(void **state)
{
    struct fix *f = *state;
    uint64_t run = add_run(f);
    struct sl_member_row m = member(5, 0, 0), stranger = member(6, 0, 0);
    FAILS(SL_E_NOTFOUND, f->s->ops->accept(f->s, run, 0, 1, &m, &f->err));
    FAILS(SL_E_NOTFOUND, f->s->ops->round_progress(f->s, run, 0, 1, &f->err));
    open_round(f, run, 0, 0, 1000);
    FAILS(SL_E_NOTFOUND, f->s->ops->accept(f->s, run, 0, 1, &stranger, &f->err));
    uint32_t included[1] = {5};
    struct sl_commit_row c = {.round = 0, .included = included, .n_included = 1};
    FAILS(SL_E_NOTFOUND, f->s->ops->round_commit(f->s, run, &c, &f->err));
    bool present = false;
    struct sl_open_round r = {0};
    OK(f->s->ops->load_open_round(f->s, run, &present, &r, &f->err));
    assert_true(present);
    assert_int_equal(r.remaining_ms, 1000);
    free(r.members);
}

static void a_committed_round_never_changes(void **state)
{
    struct fix *f = *state;
    uint64_t run = add_run(f);
    const uint32_t included[2] = {2, 9}, members[1] = {1};
    open_round(f, run, 0, 0, 1000);
    accept_one(f, run, 0, 9, 0);
    accept_one(f, run, 0, 2, 1);
    accept_one(f, run, 0, 5, 2);
    commit(f, run, 0, included, 2, NULL);
    struct sl_commit_row again = {.round = 0};
    struct sl_member_row m = member(5, 3, 3);
    FAILS(SL_E_NOTFOUND, f->s->ops->round_commit(f->s, run, &again, &f->err));
    FAILS(SL_E_NOTFOUND, f->s->ops->accept(f->s, run, 0, 1, &m, &f->err));
    FAILS(SL_E_EXISTS, f->s->ops->unaccept(f->s, run, 0, 0, 9, &f->err));
    FAILS(SL_E_EXISTS, f->s->ops->round_open(f->s, run, 0, 1, members, 1, 5, &f->err));
    kill_store(f);
    bool known, in, present;
    struct sl_open_round r;
    OK(f->s->ops->was_included(f->s, run, 0, 9, &known, &in, &f->err));
    assert_true(known && in);
    OK(f->s->ops->was_included(f->s, run, 0, 5, &known, &in, &f->err));
    assert_true(known && !in);
    OK(f->s->ops->was_included(f->s, run, 0, 1234, &known, &in, &f->err));
    assert_true(known && !in);
    OK(f->s->ops->was_included(f->s, run, 1, 9, &known, &in, &f->err));
    assert_false(known || in);
    OK(f->s->ops->load_open_round(f->s, run, &present, &r, &f->err));
    assert_false(present);
}

static void the_last_commit_names_model_and_state(void **state)
{
    struct fix *f = *state;
    uint64_t run = add_run(f);
    const uint32_t included[1] = {2};
    struct sl_last_commit last = {0};
    OK(f->s->ops->load_last_commit(f->s, run, &last, &f->err));
    assert_false(last.present);
    for (uint32_t round = 0; round < 3; round++) {
        open_round(f, run, round, 0, 1000);
        accept_one(f, run, round, 2, 0);
        commit(f, run, round, included, 1, round == 2 ? "later" : "early");
    }
    kill_store(f);
    OK(f->s->ops->load_last_commit(f->s, run, &last, &f->err));
    assert_true(last.present);
    assert_int_equal(last.round, 2);
    assert_int_equal(last.model_digest[0], 3);
    assert_int_equal(last.state_bytes, 5);
    assert_memory_equal(last.state, "later", 5);
    float values[15];
    OK(f->s->ops->checkpoint_read(f->s, last.checkpoint, &f->layout, values, &f->err));
    assert_true(values[0] == 2.0f);
    free(last.state);
}

/* --- versions ---------------------------------------------------------------------------------- */

static void open_version(struct fix *f, uint64_t run, uint32_t version)
{
    struct sl_blob_id model = {.bytes = {(uint8_t)(version + 1), 9}};
    OK(f->s->ops->version_open(f->s, run, version, 0, 1000, &model, &f->err));
}

static void accept_from(struct fix *f, uint64_t run, uint32_t version, uint32_t start, uint32_t index,
                        uint32_t order)
{
    struct sl_member_row m = member(index, order, index);
    m.start = start;
    OK(f->s->ops->accept(f->s, run, version, 900, &m, &f->err));
}

static void commit_version(struct fix *f, uint64_t run, uint32_t version, const uint32_t *included,
                           const uint32_t *starts, size_t n)
{
    struct sl_commit_row c = {.round = version,
                              .checkpoint = "x",
                              .report_json = "{}",
                              .included = included,
                              .starts = starts,
                              .n_included = n,
                              .state = (const uint8_t *)"state",
                              .state_bytes = 5};
    OK(f->s->ops->round_commit(f->s, run, &c, &f->err));
}

static void expect_included(struct fix *f, uint64_t run, uint32_t start, uint32_t index, bool want)
{
    bool known, in;
    OK(f->s->ops->was_included(f->s, run, start, index, &known, &in, &f->err));
    assert_int_equal(in, want);
}

/* tasks: "CLIENT@VERSION" of those under way, with a star for those accepted. */
static void expect_tasks(struct fix *f, uint64_t run, const char *want)
{
    struct sl_task_row *t = NULL;
    size_t n = 0;
    char is[200] = "";
    OK(f->s->ops->load_tasks(f->s, run, &t, &n, &f->err));
    for (size_t i = 0; i < n; i++) {
        size_t at = strlen(is);
        snprintf(is + at, sizeof(is) - at, "%s%u@%u%s", i == 0 ? "" : " ", (unsigned)t[i].member.client,
                 (unsigned)t[i].member.start, t[i].member.accepted ? "*" : "");
        assert_int_equal(t[i].model.bytes[0], t[i].member.start + 1);
    }
    assert_string_equal(is, want);
    free(t);
}

static void tasks_of_versions_outlive_their_version(void **state)
{
    struct fix *f = *state;
    uint64_t run = add_run(f), other = add_run(f);
    open_version(f, run, 0);
    open_version(f, other, 0);
    for (uint32_t k = 2; k < 9; k += 3)
        OK(f->s->ops->task_give(f->s, run, 0, k, &f->err));
    accept_from(f, run, 0, 0, 5, 0);
    kill_store(f);
    expect_tasks(f, run, "2@0 5@0* 8@0");
    const uint32_t first[1] = {5}, zero[2] = {0, 0}, then[2] = {2, 5}, starts[2] = {0, 1};
    commit_version(f, run, 0, first, zero, 1);
    expect_tasks(f, run, "2@0 8@0");
    expect_included(f, run, 0, 5, true);
    expect_included(f, run, 0, 2, false);
    open_version(f, run, 1);
    OK(f->s->ops->task_give(f->s, run, 1, 5, &f->err));
    accept_from(f, run, 1, 1, 5, 0);
    accept_from(f, run, 1, 0, 2, 1);
    kill_store(f);
    expect_tasks(f, run, "2@0* 5@1* 8@0");
    commit_version(f, run, 1, then, starts, 2);
    kill_store(f);
    expect_tasks(f, run, "8@0");
    expect_included(f, run, 0, 2, true);
    expect_included(f, run, 1, 5, true);
    expect_included(f, run, 1, 2, false);
    expect_included(f, run, 0, 8, false);
    expect_tasks(f, other, "");
    struct sl_last_commit last;
    OK(f->s->ops->load_last_commit(f->s, run, &last, &f->err));
    assert_int_equal(last.state_bytes, 5);
    assert_memory_equal(last.state, "state", 5);
    free(last.state);
}

static void a_task_that_is_taken_back_is_gone(void **state)
{
    struct fix *f = *state;
    uint64_t run = add_run(f);
    open_version(f, run, 0);
    OK(f->s->ops->task_give(f->s, run, 0, 4, &f->err));
    OK(f->s->ops->task_give(f->s, run, 0, 3, &f->err));
    OK(f->s->ops->task_give(f->s, run, 0, 3, &f->err)); /* twice is once */
    OK(f->s->ops->task_take(f->s, run, 0, 4, &f->err));
    OK(f->s->ops->task_take(f->s, run, 0, 4, &f->err));
    expect_tasks(f, run, "3@0");
    accept_from(f, run, 0, 0, 3, 0);
    OK(f->s->ops->task_take(f->s, run, 0, 3, &f->err)); /* an accepted one stays */
    struct sl_member_row m = member(4, 1, 4);
    FAILS(SL_E_NOTFOUND, f->s->ops->accept(f->s, run, 0, 900, &m, &f->err));
    kill_store(f);
    expect_tasks(f, run, "3@0*");
    struct sl_blob_id model = {{7}};
    const uint32_t included[1] = {3}, starts[1] = {0};
    OK(f->s->ops->version_open(f->s, run, 0, 2, 500, &model, &f->err)); /* another attempt: the same model */
    bool present;
    struct sl_open_round r;
    OK(f->s->ops->load_open_round(f->s, run, &present, &r, &f->err));
    assert_true(present && r.attempt == 2 && r.remaining_ms == 500);
    free(r.members);
    expect_tasks(f, run, "3@0*");
    commit_version(f, run, 0, included, starts, 1);
    FAILS(SL_E_EXISTS, f->s->ops->version_open(f->s, run, 0, 1, 5, &model, &f->err));
}

static void an_update_of_an_earlier_version_can_be_lost_and_come_again(void **state)
{
    struct fix *f = *state;
    uint64_t run = add_run(f);
    open_version(f, run, 0);
    OK(f->s->ops->task_give(f->s, run, 0, 1, &f->err));
    commit_version(f, run, 0, NULL, (const uint32_t[]){0}, 0);
    open_version(f, run, 1);
    accept_from(f, run, 1, 0, 1, 0);
    FAILS(SL_E_NOTFOUND, f->s->ops->unaccept(f->s, run, 1, 1, 1, &f->err));
    OK(f->s->ops->unaccept(f->s, run, 1, 0, 1, &f->err));
    expect_tasks(f, run, "1@0");
    accept_from(f, run, 1, 0, 1, 0);
    expect_tasks(f, run, "1@0*");
}

static void a_power_cut_takes_tasks_since_the_last_commit(void **state)
{
    struct fix *f = *state;
    uint64_t run = add_run(f);
    open_version(f, run, 0);
    OK(f->s->ops->task_give(f->s, run, 0, 1, &f->err));
    OK(f->s->ops->task_give(f->s, run, 0, 2, &f->err));
    accept_from(f, run, 0, 0, 1, 0);
    commit_version(f, run, 0, (const uint32_t[]){1}, (const uint32_t[]){0}, 1);
    open_version(f, run, 1);
    OK(f->s->ops->task_give(f->s, run, 1, 1, &f->err));
    accept_from(f, run, 1, 0, 2, 0);
    expect_tasks(f, run, "1@1 2@0*");
    sl_store_mem_crash(f->s, true);
    expect_tasks(f, run, "2@0");
}

static void the_last_two_checkpoints_are_kept(void **state)
{
    struct fix *f = *state;
    uint64_t run = add_run(f);
    const uint32_t included[1] = {2};
    float values[15] = {0};
    char first[64], other[64];
    OK(f->s->ops->checkpoint_write(f->s, run + 1, 0, &f->layout, values, other, &f->err));
    OK(f->s->ops->checkpoint_write(f->s, run, 0, &f->layout, values, first, &f->err));
    for (uint32_t round = 0; round < 2; round++) {
        open_round(f, run, round, 0, 1000);
        accept_one(f, run, round, 2, 0);
        commit(f, run, round, included, 1, NULL);
        if (round == 0)
            OK(f->s->ops->checkpoint_read(f->s, first, &f->layout, values, &f->err));
    }
    FAILS(SL_E_NOTFOUND,
          f->s->ops->checkpoint_read(f->s, first, &f->layout, values, &f->err));
    OK(f->s->ops->checkpoint_read(f->s, other, &f->layout, values, &f->err));
}

static void a_named_checkpoint_is_kept_until_another_one_is(void **state)
{
    struct fix *f = *state;
    uint64_t run = add_run(f);
    const uint32_t included[1] = {2};
    float values[15] = {0};
    for (uint32_t round = 0; round < 5; round++) {
        open_round(f, run, round, 0, 1000);
        accept_one(f, run, round, 2, 0);
        commit_keeping(f, run, round, included, 1, NULL, round < 4 ? "run-1-1.slm" : "run-1-3.slm");
        if (round < 4)
            OK(f->s->ops->checkpoint_read(f->s, "run-1-1.slm", &f->layout, values, &f->err));
    }
    FAILS(SL_E_NOTFOUND,
          f->s->ops->checkpoint_read(f->s, "run-1-1.slm", &f->layout, values, &f->err));
    FAILS(SL_E_NOTFOUND,
          f->s->ops->checkpoint_read(f->s, "run-1-2.slm", &f->layout, values, &f->err));
}

static void a_checkpoint_of_another_model_is_refused(void **state)
{
    struct fix *f = *state;
    float values[16] = {1};
    char name[64];
    OK(f->s->ops->checkpoint_write(f->s, 1, 0, &f->layout, values, name, &f->err));
    struct sl_layout other = {0};
    uint32_t dim[2] = {5, 3};
    OK(sl_layout_add(&other, "fc1.weight", SL_TENSOR_PARAM, 2, dim, &f->err));
    FAILS(SL_E_STATE, f->s->ops->checkpoint_read(f->s, name, &other, values, &f->err));
    sl_layout_deinit(&other);
}

static void the_report_comes_back_in_order(void **state)
{
    struct fix *f = *state;
    uint64_t run = add_run(f);
    const uint32_t included[1] = {2};
    OK(f->s->ops->put_report(f->s, run, "start", &f->err));
    OK(f->s->ops->put_report(f->s, run + 1, "other", &f->err));
    open_round(f, run, 0, 0, 1000);
    accept_one(f, run, 0, 2, 0);
    commit(f, run, 0, included, 1, NULL);
    OK(f->s->ops->put_report(f->s, run, "end", &f->err));
    kill_store(f);
    struct seen seen = {0};
    OK(f->s->ops->each_report(f->s, run, see_report, &seen, &f->err));
    assert_string_equal(seen.text, "start|{\"event\":\"round\"}|end|");
}

static void the_spool_keeps_its_bytes_over_a_kill(void **state)
{
    struct fix *f = *state;
    uint8_t out[8] = {1, 2, 3, 4, 5, 6, 7, 8}, in[8] = {0};
    FAILS(SL_E_RANGE, f->s->ops->spool_write(f->s, 0, 0, out, 8, &f->err));
    OK(f->s->ops->spool_open(f->s, 1, 3, 1000, &f->err));
    OK(f->s->ops->spool_write(f->s, 2, 992, out, 8, &f->err));
    FAILS(SL_E_RANGE, f->s->ops->spool_write(f->s, 2, 993, out, 8, &f->err));
    FAILS(SL_E_RANGE, f->s->ops->spool_read(f->s, 3, 0, in, 1, &f->err));
    kill_store(f);
    OK(f->s->ops->spool_open(f->s, 1, 3, 1000, &f->err));
    OK(f->s->ops->spool_read(f->s, 2, 992, in, 8, &f->err));
    assert_memory_equal(in, out, 8);
    OK(f->s->ops->spool_drop(f->s, &f->err));
    FAILS(SL_E_RANGE, f->s->ops->spool_read(f->s, 2, 992, in, 8, &f->err));
    OK(f->s->ops->spool_drop(f->s, &f->err));
    FAILS(SL_E_LIMIT,
          f->s->ops->spool_open(f->s, 1, UINT32_MAX, UINT64_MAX / 2, &f->err));
}

/* --- the store in memory only
 * ----------------------------------------------------------------------- */

static void a_power_cut_keeps_a_prefix_up_to_the_last_sync(void **state)
{
    struct fix *f = *state;
    uint64_t run = add_run(f);
    const uint32_t included[1] = {2};
    open_round(f, run, 0, 0, 1000);
    accept_one(f, run, 0, 2, 0);
    commit(f, run, 0, included, 1, "s");
    open_round(f, run, 1, 0, 1000);
    accept_one(f, run, 1, 9, 0);
    OK(f->s->ops->put_report(f->s, run, "lost", &f->err));
    sl_store_mem_crash(f->s, true);
    bool present, known, in;
    struct sl_open_round r;
    OK(f->s->ops->load_open_round(f->s, run, &present, &r, &f->err));
    assert_false(present);
    OK(f->s->ops->was_included(f->s, run, 0, 2, &known, &in, &f->err));
    assert_true(known && in);
    struct seen seen = {0};
    OK(f->s->ops->each_report(f->s, run, see_report, &seen, &f->err));
    assert_string_equal(seen.text, "{\"event\":\"round\"}|");
    open_round(f, run, 1, 0, 1000);
}

static void a_power_cut_empties_the_spool(void **state)
{
    struct fix *f = *state;
    uint8_t out[4] = {1, 2, 3, 4}, in[4], zero[4] = {0};
    OK(f->s->ops->spool_open(f->s, 1, 2, 100, &f->err));
    OK(f->s->ops->spool_write(f->s, 1, 0, out, 4, &f->err));
    sl_store_mem_crash(f->s, true);
    OK(f->s->ops->spool_read(f->s, 1, 0, in, 4, &f->err));
    assert_memory_equal(in, zero, 4);
}

static void a_later_sync_covers_what_was_written_before(void **state)
{
    struct fix *f = *state;
    uint64_t run = add_run(f);
    open_round(f, run, 0, 0, 1000);
    accept_one(f, run, 0, 2, 0);
    struct sl_client_row a = client(1, 0, SL_CLIENT_ENROLLED);
    OK(f->s->ops->put_client(f->s, &a, &f->err));
    OK(f->s->ops->round_progress(f->s, run, 0, 1, &f->err));
    sl_store_mem_crash(f->s, true);
    bool present;
    struct sl_open_round r;
    OK(f->s->ops->load_open_round(f->s, run, &present, &r, &f->err));
    assert_true(present && r.members[0].accepted);
    assert_int_equal(r.remaining_ms, 1);
    free(r.members);
}

static void ten_thousand_clients_are_found_by_key(void **state)
{
    struct fix *f = *state;
    for (uint32_t pass = 0; pass < 2; pass++)
        for (uint32_t i = 0; i < 10000; i++) {
            struct sl_client_row c = {.index = i, .state = SL_CLIENT_ENROLLED};
            memcpy(c.key, &i, sizeof(i));
            OK(f->s->ops->put_client(f->s, &c, &f->err));
        }
    sl_store_mem_crash(f->s, true);
    struct sl_client_row other = client(77, 1234, SL_CLIENT_ENROLLED);
    FAILS(SL_E_EXISTS, f->s->ops->put_client(f->s, &other, &f->err));
    other.index = SL_CLIENTS_MAX;
    FAILS(SL_E_RANGE, f->s->ops->put_client(f->s, &other, &f->err));
}

/* --- the state directory only
 * ------------------------------------------------------------------------ */

static enum sl_code reopen(struct fix *f)
{
    if (f->s != NULL)
        f->s->ops->close(f->s);
    f->s = NULL;
    return sl_store_sqlite_open(f->dir, NULL, &f->s, &f->err);
}

static void a_second_coordinator_is_kept_out(void **state)
{
    struct fix *f = *state;
    struct sl_store *second = NULL;
    FAILS(SL_E_STATE, sl_store_sqlite_open(f->dir, NULL, &second, &f->err));
    assert_null(second);
    OK(reopen(f));
}

static void a_corrupt_database_is_refused(void **state)
{
    struct fix *f = *state;
    add_run(f);
    f->s->ops->close(f->s);
    f->s = NULL;
    sh("printf 'garbage garbage' | dd of='%s/starling.db' conv=notrunc bs=1 seek=0 "
       "2>/dev/null",
       f->dir);
    assert_int_equal(reopen(f), SL_E_STATE);
    assert_non_null(strstr(f->err.msg, f->dir));
}

static void a_damaged_page_is_refused(void **state)
{
    struct fix *f = *state;
    add_run(f);
    f->s->ops->close(f->s);
    f->s = NULL;
    sh("head -c 8192 /dev/urandom | dd of='%s/starling.db' conv=notrunc bs=4096 seek=1 "
       "2>/dev/null",
       f->dir);
    FAILS(SL_E_STATE, reopen(f));
}

static void set_pragma(struct fix *f, const char *pragma)
{
    char path[160];
    snprintf(path, sizeof(path), "%s/starling.db", f->dir);
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, pragma, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

static void a_newer_schema_is_refused_by_number(void **state)
{
    struct fix *f = *state;
    f->s->ops->close(f->s);
    f->s = NULL;
    set_pragma(f, "PRAGMA user_version = 99");
    assert_int_equal(reopen(f), SL_E_STATE);
    assert_non_null(strstr(f->err.msg, "schema 99"));
}

static void a_database_of_another_program_is_refused(void **state)
{
    struct fix *f = *state;
    f->s->ops->close(f->s);
    f->s = NULL;
    set_pragma(f, "PRAGMA application_id = 1");
    FAILS(SL_E_STATE, reopen(f));
}

static void a_state_directory_that_is_a_file_is_refused(void **state)
{
    struct fix *f = *state;
    char path[128];
    snprintf(path, sizeof(path), "%s/plain", f->root);
    sh("touch '%s'", path);
    struct sl_store *s = NULL;
    FAILS(SL_E_STATE, sl_store_sqlite_open(path, NULL, &s, &f->err));
    snprintf(path, sizeof(path), "%s/no/such", f->root);
    FAILS(SL_E_STATE, sl_store_sqlite_open(path, NULL, &s, &f->err));
}

static void a_cut_or_altered_checkpoint_is_refused(void **state)
{
    struct fix *f = *state;
    float values[15] = {1};
    char name[64];
    OK(f->s->ops->checkpoint_write(f->s, 1, 0, &f->layout, values, name, &f->err));
    sh("printf x | dd of='%s/%s' conv=notrunc bs=1 seek=70 2>/dev/null", f->dir, name);
    FAILS(SL_E_STATE,
          f->s->ops->checkpoint_read(f->s, name, &f->layout, values, &f->err));
    for (int n = 0; n < 124; n += 31) {
        OK(f->s->ops->checkpoint_write(f->s, 1, 0, &f->layout, values, name, &f->err));
        sh("truncate -s %d '%s/%s'", n, f->dir, name);
        FAILS(SL_E_STATE,
              f->s->ops->checkpoint_read(f->s, name, &f->layout, values, &f->err));
    }
    FAILS(SL_E_STATE,
          f->s->ops->checkpoint_read(f->s, "../lock", &f->layout, values, &f->err));
}

static void leftover_temporary_files_are_swept(void **state)
{
    struct fix *f = *state;
    char path[160];
    snprintf(path, sizeof(path), "%s/run-1-1.slm.tmp", f->dir);
    sh("touch '%s'", path);
    OK(reopen(f));
    assert_int_not_equal(access(path, F_OK), 0);
}

/* A folder in the way of the temporary file makes the write fail. */
static void a_failed_checkpoint_leaves_nothing(void **state)
{
    struct fix *f = *state;
    char name[64] = "untouched", path[160];
    float values[15] = {1};
    snprintf(path, sizeof(path), "%s/run-1-3.slm.tmp", f->dir);
    assert_int_equal(mkdir(path, 0700), 0);
    FAILS(SL_E_IO,
          f->s->ops->checkpoint_write(f->s, 1, 3, &f->layout, values, name, &f->err));
    assert_string_equal(name, "untouched");
    FAILS(SL_E_NOTFOUND,
          f->s->ops->checkpoint_read(f->s, "run-1-3.slm", &f->layout, values, &f->err));
}

#define BOTH(test)                                                                       \
    {#test " (sqlite)", test, setup_sqlite, teardown, NULL},                             \
    {                                                                                    \
#test " (memory)", test, setup_memory, teardown, NULL                            \
    }
#define SQLITE(test) cmocka_unit_test_setup_teardown(test, setup_sqlite, teardown)
#define MEMORY(test) cmocka_unit_test_setup_teardown(test, setup_memory, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(clients_come_back_in_order_of_index),
        BOTH(an_index_belongs_to_one_enrolled_client),
        BOTH(a_loop_over_rows_stops_when_told),
        BOTH(a_join_token_enrols_once),
        BOTH(a_token_is_kept_when_enrolment_fails),
        BOTH(runs_are_numbered_in_order_of_submission),
        BOTH(an_open_round_survives_a_kill),
        BOTH(another_attempt_keeps_what_was_accepted),
        BOTH(an_unreadable_update_is_asked_for_again),
        BOTH(what_the_journal_does_not_know_is_refused),
        BOTH(a_committed_round_never_changes),
        BOTH(the_last_commit_names_model_and_state),
        BOTH(tasks_of_versions_outlive_their_version),
        BOTH(a_task_that_is_taken_back_is_gone),
        BOTH(an_update_of_an_earlier_version_can_be_lost_and_come_again),
        BOTH(the_last_two_checkpoints_are_kept),
        BOTH(a_named_checkpoint_is_kept_until_another_one_is),
        BOTH(a_checkpoint_of_another_model_is_refused),
        BOTH(the_last_calibration_keeps_its_members),
        BOTH(wanted_calibrations_survive_a_kill),
        BOTH(the_report_comes_back_in_order),
        BOTH(the_spool_keeps_its_bytes_over_a_kill),
        MEMORY(a_power_cut_keeps_a_prefix_up_to_the_last_sync),
        MEMORY(a_power_cut_empties_the_spool),
        MEMORY(a_power_cut_takes_tasks_since_the_last_commit),
        MEMORY(a_later_sync_covers_what_was_written_before),
        MEMORY(ten_thousand_clients_are_found_by_key),
        SQLITE(a_second_coordinator_is_kept_out),
        SQLITE(a_corrupt_database_is_refused),
        SQLITE(a_damaged_page_is_refused),
        SQLITE(a_newer_schema_is_refused_by_number),
        SQLITE(a_database_of_another_program_is_refused),
        SQLITE(a_state_directory_that_is_a_file_is_refused),
        SQLITE(a_cut_or_altered_checkpoint_is_refused),
        SQLITE(leftover_temporary_files_are_swept),
        SQLITE(a_failed_checkpoint_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
