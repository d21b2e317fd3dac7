/* SPDX-License-Identifier: Apache-2.0 */
#include "client/client_store.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/hash.h"

#define N 300

struct fixture {
    char dir[64];
    struct sl_client_store *store;
    uint8_t data[N];
    struct sl_kept_update kept;
};

static void path_of(const struct fixture *f, const char *name, char ret[128])
{
    snprintf(ret, 128, "%s/%s", f->dir, name);
}

static int setup(void **state)
{
    struct sl_err err;
    struct fixture *f = calloc(1, sizeof *f);
    strcpy(f->dir, "/tmp/sl_client_store.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    for (size_t i = 0; i < N; i++)
        f->data[i] = (uint8_t)(i * 7 + 1);
    f->kept = (struct sl_kept_update){
        .run_id = 12,
        .round = 34,
        .plan.bytes = {1, 2},
        .model.bytes = {3, 4},
        .blob.size = N,
        .meta = {.weight = 5,
                 .samples = 60,
                 .steps = 7,
                 .loss_sum = 1.25,
                 .first_loss = 2.5,
                 .encoding = 0,
                 .has_eval = true,
                 .eval = {.samples = 9, .correct = 8, .loss_sum = 0.5}},
    };
    sl_xxh3_128(f->data, N, &f->kept.blob.id);
    assert_int_equal(sl_client_store_files_open(f->dir, NULL, &f->store, &err), SL_OK);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char cmd[128];
    if (f->store != NULL)
        f->store->ops->close(f->store);
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", f->dir);
    assert_int_equal(system(cmd), 0);
    free(f);
    return 0;
}

static void write_it(struct fixture *f)
{
    struct sl_err err;
    assert_int_equal(f->store->ops->update_write(f->store, &f->kept, f->data, N, &err),
                     SL_OK);
}

static bool load(struct fixture *f, struct sl_kept_update *ret)
{
    struct sl_err err;
    bool present = true;
    assert_int_equal(f->store->ops->update_load(f->store, &present, ret, &err), SL_OK);
    return present;
}

static void reopen(struct fixture *f)
{
    struct sl_err err;
    f->store->ops->close(f->store);
    f->store = NULL;
    assert_int_equal(sl_client_store_files_open(f->dir, NULL, &f->store, &err), SL_OK);
}

static void assert_kept(const struct fixture *f, const struct sl_kept_update *k)
{
    const struct sl_update_meta *a = &f->kept.meta, *b = &k->meta;
    assert_int_equal(k->run_id, f->kept.run_id);
    assert_int_equal(k->round, f->kept.round);
    assert_memory_equal(&k->plan, &f->kept.plan, sizeof k->plan);
    assert_memory_equal(&k->model, &f->kept.model, sizeof k->model);
    assert_memory_equal(&k->blob.id, &f->kept.blob.id, sizeof k->blob.id);
    assert_int_equal(k->blob.size, N);
    assert_true(a->weight == b->weight && a->samples == b->samples &&
                a->steps == b->steps);
    assert_true(a->loss_sum == b->loss_sum && a->first_loss == b->first_loss);
    assert_true(a->encoding == b->encoding && a->has_eval == b->has_eval);
    assert_true(a->eval.samples == b->eval.samples &&
                a->eval.correct == b->eval.correct &&
                a->eval.loss_sum == b->eval.loss_sum);
}

static void what_is_written_is_there_after_a_restart(void **state)
{
    struct fixture *f = *state;
    struct sl_err err;
    struct sl_kept_update k;
    uint8_t back[N];
    assert_false(load(f, &k));
    write_it(f);
    reopen(f);
    assert_true(load(f, &k));
    assert_kept(f, &k);
    assert_int_equal(f->store->ops->update_read(f->store, 0, back, N, &err), SL_OK);
    assert_memory_equal(back, f->data, N);
    assert_int_equal(f->store->ops->update_read(f->store, 100, back, 50, &err), SL_OK);
    assert_memory_equal(back, f->data + 100, 50);
}

static void read_beyond_the_end_is_refused(void **state)
{
    struct fixture *f = *state;
    struct sl_err err;
    uint8_t back[N];
    assert_int_equal(f->store->ops->update_read(f->store, 0, back, 1, &err),
                     SL_E_NOTFOUND);
    write_it(f);
    assert_int_equal(f->store->ops->update_read(f->store, 1, back, N, &err), SL_E_RANGE);
    assert_int_equal(f->store->ops->update_read(f->store, UINT64_MAX, back, 1, &err),
                     SL_E_RANGE);
}

static void dropped_update_is_gone(void **state)
{
    struct fixture *f = *state;
    struct sl_err err;
    struct sl_kept_update k;
    write_it(f);
    assert_int_equal(f->store->ops->update_drop(f->store, &err), SL_OK);
    assert_false(load(f, &k));
    assert_int_equal(f->store->ops->update_drop(f->store, &err), SL_OK);
    reopen(f);
    assert_false(load(f, &k));
}

static void next_update_replaces_the_last_whatever_their_sizes(void **state)
{
    struct fixture *f = *state;
    struct sl_err err;
    struct sl_kept_update k, small = f->kept;
    small.round = 35;
    small.blob.size = 20;
    sl_xxh3_128(f->data, 20, &small.blob.id);
    for (int dropped = 0; dropped < 2; dropped++) {
        write_it(f);
        if (dropped)
            assert_int_equal(f->store->ops->update_drop(f->store, &err), SL_OK);
        assert_int_equal(f->store->ops->update_write(f->store, &small, f->data, 20, &err),
                         SL_OK);
        assert_true(load(f, &k));
        assert_int_equal(k.round, 35);
        assert_int_equal(k.blob.size, 20);
    }
}

static void file_cut_at_any_byte_is_not_present(void **state)
{
    struct fixture *f = *state;
    struct sl_kept_update k;
    char path[128];
    path_of(f, "update", path);
    write_it(f);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    for (off_t n = st.st_size - 1; n >= 0; n--) {
        assert_int_equal(truncate(path, n), 0);
        assert_false(load(f, &k));
    }
    write_it(f);
    assert_true(load(f, &k));
}

static void file_with_any_bit_changed_is_not_present(void **state)
{
    struct fixture *f = *state;
    struct sl_kept_update k;
    char path[128];
    struct stat st;
    path_of(f, "update", path);
    write_it(f);
    assert_int_equal(stat(path, &st), 0);
    int fd = open(path, O_RDWR);
    for (off_t at = 0; at < st.st_size; at++) {
        uint8_t b, c;
        assert_int_equal(pread(fd, &b, 1, at), 1);
        c = b ^ (uint8_t)(1 << at % 8);
        assert_int_equal(pwrite(fd, &c, 1, at), 1);
        assert_false(load(f, &k));
        assert_int_equal(pwrite(fd, &b, 1, at), 1);
    }
    close(fd);
    assert_true(load(f, &k));
}

static void longer_file_is_not_present(void **state)
{
    struct fixture *f = *state;
    struct sl_kept_update k;
    char path[128];
    struct stat st;
    path_of(f, "update", path);
    write_it(f);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(truncate(path, st.st_size + 1), 0);
    assert_false(load(f, &k));
}

static void folder_or_link_in_its_place_is_not_present(void **state)
{
    struct fixture *f = *state;
    struct sl_kept_update k;
    char path[128], other[128];
    path_of(f, "update", path);
    path_of(f, "other", other);
    write_it(f);
    assert_int_equal(rename(path, other), 0);
    assert_int_equal(symlink(other, path), 0);
    assert_false(load(f, &k));
}

static void half_written_file_is_never_looked_at(void **state)
{
    struct fixture *f = *state;
    struct sl_kept_update k;
    char path[128], tmp[128];
    path_of(f, "update", path);
    path_of(f, "update.tmp", tmp);
    write_it(f);
    assert_int_equal(rename(path, tmp),
                     0); /* all of it, but the kill came before the rename */
    assert_false(load(f, &k));
}

static void second_client_is_kept_out(void **state)
{
    struct fixture *f = *state;
    struct sl_client_store *second;
    struct sl_err err;
    assert_int_equal(sl_client_store_files_open(f->dir, NULL, &second, &err), SL_E_STATE);
    assert_non_null(strstr(err.msg, "in use by another client"));
}

static void directory_that_cannot_be_made_is_refused(void **state)
{
    struct fixture *f = *state;
    struct sl_client_store *s;
    struct sl_err err;
    char path[128];
    path_of(f, "no/such", path);
    assert_int_equal(sl_client_store_files_open(path, NULL, &s, &err), SL_E_STATE);
    path_of(f, "lock", path); /* a file */
    assert_int_equal(sl_client_store_files_open(path, NULL, &s, &err), SL_E_STATE);
}

static void wrong_size_is_refused(void **state)
{
    struct fixture *f = *state;
    struct sl_err err;
    struct sl_kept_update k;
    assert_int_equal(f->store->ops->update_write(f->store, &f->kept, f->data, 0, &err),
                     SL_E_LIMIT);
    assert_int_equal(
        f->store->ops->update_write(f->store, &f->kept, f->data, N - 1, &err),
        SL_E_LIMIT);
    assert_false(load(f, &k));
}

/* --- state --- */

#define STATE 5000

static bool state_is(struct fixture *f, uint64_t run, uint8_t byte)
{
    struct sl_err err;
    uint8_t got[STATE], want[STATE];
    bool present;
    memset(want, byte, STATE);
    assert_int_equal(f->store->ops->state_read(f->store, run, got, STATE, &present, &err),
                     SL_OK);
    return present && memcmp(got, want, STATE) == 0;
}

static bool any_state(struct fixture *f, uint64_t run, size_t n)
{
    struct sl_err err;
    uint8_t got[STATE];
    bool present;
    assert_int_equal(f->store->ops->state_read(f->store, run, got, n, &present, &err), SL_OK);
    return present;
}

static void stage(struct fixture *f, uint64_t run, uint32_t round, uint8_t byte)
{
    struct sl_err err;
    uint8_t data[STATE];
    memset(data, byte, STATE);
    struct sl_kept_update u = {.run_id = run, .round = round, .blob = {{{7}}, 99}};
    assert_int_equal(f->store->ops->state_stage(f->store, &u, data, STATE, &err), SL_OK);
}

static void commit(struct fixture *f, uint64_t run, uint32_t round)
{
    struct sl_err err;
    assert_int_equal(f->store->ops->state_commit(f->store, run, round, &err), SL_OK);
}

static void state_is_current_only_once_its_round_is_committed(void **state)
{
    struct fixture *f = *state;
    struct sl_err err;
    assert_false(any_state(f, 1, STATE));
    stage(f, 1, 4, 0xaa);
    assert_false(any_state(f, 1, STATE));
    reopen(f);
    commit(f, 1, 3); /* another round, another run: nothing */
    commit(f, 2, 4);
    assert_false(any_state(f, 1, STATE));
    commit(f, 1, 4);
    assert_true(state_is(f, 1, 0xaa));
    commit(f, 1, 4); /* said twice */
    stage(f, 1, 5, 0xbb);
    assert_true(state_is(f, 1, 0xaa));
    assert_int_equal(f->store->ops->update_drop(f->store, &err), SL_OK); /* left out */
    commit(f, 1, 5);
    reopen(f);
    assert_true(state_is(f, 1, 0xaa));
    assert_false(any_state(f, 2, STATE)); /* of another run */
    assert_false(any_state(f, 1, STATE - 1));
}

static void staged_state_outlives_a_lost_update(void **state)
{
    struct fixture *f = *state;
    struct sl_err err;
    bool present;
    struct sl_kept_update u;
    assert_int_equal(f->store->ops->state_staged(f->store, &present, &u, &err), SL_OK);
    assert_false(present);
    stage(f, 7, 9, 1);
    reopen(f);
    assert_int_equal(f->store->ops->state_staged(f->store, &present, &u, &err), SL_OK);
    assert_true(present && u.run_id == 7 && u.round == 9 && u.blob.size == 99);
}

static void damaged_state_is_not_present(void **state)
{
    struct fixture *f = *state;
    char path[128];
    snprintf(path, sizeof path, "%s/state", f->dir);
    for (long at = 0; at < 88 + STATE; at += 7) {
        stage(f, 1, 1, 0xcc);
        commit(f, 1, 1);
        FILE *file = fopen(path, "r+b");
        assert_non_null(file);
        fseek(file, at, SEEK_SET);
        int byte = fgetc(file);
        fseek(file, at, SEEK_SET);
        fputc(byte ^ 1, file);
        fclose(file);
        assert_false(state_is(f, 1, 0xcc));
        assert_false(any_state(f, 1, STATE));
    }
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(what_is_written_is_there_after_a_restart),
        T(read_beyond_the_end_is_refused),
        T(dropped_update_is_gone),
        T(next_update_replaces_the_last_whatever_their_sizes),
        T(file_cut_at_any_byte_is_not_present),
        T(file_with_any_bit_changed_is_not_present),
        T(longer_file_is_not_present),
        T(folder_or_link_in_its_place_is_not_present),
        T(half_written_file_is_never_looked_at),
        T(second_client_is_kept_out),
        T(directory_that_cannot_be_made_is_refused),
        T(wrong_size_is_refused),
        T(state_is_current_only_once_its_round_is_committed),
        T(staged_state_outlives_a_lost_update),
        T(damaged_state_is_not_present),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
