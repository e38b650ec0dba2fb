#include "platform/memlimit.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "platform/error.h"
#include "platform/futex.h"

#define PATIENCE (50 * FST_MS) /* how long an answer holds */
#define SHARE    16u           /* this part of the room may be used before the next look */
#define NO_LIMIT (1ull << 60)  /* version 1 says "none" by a number near 2^63 */

/* Bytes left free for what the process needs beside the arena, and for others that look meanwhile:
 * a 32nd part of the limit, between these two. */
#define LEAST (1ull << 20)
#define MOST  (8ull << 20)

const char *fst_memlimit_cgroups = "/sys/fs/cgroup", *fst_memlimit_proc = "/proc";

/* What the last look of this thread has found. It needs no lock, which a fork would leave held. */
static _Thread_local struct {
    uint64_t looked;   /* when the last look was, 0: never */
    uint64_t budget;   /* bytes that may be used without looking again */
    const char *place; /* fst_memlimit_cgroups at that look */
} known;

/* The two kinds of hierarchy: what their files and numbers are called. */
struct kind {
    const char *const *roots;
    const char *limit, *usage, *swap_limit, *swap_usage;
    /* what the kernel gives up before it kills anybody: files that are not mapped for good */
    const char *stats[3];
    bool with_memory; /* limit and usage of swap include memory */
};

static const char *const roots_2[] = {"", "/unified", NULL};
static const char *const roots_1[] = {"/memory", NULL};
static const struct kind kinds[] = {
    {roots_2,
     "memory.max",
     "memory.current",
     "memory.swap.max",
     "memory.swap.current",
     {"inactive_file ", "active_file ", "slab_reclaimable "},
     false},
    {roots_1,
     "memory.limit_in_bytes",
     "memory.usage_in_bytes",
     "memory.memsw.limit_in_bytes",
     "memory.memsw.usage_in_bytes",
     {"total_inactive_file ", "total_active_file ", NULL},
     true},
};

static bool read_text(const char *folder, const char *name, char *text, size_t size)
{
    char path[1024];
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        return false;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, size - 1);
    if (fd >= 0)
        close(fd);
    text[n < 0 ? 0 : n] = 0;
    return n > 0;
}

/* Read a file with one number, or "max". */
static bool read_number(const char *folder, const char *name, uint64_t *out)
{
    char text[64];
    if (!read_text(folder, name, text, sizeof text))
        return false;
    *out = strncmp(text, "max", 3) == 0 ? UINT64_MAX : strtoull(text, NULL, 10);
    return true;
}

/* The number behind a word at the start of a line. */
static uint64_t number_of(const char *text, const char *word)
{
    size_t length = strlen(word);
    for (const char *at = text; at && *at; at = strchr(at, '\n'), at = at ? at + 1 : NULL)
        if (strncmp(at, word, length) == 0)
            return strtoull(at + length, NULL, 10);
    return 0;
}

/* Bytes that are counted now and go when there is no room for more: those of files, and what finds
 * room in swap. */
static uint64_t reclaimable(const struct kind *k, const char *folder, uint64_t limit, uint64_t usage)
{
    char text[8192];
    uint64_t bytes = 0, swap_limit, swap_usage;
    if (read_text(folder, "memory.stat", text, sizeof text))
        for (size_t i = 0; i < sizeof k->stats / sizeof *k->stats && k->stats[i]; i++)
            bytes += number_of(text, k->stats[i]);
    if (!read_text(fst_memlimit_proc, "meminfo", text, sizeof text))
        return bytes;
    uint64_t swap = number_of(text, "SwapFree:") << 10;
    if (!swap)
        return bytes;
    if (read_number(folder, k->swap_limit, &swap_limit) && read_number(folder, k->swap_usage, &swap_usage)) {
        /* of memory and swap together; the difference is what swap alone may have */
        if (k->with_memory) {
            swap_limit = swap_limit > limit ? swap_limit - limit : 0;
            swap_usage = swap_usage > usage ? swap_usage - usage : 0;
        }
        uint64_t left = swap_limit > swap_usage ? swap_limit - swap_usage : 0;
        swap = left < swap ? left : swap;
    }
    return bytes + swap;
}

/* How many bytes more may be used, by the limit of this one folder; UINT64_MAX: it has none. */
static uint64_t room_in(const struct kind *k, const char *folder, char *why, size_t size)
{
    uint64_t limit, usage;
    if (!read_number(folder, k->limit, &limit) || limit >= NO_LIMIT || !read_number(folder, k->usage, &usage))
        return UINT64_MAX;
    uint64_t keep = limit / 32 < LEAST ? LEAST : limit / 32 > MOST ? MOST : limit / 32;
    uint64_t in_use = usage + keep, may_be = limit + reclaimable(k, folder, limit, usage);
    snprintf(why, size, "the memory cgroup %.300s, whose limit of %s has %s in use (what is on a tmpfs counts),", folder,
             fst_size(limit), fst_size(usage));
    return may_be > in_use ? may_be - in_use : 0;
}

/* Find the path of this process in a hierarchy, in a line "0::/path" or "4:memory:/path". */
static bool own_path(const struct kind *k, const char *text, char *path, size_t size)
{
    for (const char *at = text; at && *at; at = strchr(at, '\n'), at = at ? at + 1 : NULL) {
        const char *names = strchr(at, ':'), *own = names ? strchr(names + 1, ':') : NULL;
        size_t length = own ? (size_t)(own - names - 1) : 0;
        if (!own || (k->with_memory ? length != 6 || strncmp(names + 1, "memory", 6) != 0 : length != 0))
            continue;
        int n = (int)strcspn(own + 1, "\n");
        /* A path like "/../.." lies outside of what this process can see; the folder that is
         * mounted is the nearest that it can. */
        if (strncmp(own + 1, "/..", 3) == 0)
            n = 0;
        return snprintf(path, size, "%.*s", n, own + 1) < (int)size;
    }
    return false;
}

/* The least room of the process's cgroup and all above it. Nothing is known of those that this
 * process cannot see. */
static uint64_t least_room(char *why, size_t size)
{
    char text[4096], path[512], folder[768], reason[512];
    uint64_t least = UINT64_MAX;
    if (!read_text(fst_memlimit_proc, "self/cgroup", text, sizeof text))
        return least;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const struct kind *k = &kinds[i];
        if (!own_path(k, text, path, sizeof path))
            continue;
        for (const char *const *root = k->roots; *root; root++) {
            char own[512];
            snprintf(own, sizeof own, "%s", path);
            for (char *end = own + strlen(own); end; end = own[0] ? strrchr(own, '/') : NULL) {
                *end = 0;
                snprintf(folder, sizeof folder, "%s%s%s", fst_memlimit_cgroups, *root, own);
                uint64_t room = room_in(k, folder, reason, sizeof reason);
                if (room >= least)
                    continue;
                least = room;
                snprintf(why, size, "%s", reason);
            }
        }
    }
    return least;
}

bool fst_memlimit_room(uint64_t bytes, char *why, size_t size)
{
    uint64_t now = fst_now();
    if (known.looked && known.place == fst_memlimit_cgroups && now - known.looked < PATIENCE && bytes <= known.budget) {
        known.budget -= bytes;
        return true;
    }
    uint64_t room = least_room(why, size);
    if (bytes > room) {
        known.looked = 0;
        return false;
    }
    known.looked = now;
    known.place = fst_memlimit_cgroups;
    known.budget = room == UINT64_MAX ? UINT64_MAX : (room - bytes) / SHARE;
    return true;
}
