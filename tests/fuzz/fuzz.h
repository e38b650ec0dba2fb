/* fuzz.h - what the fuzzing targets share: how bytes are read, and how a failure ends the program.
 *
 * A target is a file fuzz_NAME.c with LLVMFuzzerTestOneInput(), which makes something of any bytes.
 * libFuzzer links its own main() to it; driver.c is another one, which runs a folder of inputs in
 * any build. A target uses CHECK of harness.h, and ends with FUZZ_END(): a failed check is a crash
 * to the fuzzer.
 */
#ifndef FST_FUZZ_H
#define FST_FUZZ_H

#include <fcntl.h>

#include "../core/support.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_END()                           \
    do {                                     \
        if (atomic_load(&test_failures) > 0) \
            abort();                         \
    } while (0)

/* ---- reading the input: beyond its end everything is 0 ---- */

struct input {
    const uint8_t *at, *end;
};

HELPER bool more(const struct input *in)
{
    return in->at < in->end;
}

HELPER uint8_t byte(struct input *in)
{
    return more(in) ? *in->at++ : 0;
}

HELPER uint64_t number(struct input *in, unsigned bytes)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < bytes; i++)
        n |= (uint64_t)byte(in) << (8 * i);
    return n;
}

/* ---- what must not leak ---- */

/* The lowest free descriptor: the same before and after, if nothing was left open. */
HELPER int lowest_descriptor(void)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(fd);
    return fd;
}

#endif
