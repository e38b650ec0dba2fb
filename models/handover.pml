/* A reference that moves through a channel: from the putter's entry to the node, from the node to
 * the taker's entry, and nobody else ever knows of the object (core/arena/channel_put.c,
 * core/arena/channel_get.c, core/reclaim/letters.c).
 *
 * One object, one node. The putter writes the node's reference, looks at the object's word, empties
 * its entry, and publishes; the taker owns the node, writes its entry, swings the node's reference
 * to none, and drops the object with a plain store. Somebody else has an entry of a withdrawn
 * attempt at the object, so that a batch has reason to look at it at any time; the object's group
 * may be destroyed; whoever comes after allocates the object anew. KILLS of putter and taker, and
 * RKILLS batches, are killed between any two steps.
 *
 * The scan looks at nodes before tables. A node counts while it is QUEUED or its owner lives; what
 * a dead one owns is asked for.
 *
 * Safety: who holds the object finds it allocated, in its generation. Nothing lost: when all are
 * done and one batch is over, the object is free or in the channel, no entry is in use, and the
 * node is FREE or QUEUED.
 *
 *  holds:
 *  holds: -DKEEP
 *  fails: -DM_NOLOOK
 *  fails: -DM_LOOKFIRST
 *  fails: -DM_EMPTYFIRST
 *  fails: -DM_EMPTYLATE
 *  fails: -DM_REFFIRST
 *  fails: -DM_SCAN
 *  fails: -DM_DEADCOUNTS
 *  fails: -DM_NOASK
 *  fails: -DM_CLEARFIRST
 *  fails: -DM_BLINDTAKE
 *  fails: -DM_KEEPUNSHARED -DKEEP
 *  deep: -DKILLS=2 -DRKILLS=2
 */
#ifndef KILLS
#define KILLS 1
#endif
#ifndef RKILLS
#define RKILLS 1
#endif

#define EMPTY 0                 /* entries */
#define LIVE 1
#define DROPPED 2
#define TAKEN 3
#define FREE 0                  /* the node */
#define OWNED 1
#define QUEUED 2

#define A 1                     /* the object's word */
#define C 2
#define S 4
#define FLAGS(x) ((x)&7)
#define GEN(x) ((x)>>3)
#define NEXT(x) (((x)&~7)+8)

byte w = A;                                /* allocated by the putter, in generation 0 */
/* its group was destroyed; a batch has found it free then */
bit ended, gone;
byte est[3], egen[3];                      /* entries: putter, taker, somebody else */
byte node = FREE, owner; bit ref;          /* the node: state and owner are one word, ref another */
bit dead[2], done[4];
byte kills = KILLS, reaper_kills = RKILLS;

#define KILL if :: skip :: atomic{ kills>0 -> kills--; dead[id]=1; goto out } fi
#define HOLDS(g) assert((w&A)!=0 && GEN(w)==(g) && !gone)

proctype putter() {
  byte id, v;
  HOLDS(0);
  atomic{ node=OWNED; owner=0 }; KILL;
#ifdef KEEP                     /* a putter that keeps its reference shares the object first */
#ifndef M_KEEPUNSHARED
  atomic{ w=w|S }; KILL;
#endif
#endif
#ifdef M_LOOKFIRST              /* it looks at the word before the node has the reference */
  atomic{ if :: (w&C) -> w=w&~C :: else fi }; KILL;
#endif
#ifdef M_EMPTYFIRST             /* its entry goes before the node has the reference */
  est[0]=EMPTY; KILL;
#endif
  ref=1; KILL;                             /* a store and a fence */
#if !defined(M_NOLOOK) && !defined(M_LOOKFIRST)
  atomic{ if :: (w&(A|C))==(A|C) -> w=w&~C :: else fi }; KILL;
#endif
                                           /* the batch that ends the group has seen the node's
                                            * reference, or the end is seen here */
  if :: ended -> KILL; est[0]=DROPPED; KILL; ref=0; KILL; node=FREE; goto out
     :: else
  fi;
#if !defined(KEEP) && !defined(M_EMPTYLATE)
  est[0]=EMPTY; KILL;
#endif
  node=QUEUED; KILL;
#ifdef M_EMPTYLATE              /* its entry goes after others may have taken, and asked */
  est[0]=EMPTY; KILL;
#endif
#ifdef KEEP
  atomic{ HOLDS(0); est[0]=DROPPED }; KILL;
#endif
out: done[0]=1
}

proctype taker() {
  byte id, v; bit have;
  id=1;
  do
  :: atomic{ node==QUEUED -> node=OWNED; owner=1 }; KILL; break
  :: atomic{ done[0] && node!=QUEUED } -> goto out
  od;
  if
  :: atomic{ ref==1 -> v=w };
#ifdef M_REFFIRST               /* the node's reference goes before the entry is there */
     atomic{ ref=0; have=1 }; KILL;
     atomic{ est[1]=LIVE; egen[1]=GEN(v) }; KILL;
#else
     atomic{ est[1]=LIVE; egen[1]=GEN(v) }; KILL;
#ifdef M_BLINDTAKE              /* it does not look whether the reference is still there */
     atomic{ ref=0; have=1 }; KILL;
#else
     if :: atomic{ ref==1 -> ref=0; have=1 } :: atomic{ ref==0 -> est[1]=DROPPED } fi; KILL;
#endif
#endif
  :: ref==0
  fi;
  node=FREE; KILL;
  if :: have -> HOLDS(egen[1]);
        if :: atomic{ FLAGS(w)==A -> HOLDS(egen[1]); v=w }; KILL; atomic{ w=NEXT(v) }; KILL; est[1]=EMPTY
           :: atomic{ FLAGS(w)!=A -> HOLDS(egen[1]); est[1]=DROPPED }
        fi
     :: else
  fi;
out: atomic{ have=0; v=0; done[1]=1 }
}

proctype other() {              /* withdrawn; then it may allocate the object anew */
  byte v;
  if
  :: atomic{ FLAGS(w)==0 && !ended && est[2]==EMPTY -> v=GEN(w) };
     atomic{ est[2]=LIVE; egen[2]=v };
     if :: atomic{ w==v*8 -> w=w|A };
           HOLDS(v);
           atomic{ HOLDS(v); est[2]=DROPPED }
        :: atomic{ w!=v*8 -> est[2]=DROPPED }
     fi
  :: skip
  fi;
  done[2]=1
}

proctype ender() { if :: ended=1 :: skip fi; done[3]=1 }

/* ---- the batch ---- */

#define ASKS(k) (est[k]==DROPPED || est[k]==TAKEN || (k<2 && dead[k] && est[k]!=EMPTY))
#define DEADS_NODE (node==OWNED && dead[owner] && done[owner])
#define WORK (ASKS(0) || ASKS(1) || ASKS(2) || DEADS_NODE || (ended && !gone && (w&A)==0) || (ended && (w&A) && !HAS(0) && !HAS(1) && !HAS(2)))
#define HAS(k) (est[k]==LIVE && egen[k]==GEN(w))
#define DIES if :: skip :: atomic{ reaper_kills>0 -> reaper_kills--; v=0; e=0; d=0; goto next } fi
#define SPLICE(k) if :: atomic{ est[k]==DROPPED || (k<2 && dead[k] && done[k] && est[k]==LIVE) -> est[k]=TAKEN } :: else fi
#define CONDEMN(k) if :: atomic{ est[k]==TAKEN && (w&A) && GEN(w)==egen[k] -> w=w|C } :: else fi
#define SCAN(k) if :: atomic{ (est[k]==LIVE || est[k]==DROPPED) && GEN(w)==egen[k] && (w&(A|C))==(A|C) -> w=w&~C } :: else fi
#define RELEASE(k) if :: atomic{ est[k]==TAKEN && (w&(A|C))==(A|C) && GEN(w)==egen[k] -> w=NEXT(w) } :: else fi; DIES; \
                   if :: atomic{ est[k]==TAKEN -> est[k]=EMPTY } :: else fi
#ifdef M_DEADCOUNTS             /* what a dead process owns keeps the object */
#define COUNTS (node==QUEUED || node==OWNED)
#else
#define COUNTS (node==QUEUED || (node==OWNED && !d))
#endif
#define SCAN_NODE if :: COUNTS && ref -> if :: (w&(A|C))==(A|C) -> w=w&~C :: else fi :: else fi

proctype reaper() {
  byte v; bit e, d, quiet;
next:
  do
  :: atomic{ WORK -> quiet=(done[0] && done[1] && done[2] && done[3]) };
     atomic{ d=DEADS_NODE };
     SPLICE(0); SPLICE(1); SPLICE(2);
     CONDEMN(0); DIES; CONDEMN(1); DIES; CONDEMN(2); DIES;
     if :: d ->
#ifdef M_CLEARFIRST             /* the dead one's node is freed before its object was looked for */
           if :: ref && (w&A) -> ref=0; node=FREE; DIES; atomic{ w=w|C } :: else fi
#elif defined(M_NOASK)          /* nobody asks for the object of a dead one's node */
           skip
#else
           atomic{ if :: ref && (w&A) -> w=w|C :: else fi }
#endif
        :: else
     fi; DIES;
     atomic{ e=(ended && !gone) };
     if :: e -> atomic{ if :: (w&A) -> w=w|C :: else fi }; DIES;
                /* references in nodes to what has ended go */
                if :: ref -> ref=0 :: else fi; DIES
        :: else
     fi;
#ifndef M_SCAN
     SCAN_NODE; DIES;
#endif
     SCAN(0); DIES; SCAN(1); DIES; SCAN(2); DIES;
#ifdef M_SCAN                   /* the node is looked at after the tables */
     SCAN_NODE; DIES;
#endif
     RELEASE(0); DIES; RELEASE(1); DIES; RELEASE(2); DIES;
     if :: d -> atomic{ if :: ref && (w&(A|C))==(A|C) -> w=NEXT(w) :: else fi }; DIES; ref=0; DIES; node=FREE; DIES :: else fi;
     if :: e -> atomic{ if :: (w&(A|C))==(A|C) -> w=NEXT(w) :: else fi }; DIES;
                /* its word is closed first */
                atomic{ if :: (w&A)==0 -> gone=1; w=w|C :: else fi }
        :: else
     fi;
     atomic{ assert(!quiet || !WORK); v=0; e=0; d=0 }
  :: atomic{ done[0] && done[1] && done[2] && done[3] && !WORK -> break }
  od;
  assert((w&A)==0 || (node==QUEUED && ref && GEN(w)==0));
  assert(est[0]==EMPTY && est[1]==EMPTY && est[2]==EMPTY);
  assert(node==FREE || node==QUEUED);
  assert(node==QUEUED || !ref)
}
init { atomic{ est[0]=LIVE; if :: est[2]=DROPPED :: skip fi; run putter(); run taker(); run other(); run ender(); run reaper() } }
