# A thread that waits for many channels, topics, subscriptions, stores and locks at once.

cdef enum:
    _AWAITED_MOST = 127  # fst_await_most() is never more


@cython.final
cdef class Waiter:
    """What one thread waits by. `ring` is for any thread, `wait` is for one."""

    cdef fst_waiter waiter
    cdef fst_awaited all[_AWAITED_MOST]
    cdef Py_ssize_t numbers[_AWAITED_MOST]

    def most(self):
        """How many things `wait` can wait for: 127, or 1 where the kernel cannot."""
        return fst_await_most()

    def ring(self, bint rung=True):
        """Let `wait` return, now and until `ring(False)`."""
        if rung:
            fst_waiter_ring(&self.waiter)
        else:
            fst_waiter_hush(&self.waiter)

    def wait(self, list things not None, list sought not None, uint64_t nanoseconds):
        """Wait until one of `most()` things at most may go on, or it is rung, or the time is
        over. `sought` says of each what is waited for: of a store another version than this one; of
        others 1 for a message, or a lock, and 0 for room. A thing that is None is gone.

        Returns:
            The numbers of those that may go on, or are gone, or cannot be used any more.
        """
        cdef Py_ssize_t count = min(len(things), _AWAITED_MOST), i
        cdef size_t n = 0, k
        cdef list kept = [None] * count, found = []
        for i in range(count):
            try:
                kept[n] = self.begin(things[i], sought[i], &self.all[n])
            except FlagstoneError:
                found.append(i)  # the call that follows says why
                continue
            if kept[n] is None:
                found.append(i)
                continue
            self.numbers[n] = i
            n += 1
        with nogil:
            fst_await(&self.waiter, self.all, n, 0 if found else nanoseconds)
        for k in range(n):
            if isinstance(kept[k], NamedBase):
                (<NamedBase>kept[k]).wake()
            if self.all[k].ready:
                found.append(self.numbers[k])
        return found

    cdef object begin(self, object thing, uint64_t sought, fst_awaited *one):
        # Say what is waited for. The result is to be kept meanwhile, and woken if it is a
        # NamedBase; None: the thing is gone.
        cdef NamedBase named
        if thing is None:
            return None
        if isinstance(thing, StoreBase):
            attachment = (<StoreBase>thing).usable()
            one.what, one.store, one.version = FST_AWAITS_CHANGE, (<StoreBase>thing).use, sought
            return attachment
        if isinstance(thing, SubscriptionBase):
            (<SubscriptionBase>thing).enter_to_sleep()
            named = (<SubscriptionBase>thing).topic
            one.what, one.subscription = FST_AWAITS_PUBLISHED, &(<SubscriptionBase>thing).sub
        else:
            named = <NamedBase?>thing
            named.usable()
            named.begin_to_sleep()
            if isinstance(thing, LockBase):
                one.what = FST_AWAITS_LOCK
            elif isinstance(thing, TopicBase):
                one.what = FST_AWAITS_READERS
            else:
                one.what = FST_AWAITS_MESSAGE if sought else FST_AWAITS_ROOM
        one.channel = named.use
        return named
