/* SPDX-License-Identifier: Apache-2.0 */
#include "common/partition.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/hash.h"

#define CLASSES 10

/* n labels of uneven frequency in a scattered order */
static int32_t *some_labels(size_t n)
{
    int32_t *labels = malloc(n * sizeof(*labels));
    for (size_t i = 0; i < n; i++) {
        uint32_t h = (uint32_t)i * 2654435761u >> 16;
        labels[i] = (int32_t)(h % (CLASSES + 3) % CLASSES);
    }
    return labels;
}

static struct sl_plan_partition how(enum sl_partition_kind kind, uint32_t clients)
{
    return (struct sl_plan_partition){.kind = kind, .clients = clients, .alpha = 0.3,
                                      .min_size = 1, .shards_per_client = 2, .share = 0.8,
                                      .exponent = 1.0};
}

static void check_everything_once(const struct sl_partition *p, size_t n)
{
    bool *seen = calloc(n, sizeof(*seen));
    assert_int_equal(p->offset[0], 0);
    assert_int_equal(p->offset[p->clients], n);
    for (uint32_t k = 0; k < p->clients; k++) {
        size_t size;
        const uint32_t *index = sl_partition_client(p, k, &size);
        assert_true(size >= 1);
        for (size_t i = 0; i < size; i++) {
            assert_true(index[i] < n && !seen[index[i]]);
            assert_true(i == 0 || index[i] > index[i - 1]);
            seen[index[i]] = true;
        }
    }
    free(seen);
}

static void make(const struct sl_plan_partition *w, const int32_t *labels, size_t n,
                 uint64_t seed, struct sl_partition *ret)
{
    struct sl_err err = {0};
    const struct sl_partition_input in = {labels, n, CLASSES, seed};
    enum sl_code rc = sl_partition_make(w, &in, ret, &err);
    if (rc != SL_OK)
        print_error("%s\n", err.msg);
    assert_int_equal(rc, SL_OK);
}

static void every_kind_gives_each_sample_to_one_client(void **state)
{
    const size_t sizes[] = {50, 997, 6000};
    const uint32_t clients[] = {1, 2, 7, 25};
    for (size_t s = 0; s < 3; s++) {
        int32_t *labels = some_labels(sizes[s]);
        for (size_t c = 0; c < 4; c++)
            for (int kind = SL_PARTITION_IID; kind < SL_PARTITION_FILE; kind++) {
                struct sl_plan_partition w = how((enum sl_partition_kind)kind, clients[c]);
                if (kind == SL_PARTITION_DIRICHLET && sizes[s] < 20 * clients[c])
                    w.clients = 2; /* uneven shares of few samples leave some client none */
                struct sl_partition p;
                make(&w, labels, sizes[s], 3, &p);
                assert_int_equal(p.clients, w.clients);
                check_everything_once(&p, sizes[s]);
                sl_partition_deinit(&p);
            }
        free(labels);
    }
}

static void as_many_clients_as_samples_get_one_each(void **state)
{
    const enum sl_partition_kind kinds[] = {SL_PARTITION_IID, SL_PARTITION_MAJORITY,
                                            SL_PARTITION_QUANTITY};
    int32_t *labels = some_labels(100);
    for (size_t i = 0; i < 3; i++) {
        struct sl_plan_partition w = how(kinds[i], 100);
        struct sl_partition p;
        make(&w, labels, 100, 1, &p);
        check_everything_once(&p, 100);
        sl_partition_deinit(&p);
    }
    free(labels);
}

static void a_partition_depends_on_its_seed_only(void **state)
{
    int32_t *labels = some_labels(2000);
    for (int kind = SL_PARTITION_IID; kind < SL_PARTITION_FILE; kind++) {
        const struct sl_plan_partition w = how((enum sl_partition_kind)kind, 10);
        struct sl_partition a, b, c;
        make(&w, labels, 2000, 5, &a);
        make(&w, labels, 2000, 5, &b);
        make(&w, labels, 2000, 6, &c);
        assert_memory_equal(a.index, b.index, 2000 * sizeof(*a.index));
        assert_memory_equal(a.offset, b.offset, 11 * sizeof(*a.offset));
        assert_memory_not_equal(a.index, c.index, 2000 * sizeof(*a.index));
        sl_partition_deinit(&a);
        sl_partition_deinit(&b);
        sl_partition_deinit(&c);
    }
    free(labels);
}

/* Equal on every machine and with every compiler. */
static void partitions_have_the_committed_digests(void **state)
{
    static const char *const known[] = {
        "78a003573fc02ab568e296f18b75eb50",
        "5cd15335fa0b354e03a88ee05656e6eb",
        "bc5b997b3278001eb6b2589b35fd243f",
        "afff938e4269d35321446ee5784f75ea",
        "89accf14eb0c043152cc3a649a6ad6d0",
    };
    int32_t *labels = some_labels(3000);
    for (int kind = SL_PARTITION_IID; kind < SL_PARTITION_FILE; kind++) {
        const struct sl_plan_partition w = how((enum sl_partition_kind)kind, 13);
        struct sl_partition p;
        make(&w, labels, 3000, 1, &p);
        uint32_t all[3000 + 13];
        memcpy(all, p.index, 3000 * sizeof(*all));
        for (int k = 0; k < 13; k++)
            all[3000 + k] = (uint32_t)p.offset[k];
        struct sl_blob_id digest;
        char hex[2 * SL_XXH_BYTES + 1];
        sl_xxh3_128(all, sizeof(all), &digest);
        sl_hex(digest.bytes, SL_XXH_BYTES, hex);
        assert_string_equal(hex, known[kind]);
        sl_partition_deinit(&p);
    }
    free(labels);
}

static void iid_parts_are_equal_and_mixed(void **state)
{
    int32_t *labels = some_labels(6003);
    const struct sl_plan_partition w = how(SL_PARTITION_IID, 10);
    struct sl_partition p;
    make(&w, labels, 6003, 1, &p);
    for (uint32_t k = 0; k < 10; k++) {
        size_t n;
        uint32_t counts[CLASSES];
        sl_partition_client(&p, k, &n);
        assert_int_equal(n, k < 3 ? 601 : 600);
        sl_partition_histogram(&p, labels, k, CLASSES, counts);
        for (int c = 0; c < CLASSES; c++)
            assert_in_range(counts[c], 20, 150);
    }
    sl_partition_deinit(&p);
    free(labels);
}

/* Mean over clients of the share of the most frequent label. */
static double concentration(double alpha, uint32_t clients)
{
    int32_t *labels = some_labels(6000);
    struct sl_plan_partition w = how(SL_PARTITION_DIRICHLET, clients);
    w.alpha = alpha;
    struct sl_partition p;
    make(&w, labels, 6000, 1, &p);
    check_everything_once(&p, 6000);
    double sum = 0;
    for (uint32_t k = 0; k < clients; k++) {
        uint32_t counts[CLASSES], most = 0;
        size_t n;
        sl_partition_client(&p, k, &n);
        sl_partition_histogram(&p, labels, k, CLASSES, counts);
        for (int c = 0; c < CLASSES; c++)
            most = counts[c] > most ? counts[c] : most;
        sum += (double)most / (double)n / clients;
    }
    sl_partition_deinit(&p);
    free(labels);
    return sum;
}

static void alpha_sets_how_uneven_dirichlet_parts_are(void **state)
{
    assert_true(concentration(1e-3, 3) > 0.24); /* whole classes go to one client each */
    assert_true(concentration(0.1, 20) > 0.5);
    assert_true(concentration(1, 20) < concentration(0.1, 20));
    assert_true(concentration(1e6, 20) < 0.2); /* the most frequent label has 2 of 13 */
}

static void dirichlet_parts_have_their_minimal_size(void **state)
{
    int32_t *labels = some_labels(6000);
    struct sl_plan_partition w = how(SL_PARTITION_DIRICHLET, 30);
    w.min_size = 40;
    struct sl_partition p;
    for (uint64_t seed = 0; seed < 5; seed++) {
        make(&w, labels, 6000, seed, &p);
        for (uint32_t k = 0; k < 30; k++)
            assert_true(p.offset[k + 1] - p.offset[k] >= 40);
        sl_partition_deinit(&p);
    }
    free(labels);
}

static void shards_hold_few_labels(void **state)
{
    int32_t labels[1000];
    for (int i = 0; i < 1000; i++)
        labels[i] = i % CLASSES;
    const struct sl_plan_partition w = how(SL_PARTITION_SHARDS, 50);
    struct sl_partition p;
    make(&w, labels, 1000, 1, &p);
    for (uint32_t k = 0; k < 50; k++) {
        uint32_t counts[CLASSES];
        int present = 0;
        sl_partition_histogram(&p, labels, k, CLASSES, counts);
        for (int c = 0; c < CLASSES; c++) {
            assert_true(counts[c] % 10 == 0);
            present += counts[c] > 0;
        }
        assert_in_range(present, 1, 2);
        assert_int_equal(p.offset[k + 1] - p.offset[k], 20);
    }
    sl_partition_deinit(&p);
}

static void majority_gives_the_share_to_one_label(void **state)
{
    int32_t labels[1000];
    for (int i = 0; i < 1000; i++)
        labels[i] = i % CLASSES;
    const struct sl_plan_partition w = how(SL_PARTITION_MAJORITY, 20);
    struct sl_partition p;
    make(&w, labels, 1000, 1, &p);
    unsigned clients_of_label[CLASSES] = {0};
    for (uint32_t k = 0; k < 20; k++) {
        uint32_t counts[CLASSES];
        int main_label = 0;
        sl_partition_histogram(&p, labels, k, CLASSES, counts);
        for (int c = 0; c < CLASSES; c++)
            main_label = counts[c] > counts[main_label] ? c : main_label;
        assert_in_range(counts[main_label], 40, 50);
        clients_of_label[main_label]++;
    }
    for (int c = 0; c < CLASSES; c++)
        assert_int_equal(clients_of_label[c], 2);
    sl_partition_deinit(&p);
}

static int descending(const void *a, const void *b)
{
    const size_t *x = a, *y = b;
    return *x > *y ? -1 : *x < *y;
}

static void quantity_sizes_follow_the_power_law(void **state)
{
    struct sl_plan_partition w = how(SL_PARTITION_QUANTITY, 20);
    struct sl_partition p;
    make(&w, NULL, 60000, 1, &p);
    size_t size[20];
    for (int k = 0; k < 20; k++)
        size[k] = p.offset[k + 1] - p.offset[k];
    qsort(size, 20, sizeof(size[0]), descending);
    for (int k = 0; k < 20; k++)
        assert_true(fabs((double)size[k] * (k + 1) / (double)size[0] - 1) < 0.01);
    sl_partition_deinit(&p);
    w.exponent = 0;
    make(&w, NULL, 60000, 1, &p);
    for (int k = 0; k < 20; k++)
        assert_in_range(p.offset[k + 1] - p.offset[k], 2999, 3001);
    sl_partition_deinit(&p);
}

static void a_hundred_thousand_clients_are_partitioned(void **state)
{
    size_t n = 300000;
    int32_t *labels = some_labels(n);
    for (int kind = SL_PARTITION_IID; kind < SL_PARTITION_FILE; kind++) {
        struct sl_plan_partition w = how((enum sl_partition_kind)kind, SL_CLIENTS_MAX);
        if (kind == SL_PARTITION_DIRICHLET) { /* 3 samples a client are too few for it */
            w.clients = 10000;
            w.alpha = 1e6;
        }
        struct sl_partition p;
        make(&w, labels, n, 1, &p);
        check_everything_once(&p, n);
        sl_partition_deinit(&p);
    }
    free(labels);
}

struct bad {
    struct sl_plan_partition how;
    size_t n;
    enum sl_code code;
    const char *message;
};

static void impossible_partitions_are_refused_with_both_numbers(void **state)
{
    const struct bad bad[] = {
        {{.kind = SL_PARTITION_IID, .clients = 101}, 100, SL_E_RANGE,
         "partition: 101 clients, but there are 100 samples (1 or more a client)"},
        {{.kind = SL_PARTITION_IID, .clients = 0}, 100, SL_E_RANGE,
         "partition: 0 clients (1 to 100000)"},
        {{.kind = SL_PARTITION_IID, .clients = 100001}, 100, SL_E_RANGE,
         "partition: 100001 clients (1 to 100000)"},
        {{.kind = SL_PARTITION_IID, .clients = 1}, 0, SL_E_RANGE,
         "partition: 0 samples (1 to 67108864)"},
        {{.kind = SL_PARTITION_DIRICHLET, .clients = 20, .min_size = 10, .alpha = 1}, 100,
         SL_E_RANGE,
         "partition: 20 clients of at least 10 samples, but there are 100 samples"},
        {{.kind = SL_PARTITION_DIRICHLET, .clients = 20, .alpha = 0}, 100, SL_E_RANGE,
         "partition: alpha 0 (above 0, at most 1e12)"},
        {{.kind = SL_PARTITION_DIRICHLET, .clients = 20, .alpha = NAN}, 100, SL_E_RANGE,
         "partition: alpha nan (above 0, at most 1e12)"},
        {{.kind = SL_PARTITION_DIRICHLET, .clients = 50, .alpha = 1e-3}, 100, SL_E_FAILED,
         "partition: none of 1000 Dirichlet draws with alpha 0.001 gave each of 50 clients 1 "
         "samples (raise alpha, or lower clients or min_size)"},
        {{.kind = SL_PARTITION_SHARDS, .clients = 20, .shards_per_client = 6}, 100, SL_E_RANGE,
         "partition: 20 clients of 6 shards, but there are 100 samples (1 or more samples a "
         "shard)"},
        {{.kind = SL_PARTITION_SHARDS, .clients = 20, .shards_per_client = 0}, 100, SL_E_RANGE,
         "partition: 20 clients of 0 shards, but there are 100 samples (1 or more samples a "
         "shard)"},
        {{.kind = SL_PARTITION_MAJORITY, .clients = 20, .share = 1.5}, 100, SL_E_RANGE,
         "partition: share 1.5 (0 to 1)"},
        {{.kind = SL_PARTITION_QUANTITY, .clients = 20, .exponent = -1}, 100, SL_E_RANGE,
         "partition: exponent -1 (0 to 100)"},
    };
    int32_t *labels = some_labels(100);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct sl_partition p = {.clients = 42};
        struct sl_err err = {0};
        const struct sl_partition_input in = {labels, bad[i].n, CLASSES, 1};
        assert_int_equal(sl_partition_make(&bad[i].how, &in, &p, &err), bad[i].code);
        assert_string_equal(err.msg, bad[i].message);
        assert_int_equal(p.clients, 42);
    }
    free(labels);
}

static void labels_out_of_range_are_refused(void **state)
{
    int32_t labels[20] = {0};
    struct sl_plan_partition w = how(SL_PARTITION_SHARDS, 2);
    struct sl_partition p;
    struct sl_err err = {0};
    struct sl_partition_input in = {labels, 20, CLASSES, 1};
    labels[7] = CLASSES;
    assert_int_equal(sl_partition_make(&w, &in, &p, &err), SL_E_RANGE);
    assert_string_equal(err.msg, "partition: sample 7: label 10 (0 to 9)");
    labels[7] = -1;
    assert_int_equal(sl_partition_make(&w, &in, &p, &err), SL_E_RANGE);
    assert_string_equal(err.msg, "partition: sample 7: label -1 (0 to 9)");
    in.labels = NULL;
    assert_int_equal(sl_partition_make(&w, &in, &p, &err), SL_E_INPUT);
    assert_string_equal(err.msg, "partition: kind shards without labels");
}

static struct sl_plan_partition from_file(const char *text, uint32_t clients)
{
    struct sl_plan_partition w = {.kind = SL_PARTITION_FILE, .clients = clients};
    strcpy(w.path, "/tmp/sl_partition_XXXXXX");
    int fd = mkstemp(w.path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    return w;
}

static void a_partition_file_says_who_owns_what(void **state)
{
    for (uint32_t clients = 0; clients <= 3; clients += 3) {
        struct sl_plan_partition w = from_file("1 2 9 3\n0 1 5\n2 3 0 8 7\n", clients);
        struct sl_partition p;
        make(&w, NULL, 10, 1, &p);
        unlink(w.path);
        const uint32_t index[] = {5, 3, 9, 0, 7, 8};
        const size_t offset[] = {0, 1, 3, 6};
        assert_int_equal(p.clients, 3);
        assert_memory_equal(p.index, index, sizeof(index));
        assert_memory_equal(p.offset, offset, sizeof(offset));
        sl_partition_deinit(&p);
    }
}

static void bad_partition_files_are_refused(void **state)
{
    const struct {
        const char *text, *message;
        uint32_t clients;
    } bad[] = {
        {"0 1 5\n2 1 6\n", "client 1 has no line (clients 0 to 1 have one each)", 2},
        {"0 1 5\n1 1 10\n", "client 1: sample 10 (0 to 9)", 2},
        {"0 2 5 6\n1 1 5\n", "sample 5 of client 1 belongs to client 0 already", 2},
        {"0 2 5 6\n1 1 7\n", "2 clients, but the plan has 3", 3},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct sl_plan_partition w = from_file(bad[i].text, bad[i].clients);
        struct sl_partition p;
        struct sl_err err = {0};
        const struct sl_partition_input in = {NULL, 10, CLASSES, 1};
        assert_true(sl_partition_make(&w, &in, &p, &err) != SL_OK);
        unlink(w.path);
        assert_memory_equal(err.msg, w.path, strlen(w.path));
        assert_string_equal(err.msg + strlen(w.path) + 2, bad[i].message);
    }
}

static void a_holdout_is_a_deterministic_sorted_split(void **state)
{
    uint32_t index[100], a[100], b[100];
    size_t n_a, n_b;
    for (uint32_t i = 0; i < 100; i++)
        index[i] = 7 * i;
    sl_holdout_split(index, 100, 0.2, 1, 4, a, &n_a);
    assert_int_equal(n_a, 80);
    bool seen[100] = {false};
    for (size_t i = 0; i < 100; i++) {
        assert_true(a[i] % 7 == 0 && a[i] < 700 && !seen[a[i] / 7]);
        seen[a[i] / 7] = true;
        if (i != 0 && i != 80)
            assert_true(a[i] > a[i - 1]);
    }
    sl_holdout_split(index, 100, 0.2, 1, 4, b, &n_b);
    assert_memory_equal(a, b, sizeof(a));
    sl_holdout_split(index, 100, 0.2, 1, 5, b, &n_b);
    assert_memory_not_equal(a, b, sizeof(a));
    sl_holdout_split(index, 100, 0.2, 2, 4, b, &n_b);
    assert_memory_not_equal(a, b, sizeof(a));
    memcpy(b, index, sizeof(b));
    sl_holdout_split(b, 100, 0.2, 1, 4, b, &n_b); /* in place */
    assert_memory_equal(a, b, sizeof(a));
}

static void a_holdout_leaves_a_training_sample(void **state)
{
    const uint32_t index[3] = {4, 5, 6};
    uint32_t out[3];
    size_t n;
    sl_holdout_split(index, 1, 0.9, 1, 0, out, &n);
    assert_int_equal(n, 1);
    sl_holdout_split(index, 3, 1.0, 1, 0, out, &n);
    assert_int_equal(n, 1);
    sl_holdout_split(index, 3, 0.5, 1, 0, out, &n);
    assert_int_equal(n, 1);
    sl_holdout_split(index, 3, 0.1, 1, 0, out, &n);
    assert_int_equal(n, 3);
    assert_memory_equal(out, index, sizeof(out));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_gives_each_sample_to_one_client),
        cmocka_unit_test(as_many_clients_as_samples_get_one_each),
        cmocka_unit_test(a_partition_depends_on_its_seed_only),
        cmocka_unit_test(partitions_have_the_committed_digests),
        cmocka_unit_test(iid_parts_are_equal_and_mixed),
        cmocka_unit_test(alpha_sets_how_uneven_dirichlet_parts_are),
        cmocka_unit_test(dirichlet_parts_have_their_minimal_size),
        cmocka_unit_test(shards_hold_few_labels),
        cmocka_unit_test(majority_gives_the_share_to_one_label),
        cmocka_unit_test(quantity_sizes_follow_the_power_law),
        cmocka_unit_test(a_hundred_thousand_clients_are_partitioned),
        cmocka_unit_test(impossible_partitions_are_refused_with_both_numbers),
        cmocka_unit_test(labels_out_of_range_are_refused),
        cmocka_unit_test(a_partition_file_says_who_owns_what),
        cmocka_unit_test(bad_partition_files_are_refused),
        cmocka_unit_test(a_holdout_is_a_deterministic_sorted_split),
        cmocka_unit_test(a_holdout_leaves_a_training_sample),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
