/* A store's entry: the third kind of holder (core/store/, core/reclaim/shelves.c).
 *
 * One object, one entry of a store, two writers, one process that looks up, one batch at a time.
 * The entry has a key and one word, its *hold*: FREE, OWNED by a process that makes it (a put under
 * way, a builder), or HELD: by our object, or by some other one (OTHER). Each change of the hold
 * counts its tag on. Writers put (with or without a pause between claim and publication, as
 * get_or_put does), replace, delete; the same entry is used for one key after the other, and at
 * once. A lookup takes no lock and no section: it reads the hold, compares the key, writes LIVE
 * into its own table, and looks whether the hold is still the same. The object is allocated again
 * and again; its group may be destroyed. KILLS processes and RKILLS batches are killed between any
 * two steps; the lock is taken over.
 *
 * Memory is sequentially consistent, but that a lookup's LIVE may still sit in its store buffer
 * (`pend`) without a fence.
 *
 * Safety: whoever looked up key 0 holds an object that was put under key 0, allocated, in its
 * generation. Nothing lost: when all are done and one batch is over, the object is free or HELD, no
 * reference entry is in use, nothing CONDEMNED, and the store's is FREE or HELD.
 *
 *  holds: -DKILLS=0 -DRKILLS=0
 *  holds: -DPUTS=1 -DRKILLS=0
 *  fails: -DM_NOVALIDATE
 *  fails: -DM_NOTAG -DKILLS=0 -DRKILLS=0 -DPUTS=3 -DSWINGS=2
 *  fails: -DM_LIVELATE
 *  fails: -DM_NOFENCE
 *  fails: -DM_SCAN
 *  fails: -DM_DROPFIRST
 *  fails: -DM_UNSHARED
 *  fails: -DM_SWINGFIRST
 *  fails: -DM_NODROP
 *  fails: -DM_KEYLATE
 *  fails: -DM_NOREVOKE -DPUTS=1 -DSWINGS=0 -DKILLS=0 -DRKILLS=0
 *  fails: -DM_NOLOOK -DKILLS=0 -DRKILLS=0
 *  fails: -DM_NOMEND
 *  deep: -DPUTS=1
 *  deep: -DRKILLS=0
 *  deep: -DKILLS=0
 *  deep: -DPUTS=3 -DSWINGS=2 -DKILLS=0 -DRKILLS=0
 */
#ifndef PUTS
#define PUTS 2
#endif
#ifndef SWINGS
#define SWINGS 1
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef RKILLS
#define RKILLS 1
#endif

#define EMPTY 0                 /* reference entries */
#define LIVE 1
#define DROPPED 2
#define TAKEN 3

#define FREE 0                  /* the hold's kind */
#define OWNED 1
#define HELD 2                  /* by our object */
#define OTHER 3                 /* by another one, of which no more is said */

#define A 1                     /* the object's word */
#define C 2
#define S 4
#define FLAGS(x) ((x)&7)
#define GEN(x) ((x)>>3)
#define NEXT(x) (((x)&~7)+8)

byte w;                                    /* the object's word */
byte under;                                /* the key that its present life was put under */
bit ended, gone;                           /* its group was destroyed; its slab was given back */
byte est[3], egen[3];                      /* one reference entry for each process; 2 looks up */
bit pend;                                  /* the lookup's store is still in the buffer */
byte hold, tag, owner; bit key;            /* the store's entry; hold, tag and owner are one word */
bit told; byte buried;                     /* what batches have seen to */
byte lock;                                 /* 0, or who has it, + 1 */
bit dead[3], done[3], over;
byte puts = PUTS, swings = SWINGS, kills = KILLS, reaper_kills = RKILLS;

#if KILLS == 0
#define KILL skip
#else
#define KILL if :: skip :: atomic{ kills>0 -> kills--; dead[id]=1; goto out } fi
#endif
#define LOCK atomic{ lock==0 || (dead[lock-1] && done[lock-1]) -> lock=id+1 }
#define UNLOCK lock=0
#define FINE assert((w&A)!=0 && GEN(w)==g && !gone && under==0)
#define CHECK assert((w&A)!=0 && GEN(w)==g && !gone)
#define CLAIMABLE (hold==FREE || (hold==OWNED && dead[owner] && done[owner]))

/* ---- rules that a mutant takes away ---- */
#ifdef M_NOTAG                  /* a lookup compares the object only */
#define SAME (hold==HELD)
#elif defined(M_NOVALIDATE)     /* it does not look again */
#define SAME true
#else
#define SAME (hold==HELD && tag==t)
#endif

proctype putter() {
  byte id, g, t; bit k;
  do
  :: atomic{ puts>0 && !ended && est[0]==EMPTY && FLAGS(w)==0 -> puts--; g=GEN(w); est[0]=LIVE; egen[0]=g;
#ifdef M_UNSHARED
       w=w|A;
#else
       /* others will know it */
       w=w|A|S;
#endif
       if :: k=0 :: k=1 fi }; KILL;
#ifdef M_DROPFIRST              /* the putter's own reference goes before the store's is there */
     est[0]=DROPPED; KILL;
#endif
     LOCK;
     /* a key that is not there */
     if :: atomic{ CLAIMABLE -> hold=OWNED; owner=0; tag++; t=tag }; KILL;
#ifdef M_KEYLATE                /* the key is written when the hold says that it is there */
           atomic{ hold=HELD; tag++; t=tag; under=k }; KILL;
           key=k; KILL;
#else
           key=k; KILL;
           /* a builder builds without the lock */
           if :: UNLOCK; KILL; LOCK
              :: skip
           fi;
           atomic{ if :: hold==OWNED && tag==t -> hold=HELD; tag++; t=tag; under=k :: else -> t=0 fi }; KILL
#endif
        /* one that is: its object is another's matter */
        :: atomic{ hold==OTHER && key==k -> hold=HELD; tag++; t=tag; under=k }; KILL
        /* not now */
        :: atomic{ !CLAIMABLE && !(hold==OTHER && key==k) -> t=0 }
     fi;
/* the batch that ended the group has seen the hold, or its end is seen here */
#ifndef M_NOLOOK
     if :: ended -> atomic{ if :: hold==HELD && tag==t -> hold=FREE; tag++ :: else fi }; KILL :: else fi;
#endif
     UNLOCK; KILL;
#ifdef M_UNSHARED
     if :: atomic{ FLAGS(w)==A -> w=NEXT(w) }; est[0]=EMPTY :: atomic{ FLAGS(w)!=A -> est[0]=DROPPED } fi;
#elif !defined(M_DROPFIRST)
     atomic{ CHECK; est[0]=DROPPED }; KILL;
#endif
     atomic{ t=0; k=0; g=0 }
  :: break
  od;
out: atomic{ g=0; t=0; k=0; done[0]=1 }
}

proctype replacer() {
  byte id, g, t; bit k;
  id=1;
  do
  /* replace it by another, or delete it */
  :: atomic{ swings>0 && est[1]==EMPTY && hold==HELD -> swings--; if :: k=0 :: k=1 fi };
     LOCK;
     if :: atomic{ hold==HELD -> t=tag; g=GEN(w) };
/* the hold goes before there is an entry that asks for the object */
#ifdef M_SWINGFIRST
           atomic{ if :: hold==HELD && tag==t -> hold=(k -> OTHER : FREE); tag++ :: else fi }; KILL;
           atomic{ est[1]=LIVE; egen[1]=g }; KILL;
#else
           atomic{ est[1]=LIVE; egen[1]=g }; KILL;
           atomic{ if :: hold==HELD && tag==t -> hold=(k -> OTHER : FREE); tag++ :: else fi }; KILL;
#endif
#ifdef M_NODROP                 /* nobody asks for what was replaced */
           est[1]=EMPTY; KILL
#else
           est[1]=DROPPED; KILL
#endif
        :: atomic{ hold!=HELD }
     fi;
     atomic{ UNLOCK; t=0; g=0; k=0 }
  :: break
  od;
out: atomic{ g=0; t=0; k=0; done[1]=1 }
}

#define DRAIN if :: pend -> est[2]=LIVE; pend=0 :: else fi

proctype looker() {             /* killed, its entry counts as dropped: references.pml */
  byte g, t;
  if
  :: atomic{ hold==HELD -> t=tag };
     if :: atomic{ key==0 -> g=GEN(w) };
#ifdef M_LIVELATE               /* it looks at the hold before its entry is there */
           if :: atomic{ SAME }; atomic{ est[2]=LIVE; egen[2]=g };
                 FINE; atomic{ FINE; est[2]=DROPPED }
              :: atomic{ !SAME }
           fi
#else
           atomic{ pend=1; egen[2]=g };
#ifndef M_NOFENCE               /* it looks at the hold when everybody can see its entry */
           atomic{ est[2]=LIVE; pend=0 };
#endif
           if :: atomic{ SAME -> FINE }; atomic{ FINE; DRAIN }; atomic{ FINE; est[2]=DROPPED }
              :: atomic{ !SAME -> DRAIN; est[2]=DROPPED }
           fi
#endif
        :: key!=0
     fi
  :: skip
  fi;
  atomic{ g=0; t=0; done[2]=1 }
}

proctype ender() { if :: ended=1 :: skip fi; over=1 }

#define HAS(k) (est[k]==LIVE && !dead[k] && egen[k]==GEN(w))
#define ASKS(k) (est[k]==DROPPED || est[k]==TAKEN || (dead[k] && done[k] && est[k]!=EMPTY))
#define DEADS (hold==OWNED && dead[owner] && done[owner])
#define WORK (ASKS(0) || ASKS(1) || ASKS(2) || DEADS || (ended && !gone && !HAS(0) && !HAS(1) && !HAS(2)))
#if RKILLS == 0
#define DIES skip
#else
#define DIES if :: skip :: atomic{ reaper_kills>0 -> reaper_kills--; e=0; quiet=0; d=0; goto next } fi
#endif
#define SPLICE(k) if :: atomic{ est[k]==DROPPED || (dead[k] && done[k] && est[k]==LIVE) -> est[k]=TAKEN } :: else fi
#define CONDEMN(k) if :: atomic{ est[k]==TAKEN && (w&A) && GEN(w)==egen[k] -> w=w|C } :: else fi
#define SCAN(k) if :: atomic{ (est[k]==LIVE || est[k]==DROPPED) && GEN(w)==egen[k] && (w&(A|C))==(A|C) -> w=w&~C } :: else fi
#define SCAN_HOLD if :: hold==HELD -> DIES; atomic{ if :: (w&(A|C))==(A|C) -> w=w&~C :: else fi } :: else fi
#define RELEASE(k) if :: atomic{ est[k]==TAKEN && (w&(A|C))==(A|C) && GEN(w)==egen[k] -> w=NEXT(w) } :: else fi; DIES; \
                   if :: atomic{ est[k]==TAKEN -> est[k]=EMPTY } :: else fi
/* It looks for what is held of an ended group once, and again when somebody has died. */
#define DEATHS ((dead[0] && done[0])+(dead[1] && done[1]))
#define REVOKES (!told || buried!=d)
#define ALLDONE (done[0] && done[1] && done[2] && over)

proctype reaper() {
  bit e, quiet; byte d;
next:
  do
  :: atomic{ WORK -> quiet=ALLDONE };
     SPLICE(0); SPLICE(1); SPLICE(2);
     atomic{ e=(ended && !gone); d=DEATHS };
     CONDEMN(0); DIES; CONDEMN(1); DIES; CONDEMN(2); DIES;
     if :: e -> atomic{ if :: (w&A) -> w=w|C :: else fi }; DIES :: else fi;
#ifndef M_NOREVOKE              /* what stores hold of an ended group goes */
     if :: atomic{ e && REVOKES && hold==HELD -> hold=FREE; tag++ } :: else fi; DIES;
#endif
#ifndef M_SCAN
     SCAN_HOLD; DIES;
#endif
     SCAN(0); DIES; SCAN(1); DIES; SCAN(2); DIES;
#ifdef M_SCAN                   /* stores are looked at after the tables */
     SCAN_HOLD; DIES;
#endif
     RELEASE(0); DIES; RELEASE(1); DIES; RELEASE(2); DIES;
#ifndef M_NOMEND                /* what a dead process was putting is nobody's */
     if :: atomic{ DEADS -> hold=FREE; owner=0; tag++ } :: else fi; DIES;
#endif
     if :: e -> atomic{ if :: (w&(A|C))==(A|C) -> w=NEXT(w) :: else fi }; DIES;
                atomic{ if :: (w&A)==0 -> gone=1; w=w|C :: else fi }
        :: else
     fi;
     atomic{ assert(!quiet || !WORK); if :: e -> told=1 :: else fi; buried=d; e=0; quiet=0; d=0 }
  :: atomic{ ALLDONE && !WORK -> break }
  od;
  assert((w&A)==0 || (hold==HELD && !ended));                          /* nothing lost */
  assert((w&C)==0 || gone);
  assert(est[0]==EMPTY && est[1]==EMPTY && est[2]==EMPTY);
  assert(hold!=OWNED)
}
init { atomic{ run putter(); run replacer(); run looker(); run ender(); run reaper() } }
