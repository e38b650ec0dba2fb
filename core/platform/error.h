/* error.h - what went wrong, for people: the code is the return value, the text stays with the
 * thread. */
#ifndef FST_PLATFORM_ERROR_H
#define FST_PLATFORM_ERROR_H

#include "flagstone.h"

#define FST_SIZE_TEXTS 8

/* A thread's texts. They lie in memory of their own and not in thread-local variables: those of a
 * library that is loaded later have to find room in what the C library keeps for all of them, and
 * that is little more than these are. PyTorch's OpenMP would find none after us. */
struct fst_texts {
    char last[512];       /* fst_last_error() */
    char refused_by[512]; /* fst_commit_refused_by() */
    char sizes[FST_SIZE_TEXTS][48];
    unsigned next; /* of sizes */
};

/* This thread's; without memory for them, some that all such threads share. */
struct fst_texts *fst_texts(void);

/* Remember the text (printf form) and return code, so that `return fst_fail(FST_FULL, "...")`
 * reads as what it is. */
int fst_fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same with ": <strerror(error)>" behind the text; remembers error for fst_last_errno(). */
int fst_fail_errno(int code, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* A number of bytes for people, in binary units with at most one decimal: "512 B", "1.5 KiB", "4
 * GiB". fst_exact adds the bytes where that is not all of it, for sizes that are compared: "4.9
 * KiB (5001 bytes)". The text stays whole until the thread's eighth call from then. */
const char *fst_size(uint64_t bytes);
const char *fst_exact(uint64_t bytes);

#endif
