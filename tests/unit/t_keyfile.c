/* SPDX-License-Identifier: Apache-2.0 */
/* Key files and join tokens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <ctype.h>
#include <dirent.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/join_token.h"
#include "common/keyfile.h"

static char dir[64];

static int dir_open(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/sl_keyfile_XXXXXX");
    return mkdtemp(dir) == NULL;
}

static int n_files(void)
{
    DIR *d = opendir(dir);
    int n = 0;
    for (const struct dirent *e; (e = readdir(d)) != NULL;)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static int dir_close(void **state)
{
    (void)state;
    char path[512];
    DIR *d = opendir(dir);
    for (const struct dirent *e; (e = readdir(d)) != NULL;) {
        snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
        if (e->d_name[0] != '.' && unlink(path) != 0)
            rmdir(path);
    }
    closedir(d);
    return rmdir(dir);
}

static const char *in_dir(const char *name)
{
    static char path[256];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    return path;
}

static void write_text(const char *name, const char *text, mode_t mode)
{
    FILE *f = fopen(in_dir(name), "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    assert_int_equal(chmod(in_dir(name), mode), 0);
}

#define HEX "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define GOOD "starling identity v1\n" HEX "\n"

static void a_generated_key_is_private_and_comes_back(void **state)
{
    (void)state;
    uint8_t made[32], back[32];
    struct stat st;
    assert_int_equal(sl_keyfile_generate(in_dir("id"), made, NULL), SL_OK);
    assert_int_equal(sl_keyfile_read(in_dir("id"), back, NULL), SL_OK);
    assert_memory_equal(made, back, 32);
    assert_int_equal(stat(in_dir("id"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(n_files(), 1);
}

static void a_key_file_is_never_overwritten(void **state)
{
    (void)state;
    uint8_t a[32] = {1}, back[32];
    struct sl_err err = {0};
    assert_int_equal(sl_keyfile_create(in_dir("id"), a, NULL), SL_OK);
    assert_int_equal(sl_keyfile_generate(in_dir("id"), back, &err), SL_E_EXISTS);
    assert_non_null(strstr(err.msg, "exists"));
    assert_int_equal(sl_keyfile_read(in_dir("id"), back, NULL), SL_OK);
    assert_memory_equal(a, back, 32);
    assert_int_equal(n_files(), 1);
    assert_int_equal(sl_keyfile_create(in_dir("no/such/dir"), a, &err), SL_E_NOTFOUND);
    assert_int_equal(n_files(), 1);
}

static void the_file_is_what_the_header_draws(void **state)
{
    (void)state;
    uint8_t back[32];
    write_text("id", GOOD, 0600);
    assert_int_equal(sl_keyfile_read(in_dir("id"), back, NULL), SL_OK);
    for (int i = 0; i < 32; i++)
        assert_int_equal(back[i], i);
    write_text("id", GOOD, 0400);
    assert_int_equal(sl_keyfile_read(in_dir("id"), back, NULL), SL_OK);
}

static void a_key_that_others_can_read_is_refused(void **state)
{
    (void)state;
    uint8_t back[32] = {9};
    static const mode_t modes[] = {0640, 0604, 0660, 0601, 0777};
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        struct sl_err err = {0};
        write_text("id", GOOD, modes[i]);
        assert_int_equal(sl_keyfile_read(in_dir("id"), back, &err), SL_E_INPUT);
        assert_non_null(strstr(err.msg, "chmod 600"));
        assert_non_null(strstr(err.msg, in_dir("id")));
    }
    assert_int_equal(back[0], 9);
}

static void other_contents_are_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "starling identity v1\n",
        "starling identity v1\n" HEX,
        "starling identity v1\n" HEX "\n\n",
        "starling identity v2\n" HEX "\n",
        "starling identity "
        "v1\nxx0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n",
        HEX "\n",
    };
    uint8_t back[32];
    struct sl_err err = {0};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        write_text("id", texts[i], 0600);
        assert_int_equal(sl_keyfile_read(in_dir("id"), back, &err), SL_E_INPUT);
        assert_null(strstr(err.msg, "0a0b")); /* never the secret */
    }
    assert_int_equal(sl_keyfile_read(in_dir("none"), back, &err), SL_E_NOTFOUND);
    assert_int_equal(sl_keyfile_read(dir, back, &err), SL_E_INPUT);
    assert_int_equal(mkfifo(in_dir("pipe"), 0600), 0); /* does not hang */
    assert_int_equal(sl_keyfile_read(in_dir("pipe"), back, &err), SL_E_INPUT);
}

static void public_keys_print_and_parse(void **state)
{
    (void)state;
    uint8_t secret[32] = {1}, public[32], back[32] = {0};
    char hex[SL_KEYFILE_HEX];
    sl_keyfile_public(secret, public);
    sl_key_format(public, hex);
    assert_int_equal(strlen(hex), 64);
    assert_int_equal(sl_key_parse(hex, back, NULL), SL_OK);
    assert_memory_equal(back, public, 32);
    struct sl_err err = {0};
    hex[63] = '\0';
    assert_int_equal(sl_key_parse(hex, back, &err), SL_E_INPUT);
    assert_non_null(strstr(err.msg, "64 hex digits"));
    assert_int_equal(sl_key_parse("", back, &err), SL_E_INPUT);
    memset(hex, '0', 64);
    assert_int_equal(sl_key_parse(hex, back, &err), SL_E_INPUT);
    assert_memory_equal(back, public, 32);
}

static struct sl_join_token a_token(void)
{
    struct sl_join_token t;
    for (int i = 0; i < 32; i++) {
        t.server[i] = (uint8_t)(i * 7);
        t.psk[i] = (uint8_t)(255 - i);
        t.id[i % 16] = (uint8_t)(i * 31);
    }
    return t;
}

static void a_join_token_survives_print_and_paste(void **state)
{
    (void)state;
    struct sl_join_token t = a_token(), back;
    char text[SL_JOIN_TOKEN_TEXT], pasted[SL_JOIN_TOKEN_TEXT + 8];
    sl_join_token_format(&t, text);
    assert_int_equal(strlen(text), SL_JOIN_TOKEN_TEXT - 1);
    assert_memory_equal(text, "sljt1-", 6);
    assert_int_equal(sl_join_token_parse(text, &back, NULL), SL_OK);
    assert_memory_equal(&back, &t, sizeof(t));
    snprintf(pasted, sizeof(pasted), " \t%s\r\n", text);
    for (char *p = pasted; *p != '\0'; p++)
        *p = (char)toupper((unsigned char)*p);
    memset(&back, 0, sizeof(back));
    assert_int_equal(sl_join_token_parse(pasted, &back, NULL), SL_OK);
    assert_memory_equal(&back, &t, sizeof(t));
}

static void a_mistyped_or_cut_token_is_refused_without_repeating_it(void **state)
{
    (void)state;
    struct sl_join_token t = a_token(), back = {.id = {1, 2}};
    char text[SL_JOIN_TOKEN_TEXT], bad[SL_JOIN_TOKEN_TEXT + 1];
    sl_join_token_format(&t, text);
    for (size_t i = 0; i < strlen(text); i++) {
        struct sl_err err = {0};
        memcpy(bad, text, sizeof(text));
        bad[i] = bad[i] == 'b' ? 'c' : 'b';
        assert_int_equal(sl_join_token_parse(bad, &back, &err), SL_E_INPUT);
        assert_null(strstr(err.msg, text + 60));
        if (text[i] != '1') { /* which base32 does not have; the prefix has one */
            bad[i] = '1';
            assert_int_equal(sl_join_token_parse(bad, &back, &err), SL_E_INPUT);
        }
        memcpy(bad, text, sizeof(text));
        bad[i] = '\0';
        assert_int_equal(sl_join_token_parse(bad, &back, &err), SL_E_INPUT);
    }
    snprintf(bad, sizeof(bad), "%sa", text);
    assert_int_equal(sl_join_token_parse(bad, &back, NULL), SL_E_INPUT);
    assert_int_equal(back.id[1], 2);
}

#define IN_DIR(test) cmocka_unit_test_setup_teardown(test, dir_open, dir_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_DIR(a_generated_key_is_private_and_comes_back),
        IN_DIR(a_key_file_is_never_overwritten),
        IN_DIR(the_file_is_what_the_header_draws),
        IN_DIR(a_key_that_others_can_read_is_refused),
        IN_DIR(other_contents_are_refused),
        cmocka_unit_test(public_keys_print_and_parse),
        cmocka_unit_test(a_join_token_survives_print_and_paste),
        cmocka_unit_test(a_mistyped_or_cut_token_is_refused_without_repeating_it),
    };
    if (sodium_init() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
