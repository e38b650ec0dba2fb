/* allocator.h - for which Allocator does the calling thread run a task? */
#ifndef FST_BINDING_ALLOCATOR_H
#define FST_BINDING_ALLOCATOR_H

/* NumPy keeps its handler in a context variable, and whatever a thread has another one do (a
 * callback of an event loop, say) inherits its context. So the thread says it once more. NULL or
 * another handler's address: for none. */
static _Thread_local const void *fst_allocating_of;

static inline const void *fst_allocating(void)
{
    return fst_allocating_of;
}

static inline void fst_set_allocating(const void *of)
{
    fst_allocating_of = of;
}

#endif
