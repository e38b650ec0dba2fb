/* watching.h - no system call under a lock: a victim's parent sees its system calls (ptrace), and
 * looks at the locks then: one that the victim holds would be held for as long as the call
 * takes, or for as long as the victim is stopped in it. Its locks are timed, too (fst_lock_sample),
 * each one, then every second and third, so that each is the one of two whose time is taken. What
 * is allowed is said in region/lock.h: a futex, and the question who is alive after a kill.
 */
#ifndef FST_TEST_WATCHING_H
#define FST_TEST_WATCHING_H

#include "kill.h"

#include <fcntl.h>
#include <sys/syscall.h>

#include "region/stores.h"
#include "traced.h"

static const struct operation *watched;
static uint32_t watched_sample;

static void prepare_to_be_watched(void)
{
    if (watched->prepare)
        watched->prepare();
    fst_lock_sample(watched_sample);
    stop_for_the_tracer();
}

static bool held_by(pid_t pid, uint32_t word)
{
    uint32_t slot = fst_lock_owner(word & ~FST_LOCK_WAITERS);
    return slot < fst_process_top(a) && fst_process_at(a, slot)->pid == pid &&
           fst_lock_generation(fst_load_acquire(&fst_process_at(a, slot)->state)) == word >> FST_LOCK_GEN_SHIFT;
}

/* The lock that the process has, of those over which nobody may be waited for, or NULL. */
static const char *lock_of(pid_t pid)
{
    if (held_by(pid, fst_load_acquire(&a->sb->names_lock)))
        return "names";
    if (held_by(pid, fst_load_acquire(&a->sb->pages_lock)))
        return "pages";
    for (uint32_t i = 0; i < fst_child_top(a); i++)
        if (held_by(pid, fst_load_acquire(&fst_child_at(a, i)->lock)))
            return "a child";
    for (uint32_t i = 0; i < fst_store_top(a); i++)
        if (held_by(pid, fst_load_acquire(&fst_store_at(a, i)->lock)))
            return "a store";
    return NULL;
}

static bool allowed(const struct __ptrace_syscall_info *info)
{
    switch (info->entry.nr) {
    case SYS_futex:
        return true;
    case SYS_fcntl: /* the question who is alive */
        return info->entry.args[1] == F_OFD_GETLK || info->entry.args[1] == F_GETFL;
    default:
        return false;
    }
}

static void look_at_locks(pid_t pid, const struct __ptrace_syscall_info *call, void *nothing)
{
    const char *lock = lock_of(pid);
    (void)nothing;
    if (lock && !allowed(call))
        TEST_FAIL("%s: system call %llu (%llx, %llx) under the lock of %s", doing, (unsigned long long)call->entry.nr,
                  (unsigned long long)call->entry.args[0], (unsigned long long)call->entry.args[1], lock);
}

/* Why system calls cannot be seen here, or NULL. */
HELPER const char *cannot_watch(int i)
{
    (void)i;
    return cannot_trace();
}

/* The whole operation; `look_too`, if any: the survivor, after look(). */
HELPER void watch_operation(const struct operation *o, void (*look_too)(void))
{
    for (watched_sample = 1; watched_sample <= 3; watched_sample++) {
        snprintf(doing, sizeof doing, "%s", o->name);
        alarm(PATIENCE);
        watched = o;
        before_victim(o, 0, UINT64_MAX); /* no fault point */
        struct operation stopped = {o->name, NULL, prepare_to_be_watched, o->run, NULL, false};
        see_system_calls(start_victim(&stopped, 0, NULL), look_at_locks, NULL);
        reap_victims_children();
        look(&o, 1);
        if (look_too)
            look_too();
        alarm(0);
    }
}

#endif
