/* pressure.h - does the system run short of memory? Linux's pressure stall information
 * (Documentation/accounting/psi.rst): the time that tasks of this process's cgroup (v2), or of the
 * machine where that is not to be had, have waited for memory.
 *
 * Process-local; read by the reaper thread at its ticks. No descriptor stays open: its number could
 * become another file's behind our back.
 */
#ifndef FST_RECLAIM_PRESSURE_H
#define FST_RECLAIM_PRESSURE_H

#include <stdbool.h>
#include <stdint.h>

struct fst_pressure {
    char path[512];  /* "": the kernel does not offer it */
    uint64_t waited; /* us, as last read */
    uint64_t looked; /* ns since boot */
};

/* Of this process's cgroup. */
void fst_pressure_open(struct fst_pressure *p);
/* The file at this path, in the same form. */
void fst_pressure_open_path(struct fst_pressure *p, const char *path);

/* Since the last call, have tasks waited for memory for a tenth of the time or more? */
bool fst_pressure_high(struct fst_pressure *p);

#endif
