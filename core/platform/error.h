/* error.h - what went wrong, for people: the code is the return value, the text stays with the thread. */
#ifndef FST_PLATFORM_ERROR_H
#define FST_PLATFORM_ERROR_H

#include "flagstone.h"

/* Remember the text (printf form) and return code, so that `return fst_fail(FST_FULL, "...")` reads as what it is. */
int fst_fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same with ": <strerror(error)>" behind the text; remembers error for fst_last_errno(). */
int fst_fail_errno(int code, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
