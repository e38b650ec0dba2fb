#include "platform/error.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local int last_errno;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static bool has_key;

/* The texts of all threads that find no memory for their own; they may write over each other's. */
static struct fst_texts last_resort;

static void make_key(void)
{
    has_key = pthread_key_create(&key, free) == 0;
}

struct fst_texts *fst_texts(void)
{
    pthread_once(&once, make_key);
    struct fst_texts *mine = has_key ? pthread_getspecific(key) : NULL;
    if (mine)
        return mine;
    mine = has_key ? calloc(1, sizeof *mine) : NULL;
    if (mine && pthread_setspecific(key, mine) != 0) {
        free(mine);
        mine = NULL;
    }
    return mine ? mine : &last_resort;
}

int fst_fail(int code, const char *format, ...)
{
    va_list args;
    struct fst_texts *texts = fst_texts();
    va_start(args, format);
    vsnprintf(texts->last, sizeof texts->last, format, args);
    va_end(args);
    last_errno = 0;
    return code;
}

int fst_fail_errno(int code, int error, const char *format, ...)
{
    va_list args;
    struct fst_texts *texts = fst_texts();
    va_start(args, format);
    int n = vsnprintf(texts->last, sizeof texts->last, format, args);
    va_end(args);
    if (n >= 0 && (size_t)n < sizeof texts->last)
        snprintf(texts->last + n, sizeof texts->last - (size_t)n, ": %s", strerror(error));
    last_errno = error;
    return code;
}

const char *fst_last_error(void)
{
    return fst_texts()->last;
}

int fst_last_errno(void)
{
    return last_errno;
}

/* Write the size as format_size() and exact_size() of the Python package write it. */
static const char *say_size(uint64_t bytes, bool exact)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    struct fst_texts *texts = fst_texts();
    char *out = texts->sizes[texts->next++ % FST_SIZE_TEXTS];
    unsigned unit = 0;
    double value = (double)bytes;
    for (; value >= 1024 && unit < 6; unit++)
        value /= 1024;
    int n = snprintf(out, sizeof texts->sizes[0], "%.1f", value);
    bool whole = n > 2 && out[n - 1] == '0';
    n -= whole ? 2 : 0; /* ".0" */
    int more = snprintf(out + n, sizeof texts->sizes[0] - (size_t)n, " %s", units[unit]);
    double shown = strtod(out, NULL);
    for (unsigned i = 0; i < unit; i++)
        shown *= 1024;
    if (exact && (uint64_t)shown != bytes)
        snprintf(out + n + more, sizeof texts->sizes[0] - (size_t)(n + more), " (%llu bytes)", (unsigned long long)bytes);
    return out;
}

const char *fst_many(uint64_t count, const char *one, const char *more)
{
    struct fst_texts *texts = fst_texts();
    char *out = texts->sizes[texts->next++ % FST_SIZE_TEXTS];
    snprintf(out, sizeof texts->sizes[0], "%llu %s", (unsigned long long)count, count == 1 ? one : more);
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
