/* SPDX-License-Identifier: Apache-2.0 */
/* A binary heap in an array: children of i are 2i + 1 and 2i + 2. */
#include "sim/events.h"

#include <stdlib.h>

void sl_events_deinit(struct sl_events *q)
{
    if (q == NULL)
        return;
    for (size_t i = 0; i < q->n; i++)
        free(q->heap[i].bytes);
    free(q->heap);
    *q = (struct sl_events){0};
}

static bool before(const struct sl_sim_event *a, const struct sl_sim_event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->seq < b->seq;
}

bool sl_events_push(struct sl_events *q, const struct sl_sim_event *e)
{
    if (q->n == q->cap) {
        size_t cap = q->cap == 0 ? 256 : 2 * q->cap;
        struct sl_sim_event *more = realloc(q->heap, cap * sizeof(*more));
        if (more == NULL) {
            free(e->bytes);
            return false;
        }
        q->heap = more;
        q->cap = cap;
    }
    struct sl_sim_event own = *e;
    own.seq = q->next_seq++;
    size_t i = q->n++;
    while (i > 0 && before(&own, &q->heap[(i - 1) / 2])) {
        q->heap[i] = q->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    q->heap[i] = own;
    return true;
}

bool sl_events_pop(struct sl_events *q, struct sl_sim_event *ret)
{
    if (q->n == 0)
        return false;
    *ret = q->heap[0];
    struct sl_sim_event last = q->heap[--q->n];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= q->n)
            break;
        if (child + 1 < q->n && before(&q->heap[child + 1], &q->heap[child]))
            child++;
        if (!before(&q->heap[child], &last))
            break;
        q->heap[i] = q->heap[child];
        i = child;
    }
    if (q->n > 0)
        q->heap[i] = last;
    return true;
}
