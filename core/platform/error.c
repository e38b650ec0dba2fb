#include "platform/error.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local char text[512];
static _Thread_local int last_errno;

int fst_fail(int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    last_errno = 0;
    return code;
}

int fst_fail_errno(int code, int error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (n >= 0 && (size_t)n < sizeof text)
        snprintf(text + n, sizeof text - (size_t)n, ": %s", strerror(error));
    last_errno = error;
    return code;
}

const char *fst_last_error(void)
{
    return text;
}

int fst_last_errno(void)
{
    return last_errno;
}

/* As format_size() and exact_size() of the Python package say it. */
static const char *say_size(uint64_t bytes, bool exact)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    static _Thread_local char texts[8][48];
    static _Thread_local unsigned next;
    char *out = texts[next++ % 8];
    unsigned unit = 0;
    double value = (double)bytes;
    for (; value >= 1024 && unit < 6; unit++)
        value /= 1024;
    int n = snprintf(out, sizeof texts[0], "%.1f", value);
    bool whole = n > 2 && out[n - 1] == '0';
    n -= whole ? 2 : 0; /* ".0" */
    int more = snprintf(out + n, sizeof texts[0] - (size_t)n, " %s", units[unit]);
    double shown = strtod(out, NULL);
    for (unsigned i = 0; i < unit; i++)
        shown *= 1024;
    if (exact && (uint64_t)shown != bytes)
        snprintf(out + n + more, sizeof texts[0] - (size_t)(n + more), " (%llu bytes)", (unsigned long long)bytes);
    return out;
}

const char *fst_size(uint64_t bytes)
{
    return say_size(bytes, false);
}

const char *fst_exact(uint64_t bytes)
{
    return say_size(bytes, true);
}
