#include "platform/error.h"

#include <stdarg.h>
#include <stdio.h>
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
