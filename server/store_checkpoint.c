/* SPDX-License-Identifier: Apache-2.0 */
#include "server/store_checkpoint.h"

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/crash_point.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "values are written as they lie in memory: little-endian machines only"
#endif

#define MAGIC "SLMODEL1"
#define HEADER_BYTES 64
#define TEMP_SUFFIX ".tmp"

static void hash_u32(crypto_generichash_state *h, uint32_t v)
{
    uint32_t le = htole32(v);
    crypto_generichash_update(h, (const uint8_t *)&le, sizeof(le));
}

void sl_checkpoint_layout_digest(const struct sl_layout *l, uint8_t ret[SL_DIGEST_BYTES])
{
    crypto_generichash_state h;
    crypto_generichash_init(&h, NULL, 0, SL_DIGEST_BYTES);
    for (size_t i = 0; i < l->n_tensors; i++) {
        const struct sl_tensor *t = &l->tensors[i];
        char name[SL_TENSOR_NAME] = {0};
        memcpy(name, t->name, strnlen(t->name, SL_TENSOR_NAME - 1));
        crypto_generichash_update(&h, (const uint8_t *)name, sizeof(name));
        hash_u32(&h, (uint32_t)t->role);
        hash_u32(&h, t->n_dims);
        for (unsigned d = 0; d < t->n_dims; d++)
            hash_u32(&h, t->dim[d]);
    }
    crypto_generichash_final(&h, ret, SL_DIGEST_BYTES);
}

void sl_checkpoint_name(uint64_t run, uint32_t round_plus1, char ret[SL_CHECKPOINT_NAME])
{
    snprintf(ret, SL_CHECKPOINT_NAME, "run-%" PRIu64 "-%" PRIu32 ".slm", run,
             round_plus1);
}

static void header_pack(const struct sl_layout *layout, const float *values,
                        uint8_t ret[HEADER_BYTES])
{
    uint64_t n = htole64(layout->n_values);
    struct sl_blob_id sum;
    sl_xxh3_128(values, layout->n_values * sizeof(float), &sum);
    memcpy(ret, MAGIC, 8);
    sl_checkpoint_layout_digest(layout, ret + 8);
    memcpy(ret + 40, &n, 8);
    memcpy(ret + 48, sum.bytes, SL_XXH_BYTES);
}

static enum sl_code write_all(int fd, const void *data, size_t n, const char *name,
                              struct sl_err *err)
{
    const uint8_t *p = data;
    while (n > 0) {
        ssize_t w = write(fd, p, n);
        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0)
            return sl_err_errno(err, errno, "checkpoint %s: write", name);
        p += w;
        n -= (size_t)w;
    }
    return SL_OK;
}

/* Reads up to n bytes; *ret_n is fewer only at the end of the file. */
static enum sl_code read_all(int fd, void *buf, size_t n, size_t *ret_n, const char *name,
                             struct sl_err *err)
{
    size_t got = 0;
    while (got < n) {
        ssize_t r = read(fd, (uint8_t *)buf + got, n - got);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return sl_err_errno(err, errno, "checkpoint %s: read", name);
        if (r == 0)
            break;
        got += (size_t)r;
    }
    *ret_n = got;
    return SL_OK;
}

static enum sl_code write_temp(int dir_fd, const char *temp, const char *name,
                               const struct sl_layout *layout, const float *values,
                               struct sl_err *err)
{
    int fd = openat(dir_fd, temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return sl_err_errno(err, errno, "checkpoint %s: create", name);
    uint8_t header[HEADER_BYTES];
    header_pack(layout, values, header);
    enum sl_code rc = write_all(fd, header, sizeof(header), name, err);
    if (rc == SL_OK)
        rc = write_all(fd, values, layout->n_values * sizeof(float), name, err);
    if (rc == SL_OK && fsync(fd) != 0)
        rc = sl_err_errno(err, errno, "checkpoint %s: sync", name);
    if (close(fd) != 0 && rc == SL_OK)
        rc = sl_err_errno(err, errno, "checkpoint %s: close", name);
    return rc;
}

enum sl_code sl_checkpoint_save(int dir_fd, const char *name,
                                const struct sl_layout *layout, const float *values,
                                struct sl_err *err)
{
    char temp[SL_CHECKPOINT_NAME + sizeof(TEMP_SUFFIX)];
    snprintf(temp, sizeof(temp), "%s" TEMP_SUFFIX, name);
    enum sl_code rc = write_temp(dir_fd, temp, name, layout, values, err);
    if (rc == SL_OK) {
        SL_CRASH_POINT("checkpoint_temp");
        if (renameat(dir_fd, temp, dir_fd, name) != 0)
            rc = sl_err_errno(err, errno, "checkpoint %s: rename", name);
    }
    if (rc != SL_OK) {
        unlinkat(dir_fd, temp, 0);
        return rc;
    }
    SL_CRASH_POINT("checkpoint_rename");
    if (fsync(dir_fd) != 0)
        return sl_err_errno(err, errno, "checkpoint %s: sync of its folder", name);
    return SL_OK;
}

static enum sl_code check_header(const uint8_t h[HEADER_BYTES],
                                 const struct sl_layout *layout, const char *name,
                                 struct sl_err *err)
{
    uint8_t digest[SL_DIGEST_BYTES];
    uint64_t n;
    if (memcmp(h, MAGIC, 8) != 0)
        return sl_err_set(err, SL_E_STATE, "checkpoint %s: bad magic", name);
    sl_checkpoint_layout_digest(layout, digest);
    memcpy(&n, h + 40, 8);
    if (memcmp(h + 8, digest, sizeof(digest)) != 0 || le64toh(n) != layout->n_values)
        return sl_err_set(err, SL_E_STATE, "checkpoint %s: of another model", name);
    return SL_OK;
}

static enum sl_code load_from(int fd, const char *name, const struct sl_layout *layout,
                              float *ret_values, struct sl_err *err)
{
    uint8_t header[HEADER_BYTES];
    size_t n_bytes = layout->n_values * sizeof(float), got = 0;
    enum sl_code rc = read_all(fd, header, sizeof(header), &got, name, err);
    if (rc != SL_OK)
        return rc;
    if (got != sizeof(header))
        return sl_err_set(err, SL_E_STATE, "checkpoint %s: cut short", name);
    rc = check_header(header, layout, name, err);
    if (rc == SL_OK)
        rc = read_all(fd, ret_values, n_bytes, &got, name, err);
    if (rc != SL_OK)
        return rc;
    if (got != n_bytes)
        return sl_err_set(err, SL_E_STATE, "checkpoint %s: cut short", name);
    struct sl_blob_id sum;
    sl_xxh3_128(ret_values, n_bytes, &sum);
    if (memcmp(sum.bytes, header + 48, SL_XXH_BYTES) != 0)
        return sl_err_set(err, SL_E_STATE, "checkpoint %s: checksum differs", name);
    return SL_OK;
}

enum sl_code sl_checkpoint_load(int dir_fd, const char *name,
                                const struct sl_layout *layout, float *ret_values,
                                struct sl_err *err)
{
    if (strchr(name, '/') != NULL || name[0] == '\0' || name[0] == '.')
        return sl_err_set(err, SL_E_STATE,
                          "checkpoint name \"%s\" is not a plain file name", name);
    int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return sl_err_errno(err, errno, "checkpoint %s: open", name);
    enum sl_code rc = load_from(fd, name, layout, ret_values, err);
    close(fd);
    return rc;
}

static DIR *open_listing(int dir_fd)
{
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    DIR *d = fdopendir(fd);
    if (d == NULL)
        close(fd);
    return d;
}

void sl_checkpoint_prune(int dir_fd, uint64_t run, uint32_t keep_from, const char *keep)
{
    DIR *d = open_listing(dir_fd);
    if (d == NULL)
        return;
    for (const struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        uint64_t file_run;
        uint32_t rounds;
        char again[SL_CHECKPOINT_NAME];
        if (sscanf(e->d_name, "run-%" SCNu64 "-%" SCNu32, &file_run, &rounds) != 2)
            continue;
        if (keep != NULL && strcmp(e->d_name, keep) == 0)
            continue;
        sl_checkpoint_name(file_run, rounds, again);
        bool alike = (rounds < SL_ROUND_CALIBRATION) == (keep_from < SL_ROUND_CALIBRATION);
        if (file_run == run && alike && rounds < keep_from && strcmp(again, e->d_name) == 0)
            unlinkat(dir_fd, e->d_name, 0);
    }
    closedir(d);
}

void sl_checkpoint_sweep(int dir_fd)
{
    DIR *d = open_listing(dir_fd);
    if (d == NULL)
        return;
    for (const struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        size_t n = strlen(e->d_name), tail = strlen(TEMP_SUFFIX);
        if (n > tail && strcmp(e->d_name + n - tail, TEMP_SUFFIX) == 0)
            unlinkat(dir_fd, e->d_name, 0);
    }
    closedir(d);
}
