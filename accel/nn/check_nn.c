/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/nn/check_nn.h"

#include <string.h>

#include "accel/nn/check_case.h"

static const struct {
    const char *kind;
    void (*run)(struct sl_case *c);
} kinds[] = {
    {"dense", sl_case_run_layer},
    {"conv2d", sl_case_run_layer},
    {"maxpool", sl_case_run_layer},
    {"avgpool", sl_case_run_layer},
    {"relu", sl_case_run_layer},
    {"gelu_erf", sl_case_run_layer},
    {"gelu_tanh", sl_case_run_layer},
    {"layernorm", sl_case_run_layer},
    {"groupnorm", sl_case_run_layer},
    {"batchnorm", sl_case_run_layer},
    {"mhsa", sl_case_run_layer},
    {"residual_add", sl_case_run_layer},
    {"softmax_cross_entropy", sl_case_run_loss},
    {"squared_loss", sl_case_run_loss},
    {"sphere_head", sl_case_run_sphere_head},
    {"optimizer", sl_case_run_optimizer},
    {"net", sl_case_run_net},
};

/* An expected output that no run looked at is a failure of the check. */
static void demand_all_compared(struct sl_case *c)
{
    for (size_t i = 0; i < c->n_fields; i++)
        if (strncmp(c->field[i].name, "out_", 4) == 0 && !c->field[i].compared)
            sl_case_fail(c, c->field[i].name, "-", "to be computed", "nothing");
}

static void run_case(struct sl_case *c)
{
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (strcmp(kinds[i].kind, c->kind) == 0) {
            kinds[i].run(c);
            demand_all_compared(c);
            return;
        }
    sl_case_fail(c, "kind", "-", "a known kind", c->kind);
}

static void check_case(const char *dir, const json_t *entry, const char *name, FILE *out,
                       struct sl_check_counts *counts)
{
    struct sl_case c = {0};
    struct sl_err err;
    enum sl_code rc = sl_case_load(dir, entry, &c, &err);
    for (size_t i = 0; rc == SL_OK && !c.failed && sl_cases_cpu(i, &c.cpu); i++)
        run_case(&c);
    if (rc != SL_OK)
        fprintf(out, "not ok %s: file, -, a readable case, %s\n", name, err.msg);
    else if (c.failed)
        fprintf(out, "not ok %s: %s\n", name, c.failure);
    else
        fprintf(out, "ok %s\n", name);
    *(rc != SL_OK || c.failed ? &counts->failed : &counts->passed) += 1;
    if (rc == SL_OK)
        sl_case_deinit(&c);
}

enum sl_code sl_check_nn(const char *dir, const json_t *manifest,
                         bool (*want)(void *ctx, const char *name), void *ctx, FILE *out,
                         struct sl_check_counts *counts, struct sl_err *err)
{
    const json_t *cases = json_object_get(manifest, "cases"), *entry;
    size_t i;
    if (!json_is_array(cases))
        return sl_err_set(err, SL_E_INPUT, "%s: manifest without a list of cases", dir);
    json_array_foreach(cases, i, entry)
    {
        const char *name = json_string_value(json_object_get(entry, "name"));
        if (name == NULL)
            name = "(without a name)";
        if (want != NULL && !want(ctx, name))
            counts->skipped++;
        else
            check_case(dir, entry, name, out, counts);
    }
    return SL_OK;
}
