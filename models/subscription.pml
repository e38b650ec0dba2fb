/* A reference that a topic keeps, and each subscriber takes one more of (core/arena/topic.c,
 * core/arena/channel_get.c, core/reclaim/letters.c).
 *
 * One object, one node. The publisher shares the object, has the node refer to it, publishes it at
 * position 0, and drops its own reference. Later it makes room: it owns the node, takes an
 * entry, swings the node's reference away, and asks for the object by that entry. Then the node
 * is used again, at position 1: for the same object, allocated anew, or for a message without
 * one. A subscriber reads the node's reference and the object's generation, writes LIVE into its
 * own table, and looks whether the node still refers to the object, and then whether it still
 * says QUEUED at its position. It takes nothing from the node, so there may be two. The group of
 * the object may be destroyed. KILLS of them, and RKILLS batches, are killed between any two
 * steps.
 *
 * Memory is sequentially consistent, but that a subscriber's LIVE may still sit in its store buffer
 * (`pend`) without a fence.
 *
 * The scan looks at nodes before tables. A node counts while it is QUEUED or its owner lives; what
 * a dead one owns is asked for.
 *
 * Safety: who has the message of a position has the object that was published there, allocated, in
 * its generation. Nothing lost: when all are done and one batch is over, the object is free or in
 * the topic, no entry is in use, and the node is FREE or QUEUED.
 *
 *  holds: -DKILLS=0
 *  holds: -DRKILLS=0
 *  fails: -DM_NOVALIDATE
 *  fails: -DM_NOPOSITION
 *  fails: -DM_NOREF
 *  fails: -DM_REFLAST
 *  fails: -DM_NOFENCE
 *  fails: -DM_LIVELATE
 *  fails: -DM_REFFIRST
 *  fails: -DM_SCAN
 *  fails: -DM_UNSHARED
 *  fails: -DM_DROPFIRST
 *  fails: -DM_NOASK
 *  deep:
 *  deep: -DKILLS=0 -DRKILLS=0 -DSUBSCRIBERS=2
 */
#ifndef KILLS
#define KILLS 1
#endif
#ifndef RKILLS
#define RKILLS 1
#endif
#ifndef SUBSCRIBERS
#define SUBSCRIBERS 1
#endif

#define EMPTY 0                 /* entries */
#define LIVE 1
#define DROPPED 2
#define TAKEN 3
#define FREE 0                  /* the node's state; its position is above it */
#define OWNED 1
#define QUEUED 2
#define AT(pos) (QUEUED+4*(pos))
#define STATE(n) ((n)&3)

#define A 1                     /* the object's word */
#define C 2
#define S 4
#define FLAGS(x) ((x)&7)
#define GEN(x) ((x)>>3)
#define NEXT(x) (((x)&~7)+8)

#define E 4                     /* entries: the publisher's, its second one, two subscribers' */
byte w = A;                     /* allocated by the publisher, in generation 0 */
bit ended, gone;                /* its group was destroyed; a batch has found it free then */
byte est[E], egen[E];
bit pend[E];                    /* LIVE sits in a store buffer */
byte node = FREE; bit ref;      /* the node's word, and its reference, another one */
bit dead[3], done[4];           /* publisher, subscribers; who ends */
byte kills = KILLS, reaper_kills = RKILLS;

#define KILL if :: skip :: atomic{ kills>0 -> kills--; dead[id]=1; goto out } fi
#define HOLDS(g) assert((w&A)!=0 && GEN(w)==(g) && !gone)

proctype publisher() {
  byte id, pos, v; bit has; has=1;
again:
#ifndef M_UNSHARED              /* the object is shared before the node refers to it */
  if :: has -> atomic{ w=w|S }; KILL :: else fi;
#endif
  node=OWNED; KILL;
  if
  :: has ->
#ifdef M_DROPFIRST              /* its own reference goes before the node has one */
     est[0]=DROPPED; KILL;
#endif
     ref=1; KILL;
     atomic{ if :: (w&(A|C))==(A|C) -> w=w&~C :: else fi }; KILL;
     if :: ended -> ref=0; KILL; node=FREE; KILL; est[0]=DROPPED; goto out
        :: else
     fi;
     node=AT(pos); KILL;
#ifndef M_DROPFIRST
     if :: atomic{ (w&(A|S))==A -> HOLDS(pos); v=w }; KILL; atomic{ w=NEXT(v) }; est[0]=EMPTY
        :: atomic{ (w&(A|S))!=A -> HOLDS(pos); est[0]=DROPPED }
     fi; KILL;
#endif
  :: else -> node=AT(pos); KILL
  fi;
  if :: pos==1 -> goto out :: else fi;
                                /* room is made */
  node=OWNED+4*pos; KILL;
  if :: ref ->
#ifdef M_REFFIRST               /* the node's reference goes before the entry is there */
        ref=0; KILL; atomic{ est[1]=LIVE; egen[1]=GEN(w) }; KILL;
#else
        atomic{ v=GEN(w) }; atomic{ est[1]=LIVE; egen[1]=v }; KILL;
        ref=0; KILL;
#endif
        est[1]=DROPPED; KILL
     :: else
  fi;
  node=FREE; pos=1; KILL;
                                /* used again, for the same object allocated anew or for none */
  has=0;
  if
  :: atomic{ FLAGS(w)==0 && !gone && est[0]==EMPTY -> w=w|A; est[0]=LIVE; egen[0]=GEN(w); has=1 }; KILL
  :: skip
  fi;
  if :: has && GEN(w)!=1 -> est[0]=DROPPED; goto out :: else fi;
  goto again;
out: atomic{ pos=0; v=0; has=0; done[0]=1 }
}

#define MINE (id+1)             /* the entry of subscriber 1 or 2 */
#ifdef M_NOPOSITION             /* any message that is there will do */
#define SAME (STATE(node)==QUEUED)
#elif defined(M_NOVALIDATE)     /* it does not look again */
#define SAME true
#else
#define SAME (node==seen)
#endif
#ifdef M_NOREF                  /* nor whether the reference is still there */
#define STILL true
#else
#define STILL ref
#endif
#ifdef M_REFLAST                /* the reference that it finds may be of the node's next message */
#define LOOK if :: SAME -> if :: STILL -> have=1 :: else fi :: else fi
#else
#define LOOK if :: STILL -> if :: SAME -> have=1 :: else fi :: else fi
#endif

proctype subscriber(byte id) {
  byte seen, v; bit have;
  if
  :: atomic{ STATE(node)==QUEUED -> seen=node }
  :: atomic{ done[0] -> goto out }
  fi;
  if :: ref :: else -> goto out fi;        /* a message without an object */
  v=GEN(w);
#ifdef M_LIVELATE               /* it looks before its entry is there */
  LOOK;
  atomic{ est[MINE]=LIVE; egen[MINE]=v }; KILL;
  if :: !have -> est[MINE]=DROPPED :: else fi;
#else
#ifdef M_NOFENCE                /* its entry may still be in its store buffer */
  atomic{ pend[MINE]=1; egen[MINE]=v };
  if :: pend[MINE] -> atomic{ pend[MINE]=0; est[MINE]=LIVE } :: skip fi;
#else
  atomic{ est[MINE]=LIVE; egen[MINE]=v }; KILL;
#endif
  LOOK;
#ifdef M_NOFENCE
  if :: have -> atomic{ HOLDS(v); assert(v==seen/4) } :: else fi;
  if :: pend[MINE] -> atomic{ pend[MINE]=0; est[MINE]=LIVE } :: else fi;
#endif
  KILL;
  if :: !have -> est[MINE]=DROPPED :: else fi;
#endif
  if :: have -> atomic{ HOLDS(v); assert(v==seen/4) }; KILL;
        atomic{ HOLDS(v); est[MINE]=DROPPED }
     :: else
  fi;
out: atomic{ have=0; v=0; seen=0; done[id]=1 }
}

proctype ender() { if :: ended=1 :: skip fi; done[3]=1 }

/* ---- the batch ---- */

#define OWNER(k) ((k)<2 -> 0 : (k)-1)
#define ASKS(k) (est[k]==DROPPED || est[k]==TAKEN || (dead[OWNER(k)] && est[k]!=EMPTY))
#define ANY_ASKS (ASKS(0) || ASKS(1) || ASKS(2) || ASKS(3))
#define DEADS_NODE (STATE(node)==OWNED && dead[0] && done[0])
#define HAS(k) (est[k]==LIVE && egen[k]==GEN(w))
#define ANY_HAS (HAS(0) || HAS(1) || HAS(2) || HAS(3))
#define WORK (ANY_ASKS || DEADS_NODE || (ended && !gone && (w&A)==0) || (ended && (w&A) && !ANY_HAS) || (ended && ref && !gone && (w&A)==0))
#define ALL_DONE (done[0] && done[1] && done[2] && done[3])
#define DIES if :: skip :: atomic{ reaper_kills>0 -> reaper_kills--; v=0; e=0; d=0; goto next } fi
#define SPLICE(k) if :: atomic{ est[k]==DROPPED || (dead[OWNER(k)] && done[OWNER(k)] && est[k]==LIVE) -> est[k]=TAKEN } :: else fi
#define CONDEMN(k) if :: atomic{ est[k]==TAKEN && (w&A) && GEN(w)==egen[k] -> w=w|C } :: else fi
#define SCAN(k) if :: atomic{ (est[k]==LIVE || est[k]==DROPPED) && GEN(w)==egen[k] && (w&(A|C))==(A|C) -> w=w&~C } :: else fi
#define RELEASE(k) if :: atomic{ est[k]==TAKEN && (w&(A|C))==(A|C) && GEN(w)==egen[k] -> w=NEXT(w) } :: else fi; DIES; \
                   if :: atomic{ est[k]==TAKEN -> est[k]=EMPTY } :: else fi
#define COUNTS (STATE(node)==QUEUED || (STATE(node)==OWNED && !d))
#define SCAN_NODE if :: COUNTS && ref -> if :: (w&(A|C))==(A|C) -> w=w&~C :: else fi :: else fi

proctype reaper() {
  byte v; bit e, d, quiet;
next:
  do
  :: atomic{ WORK -> quiet=ALL_DONE };
     atomic{ d=DEADS_NODE };
     SPLICE(0); SPLICE(1); SPLICE(2); SPLICE(3);
     CONDEMN(0); DIES; CONDEMN(1); DIES; CONDEMN(2); DIES; CONDEMN(3); DIES;
     if :: d ->
#ifdef M_NOASK                  /* nobody asks for the object of a dead one's node */
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
     SCAN(0); DIES; SCAN(1); DIES; SCAN(2); DIES; SCAN(3); DIES;
#ifdef M_SCAN                   /* the node is looked at after the tables */
     SCAN_NODE; DIES;
#endif
     RELEASE(0); DIES; RELEASE(1); DIES; RELEASE(2); DIES; RELEASE(3); DIES;
     if :: d -> atomic{ if :: ref && (w&(A|C))==(A|C) -> w=NEXT(w) :: else fi }; DIES; ref=0; DIES; node=FREE; DIES :: else fi;
     if :: e -> atomic{ if :: (w&(A|C))==(A|C) -> w=NEXT(w) :: else fi }; DIES;
                /* its word is closed first */
                atomic{ if :: (w&A)==0 -> gone=1; w=w|C :: else fi }
        :: else
     fi;
     atomic{ assert(!quiet || !WORK); v=0; e=0; d=0 }
  :: atomic{ ALL_DONE && !WORK -> break }
  od;
  assert((w&A)==0 || (STATE(node)==QUEUED && ref));
  assert(est[0]==EMPTY && est[1]==EMPTY && est[2]==EMPTY && est[3]==EMPTY);
  assert(STATE(node)!=OWNED);
  assert(STATE(node)==QUEUED || !ref)
}

init { atomic{
  est[0]=LIVE; run publisher(); run subscriber(1);
  if :: SUBSCRIBERS==2 -> run subscriber(2) :: else -> done[2]=1 fi;
  run ender(); run reaper()
} }
