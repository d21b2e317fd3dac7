/* SPDX-License-Identifier: Apache-2.0 */
/* The best evaluated model of a run: its checkpoint outlives the others. Which one it is follows from the
 * lines of the report, so nothing else is stored. Of equals the earliest is kept. */
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "common/text.h"
#include "server/core.h"
#include "server/store_checkpoint.h"

/* A round's model, or a calibrated one that was better than the trained one. */
static struct best candidate(const struct run *r, const json_t *line)
{
    struct best b = {0};
    const char *event = json_string_value(json_object_get(line, "event"));
    const char *published = json_string_value(json_object_get(line, "published"));
    const json_t *accuracy = NULL;
    b.round = (uint32_t)json_integer_value(json_object_get(line, "round"));
    if (event != NULL && strcmp(event, "round") == 0) {
        accuracy = json_object_get(line, "accuracy");
        sl_checkpoint_name(r->id, b.round + 1, b.checkpoint);
    } else if (published != NULL && strcmp(published, "calibrated") == 0) {
        const char *name = json_string_value(json_object_get(line, "checkpoint"));
        accuracy = json_object_get(line, "accuracy_after");
        sl_text_copy(b.checkpoint, sizeof(b.checkpoint), name != NULL ? name : "");
        b.calibrated = true;
        b.round = b.round > 0 ? b.round - 1 : 0; /* the line names the round that comes next */
    }
    b.present = json_is_number(accuracy) && b.checkpoint[0] != '\0';
    b.accuracy = json_number_value(accuracy);
    return b;
}

struct best best_after(const struct run *r, const json_t *line)
{
    struct best b = candidate(r, line);
    return b.present && (!r->best.present || b.accuracy > r->best.accuracy) ? b : r->best;
}

json_t *best_json(const struct run *r)
{
    if (!r->best.present)
        return json_null();
    return json_pack("{s:I, s:b, s:f}", "round", (json_int_t)r->best.round, "calibrated",
                     r->best.calibrated, "accuracy", r->best.accuracy);
}

enum sl_code sl_coordinator_best(const struct sl_coordinator *c, float **ret_values,
                                 const struct sl_layout **ret_layout, struct sl_err *err)
{
    const struct run *r = c->run;
    if (r == NULL)
        return sl_err_set(err, SL_E_NOTFOUND, "no model yet: no run has started");
    if (!r->best.present)
        return sl_err_set(err, SL_E_NOTFOUND, "no best model: the coordinator has evaluated none "
                                              "(run.eval_every, evaluation.where)");
    const struct sl_layout *layout = sl_model_layout(r->model);
    float *values = sl_calloc(layout->n_values, sizeof(*values));
    if (values == NULL)
        return sl_err_set(err, SL_E_NOMEM, "model of %zu values", layout->n_values);
    struct sl_store *s = c->env.store;
    enum sl_code rc = s->ops->checkpoint_read(s, r->best.checkpoint, layout, values, err);
    if (rc != SL_OK) {
        free(values);
        return sl_err_wrap(err, rc, "best model");
    }
    *ret_values = values;
    *ret_layout = layout;
    return SL_OK;
}
