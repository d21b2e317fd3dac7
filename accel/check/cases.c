/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/check/cases.h"

#include <dirent.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "accel/kernels/cpu.h"

#define PATH_BYTES 4096

bool sl_cases_match(const struct sl_cases *c, const char *name)
{
    for (size_t i = 0; i < c->n_only; i++)
        if (fnmatch(c->only[i], name, 0) == 0)
            return true;
    return c->n_only == 0;
}

bool sl_cases_wanted(struct sl_cases *c, const char *name)
{
    if (sl_cases_match(c, name))
        return true;
    c->counts.skipped++;
    return false;
}

void sl_cases_result(struct sl_cases *c, const char *name, const char *why)
{
    if (why == NULL) {
        c->counts.passed++;
        fprintf(c->out, "ok %s\n", name);
    } else {
        c->counts.failed++;
        fprintf(c->out, "not ok %s: %s\n", name, why);
    }
    fflush(c->out);
}

const char *sl_cases_last_name(const char *dir)
{
    const char *slash = strrchr(dir, '/');
    return slash == NULL || slash[1] == '\0' ? dir : slash + 1;
}

/* --- folders ------------------------------------------------------------------------ */

struct walk {
    struct sl_cases *cases;
    sl_cases_visit visit;
    void *ctx;
    bool any; /* a manifest was found */
};

static enum sl_code visit_one(struct walk *w, const char *dir, struct sl_err *err)
{
    char path[PATH_BYTES];
    if (snprintf(path, sizeof(path), "%s/manifest.json", dir) >= PATH_BYTES)
        return sl_err_set(err, SL_E_INPUT, "%.100s...: path too long", dir);
    if (access(path, F_OK) != 0)
        return SL_OK;
    w->any = true;
    json_error_t je;
    json_t *manifest = json_load_file(path, JSON_REJECT_DUPLICATES, &je);
    if (manifest == NULL) {
        char why[256];
        snprintf(why, sizeof(why), "manifest.json, line %d, JSON, %.150s", je.line,
                 je.text);
        sl_cases_result(w->cases, sl_cases_last_name(dir), why);
        return SL_OK;
    }
    enum sl_code rc = w->visit(w->ctx, dir, manifest, err);
    json_decref(manifest);
    return rc;
}

static int visible(const struct dirent *e)
{
    return e->d_name[0] != '.';
}

static enum sl_code visit_folders(struct walk *w, const char *dir, struct sl_err *err)
{
    struct dirent **list;
    int n = scandir(dir, &list, visible, alphasort);
    if (n < 0)
        return sl_err_set(err, SL_E_INPUT, "%s: not a folder that can be read", dir);
    enum sl_code rc = SL_OK;
    for (int i = 0; i < n; i++) {
        char path[PATH_BYTES];
        int len = snprintf(path, sizeof(path), "%s/%s", dir, list[i]->d_name);
        if (rc == SL_OK && len < PATH_BYTES)
            rc = visit_one(w, path, err);
        free(list[i]);
    }
    free(list);
    return rc;
}

enum sl_code sl_cases_walk(struct sl_cases *c, const char *dir, sl_cases_visit visit,
                           void *ctx, struct sl_err *err)
{
    struct walk w = {.cases = c, .visit = visit, .ctx = ctx};
    enum sl_code rc = visit_one(&w, dir, err);
    if (rc == SL_OK && !w.any)
        rc = visit_folders(&w, dir, err);
    if (rc == SL_OK && !w.any)
        rc = sl_err_set(err, SL_E_INPUT, "%s: no manifest.json in it or in its folders",
                        dir);
    return rc;
}

enum sl_code sl_cases_close(const struct sl_cases *c, const char *dir, struct sl_err *err)
{
    const struct sl_check_counts *n = &c->counts;
    fprintf(c->out, "%zu passed, %zu failed", n->passed, n->failed);
    if (n->skipped > 0)
        fprintf(c->out, ", %zu skipped", n->skipped);
    fputc('\n', c->out);
    if (n->passed + n->failed == 0)
        return sl_err_set(err, SL_E_INPUT, "--only leaves no case of %s", dir);
    return n->failed == 0 ? SL_OK : SL_E_FAILED;
}

bool sl_cases_cpu(size_t i, uint32_t *ret_cpu)
{
    const uint32_t have = sl_cpu_detect();
    uint32_t cpu = 0;
    size_t n = 0;
    for (uint32_t bit = 1; n < i && bit != 0; bit <<= 1)
        if (have & bit) {
            cpu |= bit;
            n++;
        }
    if (n < i)
        return false;
    *ret_cpu = cpu;
    return true;
}
