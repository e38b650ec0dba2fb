/* Who may change the free words of a slab: its owner with plain stores, others once it is revoked
 * (core/alloc/revoke.c).
 *
 * One slab with one object. An owner allocates and drops, OPS times, with plain loads and stores
 * that go through a store buffer, and with no fence; it finds out by itself that the slab was taken
 * away, and owns it again when it can. Somebody else takes the slab away, ROUNDS times, and
 * allocates from it, or gives it back and carves it anew. Each may be killed once, between any two
 * steps; what the owner's buffer holds gets there all the same.
 *
 * The barrier is what membarrier(2) gives: at one moment between its beginning and its end, nobody
 * knows which, the owner's buffer is empty. What is done under the child's lock is one step here,
 * and the lock empties the buffer of who takes it.
 *
 * Safety: no two have the object; what is closed is free. Nothing lost: in the end nobody owns the
 * slab, the object is free, and the slab is where the next one finds it.
 *
 *  holds:
 *  holds: -DFENCED
 *  holds: -DENDED
 *  holds: -DENDED -DFENCED
 *  fails: -DM_NOMARK
 *  fails: -DM_ANYMARK
 *  fails: -DM_NOBARRIER
 *  fails: -DM_NOLOOK
 *  fails: -DM_LOOKFIRST
 *  fails: -DM_SAYLATE
 *  fails: -DM_DONEEARLY
 *  fails: -DM_NOCHECK
 *  fails: -DM_KEEPBIT
 *  fails: -DM_NOUNDO
 *  fails: -DFENCED -DM_NOFENCE
 *  fails: -DENDED -DM_NOCHECK
 *  deep: -DOPS=4 -DROUNDS=4
 *  deep: -DOPS=4 -DROUNDS=4 -DENDED
 */
#ifndef OPS
#define OPS 3
#endif
#ifndef ROUNDS
#define ROUNDS 3
#endif

/* The word: flags below the generation. */
#define A 1                     /* ALLOCATED */
#define C 2                     /* CONDEMNED while free: closed */
#define FREE(x) (((x)&3)==0)
#define NEXT(x) (((x)&252)+4)

/* The owner word. */
#define NOBODY 0
#define ME 1
#define REVOKED 2               /* ME, and revoked */
#define OTHER 3

byte word, owner = ME;
bit say;                        /* the owner is allocating from the slab */
/* on the list where somebody who looks for a free object finds it */
bit partial;
bit ended;                      /* the child */
bit has[2];
bit killed, killed_other, owner_done, other_done;

/* The owner's store buffer: say (0) or word (1), and the value. */
chan buffer = [3] of { bit, byte };
byte pending, newest;           /* stores to the word in there, and the last of them */
#define STORE_SAY(x) buffer!0,x
#define STORE_WORD(x) atomic{ buffer!1,x; pending++; newest=x }
#define LOADED (pending>0 -> newest : word)
#define DRAINED empty(buffer)
#define ARRIVE(v,x) if :: v==0 -> say=x :: v==1 -> word=x; pending-- fi; v=0; x=0

proctype drain() {              /* the processor */
  bit v; byte x;
end:
  do :: d_step{ nempty(buffer) -> buffer?v,x; ARRIVE(v,x) } od
}

#define DIES if :: skip :: atomic{ !killed -> killed=1; goto dead } fi

#ifdef FENCED                   /* the owner fences by itself, and who revokes passes no barrier */
#ifdef M_NOFENCE
#define FENCE skip
#else
#define FENCE DRAINED
#endif
#else
#define FENCE skip
#endif
#if defined(M_NOCHECK) && defined(ENDED)        /* the owner does not look at the child */
#define OURS (owner==ME)
#elif defined(M_NOCHECK)                        /* nor at the owner word */
#define OURS true
#else
#define OURS (owner==ME && !ended)
#endif

proctype owning() {
  /* it owns the slab, as far as it knows; believes the object free */
  byte ops = OPS, seen; bit books = 1, free = 1, ok;
  do
  /* try_active() */
  :: ops>0 && books && free -> ops--;
#ifdef M_SAYLATE                /* the look comes first */
     ok=OURS; DIES;
     STORE_SAY(1); DIES; FENCE;
#else
     STORE_SAY(1); DIES; FENCE;
     ok=OURS; DIES;
#endif
     if
     :: !ok -> STORE_SAY(0); DIES; free=0
     :: ok ->
        seen=LOADED; DIES;
        if
        :: FREE(seen) ->
#ifdef M_DONEEARLY              /* it says that it is done before it is */
           STORE_SAY(0); DIES;
           STORE_WORD(seen|A); DIES;
#else
           STORE_WORD(seen|A); DIES;
           STORE_SAY(0); DIES;
#endif
           atomic{ assert(!has[1] && (LOADED&A)); has[0]=1 };                           /* use */
           /* fst_drop() */
           atomic{ assert(!has[1] && (LOADED&A)); has[0]=0; seen=LOADED };
           DIES;
           STORE_WORD(NEXT(seen)); DIES;
#ifdef M_KEEPBIT                /* it does not look whether the slab is still its own */
           ok=1;
#elif defined(FENCED)
           ok=0;
#else
           ok=OURS;
#endif
           DIES;
           if :: ok
              /* fst_slab_freed() */
              :: !ok -> free=0;
                 atomic{ DRAINED -> if :: owner==NOBODY && FREE(word) -> partial=1 :: else fi } ; DIES
           fi
        :: else -> STORE_SAY(0); DIES; free=0
        fi
     fi;
     seen=0; ok=0
  /* use_owned(), disown() */
  :: atomic{ books && !free && DRAINED ->
       if :: owner==ME && FREE(word) && !ended -> free=1
          :: else -> books=0;
             if :: owner==ME || owner==REVOKED -> owner=NOBODY; partial=(partial || FREE(word)) :: else fi
       fi }; DIES
  /* fst_slab_adopt_partial() */
  :: atomic{ ops>0 && !books && DRAINED ->
       if :: owner==NOBODY && partial && !ended -> owner=ME; partial=0; books=1; free=FREE(word)
          :: else -> ops-- fi }; DIES
  /* the thread ends */
  :: atomic{ ops==0 && DRAINED ->
       if :: owner==ME || owner==REVOKED -> owner=NOBODY; partial=(partial || FREE(word)) :: else fi;
       break }
  od;
  goto done;
dead:
  /* a batch finds what it left */
  atomic{ DRAINED -> has[0]=0 };
  atomic{ if :: (word&A) && !has[1] -> word=NEXT(word) :: else fi; say=0;
          if :: owner==ME || owner==REVOKED -> owner=NOBODY :: else fi;
          if :: owner==NOBODY && FREE(word) -> partial=1 :: else fi };
done: atomic{ seen=0; ok=0; owner_done=1 }
}

#define OTHER_DIES if :: skip :: atomic{ !killed_other -> killed_other=1; goto again } fi
#if defined(M_NOBARRIER) || defined(FENCED)
#define BARRIER skip
#else
#define BARRIER d_step{ do :: nempty(buffer) -> buffer?v,x; ARRIVE(v,x) :: empty(buffer) -> break od }
#endif
#ifdef M_NOLOOK                 /* what the owner says is not looked at */
#define OUT true
#elif defined(M_LOOKFIRST)      /* ... before the barrier */
#define OUT out
#else
#define OUT (say==0)
#endif

/* ANYMARK: it is not asked whether the mark is still there */
#if defined(ENDED) || defined(M_NOMARK) || defined(M_ANYMARK)
#define TAKEABLE (owner==ME || owner==REVOKED)
#else
/* as long as it is the mark from before the barrier: who owns the slab anew has none */
#define TAKEABLE (owner==REVOKED)
#endif

proctype other() {
  byte rounds = ROUNDS, x; bit v, out;
again:
  do
  :: rounds>0 -> rounds--; x=0; v=0; out=0;
#ifdef ENDED
     /* the child's end is mark enough */
     atomic{ ended=1 }; OTHER_DIES;
#elif defined(M_NOMARK)
     skip;
#else
     /* fst_revoke() */
     atomic{ if :: owner==ME -> owner=REVOKED :: else fi }; OTHER_DIES;
#endif
     out=(say==0);
     BARRIER; OTHER_DIES;
     if
     /* fst_close_try(): it goes, and is carved anew */
     :: atomic{ TAKEABLE && OUT && FREE(word) ->
          assert(!has[0]); word=word|C; owner=OTHER; partial=0 };
        atomic{ assert(!has[0] && word==((word&252)|C)) };
        atomic{ word=NEXT(word); owner=NOBODY; partial=1 }
     /* steal(), and allocate from it */
     :: atomic{ TAKEABLE && OUT && FREE(word) ->
          owner=OTHER; partial=0; assert(!has[0]); word=word|A; has[1]=1 };
        atomic{ assert(!has[0] && (word&A)); has[1]=0; word=NEXT(word); owner=NOBODY; partial=1 }
     /* in use: nobody's from now on */
     :: atomic{ TAKEABLE && OUT && !FREE(word) ->
#ifndef M_NOUNDO
          owner=NOBODY
#else
          owner=OTHER
#endif
        }
     :: atomic{ !TAKEABLE || !OUT }                                 /* left alone */
     fi
  :: else -> break
  od;
  atomic{ x=0; v=0; out=0; other_done=1 };
  (owner_done && DRAINED) ->
  /* nothing lost */
  assert(owner==NOBODY && FREE(word) && partial && !say)
}
init { atomic{ run drain(); run owning(); run other() } }
