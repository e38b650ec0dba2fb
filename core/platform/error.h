/* error.h - what went wrong, for people: a function returns the code, and the sentence stays with
 * the thread until its next failure. */
#ifndef FST_PLATFORM_ERROR_H
#define FST_PLATFORM_ERROR_H

#include "flagstone.h"

#define FST_SIZE_TEXTS 8

/* The texts of one thread. They lie in memory of their own and not in thread-local variables,
 * because the C library has little room for the thread-local variables of all libraries that are
 * loaded while the program runs, hardly more than these texts need. A library that is loaded after
 * this one, PyTorch's OpenMP for instance, would find none left. */
struct fst_texts {
    char last[512];       /* what fst_last_error() returns */
    char refused_by[512]; /* what fst_commit_refused_by() returns */
    char sizes[FST_SIZE_TEXTS][48];
    unsigned next; /* counts the texts in sizes that were used, so that they are used in turn */
};

/* The texts of the calling thread. All threads that find no memory for their own share one last
 * resort. */
struct fst_texts *fst_texts(void);

/* Remember the text (printf form) and return code, so that `return fst_fail(FST_FULL, "...")`
 * reads as what it is. */
int fst_fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Fail as fst_fail does, with ": <strerror(error)>" behind the text; fst_last_errno() then returns
 * error. */
int fst_fail_errno(int code, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* A number of bytes for people, in binary units with at most one decimal: "512 B", "1.5 KiB", "4
 * GiB". fst_exact adds the exact number where that text rounds it, for sizes that are compared:
 * "4.9 KiB (5001 bytes)". Each text stays whole until this thread's eighth later call of either
 * function. */
const char *fst_size(uint64_t bytes);
const char *fst_exact(uint64_t bytes);

/* A number of things for people: "1 object", "2 objects". The text lies where those of sizes do,
 * and stays whole as long. */
const char *fst_many(uint64_t count, const char *one, const char *more);

#endif
