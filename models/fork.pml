/* What a forked child inherits (core/arena/fork.c, core/process/bury.c, core/teardown/finish.c).
 *
 * One object; the parent has a reference, private or shared with a third process that may drop its
 * own. The parent's forking thread claims a slot for the child through a new lock description,
 * copies the parent's LIVE entry into it, and forks; another thread of the parent may drop the
 * parent's reference at any time (a private drop takes no mutex, and frees the word with a store
 * that knows nothing of the fork; every other change of the table waits for it). The child uses
 * what it inherited, may drop it, may stay for ever. Parent and child may be killed anywhere, the
 * fork may fail, and a batch may run at any time and be killed RKILLS times.
 *
 * Or the child gets no place (NOPLACE): then the parent keeps what it inherits, as one owner more
 * of its own entry, and the child has the page of the parent's description for heirs. The parent
 * asks now and then whether it is gone: it lets go of its own page first. It may die before the
 * child: then its slot is DEAD, and its LIVE entry stays while the child has the page. The child
 * may fork a grandchild and end.
 *
 * A slot's owner is alive while a living process has the slot's lock description open. Memory is
 * sequentially consistent.
 *
 * Safety: whoever has a reference finds the object allocated, in its generation. A slot is claimed
 * with an empty table. Nothing lost: in the end a slot without a living owner is FREE and empty,
 * the object is free unless a living process refers to it, and a free word has no flags.
 *
 *  holds:
 *  holds: -DV_SKIPJOINING
 *  holds: -DV_PUBLISHLATE
 *  holds: -DNOPLACE
 *  fails: -DM_NOSHARED
 *  fails: -DM_BLINDSHARED
 *  fails: -DM_LATELOCK
 *  fails: -DM_LATECOPY
 *  fails: -DM_JOININGFREE
 *  fails: -DM_JOININGCLEAR
 *  fails: -DM_CLOSEFIRST
 *  fails: -DM_KEEPPARENTS
 *  fails: -DM_KEEPCHILDS
 *  fails: -DM_SKIPCHILD
 *  fails: -DNOPLACE -DM_NOTKEPT
 *  fails: -DNOPLACE -DM_BURYHEIRS
 *  fails: -DNOPLACE -DM_NOTASKED
 *  fails: -DNOPLACE -DM_ASKTOOSOON
 *  fails: -DNOPLACE -DM_KEPTNOTSHARED
 *  fails: -DNOPLACE -DM_KEEPSPAGE
 *  deep: -DRKILLS=2
 *  deep: -DRKILLS=2 -DNOPLACE
 *  deep: -DRKILLS=2 -DV_SKIPJOINING
 */
#ifndef RKILLS
#define RKILLS 1
#endif

/* Slots, and an entry's state. The third process has slot 2 and is never killed. */
#define PARENT 0
#define CHILD 1
#define THIRD 2
#define FREE 0
#define JOINING 1
#define JOINED 2                /* the code's LIVE */
#define DEAD 3
#define EMPTY 0
#define LIVE 1
#define DROPPED 2
#define TAKEN 3

/* The object's word: ALLOCATED, CONDEMNED, SHARED, and above them the generation. */
#define A 1
#define C 2
#define S 4
#define GEN(x) ((x)>>3)
#define NEXT(x) (((x)&248)+8)

byte w = A;
byte est[3], egen[3];
byte slot[3];
bit living[2] = 0;              /* the process */
bit opened[4];                  /* process p has the description of slot s open: [p*2+s] */
bit has[2];                     /* the process has a Block, and so uses the object */
bit mutex;                      /* the parent's table is still: the fork's handlers run */
bit done[5];
bit heirs[3];                   /* the parent, the child, the grandchild have the page for heirs */
bit kept;                       /* the parent's entry has the child as an owner, too */
/* what a child without a place has inherited, in which generation */
byte cgen;
byte reaper_kills = RKILLS;

#define OPENED(p,s) (living[p] && opened[(p)*2+(s)])
#define ALIVE(s) ((s)==THIRD || OPENED(PARENT,s) || OPENED(CHILD,s))
#define USE(p) assert((w&A)!=0 && GEN(w)==egen[p])
#define KILLED(p) !living[p]

proctype killer(bit p) {                   /* the kernel releases what it had open */
  if :: atomic{ living[p] -> d_step{ living[p]=0; opened[p*2]=0; opened[p*2+1]=0; has[p]=0; heirs[p]=0 } } :: true fi
}

/* Every step of a process asks whether the process is still there. */
#define STEP(p,x) if :: atomic{ living[p] -> x } :: atomic{ !living[p] -> goto out } fi

proctype child() {
#ifdef M_LATELOCK               /* the child takes its own lock */
  STEP(CHILD, opened[CHILD*2+CHILD]=1);
#endif
#ifdef M_LATECOPY               /* the child copies the entries */
  if :: has[CHILD] -> STEP(CHILD, if :: (w&A)!=0 && GEN(w)==egen[PARENT] -> w=w|S :: else fi);
                      STEP(CHILD, est[CHILD]=LIVE; egen[CHILD]=egen[PARENT])
     :: else fi;
#endif
#ifdef V_PUBLISHLATE            /* the child itself declares its slot alive */
  STEP(CHILD, slot[CHILD]=JOINED);
#endif
#ifndef M_KEEPPARENTS           /* the child keeps the parent's description open */
  STEP(CHILD, opened[CHILD*2+PARENT]=0);
#endif
  if :: atomic{ has[CHILD] -> USE(CHILD) } :: !has[CHILD] -> goto out fi;
  if :: skip                                                                  /* keeps it */
     :: atomic{ has[CHILD] -> USE(CHILD); has[CHILD]=0;
          if :: (w&7)==A -> w=NEXT(w); goto alone :: else -> est[CHILD]=DROPPED fi }
     :: KILLED(CHILD)
  fi;
  goto out;
alone:
  STEP(CHILD, est[CHILD]=EMPTY);
out: done[1]=1
}

#ifdef NOPLACE
#define HEIRS (heirs[0] || heirs[1] || heirs[2])
#define LOOKS(i) if :: heirs[i] -> assert((w&A)!=0 && GEN(w)==cgen) :: !heirs[i] fi

/* a forked child without a place: it only looks, by views made before */
proctype placeless() {
  if :: atomic{ has[CHILD] -> LOOKS(1) } :: else fi;
  /* forks another one */
  if :: atomic{ heirs[1] -> heirs[2]=1 } :: skip fi;
  if :: atomic{ has[CHILD] -> LOOKS(1) } :: else fi;
  atomic{ heirs[1]=0; living[CHILD]=0; has[CHILD]=0 };                        /* ends */
  atomic{ LOOKS(2); heirs[2]=0 };
  done[1]=1
}

#ifdef M_ASKTOOSOON             /* looks for the child's own page only: a grandchild has it, too */
#define GONE (!heirs[1])
#else
#define GONE (!heirs[1] && !heirs[2])
#endif

proctype asking() {                        /* the parent's batches: are they gone? */
#ifndef M_NOTASKED
#ifndef M_KEEPSPAGE             /* keeps its own page: it sees it for a child's for ever */
  if :: atomic{ living[PARENT] && kept -> heirs[0]=0 } :: KILLED(PARENT) -> goto out fi;
#endif
  if :: atomic{ living[PARENT] && kept && !heirs[0] && GONE ->
          kept=0; if :: !has[PARENT] && est[PARENT]==LIVE -> est[PARENT]=DROPPED :: else fi }
     :: KILLED(PARENT)
  fi;
#endif
out: done[4]=1
}
#else
#define HEIRS 0
#endif

#ifdef M_LATELOCK
#define LOCK_CHILDS skip
#else
#define LOCK_CHILDS opened[PARENT*2+CHILD]=1
#endif
#ifdef M_LATECOPY
#define INHERITS has[PARENT]
#else
#define INHERITS (has[PARENT] && est[CHILD]==LIVE && egen[CHILD]==egen[PARENT])
#endif

proctype forking() {                       /* the parent's forking thread */
  bit p;
  STEP(PARENT, mutex=1);
#ifdef NOPLACE
  STEP(PARENT, p=(est[PARENT]==LIVE && has[PARENT]));
#ifndef M_NOTKEPT               /* the parent says nothing for the child */
  if
  :: p ->
#ifndef M_KEPTNOTSHARED         /* what is kept is not marked as shared */
     STEP(PARENT, if :: (w&A)!=0 && GEN(w)==egen[PARENT] -> w=w|S :: else -> p=0 fi);
#endif
     if :: p -> STEP(PARENT, kept=1) :: else fi
  :: else
  fi;
#endif
  STEP(PARENT,
    if :: p && has[PARENT] -> cgen=egen[PARENT]; heirs[1]=heirs[0]; living[CHILD]=1; has[CHILD]=1; done[1]=0; run placeless()
       :: else
    fi;
    if :: kept -> done[4]=0; run asking() :: else fi);
  goto out;
#endif
  STEP(PARENT, if :: slot[CHILD]==FREE && !ALIVE(CHILD) -> assert(est[CHILD]==EMPTY); slot[CHILD]=JOINING; LOCK_CHILDS
                  :: else -> goto out fi);
#ifndef M_LATECOPY
  STEP(PARENT, p=(est[PARENT]==LIVE));
  if
  :: p ->
#ifdef M_NOSHARED               /* what is copied is not marked as shared */
     STEP(PARENT, est[CHILD]=LIVE; egen[CHILD]=egen[PARENT])
#elif defined(M_BLINDSHARED)    /* marks the word whatever became of it */
     STEP(PARENT, w=w|S);
     STEP(PARENT, est[CHILD]=LIVE; egen[CHILD]=egen[PARENT])
#else
     STEP(PARENT, if :: (w&A)!=0 && GEN(w)==egen[PARENT] -> w=w|S :: else -> p=0 fi);
     if :: p -> STEP(PARENT, est[CHILD]=LIVE; egen[CHILD]=egen[PARENT]) :: else fi
#endif
  :: else
  fi;
#endif
#ifndef V_PUBLISHLATE
  STEP(PARENT, slot[CHILD]=JOINED);
#endif
#ifdef M_CLOSEFIRST             /* the parent closes the child's description before it forks */
  STEP(PARENT, opened[PARENT*2+CHILD]=0);
#endif
  STEP(PARENT,
    /* fork: the child has all that is open, and the Block; or it fails */
    if :: opened[CHILD*2+PARENT]=opened[PARENT*2+PARENT]; opened[CHILD*2+CHILD]=opened[PARENT*2+CHILD];
          living[CHILD]=1; has[CHILD]=INHERITS;
          done[1]=0; run child(); run killer(CHILD)
       :: skip
    fi);
#ifndef M_KEEPCHILDS            /* the parent keeps the child's description open */
  STEP(PARENT, opened[PARENT*2+CHILD]=0);
#endif
out: atomic{ p=0; mutex=0; done[0]=1 }
}

proctype dropping() {                      /* another thread of the parent, whose Block it is */
  byte v;
  if :: goto out
     :: atomic{ living[PARENT] && has[PARENT] -> USE(PARENT); has[PARENT]=0; v=w;
          if :: (v&7)==A :: else -> goto shared fi };
        STEP(PARENT, w=NEXT(v)); STEP(PARENT, est[PARENT]=EMPTY); goto out
     :: KILLED(PARENT) -> goto out
  fi;
shared:
  /* the child that is an owner, too, drops it when it is gone */
  if :: atomic{ living[PARENT] && !mutex -> if :: !kept -> est[PARENT]=DROPPED :: else fi } :: KILLED(PARENT) fi;
out: atomic{ v=0; done[2]=1 }
}

proctype third() {
  if :: atomic{ est[THIRD]==LIVE -> assert((w&A)!=0 && GEN(w)==egen[THIRD]); est[THIRD]=DROPPED } :: skip fi;
  done[3]=1
}

#ifdef M_BURYHEIRS              /* a dead process's references go, whoever inherited them */
#define INHERITED(s) 0
#else
#define INHERITED(s) ((s)==PARENT && HEIRS)
#endif
#define ASKS(s) (slot[s]!=FREE && (est[s]==DROPPED || est[s]==TAKEN))
#define UNBURIED(s) ((slot[s]==DEAD && !INHERITED(s)) || (slot[s]!=FREE && !ALIVE(s)))
#define WORK (ASKS(0) || ASKS(1) || ASKS(2) || UNBURIED(0) || UNBURIED(1))
#define REFERS(s) (est[s]==LIVE && egen[s]==GEN(w))
#define DONE (done[0] && done[1] && done[2] && done[3] && done[4])
#define DIES if :: skip :: atomic{ reaper_kills>0 -> reaper_kills--; v=0; goto next } fi

#if defined(M_JOININGFREE)      /* a slot whose claimer died is free at once */
#define BURIED(s) (slot[s]==JOINING -> FREE : DEAD)
#elif defined(M_JOININGCLEAR)   /* the same, and its entries are emptied first */
#define BURIED(s) (slot[s]==JOINING -> FREE : DEAD)
#else
#define BURIED(s) DEAD
#endif
#ifdef M_JOININGCLEAR
#define CLEARED(s) if :: slot[s]==JOINING -> est[s]=EMPTY :: else fi
#else
#define CLEARED(s) skip
#endif
#define PROBE(s) if :: atomic{ (slot[s]==JOINED || slot[s]==JOINING) && !ALIVE(s) -> CLEARED(s); slot[s]=BURIED(s) } :: else fi; DIES
#define SPLICE(s) if :: atomic{ slot[s]==JOINED && est[s]==DROPPED -> est[s]=TAKEN }                               \
                     :: atomic{ slot[s]==DEAD && (est[s]==DROPPED || (est[s]==LIVE && !INHERITED(s))) -> est[s]=TAKEN } :: else fi; DIES
#define CONDEMN(s) if :: atomic{ est[s]==TAKEN -> v=egen[s] }; DIES;                                               \
                      if :: atomic{ (w&A)!=0 && GEN(w)==v -> w=w|C } :: else fi; v=0; DIES :: else fi
#ifdef V_SKIPJOINING            /* the scan leaves out slots that are not alive yet */
#define SCANNED(s) (slot[s]==JOINED || slot[s]==DEAD)
#elif defined(M_SKIPCHILD)      /* the scan leaves out slots that appeared after the batch began */
#define SCANNED(s) (slot[s]!=FREE && ((s)!=CHILD || seen))
#else
#define SCANNED(s) (slot[s]!=FREE)
#endif
#define SCAN(s) if :: atomic{ SCANNED(s) && (est[s]==LIVE || est[s]==DROPPED) -> v=egen[s] }; DIES;                \
                   if :: atomic{ (w&C)!=0 && GEN(w)==v -> w=w&~C } :: else fi; v=0; DIES :: else fi
#define RELEASE(s) if :: atomic{ est[s]==TAKEN -> v=egen[s] }; DIES;                                               \
                      if :: atomic{ (w&(A|C))==(A|C) && GEN(w)==v -> w=NEXT(w) } :: else fi; v=0; DIES;            \
                      if :: atomic{ est[s]==TAKEN -> est[s]=EMPTY } :: else fi; DIES :: else fi
#define FINISH(s) if :: atomic{ slot[s]==DEAD && est[s]==EMPTY -> slot[s]=FREE } :: else fi; DIES

proctype reaper() {
  byte v; bit seen;
next:
  do
  :: WORK ->
     seen=(slot[CHILD]!=FREE);
     PROBE(CHILD); PROBE(PARENT);
     SPLICE(0); SPLICE(1); SPLICE(2);
     CONDEMN(0); CONDEMN(1); CONDEMN(2);
     /* heavy barrier and one grace period; the scan in both orders */
     if :: skip; SCAN(0); SCAN(1) :: skip; SCAN(1); SCAN(0) fi; SCAN(2);
     RELEASE(0); RELEASE(1); RELEASE(2);
     FINISH(0); FINISH(1)
  :: atomic{ DONE && !WORK ->                                                  /* nothing lost */
       assert(living[PARENT] || (slot[PARENT]==FREE && est[PARENT]==EMPTY));
       assert(living[CHILD] || (slot[CHILD]==FREE && est[CHILD]==EMPTY));
       assert(!living[PARENT] || !kept);
       assert((w&C)==0);
       assert((w&A)!=0 || (w&7)==0);
       assert((w&A)==0 || REFERS(0) || REFERS(1) || REFERS(2));
       break }
  od
}

init {
  atomic{
    living[PARENT]=1; opened[PARENT*2+PARENT]=1; slot[PARENT]=JOINED; est[PARENT]=LIVE; has[PARENT]=1;
    slot[THIRD]=JOINED; done[1]=1; done[4]=1; heirs[0]=1;
    if :: skip :: w=A|S; est[THIRD]=LIVE fi;
    run forking(); run dropping(); run third(); run killer(PARENT); run reaper()
  }
}
