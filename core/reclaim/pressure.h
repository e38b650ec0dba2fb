/* pressure.h - does the system run short of memory? Linux's pressure stall information
 * (Documentation/accounting/psi.rst) says for how long tasks of this process's cgroup (version 2),
 * or of the machine where the cgroup has none, have waited for memory.
 *
 * The answer is process-local; the reaper thread asks at its ticks. No descriptor stays open,
 * because the program might close it and open another file under its number.
 */
#ifndef FST_RECLAIM_PRESSURE_H
#define FST_RECLAIM_PRESSURE_H

#include <stdbool.h>
#include <stdint.h>

struct fst_pressure {
    char path[512];  /* "": the kernel does not have it */
    uint64_t waited; /* us, when last read */
    uint64_t looked; /* ns since boot */
};

/* Begin with the file of this process's cgroup, or of the machine. */
void fst_pressure_open(struct fst_pressure *p);
/* Begin with the file at this path, which has the same form. */
void fst_pressure_open_path(struct fst_pressure *p, const char *path);

/* Since the last call, have tasks waited for memory for a tenth of the time or more? */
bool fst_pressure_high(struct fst_pressure *p);

#endif
