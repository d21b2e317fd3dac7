/* SPDX-License-Identifier: Apache-2.0 */
/* The published vectors, byte for byte, and what a handshake refuses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/hash.h"
#include "common/noise.h"

#define MSG_MAX 1024

struct bytes {
    uint8_t b[MSG_MAX];
    size_t n;
};

static struct bytes unhex(const char *hex)
{
    struct bytes r = {.n = strlen(hex) / 2};
    assert_true(r.n <= MSG_MAX);
    assert_true(sl_unhex(hex, r.n, r.b));
    return r;
}

static struct bytes field(const json_t *o, const char *name)
{
    const char *text = json_string_value(json_object_get(o, name));
    assert_non_null(text);
    return unhex(text);
}

static struct bytes random_bytes(size_t n)
{
    struct bytes r = {.n = n};
    randombytes_buf(r.b, n);
    return r;
}

static void check_message(struct sl_noise *from, struct sl_noise *to, const json_t *m)
{
    struct bytes payload = field(m, "payload"), want = field(m, "ciphertext");
    uint8_t out[MSG_MAX], back[MSG_MAX];
    size_t n = 0, n_back = 0;
    struct sl_err err = {0};
    assert_int_equal(
        sl_noise_write(from, payload.b, payload.n, out, sizeof(out), &n, &err), SL_OK);
    assert_int_equal(n, want.n);
    assert_memory_equal(out, want.b, n);
    assert_int_equal(sl_noise_read(to, out, n, back, sizeof(back), &n_back, &err), SL_OK);
    assert_int_equal(n_back, payload.n);
    assert_memory_equal(back, payload.b, n_back);
}

static void check_transport(const json_t *messages, const uint8_t i2r[32],
                            const uint8_t r2i[32])
{
    size_t n_messages = json_array_size(messages);
    assert_true(n_messages >= 4);
    for (size_t i = 2; i < n_messages; i++) {
        const json_t *m = json_array_get(messages, i);
        struct bytes payload = field(m, "payload"), want = field(m, "ciphertext");
        const uint8_t *key = i % 2 == 0 ? i2r : r2i;
        uint8_t out[MSG_MAX];
        sl_noise_seal(key, (i - 2) / 2, NULL, 0, payload.b, payload.n, out);
        assert_int_equal(payload.n + SL_NOISE_TAG, want.n);
        assert_memory_equal(out, want.b, want.n);
        assert_true(sl_noise_open(key, (i - 2) / 2, NULL, 0, out, want.n, out));
        assert_memory_equal(out, payload.b, payload.n);
    }
}

static enum sl_noise_pattern pattern_of(const json_t *v)
{
    return strstr(json_string_value(json_object_get(v, "protocol_name")), "IKpsk2") !=
                   NULL
               ? SL_NOISE_IKPSK2
               : SL_NOISE_IK;
}

static void check_vector(const json_t *v)
{
    enum sl_noise_pattern pattern = pattern_of(v);
    struct bytes prologue = field(v, "init_prologue"), is = field(v, "init_static"),
                 ie = field(v, "init_ephemeral"), rs = field(v, "resp_static"),
                 re = field(v, "resp_ephemeral"), remote = field(v, "init_remote_static");
    struct sl_noise i, r;
    sl_noise_init(&i, pattern, true, prologue.b, prologue.n, is.b, ie.b, remote.b);
    sl_noise_init(&r, pattern, false, prologue.b, prologue.n, rs.b, re.b, NULL);
    const json_t *messages = json_object_get(v, "messages");
    check_message(&i, &r, json_array_get(messages, 0));
    assert_memory_equal(r.rs, i.s_pub, 32);
    if (pattern == SL_NOISE_IKPSK2) {
        const json_t *psks = json_object_get(v, "init_psks");
        struct bytes psk = unhex(json_string_value(json_array_get(psks, 0)));
        sl_noise_set_psk(&i, psk.b);
        sl_noise_set_psk(&r, psk.b);
    }
    check_message(&r, &i, json_array_get(messages, 1));
    assert_memory_equal(i.h, r.h, SL_NOISE_HASH);
    if (json_is_string(json_object_get(v, "handshake_hash"))) {
        struct bytes hash = field(v, "handshake_hash");
        assert_int_equal(hash.n, SL_NOISE_HASH);
        assert_memory_equal(i.h, hash.b, hash.n);
    }
    uint8_t is_[32], ir[32], rs_[32], rr[32];
    sl_noise_split(&i, is_, ir);
    sl_noise_split(&r, rs_, rr);
    assert_memory_equal(is_, rr, 32);
    assert_memory_equal(ir, rs_, 32);
    check_transport(messages, is_, ir);
    sl_noise_wipe(&i);
    assert_true(sodium_is_zero((const uint8_t *)&i, sizeof(i)));
}

static void published_vectors_match_byte_for_byte(void **state)
{
    (void)state;
    char path[4096];
    const char *golden = getenv("SL_GOLDEN");
    assert_non_null(golden);
    snprintf(path, sizeof(path), "%s/noise/noise-ik.json", golden);
    json_t *root = json_load_file(path, 0, NULL);
    assert_non_null(root);
    const json_t *vectors = json_object_get(root, "vectors");
    size_t n = json_array_size(vectors), n_psk = 0;
    assert_int_equal(n, 3);
    for (size_t k = 0; k < n; k++) {
        n_psk += pattern_of(json_array_get(vectors, k)) == SL_NOISE_IKPSK2;
        check_vector(json_array_get(vectors, k));
    }
    assert_int_equal(n_psk, 1);
    json_decref(root);
}

struct pair {
    struct sl_noise i, r;
    uint8_t r_pub[32];
};

static struct pair make_pair(enum sl_noise_pattern pattern)
{
    struct pair p;
    struct bytes is = random_bytes(32), ie = random_bytes(32), rs = random_bytes(32),
                 re = random_bytes(32);
    sl_noise_public(rs.b, p.r_pub);
    sl_noise_init(&p.i, pattern, true, "p", 1, is.b, ie.b, p.r_pub);
    sl_noise_init(&p.r, pattern, false, "p", 1, rs.b, re.b, NULL);
    return p;
}

static struct bytes write_ok(struct sl_noise *x, const char *payload)
{
    struct bytes m = {0};
    assert_int_equal(
        sl_noise_write(x, payload, strlen(payload), m.b, sizeof(m.b), &m.n, NULL), SL_OK);
    return m;
}

static enum sl_code read_rc(struct sl_noise *x, const struct bytes *m)
{
    uint8_t payload[MSG_MAX];
    size_t n = 12345;
    enum sl_code rc = sl_noise_read(x, m->b, m->n, payload, sizeof(payload), &n, NULL);
    if (rc != SL_OK)
        assert_int_equal(n, 12345);
    return rc;
}

static void every_flipped_bit_of_message_1_is_refused(void **state)
{
    (void)state;
    struct pair p = make_pair(SL_NOISE_IK);
    struct bytes m = write_ok(&p.i, "hello");
    for (size_t bit = 0; bit < m.n * 8; bit++) {
        struct sl_noise r = p.r;
        m.b[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(read_rc(&r, &m), SL_E_CRYPTO);
        assert_int_equal(r.step, SL_NOISE_STEP_NONE);
        m.b[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_int_equal(read_rc(&p.r, &m), SL_OK);
}

static void every_flipped_bit_of_message_2_is_refused(void **state)
{
    (void)state;
    struct pair p = make_pair(SL_NOISE_IK);
    struct bytes m = write_ok(&p.i, "");
    assert_int_equal(read_rc(&p.r, &m), SL_OK);
    m = write_ok(&p.r, "welcome");
    for (size_t bit = 0; bit < m.n * 8; bit++) {
        struct sl_noise i = p.i;
        m.b[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(read_rc(&i, &m), SL_E_CRYPTO);
        m.b[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_int_equal(read_rc(&p.i, &m), SL_OK);
}

static void truncated_messages_are_refused(void **state)
{
    (void)state;
    struct pair p = make_pair(SL_NOISE_IK);
    struct bytes m = write_ok(&p.i, "x");
    size_t whole = m.n;
    for (m.n = 0; m.n < whole; m.n++) {
        struct sl_noise r = p.r;
        assert_int_equal(read_rc(&r, &m),
                         m.n < SL_NOISE_MSG1_EXTRA ? SL_E_PROTO : SL_E_CRYPTO);
    }
}

static void points_of_low_order_are_refused(void **state)
{
    (void)state;
    static const char *const points[] = {
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    };
    for (size_t k = 0; k < sizeof(points) / sizeof(points[0]); k++) {
        struct bytes point = unhex(points[k]), s = random_bytes(32), e = random_bytes(32),
                     m = {0};
        struct sl_noise i;
        sl_noise_init(&i, SL_NOISE_IK, true, "", 0, s.b, e.b, point.b);
        assert_int_equal(sl_noise_write(&i, "", 0, m.b, sizeof(m.b), &m.n, NULL),
                         SL_E_CRYPTO);

        struct pair p = make_pair(SL_NOISE_IK);
        m = write_ok(&p.i, "");
        memcpy(m.b, point.b, 32);
        struct sl_err err = {0};
        uint8_t payload[MSG_MAX];
        size_t n;
        assert_int_equal(
            sl_noise_read(&p.r, m.b, m.n, payload, sizeof(payload), &n, &err),
            SL_E_CRYPTO);
        assert_non_null(strstr(err.msg, "low order"));
    }
}

static void another_responder_prologue_or_pattern_does_not_authenticate(void **state)
{
    (void)state;
    struct pair p = make_pair(SL_NOISE_IK);
    struct bytes m = write_ok(&p.i, "secret"), s = random_bytes(32), e = random_bytes(32);
    struct sl_noise r;
    sl_noise_init(&r, SL_NOISE_IK, false, "p", 1, s.b, e.b, NULL);
    assert_int_equal(read_rc(&r, &m), SL_E_CRYPTO);
    sl_noise_init(&r, SL_NOISE_IK, false, "q", 1, p.r.s, e.b, NULL);
    assert_int_equal(read_rc(&r, &m), SL_E_CRYPTO);
    sl_noise_init(&r, SL_NOISE_IKPSK2, false, "p", 1, p.r.s, e.b, NULL);
    assert_int_equal(read_rc(&r, &m), SL_E_CRYPTO);
    assert_int_equal(read_rc(&p.r, &m), SL_OK);
}

static void message_1_of_ikpsk2_is_read_before_the_psk_is_known(void **state)
{
    (void)state;
    struct pair p = make_pair(SL_NOISE_IKPSK2);
    struct bytes psk = random_bytes(32), other = random_bytes(32);
    sl_noise_set_psk(&p.i, psk.b);
    struct bytes m = write_ok(&p.i, "token 7");
    uint8_t payload[MSG_MAX];
    size_t n = 0;
    assert_int_equal(sl_noise_read(&p.r, m.b, m.n, payload, sizeof(payload), &n, NULL),
                     SL_OK);
    assert_int_equal(n, 7);
    assert_memory_equal(payload, "token 7", 7);
    struct sl_noise without = p.r, wrong = p.r;
    assert_int_equal(sl_noise_write(&without, "", 0, m.b, sizeof(m.b), &m.n, NULL),
                     SL_E_BUG);
    sl_noise_set_psk(&wrong, other.b);
    m = write_ok(&wrong, "");
    struct sl_noise i = p.i;
    assert_int_equal(read_rc(&i, &m), SL_E_CRYPTO);
    sl_noise_set_psk(&p.r, psk.b);
    m = write_ok(&p.r, "");
    assert_int_equal(read_rc(&p.i, &m), SL_OK);
}

static void messages_out_of_turn_and_small_buffers_are_refused(void **state)
{
    (void)state;
    struct pair p = make_pair(SL_NOISE_IK);
    struct sl_noise x = p.r;
    struct bytes m = {0};
    assert_int_equal(sl_noise_write(&x, "", 0, m.b, sizeof(m.b), &m.n, NULL), SL_E_BUG);
    x = p.i;
    assert_int_equal(
        sl_noise_write(&x, "abc", 3, m.b, SL_NOISE_MSG1_EXTRA + 2, &m.n, NULL),
        SL_E_LIMIT);
    x = p.i;
    assert_int_equal(
        sl_noise_write(&x, "abc", 3, m.b, SL_NOISE_MSG1_EXTRA + 3, &m.n, NULL), SL_OK);
    assert_int_equal(read_rc(&x, &(struct bytes){.n = 4}), SL_E_PROTO);
    uint8_t small[2];
    size_t n;
    assert_int_equal(sl_noise_read(&p.r, m.b, m.n, small, sizeof(small), &n, NULL),
                     SL_E_LIMIT);
    struct sl_noise none = {0};
    assert_int_equal(read_rc(&none, &m), SL_E_BUG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_vectors_match_byte_for_byte),
        cmocka_unit_test(every_flipped_bit_of_message_1_is_refused),
        cmocka_unit_test(every_flipped_bit_of_message_2_is_refused),
        cmocka_unit_test(truncated_messages_are_refused),
        cmocka_unit_test(points_of_low_order_are_refused),
        cmocka_unit_test(another_responder_prologue_or_pattern_does_not_authenticate),
        cmocka_unit_test(message_1_of_ikpsk2_is_read_before_the_psk_is_known),
        cmocka_unit_test(messages_out_of_turn_and_small_buffers_are_refused),
    };
    if (sodium_init() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
