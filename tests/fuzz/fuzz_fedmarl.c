/* SPDX-License-Identifier: Apache-2.0 */
/* Input: a log of records, or (first byte 'P') a policy file. A record that is read is written back
 * as it was; a policy that is read is finite and fits its features. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/selection/fedmarl/policy.h"
#include "server/selection/fedmarl/record.h"
#include "tests/fuzz/files.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void see(void *ctx, const struct sl_vdn_transition *t)
{
    ++*(size_t *)ctx;
    fuzz_must(t->n >= 1 && t->n <= SL_VDN_AGENTS_MAX && isfinite(t->reward));
    fuzz_must(t->done || (t->n_next >= 1 && t->n_next <= SL_VDN_AGENTS_MAX));
}

/* Whatever a crash left of a log: a round is appended behind whole records, in place of itself and of later
 * rounds of its run, and stands at the end. */
static void check_append(const uint8_t *data, size_t size)
{
    struct sl_fedmarl_record r = {.run = 1, .round = size > 8 ? data[8] : 0, .rows = 1, .n_inputs = 1};
    uint8_t bytes[SL_FEDMARL_RECORD_BYTES], last[SL_FEDMARL_RECORD_BYTES];
    struct sl_err err;
    struct stat st;
    struct fuzz_file f;
    sl_fedmarl_record_put(&r, bytes);
    fuzz_file_open(&f, data, size);
    for (int again = 0; again < 2; again++) {
        fuzz_must(sl_fedmarl_log_append(f.path, r.run, r.round, bytes, sizeof(bytes), &err) == SL_OK);
        fuzz_must(fstat(f.fd, &st) == 0 && st.st_size % (off_t)sizeof(bytes) == 0);
        fuzz_must((size_t)st.st_size <= size + sizeof(bytes));
        fuzz_must(pread(f.fd, last, sizeof(last), st.st_size - (off_t)sizeof(last)) == (ssize_t)sizeof(last));
        fuzz_must(memcmp(last, bytes, sizeof(bytes)) == 0);
    }
    fuzz_file_close(&f);
}

static void check_log(const uint8_t *data, size_t size)
{
    struct sl_fedmarl_record r;
    struct sl_err err;
    size_t seen = 0, steps = 0;
    uint8_t again[SL_FEDMARL_RECORD_BYTES];
    uint32_t n_inputs = 1;
    for (size_t at = 0; at + sizeof(again) <= size; at += sizeof(again)) {
        enum sl_code rc = sl_fedmarl_record_get(data + at, &r, &err);
        fuzz_check_line(rc, &err);
        if (rc != SL_OK)
            continue;
        n_inputs = r.n_inputs;
        sl_fedmarl_record_put(&r, again);
        fuzz_must(memcmp(again, data + at, sizeof(again)) == 0);
    }
    enum sl_code rc = sl_fedmarl_log_read("log", data, size, n_inputs, see, &seen, &steps, &err);
    fuzz_check_line(rc, &err);
    fuzz_must(rc != SL_OK || seen == steps);
    check_append(data, size);
}

static void check_policy(const uint8_t *data, size_t size)
{
    struct sl_fedmarl_policy p;
    struct sl_err err;
    enum sl_code rc = sl_fedmarl_policy_parse("policy", data, size, &p, &err);
    fuzz_check_line(rc, &err);
    if (rc != SL_OK)
        return;
    fuzz_must(p.net.shape.n_inputs == sl_fedmarl_n_inputs(&p.spec) && p.net.shape.n_actions == 2);
    for (size_t i = 0; i < p.net.n_values; i++)
        fuzz_must(isfinite(p.net.values[i]));
    sl_fedmarl_policy_deinit(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0 && data[0] == 'P')
        check_policy(data + 1, size - 1);
    else
        check_log(data, size);
    return 0;
}
