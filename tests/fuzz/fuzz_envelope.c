/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a frame: the header, both handshake payloads, and a record opened with
 * fixed keys. What parses must pack to the same bytes. */
#include <assert.h>
#include <sodium.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/session.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_record(const uint8_t *data, size_t size, uint64_t session)
{
    static const uint8_t a[SL_NOISE_KEY] = {1, 2, 3}, b[SL_NOISE_KEY] = {4, 5, 6};
    struct sl_keys *keys = sl_keys_new(session, a, b);
    uint8_t *frame = malloc(size);
    if (keys == NULL || frame == NULL)
        abort();
    memcpy(frame, data, size);
    struct sl_envelope head;
    size_t plain;
    if (sl_record_open(keys, SL_ENV_REQUEST, frame, size, &head, &plain, NULL) == SL_OK)
        assert(plain + SL_RECORD_EXTRA == size);
    free(frame);
    sl_keys_unref(keys);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_envelope e;
    struct sl_hello h;
    struct sl_welcome w;
    uint8_t again[SL_HELLO_BYTES_MAX];
    if (sl_envelope_parse(data, size, &e, NULL) == SL_OK) {
        sl_envelope_pack(&e, again);
        assert(memcmp(again, data, SL_ENVELOPE_BYTES) == 0);
        try_record(data, size, e.session);
    }
    if (sl_hello_parse(data, size, &h, NULL) == SL_OK) {
        assert(h.n <= SL_HELLO_MAX);
        assert(sl_hello_pack(&h, again) <= sizeof(again));
    }
    if (sl_welcome_parse(data, size, &w, NULL) == SL_OK) {
        assert((w.status == SL_WELCOME) == (w.session != 0));
        assert(sl_welcome_pack(&w, again) <= sizeof(again));
    }
    return 0;
}
