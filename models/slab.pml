/* A slab with several objects is given back and becomes another type's, while others allocate from
 * what they remember of it.
 *
 * Code: alloc_unowned(), swing() (core/arena/object.c); close_words(), fst_close_try()
 * (core/alloc/close.c); fst_slab_reopen_words() (core/alloc/lists.c); carve(), fst_slab_recover()
 * (core/alloc/slab.c); fst_run_release_closed() (core/alloc/run.c); fst_finish_burials()
 * (core/teardown/finish.c).
 *
 * One descriptor with two objects, which nobody owns (who owns a slab: ownership.pml). Two workers
 * remember the slab as it was in some life of it, and allocate and drop, privately, OPS times each;
 * a worker that finds the slab in another life remembers that one. A closer closes the words one
 * after the other: all were free, then the slab is released and carved anew for the other type; one
 * was not, then it opens them again. The closer may be killed between any two steps, KILLS times:
 * the batch that buries it puts right what it finds, under the same lock, and the next closer goes
 * on.
 *
 * Safety: who has an object finds the slab of the type it asked for, and not released; no two have
 * the same object. Nothing lost: in the end the slab is LIVE, and both objects can be had.
 *
 *  holds:
 *  holds: -DOPS=1 -DROUNDS=3 -DKILLS=2
 *  fails: -DM_NOSTATE
 *  fails: -DM_STATEFIRST
 *  fails: -DM_LOOKONLY
 *  fails: -DM_NOUNDO
 *  fails: -DM_NOADVANCE
 *  fails: -DM_NORECOVER
 *  fails: -DM_RECOVERBLIND
 *  deep: -DROUNDS=3
 */
#ifndef OPS
#define OPS 2                   /* allocations of each worker */
#endif
#ifndef ROUNDS
#define ROUNDS 2                /* of the closer */
#endif
#ifndef KILLS
#define KILLS 1
#endif

/* A word: two flags below the generation. */
#define A 1                     /* ALLOCATED */
#define C 2                     /* CONDEMNED while free: closed */
#define FLAGS(x) ((x)&3)
#define NEXT(x) (((x)&252)+4)   /* free, generation + 1 */

/* The slab's state: its life above, what it is below. */
#define LIVE 0
#define CLOSING 1
#define CARVING 2
#define IS(x) ((x)&3)

byte word[2];
byte state = LIVE, type, life;  /* type: of this life; state: IS() and life in one word */
bit released;                   /* its pages are somebody else's */
bit has[2];                     /* somebody has the object */
byte kills = KILLS;
bit closer_dead, working[2] = 1;

#define STATE(is) ((life<<2)|(is))

proctype worker(bit id) {
  byte ops = OPS, seen, mine = 0, my_type = 0; bit i, ok;        /* it remembers the first life */
  do
  :: ops>0 -> ops--;
     if :: i=0 :: i=1 fi;
#ifdef M_STATEFIRST             /* the slab's state is looked at before the word */
     ok=(state==mine); seen=word[i];
#else
     seen=word[i];
#ifdef M_NOSTATE                /* ... not at all */
     ok=1;
#else
     ok=(state==mine);
#endif
#endif
     if
     /* it remembers another life */
     :: !ok -> atomic{ if :: IS(state)==LIVE -> mine=state; my_type=type :: else fi }
     :: ok && FLAGS(seen)!=0
     :: ok && FLAGS(seen)==0 ->
        if
        /* swing() */
        :: atomic{ word[i]==seen -> word[i]=seen|A; assert(!has[i]); has[i]=1 };
           assert(type==my_type && !released);                                          /* use */
           assert(type==my_type && !released);
           /* drop, private */
           atomic{ has[i]=0; word[i]=NEXT(word[i]) }
        :: atomic{ word[i]!=seen }
        fi
     fi;
     seen=0; ok=0
  :: else -> break
  od;
  working[id]=0
}

#define DIE if :: skip :: atomic{ kills>0 -> kills--; closer_dead=1; goto dead } fi

/* fst_slab_recover(), under the lock that the dead closer had: what is closed is open again,
 * unless the slab went further. */
#ifdef M_NORECOVER              /* nobody looks at what it left */
#define RECOVER skip
#else
#define REOPEN(i) if :: FLAGS(word[i])==C -> word[i]=word[i]&~C :: else fi
#ifdef M_RECOVERBLIND           /* a slab that is on its way back is opened as well */
#define RECOVER atomic{ REOPEN(0); REOPEN(1); if :: IS(state)!=LIVE -> state=STATE(LIVE) :: else fi }
#else
#define RECOVER if :: atomic{ IS(state)==LIVE -> REOPEN(0); REOPEN(1) } \
                   :: IS(state)!=LIVE -> goto give fi
#endif
#endif

proctype closer() {
  byte rounds = ROUNDS, n;
begin:
  do
  :: rounds>0 -> rounds--; n=0;
#ifdef M_LOOKONLY               /* the words are looked at and not swung */
     if :: FLAGS(word[0])==0 -> n++ :: else fi; DIE;
     if :: FLAGS(word[1])==0 -> n++ :: else fi; DIE;
#else
     /* close_words() */
     if :: atomic{ FLAGS(word[0])==0 -> word[0]=word[0]|C; n++ } :: atomic{ FLAGS(word[0])!=0 } fi; DIE;
     if :: atomic{ n==1 && FLAGS(word[1])==0 -> word[1]=word[1]|C; n++ } :: atomic{ n!=1 || FLAGS(word[1])!=0 } fi; DIE;
#endif
     if
#ifndef M_NOUNDO                /* one that was not free does not open the others again */
     :: n<2 -> if :: atomic{ n==1 -> word[0]=word[0]&~C } :: n==0 fi; DIE
#else
     :: n<2 -> DIE
#endif
     :: n==2 ->
        /* fst_close_try() */
        state=STATE(CLOSING); DIE;
/* fst_run_release_closed() */
give:   released=1; DIE;
        state=STATE(CARVING); DIE;
        /* carve() */
        atomic{ type=1-type; released=0 }; DIE;
#ifdef M_NOADVANCE              /* words keep their generation into the next life */
        word[0]=word[0]&~C; DIE; word[1]=word[1]&~C; DIE;
#else
        word[0]=NEXT(word[0]); DIE; word[1]=NEXT(word[1]); DIE;
#endif
        atomic{ life++; state=STATE(LIVE) }; DIE
     fi
  :: else -> break
  od;
  (!working[0] && !working[1]);
  /* nothing lost */
  assert(IS(state)==LIVE && FLAGS(word[0])==0 && FLAGS(word[1])==0);
  goto over;
dead: closer_dead=0; RECOVER; goto begin;
over: skip
}
init { atomic{ run worker(0); run worker(1); run closer() } }
