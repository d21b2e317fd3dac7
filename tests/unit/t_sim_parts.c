/* SPDX-License-Identifier: Apache-2.0 */
/* The simulator's parts that need no federation: queue, traces, links, devices, faults,
 * regions, workers, shared blobs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sim/blob_cache.h"
#include "sim/device.h"
#include "sim/events.h"
#include "sim/fault.h"
#include "sim/network.h"
#include "sim/options.h"
#include "sim/trace.h"
#include "sim/vfile.h"
#include "sim/workers.h"

static struct sl_err err;

static struct sl_plan a_plan(void)
{
    struct sl_plan p = {.run = {.seed = 7, .rounds = 5},
                        .data.partition.clients = 20,
                        .selection.clients_per_round = 5};
    strcpy(p.sim.world.device, "constant");
    strcpy(p.sim.world.network, "constant");
    p.sim.world.samples_per_s = 100;
    p.sim.world.up_mbit = 8;
    p.sim.world.down_mbit = 80;
    p.sim.world.rtt_ms = 20;
    p.sim.world.network_sigma = p.sim.world.device_sigma = 0.5;
    return p;
}

static void events_come_by_time_and_then_in_order_of_asking(void **state)
{
    struct sl_events q = {0};
    for (uint64_t i = 0; i < 1000; i++)
        assert_true(sl_events_push(
            &q,
            &(struct sl_sim_event){.at_us = sl_splitmix64_at(3, i) % 50, .token = i}));
    struct sl_sim_event last = {0}, e;
    for (size_t i = 0; i < 1000; i++) {
        assert_true(sl_events_pop(&q, &e));
        assert_true(i == 0 || e.at_us > last.at_us ||
                    (e.at_us == last.at_us && e.token > last.token));
        last = e;
    }
    assert_false(sl_events_pop(&q, &e));
    sl_events_deinit(&q);
}

static void a_trace_skips_heading_comments_and_blanks(void **state)
{
    struct sl_trace t;
    const char text[] = "up,down,rtt\r\n# measured\n\n1.5, 20,3e1 # slow\n4,5,6";
    assert_int_equal(sl_trace_parse("t", text, strlen(text), 3, &t, &err), SL_OK);
    assert_int_equal(t.n_rows, 2);
    assert_true(t.value[2] == 30.0 && t.value[3] == 4.0);
    sl_trace_deinit(&t);
}

static void a_bad_trace_names_its_line(void **state)
{
    static const char *const bad[] = {
        "",        "1,2",   "1,2,3,4", "1,2,x",   "1,2,-3",
        "1,2,nan", "1,2,0", "1;2;3",   "1,2,inf", "1,2,3\nhello,1,2"};
    struct sl_trace t;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(sl_trace_parse("t", bad[i], strlen(bad[i]), 3, &t, &err),
                         SL_E_INPUT);
    assert_string_equal(err.msg,
                        "t:2: not a row of 3 numbers above 0 separated by commas");
    assert_int_equal(sl_trace_parse("t", "1\0,2", 4, 1, &t, &err), SL_E_INPUT);
    char longer[400];
    memset(longer, '1', sizeof(longer));
    assert_int_equal(sl_trace_parse("t", longer, sizeof(longer), 1, &t, &err),
                     SL_E_INPUT);
    assert_int_equal(sl_trace_load("/no/such/file", 1, &t, &err), SL_E_NOTFOUND);
}

static void a_constant_device_needs_samples_over_rate(void **state)
{
    struct sl_plan p = a_plan();
    struct sl_device_model d;
    assert_int_equal(sl_device_model_init(&d, &p, &err), SL_OK);
    assert_int_equal(sl_device_train_us(&d, 3, 250), 2500000);
    sl_device_model_deinit(&d);
    strcpy(p.sim.world.device, "warp");
    assert_int_equal(sl_device_model_init(&d, &p, &err), SL_E_INPUT);
}

static void lognormal_devices_differ_by_client_and_stay_the_same(void **state)
{
    struct sl_plan p = a_plan();
    strcpy(p.sim.world.device, "lognormal");
    struct sl_device_model d;
    assert_int_equal(sl_device_model_init(&d, &p, &err), SL_OK);
    uint64_t a = sl_device_train_us(&d, 1, 1000), b = sl_device_train_us(&d, 2, 1000);
    assert_true(a != b && a == sl_device_train_us(&d, 1, 1000));
    sl_device_model_deinit(&d);
}

static void messages_of_a_direction_follow_one_another(void **state)
{
    struct sl_plan p = a_plan();
    struct sl_network_model n;
    assert_int_equal(sl_network_model_init(&n, &p, &err), SL_OK);
    struct sl_link l = sl_network_link(&n, 0);
    uint64_t free_us = 0;
    /* 8 Mbit/s are one byte a microsecond; half a round trip is 10 ms */
    assert_int_equal(sl_link_arrival_us(&l, true, 100, 1000, &free_us),
                     100 + 1000 + 10000);
    assert_int_equal(sl_link_arrival_us(&l, true, 200, 500, &free_us),
                     100 + 1500 + 10000);
    assert_int_equal(sl_link_arrival_us(&l, true, 9000, 500, &free_us), 9500 + 10000);
    free_us = 0;
    assert_int_equal(sl_link_arrival_us(&l, false, 0, 1000, &free_us), 100 + 10000);
    sl_network_model_deinit(&n);
}

static void faults_are_a_function_of_the_seed(void **state)
{
    struct sl_plan p = a_plan();
    p.sim.faults.drop = p.sim.faults.delay = p.sim.faults.duplicate = 0.3;
    p.sim.faults.delay_ms = 10;
    p.sim.faults.coordinator_kills = 2;
    p.sim.faults.client_kills = 3;
    struct sl_faults a, b;
    assert_int_equal(sl_faults_init(&a, &p, &err), SL_OK);
    assert_int_equal(sl_faults_init(&b, &p, &err), SL_OK);
    size_t drops = 0;
    for (int i = 0; i < 1000; i++) {
        struct sl_message_fault x = sl_faults_message(&a, 1000),
                                y = sl_faults_message(&b, 1000);
        assert_true(x.drop == y.drop && x.late_us == y.late_us &&
                    x.duplicate == y.duplicate);
        drops += x.drop;
    }
    assert_in_range(drops, 230, 370);
    sl_faults_deinit(&a);
    sl_faults_deinit(&b);
}

static void every_kill_comes_once_and_in_its_round_or_later(void **state)
{
    struct sl_plan p = a_plan();
    p.sim.faults.coordinator_kills = 4;
    p.sim.faults.client_kills = 5;
    struct sl_faults f;
    assert_int_equal(sl_faults_init(&f, &p, &err), SL_OK);
    size_t coordinator = 0, client = 0;
    for (uint32_t round = 0; round < 5; round++) {
        sl_faults_new_round(&f);
        for (int step = 0; step < 200; step++) {
            const struct sl_kill *k = sl_faults_step(&f, round);
            if (k == NULL)
                continue;
            assert_true(k->round <= round);
            coordinator += k->coordinator;
            client += !k->coordinator;
        }
    }
    assert_int_equal(coordinator, 4);
    assert_int_equal(client, 5);
    sl_faults_deinit(&f);
}

static void about_as_many_drop_out_as_the_plan_says(void **state)
{
    struct sl_plan p = a_plan();
    p.sim.world.dropout = 0.25;
    struct sl_faults f;
    assert_int_equal(sl_faults_init(&f, &p, &err), SL_OK);
    size_t n = 0;
    for (uint32_t c = 0; c < 4000; c++)
        n += sl_faults_dropout(&f, c % 100, c / 100, 0);
    assert_in_range(n, 880, 1120);
    assert_int_equal(sl_faults_dropout(&f, 5, 6, 1), sl_faults_dropout(&f, 5, 6, 1));
    sl_faults_deinit(&f);
}

static void a_client_keeps_one_update_and_gives_its_region_back(void **state)
{
    struct sl_vfile file;
    assert_int_equal(sl_vfile_init(&file, 16, &err), SL_OK);
    struct sl_vstore s;
    sl_vstore_init(&s, &file, NULL);
    struct sl_kept_update u = {.run_id = 1, .round = 2, .blob.size = 4}, got;
    const struct sl_client_store_ops *ops = s.base.ops;
    uint8_t out[4] = {9, 8, 7, 6}, in[4];
    bool present = true;
    assert_int_equal(ops->update_load(&s.base, &present, &got, &err), SL_OK);
    assert_false(present);
    for (int i = 0; i < 100; i++)
        assert_int_equal(ops->update_write(&s.base, &u, out, 4, &err), SL_OK);
    assert_int_equal(sl_vfile_used(&file), 1);
    assert_int_equal(ops->update_load(&s.base, &present, &got, &err), SL_OK);
    assert_true(present && got.round == 2);
    assert_int_equal(ops->update_read(&s.base, 1, in, 3, &err), SL_OK);
    assert_memory_equal(in, out + 1, 3);
    assert_int_equal(ops->update_read(&s.base, 2, in, 3, &err), SL_E_RANGE);
    assert_int_equal(ops->update_write(&s.base, &u, out, 17, &err), SL_E_RANGE);
    assert_int_equal(ops->update_drop(&s.base, &err), SL_OK);
    assert_int_equal(ops->update_drop(&s.base, &err), SL_OK);
    assert_int_equal(sl_vfile_used(&file), 0);
    sl_vfile_deinit(&file);
}

struct counted {
    struct sl_worker_job job;
    uint64_t in, out;
};

static void square(struct sl_worker_job *job, unsigned worker)
{
    struct counted *c = (struct counted *)job;
    c->out = c->in * c->in;
}

static void a_result_is_there_after_waiting(void **state)
{
    static struct counted jobs[200];
    for (unsigned n = 1; n <= 3; n++) {
        struct sl_workers *w;
        assert_int_equal(sl_workers_new(n, &w, &err), SL_OK);
        for (uint64_t i = 0; i < 200; i++) {
            jobs[i] = (struct counted){.job.run = square, .in = i};
            sl_workers_submit(w, &jobs[i].job);
        }
        for (uint64_t i = 200; i-- > 100;) {
            sl_workers_wait(w, &jobs[i].job);
            assert_int_equal(jobs[i].out, i * i);
        }
        sl_workers_free(w); /* finishes the others */
        assert_int_equal(jobs[99].out, 99 * 99);
    }
    struct sl_workers *none;
    assert_int_equal(sl_workers_new(0, &none, &err), SL_E_RANGE);
}

static void blobs_are_shared_and_checked(void **state)
{
    static uint8_t data[SL_CHUNK_BYTES + 100];
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 7);
    struct sl_blob_ref ref = {.size = sizeof(data)};
    sl_xxh3_128(data, sizeof(data), &ref.id);
    struct sl_blob_cache c = {0};
    const uint8_t *bytes;
    assert_int_equal(sl_blob_cache_write(&c, &ref, 0, data, 1, &err), SL_E_PROTO);
    assert_int_equal(sl_blob_cache_begin(&c, &ref, &err), SL_OK);
    assert_int_equal(sl_blob_cache_begin(&c, &ref, &err), SL_OK);
    assert_int_equal(c.n, 1);
    assert_int_equal(
        sl_blob_cache_write(&c, &ref, SL_CHUNK_BYTES, data + SL_CHUNK_BYTES, 100, &err),
        SL_OK);
    assert_int_equal(
        sl_blob_cache_write(&c, &ref, SL_CHUNK_BYTES, data + SL_CHUNK_BYTES, 101, &err),
        SL_E_PROTO);
    assert_int_equal(sl_blob_cache_write(&c, &ref, 0, data, SL_CHUNK_BYTES, &err), SL_OK);
    assert_int_equal(sl_blob_cache_finish(&c, &ref, &bytes, &err), SL_OK);
    assert_memory_equal(bytes, data, sizeof(data));
    assert_int_equal(sl_blob_cache_write(&c, &ref, 0, data + 1, SL_CHUNK_BYTES, &err),
                     SL_E_PROTO);
    sl_blob_cache_release(&c, &ref);
    assert_int_equal(c.n, 1);
    sl_blob_cache_release(&c, &ref);
    assert_int_equal(c.n, 0);
    assert_int_equal(sl_blob_cache_begin(&c, &ref, &err), SL_OK);
    memset(c.entry[0].bytes, 0, ref.size);
    assert_int_equal(sl_blob_cache_finish(&c, &ref, &bytes, &err), SL_E_PROTO);
    sl_blob_cache_deinit(&c);
}

static enum sl_code parse(struct sl_sim_options *o, int n, const char *const *words)
{
    char *argv[8] = {(char *)(uintptr_t) "starling-sim"};
    for (int i = 0; i < n; i++)
        argv[i + 1] = (char *)(uintptr_t)words[i];
    return sl_sim_options_parse(n + 1, argv, o, &err);
}

static void the_command_line_is_read(void **state)
{
    struct sl_sim_options o;
    const char *const words[] = {"run",      "--set",  "run.rounds=3",        "p.yaml",
                                 "--jobs=2", "--seed", "18446744073709551615"};
    assert_int_equal(parse(&o, 7, words), SL_OK);
    assert_string_equal(o.path, "p.yaml");
    assert_int_equal(o.jobs, 2);
    assert_int_equal(o.n_set, 2);
    assert_string_equal(o.set[1].text, "run.seed=18446744073709551615");
}

static void a_bad_command_line_is_one_line(void **state)
{
    static const char *const bad[][4] = {
        {NULL},
        {"run"},
        {"dance", "x"},
        {"run", "a", "b"},
        {"run", "a", "--frob"},
        {"run", "a", "--jobs"},
        {"run", "a", "--jobs=0"},
        {"run", "a", "--jobs=2x"},
        {"run", "a", "--seed=-1"},
        {"run", "a", "--quiet=1"},
        {"run", "a", "--only=x"},
        {"check", "a", "--set", "b=c"},
        {"partition", "a", "--quiet"},
        {"train-policy", "a"},
        {"train-policy", "a", "-o"},
        {"run", "a", "-o", "b"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct sl_sim_options o;
        int n = 0;
        while (n < 4 && bad[i][n] != NULL)
            n++;
        err.msg[0] = '\0';
        assert_int_equal(parse(&o, n, bad[i]), SL_E_USAGE);
        assert_true(err.msg[0] != '\0' && strchr(err.msg, '\n') == NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_come_by_time_and_then_in_order_of_asking),
        cmocka_unit_test(a_trace_skips_heading_comments_and_blanks),
        cmocka_unit_test(a_bad_trace_names_its_line),
        cmocka_unit_test(a_constant_device_needs_samples_over_rate),
        cmocka_unit_test(lognormal_devices_differ_by_client_and_stay_the_same),
        cmocka_unit_test(messages_of_a_direction_follow_one_another),
        cmocka_unit_test(faults_are_a_function_of_the_seed),
        cmocka_unit_test(every_kill_comes_once_and_in_its_round_or_later),
        cmocka_unit_test(about_as_many_drop_out_as_the_plan_says),
        cmocka_unit_test(a_client_keeps_one_update_and_gives_its_region_back),
        cmocka_unit_test(a_result_is_there_after_waiting),
        cmocka_unit_test(blobs_are_shared_and_checked),
        cmocka_unit_test(the_command_line_is_read),
        cmocka_unit_test(a_bad_command_line_is_one_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
