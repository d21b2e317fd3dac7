/* SPDX-License-Identifier: Apache-2.0 */
/* state   event                          -> action (new state)
 * OPEN    DRAWN of an idle member           NOTHING
 * OPEN    TASKED by a waiting member        NOTHING
 * OPEN    PROBED by a waiting, tasked member, undecided   NOTHING
 * OPEN    ACCEPTED, FAILED                  what `judge` says
 * OPEN    LOST of an accepted member        NOTHING (it waits again)
 * OPEN    foreign, repeated, contradicted   IGNORED
 * OPEN    TIME before the deadline          NOTHING
 * OPEN    TIME at the deadline              COMMIT (CLOSED), REPEAT (OPEN) or GIVE_UP (FAILED)
 * others  anything                          IGNORED */
#include "server/round.h"

#include <stdlib.h>

#include "common/mem.h"
#include "common/text.h"

void sl_round_deinit(struct sl_round *r)
{
    if (r == NULL)
        return;
    free(r->members);
    *r = (struct sl_round){0};
}

enum sl_code sl_round_open(struct sl_round *r, const struct sl_round_cfg *cfg, uint32_t number,
                           uint32_t attempt, const uint32_t *clients, size_t n,
                           uint64_t now_ms, uint64_t remaining_ms, struct sl_err *err)
{
    if (r->state == SL_ROUND_OPEN)
        return sl_err_set(err, SL_E_BUG, "round %u is open", (unsigned)r->number);
    if (n == 0 || cfg->quorum < 1 || cfg->quorum > n)
        return sl_err_set(err, SL_E_RANGE, "quorum %u of %zu members (1 to all allowed)",
                          (unsigned)cfg->quorum, n);
    if (cfg->buffered && (cfg->target < cfg->quorum || cfg->target > n))
        return sl_err_set(err, SL_E_RANGE, "buffer of %u for %zu members (%u to all allowed)",
                          (unsigned)cfg->target, n, (unsigned)cfg->quorum);
    for (size_t i = 1; i < n; i++)
        if (clients[i] <= clients[i - 1])
            return sl_err_set(err, SL_E_RANGE, "members are not ascending and distinct");
    if (cfg->probe_ms > cfg->deadline_ms || (cfg->probe_ms > 0 && (cfg->buffered || cfg->target > 0)))
        return sl_err_set(err, SL_E_BUG, "probes in a round of another kind");
    struct sl_member *members = sl_calloc(n, sizeof(*members));
    if (members == NULL)
        return sl_err_set(err, SL_E_NOMEM, "round of %zu members", n);
    for (size_t i = 0; i < n; i++)
        members[i] = (struct sl_member){
            .client = clients[i], .state = cfg->buffered ? SL_MEMBER_IDLE : SL_MEMBER_WAITING};
    uint64_t spent_ms = cfg->deadline_ms > remaining_ms ? cfg->deadline_ms - remaining_ms : 0;
    free(r->members);
    *r = (struct sl_round){.state = SL_ROUND_OPEN,
                           .cfg = *cfg,
                           .number = number,
                           .attempt = attempt,
                           .deadline_at_ms = now_ms + remaining_ms,
                           .probe_at_ms = now_ms + (cfg->probe_ms > spent_ms
                                                        ? cfg->probe_ms - spent_ms
                                                        : 0),
                           .members = members,
                           .n_members = n};
    return SL_OK;
}

static struct sl_member *find(const struct sl_round *r, uint32_t client)
{
    size_t low = 0, high = r->n_members;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (r->members[mid].client < client)
            low = mid + 1;
        else
            high = mid;
    }
    return low < r->n_members && r->members[low].client == client ? &r->members[low] : NULL;
}

const struct sl_member *sl_round_member(const struct sl_round *r, uint32_t client)
{
    return find(r, client);
}

uint64_t sl_round_remaining_ms(const struct sl_round *r, uint64_t now_ms)
{
    return r->deadline_at_ms > now_ms ? r->deadline_at_ms - now_ms : 0;
}

static enum sl_round_action repeat_or_give_up(struct sl_round *r, uint64_t now_ms)
{
    if (r->attempt >= r->cfg.max_retries) {
        r->state = SL_ROUND_FAILED;
        return SL_ROUND_GIVE_UP;
    }
    r->attempt++;
    r->deadline_at_ms = now_ms + r->cfg.deadline_ms;
    r->probe_at_ms = now_ms + r->cfg.probe_ms;
    r->n_failed = r->n_probed = 0;
    for (size_t i = 0; i < r->n_members; i++) {
        struct sl_member *m = &r->members[i];
        if (m->state == SL_MEMBER_ACCEPTED || (r->cfg.buffered && m->state != SL_MEMBER_FAILED))
            continue;
        if (r->decided && !m->go) { /* it is not asked again */
            r->n_failed += m->state == SL_MEMBER_FAILED;
            continue;
        }
        m->state = r->cfg.buffered ? SL_MEMBER_IDLE : SL_MEMBER_WAITING;
        m->reason[0] = '\0';
    }
    return SL_ROUND_REPEAT;
}

/* After a member changed, or at the deadline (`over`): is the round decided? */
static enum sl_round_action judge(struct sl_round *r, uint64_t now_ms, bool over)
{
    bool reached = r->cfg.target > 0 && r->n_accepted >= r->cfg.target;
    bool all_final =
        !r->cfg.buffered && r->n_accepted + r->n_failed + r->n_stopped == r->n_members;
    if (!reached && !all_final && !over)
        return SL_ROUND_NOTHING;
    if (reached || r->n_accepted >= r->cfg.quorum) {
        r->state = SL_ROUND_CLOSED;
        return SL_ROUND_COMMIT;
    }
    return repeat_or_give_up(r, now_ms);
}

static enum sl_round_action on_accepted(struct sl_round *r, struct sl_member *m, uint64_t now_ms)
{
    if (m->state == SL_MEMBER_ACCEPTED || m->state == SL_MEMBER_IDLE ||
        (r->cfg.probe_ms > 0 && !m->go))
        return SL_ROUND_IGNORED;
    if (m->state == SL_MEMBER_FAILED)
        r->n_failed--;
    m->state = SL_MEMBER_ACCEPTED;
    m->reason[0] = '\0';
    r->n_accepted++;
    return judge(r, now_ms, false);
}

static enum sl_round_action on_failed(struct sl_round *r, struct sl_member *m, const char *reason,
                                      uint64_t now_ms)
{
    if (m->state != SL_MEMBER_WAITING && m->state != SL_MEMBER_TASKED &&
        m->state != SL_MEMBER_PROBED)
        return SL_ROUND_IGNORED;
    r->n_probed -= m->state == SL_MEMBER_PROBED;
    m->state = SL_MEMBER_FAILED;
    sl_text_copy(m->reason, sizeof(m->reason), reason != NULL ? reason : "");
    r->n_failed++;
    return judge(r, now_ms, false);
}

static enum sl_round_action on_probed(struct sl_round *r, struct sl_member *m)
{
    if (r->cfg.probe_ms == 0 || r->decided ||
        (m->state != SL_MEMBER_WAITING && m->state != SL_MEMBER_TASKED))
        return SL_ROUND_IGNORED;
    m->state = SL_MEMBER_PROBED;
    r->n_probed++;
    return SL_ROUND_NOTHING;
}

bool sl_round_wants_decision(const struct sl_round *r, uint64_t now_ms)
{
    return r->state == SL_ROUND_OPEN && r->cfg.probe_ms > 0 && !r->decided && r->n_probed > 0 &&
           (r->n_probed + r->n_failed == r->n_members || now_ms >= r->probe_at_ms);
}

enum sl_round_action sl_round_decide(struct sl_round *r, const uint8_t *verdicts,
                                     uint32_t quorum, uint64_t now_ms)
{
    if (r->state != SL_ROUND_OPEN || r->cfg.probe_ms == 0 || r->decided)
        return SL_ROUND_IGNORED;
    r->decided = true;
    r->cfg.quorum = quorum;
    r->n_probed = 0;
    for (size_t i = 0; i < r->n_members; i++) {
        struct sl_member *m = &r->members[i];
        if (m->state == SL_MEMBER_FAILED)
            continue;
        m->go = verdicts[i] == SL_VERDICT_GO;
        if (m->go && m->state == SL_MEMBER_PROBED)
            m->state = SL_MEMBER_TASKED;
        if (verdicts[i] == SL_VERDICT_STOP) {
            m->state = SL_MEMBER_STOPPED;
            r->n_stopped++;
        } else if (verdicts[i] == SL_VERDICT_SILENT) {
            m->state = SL_MEMBER_FAILED;
            sl_text_copy(m->reason, sizeof(m->reason), "did not report its probe in time");
            r->n_failed++;
        }
    }
    return judge(r, now_ms, false);
}

enum sl_round_action sl_round_step(struct sl_round *r, const struct sl_round_event *ev)
{
    if (r->state != SL_ROUND_OPEN)
        return SL_ROUND_IGNORED;
    if (ev->kind == SL_ROUND_EV_TIME)
        return ev->now_ms >= r->deadline_at_ms ? judge(r, ev->now_ms, true) : SL_ROUND_NOTHING;
    struct sl_member *m = find(r, ev->client);
    if (m == NULL)
        return SL_ROUND_IGNORED;
    switch (ev->kind) {
    case SL_ROUND_EV_DRAWN:
        if (m->state != SL_MEMBER_IDLE)
            return SL_ROUND_IGNORED;
        m->state = SL_MEMBER_WAITING;
        return SL_ROUND_NOTHING;
    case SL_ROUND_EV_TASKED:
        if (m->state != SL_MEMBER_WAITING)
            return SL_ROUND_IGNORED;
        m->state = SL_MEMBER_TASKED;
        return SL_ROUND_NOTHING;
    case SL_ROUND_EV_PROBED:
        return on_probed(r, m);
    case SL_ROUND_EV_ACCEPTED:
        return on_accepted(r, m, ev->now_ms);
    case SL_ROUND_EV_FAILED:
        return on_failed(r, m, ev->reason, ev->now_ms);
    case SL_ROUND_EV_LOST:
        if (m->state != SL_MEMBER_ACCEPTED)
            return SL_ROUND_IGNORED;
        m->state = SL_MEMBER_WAITING;
        r->n_accepted--;
        return SL_ROUND_NOTHING;
    case SL_ROUND_EV_TIME:
        break;
    }
    return SL_ROUND_IGNORED;
}
