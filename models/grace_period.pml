/* A grace period (core/rcu/thread.h, core/rcu/grace.c).
 *
 * One or two readers, each its own processor with a first-in-first-out store buffer that empties
 * whenever it likes; two updaters that run their grace periods at the same time without a lock.
 * Each updater unlinks an object of its own, takes a cookie, then waits, polls, or is served by the
 * other, and releases. A reader notes gp_seq in its slot, fences, finds an object or not, uses it,
 * leaves.
 *
 * With -DLIGHT readers have a compiler barrier in place of the fence, and the updater passes a
 * heavy barrier (membarrier), which reaches one processor after the other, empties the store buffer
 * and finishes loads that are late. That would hold, if it reached every processor: Linux's does
 * not (M_FORGETS; docs/design/README.md), so the code does without it.
 *
 * Safety: an object is not released while a reader that found it is in its section; gp_completed
 * never goes back.
 *
 *  holds:
 *  holds: -DREADERS=2 -DSECTIONS=1
 *  holds: -DLIGHT
 *  holds: -DLIGHT -DREADERS=2 -DSECTIONS=1
 *  fails: -DM_NOREADERFENCE
 *  fails: -DM_NOCOMPILER
 *  fails: -DM_BEFOREADD
 *  fails: -DM_COMPARE
 *  fails: -DM_COOKIE
 *  fails: -DM_COOKIEFENCE
 *  fails: -DM_NOMAX
 *  fails: -DM_EARLY
 *  fails: -DM_ONEREADER -DREADERS=2 -DSECTIONS=1
 *  fails: -DM_PLAINLEAVE
 *  fails: -DLIGHT -DM_NOHEAVY
 *  fails: -DLIGHT -DM_FORGETS
 *  deep: -DREADERS=2 -DSECTIONS=2
 *  deep: -DLIGHT -DREADERS=2 -DSECTIONS=2
 */
#ifndef SECTIONS
#define SECTIONS 3              /* of each reader */
#endif
#ifndef READERS
#define READERS 1
#endif
#define ROOM 3                  /* stores that fit a store buffer */

#if defined(LIGHT) || defined(M_NOREADERFENCE)
#define READER_FENCE skip
#else
#define READER_FENCE n[id]==0
#endif

byte gp_seq = 1, gp_completed;
byte slot[2];                   /* as memory has it */
/* the readers' store buffers, all stores to their slot: ROOM each, oldest first */
byte buf[6], n[2];
bit linked[2] = 1, freed[2];    /* an updater's object, as memory has it */
bit ubuf[2];                    /* an updater's unlinking store is still in its buffer */
bit late[2]; bit which[2];      /* a use of the object done late, and the object */

#define PUSH(x) atomic{ n[id]<ROOM -> d_step{ buf[id*ROOM+n[id]]=x; n[id]++ } }
#define POP(k) slot[k]=buf[k*ROOM]; buf[k*ROOM]=buf[k*ROOM+1]; buf[k*ROOM+1]=buf[k*ROOM+2]; buf[k*ROOM+2]=0; n[k]--

/* The heavy barrier on reader k's processor. */
#define BARRIER(k) atomic{ d_step{ do :: n[k]>0 -> POP(k) :: else -> break od;                            \
                     if :: late[k] -> assert(!freed[which[k]]); late[k]=0 :: else fi } }
#define UBARRIER(k) atomic{ if :: ubuf[k] -> linked[k]=0; ubuf[k]=0 :: else fi }

proctype buffer(bit k) {
end: do
     :: atomic{ n[k]>0 -> d_step{ POP(k) } }
     od
}

proctype reader(bit id) {
  byte v, s; bit x, h;
  do
  :: s<SECTIONS ->
     atomic{ s++; if :: x=0 :: x=1 fi };
#ifdef M_NOCOMPILER             /* the compiler moves the section's load before the store */
     h=linked[x];
#endif
     v=gp_seq;
     PUSH(v); v=0;
     READER_FENCE;
#ifndef M_NOCOMPILER
     h=linked[x];
#endif
     if :: h -> assert(!freed[x]) :: else fi;
/* a weak processor finishes the section's last load after a leaving store that is no release */
#ifdef M_PLAINLEAVE
     if :: atomic{ h && !late[id] -> late[id]=1; which[id]=x; h=0; x=0 }
        :: atomic{ if :: h -> assert(!freed[x]) :: else fi; h=0; x=0 } fi;
#else
     atomic{ if :: h -> assert(!freed[x]) :: else fi; h=0; x=0 };
#endif
     PUSH(0);
     if :: atomic{ late[id] -> assert(!freed[which[id]]); late[id]=0; which[id]=0 } :: skip fi
  :: else -> break
  od
}

#ifdef M_COMPARE                /* a section that began one grace period earlier is let pass */
#define PASSES(k) (slot[k]==0 || slot[k]+1>=seq)
#else
#define PASSES(k) (slot[k]==0 || slot[k]>=seq)
#endif
/* a grace period that began before the cookie was taken is enough */
#ifdef M_COOKIE
#define SERVED (gp_completed>=cookie)
#else
#define SERVED (gp_completed>cookie)
#endif
#ifdef M_FORGETS                /* the heavy barrier leaves out a processor now and then */
#define REACH(k) if :: BARRIER(k) :: skip fi
#else
#define REACH(k) BARRIER(k)
#endif
#if !defined(LIGHT) || defined(M_NOHEAVY)
#define HEAVY skip
#elif READERS==1
#define HEAVY REACH(0); UBARRIER(1-id)
#else
#define HEAVY REACH(0); REACH(1); UBARRIER(1-id)
#endif

proctype updater(bit id) {
  byte cookie, seq;
  ubuf[id]=1;                                                             /* unlink: a store */
#ifndef M_COOKIEFENCE
  /* a fence, or the unlink is a compare-and-swap */
  UBARRIER(id);
#endif
  cookie=gp_seq;
  if
  /* polled: somebody else's will do */
  :: SERVED
  :: skip ->
#ifdef M_BEFOREADD              /* the slots are looked at before gp_seq is advanced */
     atomic{ d_step{ seq=gp_seq+1 }; (PASSES(0) || SERVED) };
#endif
     /* an atomic addition fences the caller */
     atomic{ d_step{ UBARRIER(id); gp_seq++; seq=gp_seq } };
#ifdef M_EARLY                  /* completed before anybody was waited for */
     gp_completed=seq;
#endif
     HEAVY;
#ifndef M_BEFOREADD
     (PASSES(0) || SERVED);
#if READERS>1 && !defined(M_ONEREADER)   /* M_ONEREADER: the second slot is not looked at */
     (PASSES(1) || SERVED);
#endif
#endif
     if
     :: SERVED                                                            /* served meanwhile */
     :: skip ->
#ifdef M_NOMAX                  /* the last one to finish writes its number */
        atomic{ assert(seq>=gp_completed); gp_completed=seq }
#else
        atomic{ if :: gp_completed<seq -> gp_completed=seq :: else fi }
#endif
     fi
  fi;
  atomic{ seq=0; cookie=0; freed[id]=1 };
  UBARRIER(id)
}
init { atomic{ run reader(0); run buffer(0);
               if :: READERS>1 -> run reader(1); run buffer(1) :: else fi;
               run updater(0); run updater(1) } }
