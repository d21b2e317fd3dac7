/* SPDX-License-Identifier: Apache-2.0 */
#include "server/selection/fedmarl/record.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file.h"
#include "common/hash.h"
#include "server/selection/fedmarl/policy.h"

#define MARK "SLMARL01"
#define FLAG_LAST 1
#define CHECKED 152 /* bytes under the checksum */

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "fields are copied as they are");
static_assert(56 + 4 * SL_FEDMARL_INPUTS_MAX + 4 == CHECKED, "the layout of record.h");

static void checksum(const uint8_t *bytes, uint8_t ret[8])
{
    struct sl_blob_id id;
    sl_xxh3_128(bytes, CHECKED, &id);
    memcpy(ret, id.bytes, 8);
}

void sl_fedmarl_record_put(const struct sl_fedmarl_record *r, uint8_t ret[SL_FEDMARL_RECORD_BYTES])
{
    const uint8_t small[4] = {r->action, r->why, r->last ? FLAG_LAST : 0, r->n_inputs};
    memset(ret, 0, SL_FEDMARL_RECORD_BYTES);
    memcpy(ret, MARK, 8);
    memcpy(ret + 8, &r->run, 8);
    memcpy(ret + 16, &r->round, 4);
    memcpy(ret + 20, &r->client, 4);
    memcpy(ret + 24, &r->row, 2);
    memcpy(ret + 26, &r->rows, 2);
    memcpy(ret + 28, small, 4);
    memcpy(ret + 32, &r->reward, 8);
    memcpy(ret + 40, &r->accuracy, 8);
    memcpy(ret + 48, r->q, 8);
    memcpy(ret + 56, r->inputs, r->n_inputs * sizeof(float));
    checksum(ret, ret + CHECKED);
}

static bool in_range(const struct sl_fedmarl_record *r, const uint8_t *bytes)
{
    static const uint8_t zeros[4] = {0};
    if (r->rows < 1 || r->rows > SL_VDN_AGENTS_MAX || r->row >= r->rows ||
        r->action > SL_FEDMARL_GO || r->why >= SL_WHY_END || bytes[30] > FLAG_LAST ||
        r->n_inputs < 1 || r->n_inputs > SL_FEDMARL_INPUTS_MAX || !isfinite(r->reward) ||
        !isfinite(r->accuracy) || !isfinite(r->q[0]) || !isfinite(r->q[1]) ||
        memcmp(bytes + 148, zeros, 4) != 0)
        return false;
    for (size_t i = 0; i < SL_FEDMARL_INPUTS_MAX; i++) {
        double limit = i < r->n_inputs ? SL_FEDMARL_CLAMP : 0;
        if (!(fabs((double)r->inputs[i]) <= limit))
            return false;
    }
    return true;
}

enum sl_code sl_fedmarl_record_get(const uint8_t bytes[SL_FEDMARL_RECORD_BYTES],
                                   struct sl_fedmarl_record *ret, struct sl_err *err)
{
    uint8_t sum[8];
    struct sl_fedmarl_record r = {0};
    if (memcmp(bytes, MARK, 8) != 0)
        return sl_err_set(err, SL_E_INPUT, "does not begin with " MARK);
    checksum(bytes, sum);
    if (memcmp(sum, bytes + CHECKED, 8) != 0)
        return sl_err_set(err, SL_E_INPUT, "wrong checksum");
    memcpy(&r.run, bytes + 8, 8);
    memcpy(&r.round, bytes + 16, 4);
    memcpy(&r.client, bytes + 20, 4);
    memcpy(&r.row, bytes + 24, 2);
    memcpy(&r.rows, bytes + 26, 2);
    r.action = bytes[28];
    r.why = bytes[29];
    r.last = bytes[30] == FLAG_LAST;
    r.n_inputs = bytes[31];
    memcpy(&r.reward, bytes + 32, 8);
    memcpy(&r.accuracy, bytes + 40, 8);
    memcpy(r.q, bytes + 48, 8);
    memcpy(r.inputs, bytes + 56, sizeof(r.inputs));
    if (!in_range(&r, bytes))
        return sl_err_set(err, SL_E_INPUT, "a field is out of range");
    *ret = r;
    return SL_OK;
}

/* Where the records before this round of the run end. */
static enum sl_code end_before(int fd, const char *path, uint64_t run, uint32_t round,
                               uint64_t *ret, struct sl_err *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return sl_err_errno(err, errno, "%s", path);
    uint64_t end = (uint64_t)st.st_size / SL_FEDMARL_RECORD_BYTES * SL_FEDMARL_RECORD_BYTES;
    for (; end > 0; end -= SL_FEDMARL_RECORD_BYTES) {
        uint8_t bytes[SL_FEDMARL_RECORD_BYTES];
        struct sl_fedmarl_record last;
        enum sl_code rc = sl_file_pread(fd, path, bytes, sizeof(bytes),
                                        end - SL_FEDMARL_RECORD_BYTES, err);
        if (rc != SL_OK)
            return rc;
        struct sl_err damaged;
        if (sl_fedmarl_record_get(bytes, &last, &damaged) != SL_OK || last.run != run ||
            last.round < round)
            break;
    }
    *ret = end;
    return SL_OK;
}

enum sl_code sl_fedmarl_log_append(const char *path, uint64_t run, uint32_t round,
                                   const uint8_t *bytes, size_t n, struct sl_err *err)
{
    uint64_t end = 0;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return sl_err_errno(err, errno, "%s", path);
    enum sl_code rc = end_before(fd, path, run, round, &end, err);
    if (rc == SL_OK && ftruncate(fd, (off_t)end) != 0)
        rc = sl_err_errno(err, errno, "%s", path);
    if (rc == SL_OK)
        rc = sl_file_pwrite(fd, path, bytes, n, end, err);
    close(fd);
    return rc;
}

/* One round of a log. */
struct group {
    uint64_t run;
    uint32_t round, n;
    bool last;
    double reward;
    uint8_t actions[SL_VDN_AGENTS_MAX];
    float inputs[SL_VDN_AGENTS_MAX * SL_FEDMARL_INPUTS_MAX];
};

struct reader {
    const char *where;
    const uint8_t *bytes;
    size_t n_records, at;
    uint32_t n_inputs;
    struct sl_err *err;
};

static enum sl_code bad(const struct reader *r, size_t record, const char *what)
{
    return sl_err_set(r->err, SL_E_INPUT, "%s: record %zu: %s", r->where, record, what);
}

/* Reads the rounds' rows; *ret_more false at the end of the log, or in a round that was cut. */
static enum sl_code next_group(struct reader *r, struct group *g, bool *ret_more)
{
    *ret_more = false;
    for (uint32_t row = 0;; row++) {
        struct sl_fedmarl_record rec;
        if (r->at == r->n_records)
            return SL_OK;
        size_t number = r->at++;
        enum sl_code rc =
            sl_fedmarl_record_get(r->bytes + number * SL_FEDMARL_RECORD_BYTES, &rec, r->err);
        if (rc != SL_OK)
            return sl_err_wrap(r->err, rc, "%s: record %zu", r->where, number);
        if (rec.n_inputs != r->n_inputs)
            return bad(r, number, "another number of inputs than the policy's");
        if (row == 0)
            *g = (struct group){.run = rec.run,
                                .round = rec.round,
                                .n = rec.rows,
                                .last = rec.last,
                                .reward = rec.reward};
        if (rec.row != row || rec.rows != g->n || rec.run != g->run || rec.round != g->round ||
            rec.reward != g->reward || rec.last != g->last)
            return bad(r, number, "rows of a round are not in order or do not agree");
        g->actions[row] = rec.action;
        memcpy(g->inputs + row * r->n_inputs, rec.inputs, r->n_inputs * sizeof(float));
        if (row + 1 == g->n)
            break;
    }
    *ret_more = true;
    return SL_OK;
}

enum sl_code sl_fedmarl_log_read(const char *where, const uint8_t *bytes, size_t n,
                                 uint32_t n_inputs, sl_fedmarl_step_sink take, void *ctx,
                                 size_t *ret_steps, struct sl_err *err)
{
    struct reader r = {.where = where,
                       .bytes = bytes,
                       .n_records = n / SL_FEDMARL_RECORD_BYTES,
                       .n_inputs = n_inputs,
                       .err = err};
    struct group groups[2];
    size_t steps = 0, now = 0;
    bool more = false;
    enum sl_code rc = next_group(&r, &groups[0], &more);
    while (rc == SL_OK && more) {
        const struct group *g = &groups[now], *next = &groups[1 - now];
        rc = next_group(&r, &groups[1 - now], &more);
        if (rc != SL_OK)
            break;
        bool goes_on = more && !g->last && next->run == g->run && next->round == g->round + 1;
        take(ctx, &(struct sl_vdn_transition){.s = g->inputs,
                                              .actions = g->actions,
                                              .n = g->n,
                                              .reward = g->reward,
                                              .next = next->inputs,
                                              .n_next = goes_on ? next->n : 0,
                                              .done = !goes_on});
        steps++;
        now = 1 - now;
    }
    if (rc == SL_OK)
        *ret_steps = steps;
    return rc;
}
