/* Taking a lock from an owner that is stopped, not killed (docs/design/README.md says why the core
 * does not).
 *
 * The owner changes two words under the lock, and may be stopped and continued between any two
 * steps. Before each store it announces it, looks whether the lock is still its own, stores, and
 * takes the announcement back. When it finds its lock gone, it leaves the section, says so, and
 * begins again. The thief swings the lock; it is its own when the owner says that it has left, or
 * is stopped *now* and announces no store. Then it rebuilds, and changes the words as any owner
 * does.
 *
 * Neither side fences: what an owner stored before it was stopped is seen by who saw it stopped,
 * and what was stored before it was continued it sees. In the model the owner's announcement lies
 * in a store buffer, which a stop empties.
 *
 * Safety: while the thief is inside, no store of the owner's arrives; whoever gets in finds the two
 * words equal. Nobody waits for ever.
 *
 *  holds:
 *  holds: -DSTOPS=3
 *  fails: -DM_NOANNOUNCE
 *  fails: -DM_NOLOOK
 *  fails: -DM_LOOKFIRST
 *  fails: -DM_BEFORESWING
 *  fails: -DM_RUNNING
 *  fails: -DM_NOREBUILD
 */
#ifndef STOPS
#define STOPS 2
#endif

#define OWNER 1
#define THIEF 2

byte lock;
bit buffered, storing;          /* the announcement: as the owner sees it, and as others do */
bit stopped, left;              /* left: the owner has noticed that its lock is gone */
bit robbing;                    /* the thief is inside */
byte first, second;
byte stops = STOPS, rounds = 2;

#ifdef M_NOANNOUNCE
#define ANNOUNCE skip
#else
#define ANNOUNCE buffered = 1
#endif
#ifdef M_LOOKFIRST              /* looks, and announces after it */
#define BEFORE_STORE atomic{ !stopped -> seen = lock }; atomic{ !stopped -> ANNOUNCE }
#else
#define BEFORE_STORE atomic{ !stopped -> ANNOUNCE }; atomic{ !stopped -> seen = lock }
#endif
#ifdef M_NOLOOK
#define LOOK skip
#else
#define LOOK if :: seen != OWNER -> goto robbed :: else fi
#endif
#define AFTER_STORE atomic{ !stopped -> buffered = 0; storing = 0 }

active proctype owner() {
  byte seen;
again:
  do
  :: rounds == 0 -> break
  :: rounds > 0 ->
     atomic{ !stopped && lock == 0 -> lock = OWNER; left = 0; assert(first == second) };
     BEFORE_STORE; LOOK;
     atomic{ !stopped -> assert(!robbing); first = (first + 1) % 4 };
     AFTER_STORE;
     BEFORE_STORE; LOOK;
     atomic{ !stopped -> assert(!robbing); second = (second + 1) % 4 };
     AFTER_STORE;
     /* Unlocking is a compare-and-swap, for the lock may be another's. */
     atomic{ !stopped -> rounds--; if :: lock == OWNER -> lock = 0 :: else -> left = 1 fi }
  od;
  goto end;
robbed:
  atomic{ !stopped -> buffered = 0; storing = 0; left = 1 };
  goto again;
end: skip
}

/* The kernel. A stop empties the buffer, which otherwise empties itself at some time. */
active proctype signals() {
  do
  :: atomic{ stops > 0 && !stopped -> stopped = 1; stops--; storing = buffered }
  :: atomic{ stopped -> stopped = 0 }
  :: atomic{ buffered && !storing -> storing = 1 }
  :: atomic{ rounds == 0 && !stopped -> break }
  od
}

active proctype thief() {
  bit was;
  do
  :: rounds == 0 -> break
  :: atomic{ lock == OWNER && stopped -> skip };
#ifdef M_BEFORESWING            /* asks about the announcement before it swings, and not after */
     was = storing;
#endif
     if :: atomic{ lock == OWNER && !was -> lock = THIEF } :: atomic{ lock != OWNER || was -> was = 0 }; goto next fi;
#if defined(M_RUNNING)          /* does not ask whether the owner is stopped after the swing */
     atomic{ !storing || left -> skip };
#elif defined(M_BEFORESWING)
     atomic{ stopped || left -> skip };
#else
     atomic{ (stopped && !storing) || left -> skip };
#endif
     robbing = 1;
#ifndef M_NOREBUILD
     second = first;
#endif
     assert(first == second);
     first = (first + 1) % 4;
     second = (second + 1) % 4;
     atomic{ robbing = 0; lock = 0 };
next:
     skip
  od
}
