/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/dataset.h"
#include "common/mem.h"
#include "common/partition.h"
#include "common/plan.h"
#include "common/plot_svg.h"
#include "common/plot_term.h"
#include "sim/commands.h"

/* A cut, counted: clients x labels. */
struct table {
    struct sl_partition part;
    int32_t *labels;
    size_t n_labels;
    uint32_t n_classes;
    uint64_t *count; /* [clients, n_classes] */
};

static void table_deinit(struct table *t)
{
    sl_partition_deinit(&t->part);
    free(t->labels);
    free(t->count);
}

static enum sl_code make_table(const struct sl_plan *plan, struct table *t,
                               struct sl_err *err)
{
    struct sl_dataset_source src = {.kind = plan->data.dataset,
                                    .path = plan->data.path,
                                    .split = SL_SPLIT_TRAIN,
                                    .limit = plan->data.limit};
    enum sl_code rc =
        sl_dataset_labels(&src, &t->labels, &t->n_labels, &t->n_classes, err);
    if (rc != SL_OK)
        return rc;
    struct sl_partition_input in = {.labels = t->labels,
                                    .n = t->n_labels,
                                    .n_classes = t->n_classes,
                                    .seed = plan->run.seed};
    rc = sl_partition_make(&plan->data.partition, &in, &t->part, err);
    if (rc != SL_OK)
        return sl_err_wrap(err, rc, "partition");
    size_t cells;
    if (!sl_size_mul(t->part.clients, t->n_classes, &cells) ||
        (t->count = sl_calloc(cells, sizeof(*t->count))) == NULL)
        return sl_err_set(err, SL_E_NOMEM, "table of clients x labels");
    uint32_t *row = sl_calloc(t->n_classes, sizeof(*row));
    if (row == NULL)
        return sl_err_set(err, SL_E_NOMEM, "table of clients x labels");
    for (uint32_t c = 0; c < t->part.clients; c++) {
        sl_partition_histogram(&t->part, t->labels, c, t->n_classes, row);
        for (uint32_t k = 0; k < t->n_classes; k++)
            t->count[(size_t)c * t->n_classes + k] = row[k];
    }
    free(row);
    return SL_OK;
}

static void print_csv(const struct table *t)
{
    printf("client,samples");
    for (uint32_t k = 0; k < t->n_classes; k++)
        printf(",label_%" PRIu32, k);
    putchar('\n');
    for (uint32_t c = 0; c < t->part.clients; c++) {
        printf("%" PRIu32 ",%zu", c, t->part.offset[c + 1] - t->part.offset[c]);
        for (uint32_t k = 0; k < t->n_classes; k++)
            printf(",%" PRIu64, t->count[(size_t)c * t->n_classes + k]);
        putchar('\n');
    }
}

static void print_table(const struct table *t)
{
    printf("client  samples");
    for (uint32_t k = 0; k < t->n_classes; k++)
        printf(" %6" PRIu32, k);
    putchar('\n');
    for (uint32_t c = 0; c < t->part.clients; c++) {
        printf("%6" PRIu32 "  %7zu", c, t->part.offset[c + 1] - t->part.offset[c]);
        for (uint32_t k = 0; k < t->n_classes; k++)
            printf(" %6" PRIu64, t->count[(size_t)c * t->n_classes + k]);
        putchar('\n');
    }
}

static void print_sizes(const struct table *t)
{
    size_t least = SIZE_MAX, most = 0, total = t->part.offset[t->part.clients];
    for (uint32_t c = 0; c < t->part.clients; c++) {
        size_t n;
        sl_partition_client(&t->part, c, &n);
        least = n < least ? n : least;
        most = n > most ? n : most;
    }
    printf("%" PRIu32 " clients, %zu of %zu samples, %zu to %zu each, %.1f on average\n",
           t->part.clients, total, t->n_labels, least, most,
           (double)total / t->part.clients);
}

static struct sl_plot_heat picture(const struct table *t)
{
    return (struct sl_plot_heat){.title = "Samples of each label by client",
                                 .row_name = "client",
                                 .col_name = "label",
                                 .counts = t->count,
                                 .rows = t->part.clients,
                                 .cols = t->n_classes};
}

static enum sl_code draw(const struct table *t, const char *path, struct sl_err *err)
{
    struct sl_plot_heat heat = picture(t);
    FILE *f = fopen(path, "w");
    if (f == NULL)
        return sl_err_errno(err, errno, "%s", path);
    enum sl_code rc = sl_plot_svg_heat(f, &heat, err);
    if (fclose(f) != 0 && rc == SL_OK)
        rc = sl_err_errno(err, errno, "%s", path);
    return rc;
}

static void show(const struct table *t)
{
    struct sl_plot_heat heat = picture(t);
    print_table(t);
    putchar('\n');
    sl_plot_term_heat(stdout, &heat, 76, 24);
    print_sizes(t);
}

enum sl_code sl_command_partition(const struct sl_sim_options *o, struct sl_err *err)
{
    struct sl_plan plan = {0};
    struct table t = {0};
    enum sl_code rc = sl_plan_load(o->path, o->set, o->n_set, &plan, err);
    if (rc != SL_OK)
        return rc;
    rc = make_table(&plan, &t, err);
    if (rc == SL_OK) {
        if (o->csv)
            print_csv(&t);
        else
            show(&t);
        if (o->svg != NULL)
            rc = draw(&t, o->svg, err);
    }
    table_deinit(&t);
    sl_plan_deinit(&plan);
    return rc;
}
