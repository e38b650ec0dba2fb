/* A lock in shared memory whose owner may be killed (core/region/lock.c).
 *
 * Three processes, each on a slot with a generation, lock and unlock ROUNDS times each; KILLS of
 * them are killed anywhere, and another process may come to a dead one's slot with the next
 * generation. The lock protects two words that are equal outside of it.
 *
 * A sleeper's bounded wait ends by itself; the model lets it end only when that makes a difference
 * (the word changed, or its owner is dead), so that a process which would try again for ever
 * without success is a deadlock that the search reports. With -DFOREVER nobody's wait is bounded:
 * without kills the wake-ups alone must do.
 *
 * Safety: one living process at a time inside; whoever gets in finds the two words equal. Nobody
 * waits for ever.
 *
 *  holds:
 *  holds: -DKILLS=2 -DPROCESSES=2
 *  holds: -DFOREVER -DKILLS=0 -DROUNDS=2
 *  holds: -DV_FORGETWAITERS
 *  fails: -DFOREVER
 *  fails: -DM_BLIND
 *  fails: -DM_NOREBUILD
 *  fails: -DM_REBUILTBEFORE
 *  fails: -DM_NOLIVENESS
 *  fails: -DM_NOGEN
 *  fails: -DM_NOPROBE
 *  fails: -DM_WAITERBLIND
 *  fails: -DM_UNLOCKTWICE -DFOREVER -DKILLS=0
 *  fails: -DM_FORGETBIT -DFOREVER -DKILLS=0
 *  fails: -DM_NOBIT -DFOREVER -DKILLS=0
 *  fails: -DM_SLEEPUNCHECKED -DFOREVER -DKILLS=0
 *  deep: -DKILLS=2
 *  deep: -DKILLS=3 -DPROCESSES=2 -DROUNDS=2
 *  deep: -DFOREVER -DKILLS=0 -DROUNDS=4
 */
#ifndef PROCESSES
#define PROCESSES 3
#endif
#ifndef ROUNDS
#define ROUNDS 1
#endif
#ifndef KILLS
#define KILLS 1
#endif

/* The lock's word: the waiters bit, two bits of slot + 1, and above them the owner's generation. */
#define W 1
#define SLOT(x) ((((x)>>1)&3)-1)
#define GENERATION(x) ((x)>>3)
#ifdef M_NOGEN                  /* the word names a slot and no generation */
#define OWN ((id+1)<<1)
#define DEAD(x) (!alive[SLOT(x)])
#else
#define OWN (((id+1)<<1)|(generation[id]<<3))
#define DEAD(x) (!alive[SLOT(x)] || generation[SLOT(x)]!=GENERATION(x))
#endif

byte lock;
bit alive[3]; byte generation[3];
bit asleep[3], woken[3];        /* on the futex */
byte inside;                    /* living processes that hold the lock */
byte first, second;             /* what it protects */
byte kills = KILLS;

#define KILL if :: skip :: atomic{ kills>0 -> kills--; alive[id]=0; asleep[id]=0; woken[id]=0; inside=inside-held; held=0; goto died } fi
#define SLEEPS(k) (asleep[k] && !woken[k])
#define ENTER inside++; assert(inside==1); held=1

/* What ends a sleep; seen is the word the sleeper looked at. */
#if defined(FOREVER)            /* the wait is not bounded */
#define WAKES woken[id]
#elif defined(M_NOPROBE)        /* the kernel is not asked about the owner */
#define WAKES (woken[id] || lock!=seen)
#else
#define WAKES (woken[id] || lock!=seen || DEAD(seen))
#endif
#ifdef V_FORGETWAITERS          /* taking over forgets that others sleep */
#define TAKEN_OVER OWN
#else
#define TAKEN_OVER (OWN|W)
#endif
#ifdef M_FORGETBIT              /* whoever slept acquires without the waiters bit */
#define SLEPT OWN
#else
#define SLEPT (OWN|W)
#endif

proctype process(byte id) {
  byte seen, round; bit held, over;
start:
  do
  :: round<ROUNDS ->
     round++;
     if :: atomic{ lock==0 -> lock=OWN; ENTER }; goto locked
        :: atomic{ lock!=0 }
     fi; KILL;
again:
     seen=lock;
     if
     :: seen==0 ->
        if :: atomic{ lock==0 -> lock=SLEPT; ENTER }; goto locked :: atomic{ lock!=0 }; goto again fi
     :: seen!=0 && !(seen&W) -> KILL;
#if defined(M_NOBIT)            /* a waiter does not say that it waits */
        skip
#elif defined(M_WAITERBLIND)    /* it says so in whatever word is there */
        atomic{ lock=seen|W; seen=seen|W }
#else
        if :: atomic{ lock==seen -> lock=seen|W; seen=seen|W } :: atomic{ lock!=seen }; goto again fi
#endif
     :: seen!=0 && (seen&W)
     fi; KILL;
#ifdef M_SLEEPUNCHECKED         /* the futex does not compare the word before it puts us to sleep */
     atomic{ asleep[id]=1; woken[id]=0 };
#else
     atomic{ if :: lock==seen -> asleep[id]=1; woken[id]=0 :: else fi };
#endif
     KILL;
     if :: atomic{ asleep[id] && WAKES -> asleep[id]=0; woken[id]=0 } :: atomic{ !asleep[id] } fi; KILL;
#ifdef M_NOLIVENESS             /* a late owner counts as a dead one */
     if :: lock==seen && seen!=0 -> KILL;
#else
     if :: lock==seen && DEAD(seen) -> KILL;
#endif
#ifdef M_REBUILTBEFORE          /* rebuilds first, and takes over after it */
           second=first; KILL;
#endif
#ifdef M_BLIND                  /* takes over whatever word is there */
           atomic{ lock=TAKEN_OVER; ENTER; over=1 }
#else
           if :: atomic{ lock==seen -> lock=TAKEN_OVER; ENTER; over=1 } :: atomic{ lock!=seen }; goto again fi
#endif
        :: else -> goto again
     fi;
locked:
     seen=0; KILL;
#if !defined(M_NOREBUILD) && !defined(M_REBUILTBEFORE)
     if :: over -> second=first :: else fi; KILL;
#endif
     over=0;
     assert(first==second);
     atomic{ first=(first+1)%4 }; KILL;
     atomic{ second=(second+1)%4 }; KILL;
#ifdef M_UNLOCKTWICE            /* looks at the waiters bit and clears the word in two steps */
     seen=lock; KILL;
     atomic{ inside--; held=0; lock=0 }; KILL;
#else
     atomic{ seen=lock; inside--; held=0; lock=0 }; KILL;
#endif
     if :: atomic{ (seen&W) ->
             if :: SLEEPS(0) -> woken[0]=1 :: SLEEPS(1) -> woken[1]=1 :: SLEEPS(2) -> woken[2]=1
                :: !SLEEPS(0) && !SLEEPS(1) && !SLEEPS(2) fi }
        :: !(seen&W)
     fi; seen=0; KILL
  :: else -> break
  od;
  goto end;
died:
  atomic{ seen=0; over=0; round=0 };
  if :: skip                                             /* the slot stays empty */
     :: atomic{ generation[id]++; alive[id]=1 }; goto start    /* another process comes to it */
  fi;
end: skip
}
init { atomic{ alive[0]=1; alive[1]=1; run process(0); run process(1);
               if :: PROCESSES>2 -> alive[2]=1; run process(2) :: else fi } }
