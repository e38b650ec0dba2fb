/* Waiting at a channel: nobody sleeps while there is something to take (core/channel/wait.c). Those
 * who wait until a store changes do the same (core/store/store.c).
 *
 * One wait word: a count and a bit that says that somebody may sleep. PUTTERS put an item each,
 * takers take one each, and sleep while there is none. KILLS of them are killed between any two
 * steps; a woken taker may be killed, too, and with it the wake-up is lost.
 *
 * A sleeper's bounded wait ends by itself; the model lets it end only when there is something to
 * take, so that who would sleep for ever beside an item is a deadlock that the search reports. With
 * -DFOREVER nobody's wait is bounded: without kills the wake-ups alone must do.
 *
 *  holds: -DPUTTERS=1
 *  holds: -DFOREVER -DKILLS=0
 *  holds: -DALL -DFOREVER -DKILLS=0
 *  deep: -DFOREVER -DKILLS=0 -DPUTTERS=3 -DTAKERS=2
 *  fails: -DFOREVER
 *  fails: -DM_NOLOOK -DFOREVER -DKILLS=0
 *  fails: -DM_NOCOUNT -DFOREVER -DKILLS=0
 *  fails: -DM_WAKENOCOUNT -DFOREVER -DKILLS=0
 *  fails: -DALL -DM_APART -DFOREVER -DKILLS=0
 *  fails: -DM_CLEARWOKEN -DFOREVER -DKILLS=0
 *  fails: -DM_CLEARBLIND -DFOREVER -DKILLS=0
 *  fails: -DM_LOOKFIRST -DFOREVER -DKILLS=0
 *  deep: -DPUTTERS=3 -DTAKERS=3 -DKILLS=2
 */
#ifndef PUTTERS
#define PUTTERS 2
#endif
#ifndef TAKERS
#define TAKERS 2
#endif
#ifndef KILLS
#define KILLS 1
#endif

byte word;                      /* count << 1 | somebody may sleep */
byte items, over;                                   /* over: putters that have come to their end */
bit asleep[6], woken[6];
byte kills = KILLS;

#define KILL if :: skip :: atomic{ kills>0 -> kills--; asleep[id]=0; woken[id]=0; goto out } fi
#define COUNT(w) (((w)+2)%16)
#ifdef FOREVER
#define WAKES woken[id]
#else
#define WAKES (woken[id] || items>0)
#endif
#ifdef M_NOCOUNT                /* a sleeper says that it sleeps, and leaves the count as it is */
#define SLEEPING(w) ((w)|1)
#else
#define SLEEPING(w) (COUNT(w)|1)
#endif
#ifdef M_WAKENOCOUNT            /* a waker leaves the word as it is */
#define WAKING(w) (w)
#else
#define WAKING(w) COUNT(w)
#endif

#ifdef M_APART                  /* only the count is compared with what a sleeper expects */
#define SAME ((word|1)==seen)
#else
#define SAME (word==seen)
#endif

inline wake_one() {             /* futex: how many were woken */
  if
  :: asleep[2] && !woken[2] -> woken[2]=1; n=1
  :: asleep[3] && !woken[3] -> woken[3]=1; n=1
  :: asleep[4] && !woken[4] -> woken[4]=1; n=1
  :: !(asleep[2] && !woken[2]) && !(asleep[3] && !woken[3]) && !(asleep[4] && !woken[4]) -> n=0
  fi
}

inline wake_all() {
  woken[2]=asleep[2]; woken[3]=asleep[3]; woken[4]=asleep[4]; woken[5]=asleep[5]
}

proctype putter(byte id) {
  byte seen; byte n;
#ifdef M_LOOKFIRST              /* looks for sleepers before it publishes */
  seen=word; KILL;
  atomic{ items++ }; KILL;
#elif defined(M_APART)          /* it counts what it puts; the bit is apart from this count */
  atomic{ items++; word=COUNT(word) }; KILL;
  seen=word; KILL;
#else
  atomic{ items++ }; KILL;
  seen=word; KILL;
#endif
again:
  if
#ifdef M_APART
  :: seen&1 -> word=word&14; KILL; atomic{ wake_all() }; KILL;
#elif defined(ALL)              /* a store's, a topic's: whoever wakes wakes all */
  :: seen&1 ->
     if :: atomic{ word==seen -> word=WAKING(seen)&14 } :: atomic{ word!=seen -> seen=word }; goto again fi; KILL;
     atomic{ wake_all() }; KILL;
#else
  :: seen&1 ->
     if :: atomic{ word==seen -> word=WAKING(seen); seen=WAKING(seen) } :: atomic{ word!=seen -> seen=word }; goto again fi; KILL;
     atomic{ wake_one() }; KILL;
/* the bit is cleared although somebody was woken: others may sleep */
#ifdef M_CLEARWOKEN
     if :: true ->
#else
     if :: n==0 ->
#endif
#ifdef M_CLEARBLIND             /* whatever has come since */
           atomic{ word=COUNT(word)&14 }
#else
           atomic{ if :: word==seen -> word=COUNT(seen)&14 :: else fi }
#endif
        :: else
     fi
#endif
  :: else
  fi;
out: over++
}

proctype taker(byte id) {
  byte seen;
  do
  :: atomic{ items>0 -> items-- }; KILL; break
  :: items==0 ->
     seen=word;
#ifdef M_APART
     atomic{ word=word|1; seen=seen|1 }; KILL;
#else
     if :: atomic{ word==seen -> word=SLEEPING(seen); seen=SLEEPING(seen) } :: atomic{ word!=seen -> seen=0 }; goto next fi; KILL;
#endif
#ifndef M_NOLOOK                /* it looks again after it has said so */
     if :: items>0 -> goto next :: else fi;
#endif
     atomic{ if :: SAME -> asleep[id]=1; woken[id]=0 :: else fi }; KILL;
     if :: atomic{ asleep[id] && WAKES -> asleep[id]=0; woken[id]=0 } :: atomic{ !asleep[id] } :: atomic{ over==PUTTERS && items==0 -> break } fi; KILL;
next: seen=0
  od;
out: skip
}
init { atomic{
  byte i;
  for (i : 0 .. PUTTERS-1) { if :: i<2 -> run putter(i) :: else -> run putter(5) fi };
  for (i : 2 .. TAKERS+1) { run taker(i) }
} }
