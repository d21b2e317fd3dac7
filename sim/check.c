/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/check.h"

#include <dirent.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATH_BYTES 4096

static bool matches(const struct sl_check *c, const char *name)
{
    for (size_t i = 0; i < c->n_only; i++)
        if (fnmatch(c->only[i], name, 0) == 0)
            return true;
    return c->n_only == 0;
}

bool sl_check_wanted(struct sl_check *c, const char *name)
{
    if (matches(c, name))
        return true;
    c->counts.skipped++;
    return false;
}

static bool nn_wanted(void *ctx, const char *name)
{
    return matches(ctx, name);
}

void sl_check_result(struct sl_check *c, const char *name, const char *why)
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

static const char *last_name(const char *dir)
{
    const char *slash = strrchr(dir, '/');
    return slash == NULL || slash[1] == '\0' ? dir : slash + 1;
}

static enum sl_code run_manifest(struct sl_check *c, const char *dir,
                                 const json_t *manifest, struct sl_err *err)
{
    if (json_is_array(json_object_get(manifest, "cases")))
        return sl_check_nn(dir, manifest, nn_wanted, c, c->out, &c->counts, err);
    const char *format = json_string_value(json_object_get(manifest, "format"));
    const char *name = json_string_value(json_object_get(manifest, "name"));
    if (format != NULL && strcmp(format, "fl-agg-1") == 0) {
        sl_check_agg(c, dir, manifest);
        return SL_OK;
    }
    if (!sl_check_wanted(c, name == NULL ? last_name(dir) : name))
        return SL_OK;
    if (format != NULL && strcmp(format, "fl-vectors-1") == 0 && name != NULL) {
        sl_check_fl(c, dir, manifest);
        return SL_OK;
    }
    char why[160];
    snprintf(why, sizeof(why), "format, -, fl-vectors-1 or fl-agg-1, %.60s",
             format == NULL ? "none" : format);
    sl_check_result(c, name == NULL ? last_name(dir) : name, why);
    return SL_OK;
}

/* *ret_there false when dir has no manifest.json. */
static enum sl_code run_one(struct sl_check *c, const char *dir, bool *ret_there,
                            struct sl_err *err)
{
    char path[PATH_BYTES];
    if (snprintf(path, sizeof(path), "%s/manifest.json", dir) >= PATH_BYTES)
        return sl_err_set(err, SL_E_INPUT, "%.100s...: path too long", dir);
    *ret_there = access(path, F_OK) == 0;
    if (!*ret_there)
        return SL_OK;
    json_error_t je;
    json_t *manifest = json_load_file(path, JSON_REJECT_DUPLICATES, &je);
    if (manifest == NULL) {
        char why[256];
        snprintf(why, sizeof(why), "manifest.json, line %d, JSON, %.150s", je.line,
                 je.text);
        sl_check_result(c, last_name(dir), why);
        return SL_OK;
    }
    enum sl_code rc = run_manifest(c, dir, manifest, err);
    json_decref(manifest);
    return rc;
}

static int visible(const struct dirent *e)
{
    return e->d_name[0] != '.';
}

static enum sl_code run_folders(struct sl_check *c, const char *dir, struct sl_err *err)
{
    struct dirent **list;
    int n = scandir(dir, &list, visible, alphasort);
    if (n < 0)
        return sl_err_set(err, SL_E_INPUT, "%s: not a folder that can be read", dir);
    enum sl_code rc = SL_OK;
    bool any = false;
    for (int i = 0; i < n; i++) {
        char path[PATH_BYTES];
        bool there = false;
        if (rc == SL_OK && snprintf(path, sizeof(path), "%s/%s", dir, list[i]->d_name) <
                               (int)sizeof(path))
            rc = run_one(c, path, &there, err);
        any = any || there;
        free(list[i]);
    }
    free(list);
    if (rc == SL_OK && !any)
        rc = sl_err_set(err, SL_E_INPUT, "%s: no manifest.json in it or in its folders",
                        dir);
    return rc;
}

enum sl_code sl_check_run(struct sl_check *c, const char *dir, struct sl_err *err)
{
    bool there;
    enum sl_code rc = run_one(c, dir, &there, err);
    if (rc == SL_OK && !there)
        rc = run_folders(c, dir, err);
    return rc;
}
