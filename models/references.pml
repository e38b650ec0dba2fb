/* References as entries; deaths batched by one scan.
 *
 * One object, two workers with one reference entry each, one in-flight entry, two pickles that
 * anybody may read as often as they like (the newest and the one before it), one bare handle that
 * can be guessed from the moment of allocation, one group that may be destroyed, one reaper. KILLS
 * workers and RKILLS reapers are killed between any two steps; a killed reaper is replaced by one
 * that knows nothing but shared memory. With -DEXPIRY, whoever begins a batch may give up the
 * message first, as expired (who knows that it has is in expiry.pml); workers give it up, too, as
 * drop_in_flight() does.
 *
 * Memory is sequentially consistent except where a fence is what the code relies on: a resolve
 * whose word needs no change has a store (its entry) followed by a plain load, and without the
 * fence between them the store may still sit in a store buffer (`pend`). Every other pair has a
 * compare-and-swap between the two, which drains the buffer. References need no grace period: that
 * is for what users look at in read-side sections of their own (grace_period.pml).
 *
 * Safety: whoever holds a reference finds the object allocated, in its generation, on a slab that
 * was not given back; a pickle that was never read finds its reference; a freed handle does not
 * resolve. Nothing lost: one undisturbed batch after everybody is gone leaves the object free,
 * unless it is in flight in a living group, no entry in use, nothing CONDEMNED, and the slab of an
 * ended group given back.
 *
 * -DM_... takes one rule away and must fail; -DV_... is a relaxation that must not. README.md says
 * what each is.
 *
 *  holds: -DOPS=4
 *  holds: -DOPS=3 -DV_PRIVATE
 *  holds: -DOPS=3 -DV_DIRECT
 *  holds: -DOPS=3 -DV_CONDEMNFREE
 *  holds: -DOPS=3 -DEXPIRY
 *  fails: -DM_EMPTY
 *  fails: -DM_NORESCUE
 *  fails: -DM_NOSHARED
 *  fails: -DM_GUESSED
 *  fails: -DM_PRIVATEHANDED
 *  fails: -DM_RESOLVEFREED
 *  fails: -DM_PRIVATE
 *  fails: -DM_PRIVATESHARED
 *  fails: -DM_RELEASE
 *  fails: -DM_NODROPPED
 *  fails: -DM_NOGEN
 *  fails: -DM_LOWBITS
 *  fails: -DM_FREEDTAKE
 *  fails: -DM_FREENOW
 *  fails: -DM_DIRECTANY
 *  fails: -DM_DIRECTSHARED
 *  fails: -DM_EARLYOWN
 *  fails: -DM_ALLOCORDER
 *  fails: -DM_EMPTYFIRST
 *  fails: -DM_SHAREORDER
 *  fails: -DM_FLIGHTDROP
 *  fails: -DM_NOREVOKE
 *  fails: -DM_SCAN
 *  fails: -DM_ONCE
 *  fails: -DM_NOCLOSE
 *  fails: -DM_NOFENCE
 *  fails: -DM_EXPIREEMPTY -DEXPIRY
 *  fails: -DM_EXPIREORDER -DEXPIRY
 *  fails: -DM_EXPIREANY -DEXPIRY -DOPS=6 -DKILLS=0 -DRKILLS=0
 *  fails: -DM_EXPIRELATE -DEXPIRY
 *  fails: -DM_NOTAG -DOPS=6 -DKILLS=0 -DRKILLS=0
 *  deep: -DOPS=5
 *  deep: -DOPS=4 -DKILLS=2 -DRKILLS=2
 *  deep: -DOPS=6 -DKILLS=0
 *  deep: -DOPS=4 -DEXPIRY
 *  deep: -DOPS=4 -DV_PRIVATE
 *  deep: -DOPS=4 -DV_DIRECT
 *  deep: -DOPS=4 -DV_CONDEMNFREE
 */
#ifndef OPS
#define OPS 4
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef RKILLS
#define RKILLS 1
#endif

/* An entry's state. */
#define EMPTY 0
#define LIVE 1
#define DROPPED 2
#define TAKEN 3

/* The object's word: five bits below the generation. One variable, because every rule is about
 * one compare-and-swap. */
#define A 1                     /* ALLOCATED */
#define C 2                     /* CONDEMNED */
#define S 4                     /* SHARED */
#define F 8                     /* FREED */
#define H 16                    /* HANDED */
#define FLAGS(x) ((x)&31)
#define GEN(x) ((x)>>5)
#define NEXT(x) (((x)&224)+32)  /* free, generation + 1 */

/* ---- rules that a mutant takes away, one at a time ---- */
#ifdef M_EMPTY                  /* a failed attempt is withdrawn to EMPTY instead of DROPPED */
#define WITHDRAW est[id]=EMPTY; SIGN(0)
#else
#define WITHDRAW est[id]=DROPPED
#endif
#ifdef M_NORESCUE               /* resolving leaves CONDEMNED as it is */
#define RESCUED(x) ((x)|S)
#elif defined(M_NOSHARED)       /* resolving does not mark the object as shared */
#define RESCUED(x) ((x)&~C)
#else
#define RESCUED(x) (((x)|S)&~C)
#endif
#ifdef M_GUESSED                /* a handle that nobody was given resolves */
#define GIVEN true
#else
#define GIVEN ((w&(S|H))!=0)
#endif
#ifdef M_RESOLVEFREED           /* resolving ignores FREED */
#define RESOLVABLE (((w&A)!=0) && GIVEN && GEN(w)==g)
#else
#define RESOLVABLE (((w&A)!=0) && GIVEN && (w&F)==0 && GEN(w)==g)
#endif
#if defined(M_PRIVATE)          /* a private drop ignores CONDEMNED, and leaves it */
#define ALONE ((w&(A|S|F))==A)
#define AFTER_ALONE(x) (NEXT(x)|((x)&C))
#elif defined(V_PRIVATE)        /* a private drop ignores CONDEMNED, and clears it */
#define ALONE ((w&(A|S))==A)
#define AFTER_ALONE(x) NEXT(x)
#elif defined(M_PRIVATESHARED)  /* a private drop ignores SHARED */
#define ALONE ((w&(A|C))==A)
#define AFTER_ALONE(x) NEXT(x)
/* nobody else has the object; FREED makes no difference to its only holder */
#else
#define ALONE ((w&(A|C|S))==A)
#define AFTER_ALONE(x) NEXT(x)
#endif
#ifdef M_PRIVATEHANDED          /* a private drop stores where it has to swing */
#define UNKNOWN(x) true
#else
#define UNKNOWN(x) (((x)&H)==0)
#endif
#ifdef M_RELEASE                /* release does not insist on CONDEMNED */
#define RELEASABLE ((w&A)!=0)
#else
#define RELEASABLE ((w&(A|C))==(A|C))
#endif
#ifdef M_NODROPPED              /* the scan counts LIVE entries only */
#define COUNTED(s) ((s)==LIVE)
#else
#define COUNTED(s) ((s)==LIVE || (s)==DROPPED)
#endif
#if defined(M_NOGEN)            /* the scan compares no generation */
#define SCANGEN(x) true
#define ASKGEN(x) (GEN(w)==(x))
/* an entry has so few bits of the generation that they always match */
#elif defined(M_LOWBITS)
#define SCANGEN(x) true
#define ASKGEN(x) true
#else
#define SCANGEN(x) (GEN(w)==(x))
#define ASKGEN(x) (GEN(w)==(x))
#endif
#ifdef M_NOTAG                  /* taking compares the object only */
#define MINE(t) true
#else
#define MINE(t) (itag==(t))
#endif
#ifdef M_FREEDTAKE              /* taking refuses a FREED object */
#define TAKEABLE(t) (ist==LIVE && MINE(t) && (w&F)==0)
#else
#define TAKEABLE(t) (ist==LIVE && MINE(t))
#endif
/* Direct release: a TAKEN entry whose object nobody else can know is released without grace
 * period and scan. Off unless asked for; then `own` says that the entry's process allocated that
 * generation. */
#if defined(M_DIRECTANY)        /* for any TAKEN entry */
#define DIRECT(k) (est[k]==TAKEN)
#define DIRECTLY ((w&(A|C|S|F|H))==A)
#elif defined(M_DIRECTSHARED)   /* whatever SHARED says */
#define DIRECT(k) (est[k]==TAKEN && own[k])
#define DIRECTLY ((w&(A|C|F))==A)
#elif defined(V_DIRECT) || defined(M_EARLYOWN)
#define DIRECT(k) (est[k]==TAKEN && own[k])
#define DIRECTLY ((w&(A|C|S|F|H))==A)
#endif
#ifdef DIRECT
#define SIGN(x) own[id]=x
#else
#define SIGN(x) skip
#endif
/* an ended group's free words are condemned too, and un-condemned in the end */
#ifdef V_CONDEMNFREE
#define ENDWORD(x) true
#else
#define ENDWORD(x) (((x)&A)!=0)
#endif

byte w;                                    /* the object's word */
bit ended, gone;                           /* its group was destroyed; its slab was given back */
#ifdef EXPIRY
#define ENTRIES 3
#else
#define ENTRIES 2
#endif
/* one entry for each worker, one for who gives up messages; own: see SIGN */
byte est[ENTRIES], egen[ENTRIES]; bit own[ENTRIES];
bit pend[2];                               /* the entry's store is still in the buffer */
/* one in-flight entry: EMPTY or LIVE, and its tag; no generation */
byte itag; bit ist;
/* pickles: [1] the newest, [0] the one before; tag 0: none */
byte ptag[2], pgen[2];
/* the newest pickle was never read: its reference must be there */
bit owed;
bit known; byte hgen;                      /* a bare handle that somebody wrote down */
bit dead[2], done[2];
byte ops = OPS, kills = KILLS, reaper_kills = RKILLS;

#define KILL if :: skip :: atomic{ kills>0 -> kills--; dead[id]=1; goto out } fi
#define DRAIN(k) if :: pend[k] -> est[k]=LIVE; pend[k]=0 :: else fi
#ifdef M_NOFENCE                /* resolving looks at the word before everybody can see its entry */
#define FENCE skip
#else
#define FENCE atomic{ d_step{ DRAIN(id) } }
#endif
#define AGAIN(x) ((est[id]==DROPPED || est[id]==TAKEN) && egen[id]==(x))
#define CHECK assert((w&A)!=0 && GEN(w)==g && !gone)

/* The last part of take (when it came too late) and of resolve: one RMW of the word, or a plain
 * load, with which the buffer stays as it is. */
#define BARE                                                                                                      \
     if :: atomic{ RESOLVABLE && !ended && ((w&S)==0 || (w&C)!=0) -> d_step{ DRAIN(id); assert((w&F)==0); w=RESCUED(w); have=1 } } \
        :: atomic{ RESOLVABLE && (w&(S|C))==S -> assert((w&F)==0); have=1 }                                                 \
        :: atomic{ (!RESOLVABLE || ended) -> d_step{ DRAIN(id); WITHDRAW; g=0 } }                                   \
     fi

proctype worker(bit id) {
  byte g, v; bit have, i;
  do
  /* allocate, in no section */
  :: atomic{ ops>0 && !have && !ended && est[id]==EMPTY && !pend[id] && (w&A)==0 -> ops-- }
#ifdef M_ALLOCORDER             /* the word first, the entry after it */
     if :: atomic{ FLAGS(w)==0 -> g=GEN(w); w=w|A; have=1; known=1; hgen=g; assert(!gone); v=0 }; KILL;
           atomic{ est[id]=LIVE; egen[id]=g; SIGN(1) }; KILL
        :: FLAGS(w)!=0
     fi
#else
     if :: atomic{ FLAGS(w)==0 -> v=w; g=GEN(w); est[id]=LIVE; egen[id]=g
#ifdef M_EARLYOWN               /* the allocator signs before it has the object */
           ; SIGN(1)
#endif
           }; KILL;
           if :: atomic{ w==v -> w=v|A; v=0; have=1; known=1; hgen=g; assert(!gone) }; KILL;
                 SIGN(1)
              :: atomic{ w!=v -> WITHDRAW; g=0; v=0 }
           fi; KILL
        :: FLAGS(w)!=0
     fi
#endif
  /* take */
  :: atomic{ ops>0 && !have && !pend[id] && ptag[1]!=0 ->
       ops--; if :: i=1 :: ptag[0]!=0 -> i=0 fi;
       g=pgen[i]; v=ptag[i]; i=0;
       if :: est[id]==EMPTY || AGAIN(g) -> est[id]=LIVE; egen[id]=g; SIGN(0)
          :: else -> g=0; v=0; goto no
       fi }; KILL;
     if :: atomic{ TAKEABLE(v) -> d_step{ ist=EMPTY; have=1;
             if :: v==ptag[1] -> owed=0 :: else fi; v=0 } }
        :: atomic{ !TAKEABLE(v) -> assert(!(owed && v==ptag[1])); v=0 }; KILL;
           BARE
     fi; KILL;
no:  skip
  /* resolve */
  :: atomic{ ops>0 && !have && !ended && known && est[id]==EMPTY && !pend[id] -> ops--; g=hgen; pend[id]=1; egen[id]=g }; KILL;
     FENCE; BARE; KILL; atomic{ d_step{ DRAIN(id) } }; KILL
  /* resolve again */
  :: atomic{ ops>0 && !have && !ended && known && !pend[id] && AGAIN(hgen) -> ops--; g=hgen; est[id]=LIVE }; KILL;
     BARE; KILL
  /* use */
  :: atomic{ have && ops>0 -> CHECK; ops-- }
#ifdef M_SHAREORDER             /* in flight first, SHARED after it */
  :: atomic{ have && ops>0 && ist==EMPTY && !ended -> ops--; CHECK;
       d_step{ ist=LIVE; itag++; ptag[0]=ptag[1]; pgen[0]=pgen[1]; ptag[1]=itag; pgen[1]=g; owed=!ended } }; KILL;
     atomic{ CHECK; w=w|S }; KILL
#else
  /* share */
  :: atomic{ have && ops>0 && ist==EMPTY && !ended -> ops--; CHECK; w=w|S }; KILL;
     if :: atomic{ ist==EMPTY -> CHECK;
             d_step{ ist=LIVE; itag++; ptag[0]=ptag[1]; pgen[0]=pgen[1]; ptag[1]=itag; pgen[1]=g; owed=!ended } }
        :: atomic{ ist!=EMPTY }
     fi; KILL
#endif
  /* give a handle */
  :: atomic{ have && ops>0 && (w&H)==0 -> ops--; CHECK; w=w|H }; KILL
#ifdef M_FREENOW                /* free() by a holder releases at once */
  :: atomic{ have && ops>0 && (w&F)==0 -> ops--; CHECK; w=NEXT(w); est[id]=EMPTY; SIGN(0); have=0; g=0 }; KILL
#else
  /* free() for everyone */
  :: atomic{ have && ops>0 && (w&F)==0 -> ops--; CHECK; w=w|F }; KILL
#endif
#ifdef M_EMPTYFIRST             /* a private drop empties its entry before it frees the word */
  :: atomic{ have && ALONE -> est[id]=EMPTY; SIGN(0) }; KILL;
     if :: atomic{ ALONE && GEN(w)==g -> w=AFTER_ALONE(w) } :: atomic{ !(ALONE && GEN(w)==g) -> est[id]=DROPPED } fi;
     have=0; g=0; KILL
#else
  /* drop, private: a look, then a store */
  :: atomic{ have && ALONE && UNKNOWN(w) -> CHECK; v=w; have=0 }; KILL;
     atomic{ w=AFTER_ALONE(v); v=0 }; KILL;
     atomic{ est[id]=EMPTY; SIGN(0); g=0 }
  /* of an object with a handle: a swing */
  :: atomic{ have && ALONE && !UNKNOWN(w) -> CHECK; w=AFTER_ALONE(w); have=0 }; KILL;
     atomic{ est[id]=EMPTY; SIGN(0); g=0 }
#endif
  /* drop, shared: always allowed */
  :: atomic{ have -> CHECK; est[id]=DROPPED; have=0; g=0 }; KILL
/* the user's drop of an in-flight reference just empties the entry */
#ifdef M_FLIGHTDROP
  :: atomic{ ops>0 && ist==LIVE -> ops--; ist=EMPTY; owed=0 }
#else                           /* it is taken and dropped, so that somebody asks for the object */
  /* drop the in-flight reference */
  :: atomic{ ops>0 && !have && est[id]==EMPTY && !pend[id] && ist==LIVE -> ops--; v=itag };
     atomic{ g=GEN(w); est[id]=LIVE; egen[id]=g; SIGN(0) }; KILL;
     if :: atomic{ TAKEABLE(v) -> ist=EMPTY; if :: v==ptag[1] -> owed=0 :: else fi; v=0 }
        :: atomic{ !TAKEABLE(v) -> v=0 }
     fi; KILL;
     atomic{ WITHDRAW; g=0 }; KILL
#endif
  /* destroy the group */
  :: atomic{ ops>0 && !ended && known -> ops--; ended=1; owed=0 }
  :: atomic{ (ops==0 || gone) && !have -> break }
  od;
out: atomic{ DRAIN(id); g=0; v=0; i=0; have=0; done[id]=1 }
}

#define HELD(k) (est[k]==LIVE && !dead[k] && egen[k]==GEN(w))
#define ASKED(k) (est[k]==DROPPED || est[k]==TAKEN || (dead[k] && est[k]!=EMPTY))
/* a reaper that was killed while it gave a message up has an entry, like any of the dead */
#ifdef EXPIRY
#define WORK (ASKED(0) || ASKED(1) || est[2]!=EMPTY || (ended && !gone && !HELD(0) && !HELD(1)))
#define DUE (ist==LIVE)
#else
#define WORK (ASKED(0) || ASKED(1) || (ended && !gone && !HELD(0) && !HELD(1)))
#define DUE false
#endif
#define FORGET e=0; v=0; quiet=0
#define DIES if :: skip :: atomic{ reaper_kills>0 -> reaper_kills--; FORGET; goto next } fi

#define SPLICE(k) if :: atomic{ est[k]==DROPPED || (dead[k] && done[k] && est[k]==LIVE) -> est[k]=TAKEN } :: else fi
/* Everything about an entry is done for the entry as it was loaded: its owner may be swinging it
 * back meanwhile. */
#ifdef DIRECT
#define RELEASE_DIRECTLY(k) if :: atomic{ DIRECT(k) && GEN(w)==egen[k] && DIRECTLY -> v=egen[k] }; DIES;          \
                               if :: atomic{ GEN(w)==v && DIRECTLY -> w=NEXT(w) } :: else fi; v=0; DIES :: else fi
#else
#define RELEASE_DIRECTLY(k) skip
#endif
#define CONDEMN(k) if :: atomic{ est[k]==TAKEN -> v=egen[k] }; DIES;                                               \
                      if :: atomic{ (w&A)!=0 && ASKGEN(v) -> w=w|C } :: else fi; v=0; DIES :: else fi
/* the scan's compare-and-swap is not tried again when another bit changed meanwhile */
#ifdef M_ONCE
#define CLEAR(cond) if :: atomic{ (w&(A|C))==(A|C) && cond -> v=w }; DIES; \
                        if :: atomic{ w==v -> w=w&~C; v=0 } :: else -> v=0 fi :: else -> v=0 fi
#else
#define CLEAR(cond) if :: atomic{ (w&(A|C))==(A|C) && cond -> w=w&~C; v=0 } :: else -> v=0 fi
#endif
#define SCAN(k) if :: atomic{ COUNTED(est[k]) -> v=egen[k] }; DIES; CLEAR(SCANGEN(v)); DIES :: else fi
#define SCAN_FLIGHT if :: ist==LIVE -> DIES; CLEAR(true); DIES :: else fi
#define RELEASE(k) if :: atomic{ est[k]==TAKEN -> v=egen[k] }; DIES;                                                \
                       if :: atomic{ RELEASABLE && ASKGEN(v) -> w=NEXT(w) } :: else fi; v=0; DIES :: else fi
/* A message has expired, or not: whoever runs the batch takes its reference and drops it. */
#ifdef M_EXPIREEMPTY            /* its entry is emptied, and not dropped */
#define LET_GO est[2]=EMPTY
#else
#define LET_GO est[2]=DROPPED
#endif
#ifdef M_EXPIREANY              /* it ends the entry, whichever message is there by now */
#define STILL(t) (ist==LIVE)
#else
#define STILL(t) (ist==LIVE && itag==(t))
#endif
#define END_MESSAGE if :: atomic{ STILL(v) -> ist=EMPTY; if :: v==ptag[1] -> owed=0 :: else fi } :: else fi
#ifdef M_EXPIREORDER            /* the message ends before the entry is there */
#define GIVE_UP END_MESSAGE; DIES; atomic{ est[2]=LIVE; egen[2]=GEN(w) }; DIES
#else
#define GIVE_UP atomic{ est[2]=LIVE; egen[2]=GEN(w) }; DIES; END_MESSAGE; DIES
#endif
#define EXPIRE if :: skip :: atomic{ ist==LIVE && est[2]==EMPTY -> v=itag }; DIES; GIVE_UP; atomic{ LET_GO; v=0 }; DIES fi
/* Ours, or that of one who was killed; a batch's own is never LIVE here. */
#define SPLICE_GIVEN_UP if :: atomic{ est[2]!=EMPTY -> est[2]=TAKEN } :: else fi
#define FINISH(k) if :: atomic{ est[k]==TAKEN -> est[k]=EMPTY; own[k]=0 } :: else fi

proctype reaper() {                        /* what it remembers (FORGET) dies with it */
  bit e, quiet; byte v;
next:
  do
  :: atomic{ WORK || DUE -> quiet=(done[0] && done[1]) };
#if defined(EXPIRY) && !defined(M_EXPIRELATE)
     EXPIRE;
#endif
     SPLICE(0); SPLICE(1);
#ifdef EXPIRY
     SPLICE_GIVEN_UP;
#endif
#ifdef M_EXPIRELATE             /* after what was dropped has been spliced into the batch */
     EXPIRE;
#endif
     atomic{ e=(ended && !gone) };
     RELEASE_DIRECTLY(0); RELEASE_DIRECTLY(1);
     CONDEMN(0); CONDEMN(1);
#ifdef EXPIRY
     CONDEMN(2);
#endif
     if :: e -> if :: atomic{ ENDWORD(w) -> w=w|C } :: else fi; DIES :: else fi;
#ifndef M_NOREVOKE              /* in-flight entries of an ended group are emptied */
     if :: atomic{ e && ist==LIVE -> ist=EMPTY } :: else fi; DIES;
#endif
#ifndef M_SCAN
     SCAN_FLIGHT;
#endif
     SCAN(0); SCAN(1);
#ifdef EXPIRY
     SCAN(2);
#endif
#ifdef M_SCAN                   /* in-flight entries are scanned after the tables */
     SCAN_FLIGHT;
#endif
     RELEASE(0); RELEASE(1);
#ifdef EXPIRY
     RELEASE(2);
#endif
     if :: e -> if :: atomic{ RELEASABLE -> w=NEXT(w) } :: else fi; DIES;
#ifdef V_CONDEMNFREE
                if :: atomic{ (w&(A|C))==C -> w=w&~C } :: else fi; DIES;
#endif
#ifdef M_NOCLOSE                /* the slab is given back without closing its words */
                if :: atomic{ (w&A)==0 -> gone=1 } :: else fi; DIES
#else
                if :: atomic{ (w&A)==0 -> w=w|C; gone=1 } :: else fi; DIES
#endif
        :: else fi;
     FINISH(0); DIES; FINISH(1);
#ifdef EXPIRY
     DIES; FINISH(2);
#endif
     atomic{ assert(!quiet || !WORK); d_step{ FORGET } }
  :: atomic{ done[0] && done[1] && !WORK -> break }
  od;
#ifdef EXPIRY
  assert(est[2]==EMPTY);
#endif
  /* nothing lost */
  assert((w&A)==0 || (ist==LIVE && !ended));
  /* a word that is closed stays so until it is carved */
  assert((w&C)==0 || gone);
  assert(est[0]==EMPTY && est[1]==EMPTY)
}
init { atomic{ run worker(0); run worker(1); run reaper() } }
