/* destroy() of a cache looks for users, while others allocate from it, or give its name to another
 * cache.
 *
 * Code: fst_cache_destroy(), unused(), finish() (core/arena/destroy.c); fst_children_suspend(),
 * fst_child_resumed() (core/alloc/child.c); fst_cache_lock_ending(), finish_ending(),
 * fst_cache_resumed_for() (core/alloc/cache.c); undone(), try_get() (core/arena/object.c).
 *
 * One cache with two children, and a worker for each, which allocates (or resolves: the same to
 * this) and drops. A destroyer takes the cache's lock `ending`, suspends the children one after the
 * other, looks at the entries of the living, and ends the cache or lets the children go on. All of
 * them may be killed between any two steps, KILLS times in all; a killed destroyer is replaced.
 * Memory is sequentially consistent: worker and destroyer both have a full barrier between their
 * store and their look (PAIR(cache-ending)); when the names' lock is held between two steps of the
 * destroyer makes no difference here.
 *
 * Safety: who has an object finds the cache not ended; who is told that it has ended, finds it so;
 * who has the lock finds no child suspended by somebody else.
 *
 * -DREPLACE: a replacer takes the lock, makes the cache RETIRED, and its children go OFFLINE
 * (retire(), end_retired(), core/alloc/cache.c); a batch looks at all children after a death
 * (due_state(), core/alloc/registry.c), and releases the cache when no child is left. Nothing is
 * allocated once replacing has returned; who is told that a child is OFFLINE finds the cache
 * retired, who has an object finds it not released, and in the end it is.
 *
 *  holds:
 *  holds: -DTRIES=3 -DOPS=3
 *  fails: -DM_NOSUSPEND
 *  fails: -DM_SCANFIRST
 *  fails: -DM_LOOKONCE
 *  fails: -DM_LOOKFIRST
 *  fails: -DM_NOWAIT
 *  fails: -DM_NORESTORE
 *  fails: -DM_ALWAYSLIVE
 *  fails: -DM_UNLOCKEARLY
 *  fails: -DM_ENDFIRST
 *  holds: -DREPLACE -DTRIES=1 -DOPS=1
 *  fails: -DREPLACE -DM_RETIREDLIVE -DTRIES=1
 *  fails: -DREPLACE -DM_OFFLINEFIRST
 *  fails: -DREPLACE -DM_STAYLIVE
 *  fails: -DREPLACE -DM_RELEASEUSED
 *  fails: -DREPLACE -DM_ENDRETIRED
 *  fails: -DREPLACE -DM_SUSPENDANY
 *  deep: -DREPLACE
 *  deep: -DTRIES=4 -DOPS=4 -DKILLS=2
 */
#ifndef OPS
#define OPS 2                   /* allocations of each worker */
#endif
#ifndef TRIES
#define TRIES 2                 /* calls of destroy() */
#endif
#ifndef KILLS
#define KILLS 1
#endif

#define LIVE 0
#define ENDING 1
#define ENDED 2
#define OFFLINE 3
#define RETIRED 4

#define DESTROYER 2             /* workers are 0 and 1; the second destroyer is 3, the third 4 */
#define REPLACER 5
#define BATCH 8                 /* whoever runs it */
#define NOBODY 9

byte child[2] = LIVE;
byte cache = LIVE;              /* itself: LIVE, ENDED or RETIRED */
#define ended (cache==ENDED)
bit replaced, released;         /* a call that replaced it has returned; it was given back */
/* somebody has died, and no batch has looked at the children since */
bit unburied;
bit entry[2];                   /* a worker's entry is LIVE */
byte lock = NOBODY;             /* `ending` */
bit dead[9];
byte kills = KILLS;

#define KILL if :: skip :: atomic{ kills>0 -> kills--; dead[me]=1; unburied=1; goto out } fi

/* finish_ending(): what a dead owner of the lock left. */
#define MOVE(i, to) atomic{ if :: child[i]==ENDING || (to)==ENDED -> child[i]=to :: else fi }
#define TAKE_OFF(i) atomic{ if :: child[i]==LIVE || child[i]==ENDING -> child[i]=OFFLINE :: else fi }
#ifdef M_NORESTORE              /* the lock is taken over, and nothing else */
#define FINISH skip
#elif defined(M_ALWAYSLIVE)     /* also of a cache that had ended */
#define FINISH MOVE(0, LIVE); KILL; MOVE(1, LIVE)
#else
#define FINISH if :: ended -> MOVE(0, ENDED); KILL; MOVE(1, ENDED)            \
                  :: cache==RETIRED -> TAKE_OFF(0); KILL; TAKE_OFF(1)         \
                  :: cache==LIVE -> MOVE(0, LIVE); KILL; MOVE(1, LIVE) fi
#endif
#define LOCK if :: atomic{ lock==NOBODY -> lock=me } :: atomic{ lock!=NOBODY && dead[lock] -> lock=me }; KILL; FINISH fi; KILL
#define UNLOCK atomic{ assert(lock==me); lock=NOBODY }

#ifdef M_SUSPENDANY             /* whatever a child is, it is suspended */
#define SUSPEND(i) child[i]=ENDING
#else
#define SUSPEND(i) atomic{ if :: child[i]==LIVE -> child[i]=ENDING :: else fi }
#endif
#ifdef M_ENDRETIRED             /* it does not look again whether it is the cache's name */
#define STILL_ITS_NAME true
#else
#define STILL_ITS_NAME (cache==LIVE)
#endif
#define END if :: atomic{ STILL_ITS_NAME -> assert(!released); cache=ENDED } :: atomic{ !STILL_ITS_NAME -> goto resume } fi
#define USED(i) (entry[i] && !dead[i])

proctype destroyer() {
  byte me = DESTROYER, tries = TRIES; bit used;
begin:
  do
  :: tries>0 && !ended -> tries--;
     LOCK;
     if :: ended -> UNLOCK; break :: else fi;
#ifdef M_SCANFIRST              /* it looks for users, then suspends */
     used=USED(0); KILL; used=used||USED(1); KILL;
#endif
#ifndef M_NOSUSPEND             /* nobody is told that it looks */
     /* fst_children_suspend() */
     SUSPEND(0); KILL; SUSPEND(1); KILL;
#endif
#ifndef M_SCANFIRST
     used=USED(0); KILL; used=used||USED(1); KILL;                        /* fst_users_count() */
#endif
#ifdef M_UNLOCKEARLY            /* the lock is let go before the children are what they will be */
     UNLOCK; KILL;
#endif
     if :: used -> resume: MOVE(0, LIVE); KILL; MOVE(1, LIVE); KILL
        :: !used ->
#ifdef M_ENDFIRST               /* the children end before the cache */
           MOVE(0, ENDED); KILL; MOVE(1, ENDED); KILL; END
#else
           END; KILL; MOVE(0, ENDED); KILL; MOVE(1, ENDED)
#endif
           ; KILL
     fi;
#ifndef M_UNLOCKEARLY
     UNLOCK;
#endif
     used=0; KILL
  :: else -> break
  od;
  goto over;
out: atomic{ me++; used=0; goto begin }
over: skip
}

#ifdef M_STAYLIVE               /* only a batch after a death takes them off */
#define TAKE_BOTH_OFF skip
#else
#define TAKE_BOTH_OFF TAKE_OFF(0); KILL; TAKE_OFF(1); KILL
#endif

proctype replacer() {
  byte me = REPLACER; bit mine;
  LOCK;
#ifdef M_OFFLINEFIRST           /* the children first, the cache after them */
  if :: cache==LIVE -> TAKE_BOTH_OFF; if :: atomic{ cache==LIVE -> cache=RETIRED; mine=1 } :: cache!=LIVE fi; KILL :: cache!=LIVE fi;
#else
  if :: atomic{ cache==LIVE -> cache=RETIRED; mine=1 }; KILL; TAKE_BOTH_OFF :: cache!=LIVE fi;
#endif
  UNLOCK; KILL;
  if :: mine -> replaced=1 :: else fi;
/* the name is free, or still the cache's: nobody need begin again */
out: mine=0
}

/* What a cache's state means for its children. */
#ifdef M_RETIREDLIVE            /* RETIRED means nothing */
#define MEANS_OFFLINE false
#else
#define MEANS_OFFLINE (cache==RETIRED)
#endif
#define DUE(i) atomic{ if :: ended -> child[i]=ENDED                                                          \
                          :: MEANS_OFFLINE && (child[i]==LIVE || child[i]==ENDING) -> child[i]=OFFLINE        \
                          :: !ended && !MEANS_OFFLINE && child[i]==ENDING && (lock==NOBODY || dead[lock]) -> child[i]=LIVE  \
                          :: else fi }
#ifdef M_RELEASEUSED            /* who has an object is not asked for */
#define UNUSED true
#else
#define UNUSED (!USED(0) && !USED(1))
#endif

proctype batch() {
  byte me = BATCH;
again:
end: do
  :: unburied -> unburied=0; DUE(0); KILL; DUE(1); KILL
  :: atomic{ cache==RETIRED && !released && !unburied && child[0]==OFFLINE && child[1]==OFFLINE && UNUSED -> released=1 }
  od;
out: atomic{ dead[me]=0; goto again }      /* another one, in another process */
}

proctype worker(bit me) {
  byte ops = OPS; bit late;
  do
  :: ops>0 -> ops--;
again:
     late=replaced;
     if :: child[me]==ENDED -> assert(ended); break
#ifdef M_NOWAIT                 /* suspended is taken for ended */
        :: child[me]==ENDING -> assert(ended); break
#else
        /* fst_child_resumed() */
        :: child[me]==ENDING -> LOCK; assert(child[me]!=ENDING); UNLOCK; goto again
#endif
        :: child[me]==OFFLINE -> assert(cache==RETIRED); break
        :: child[me]==LIVE
     fi; KILL;
#ifdef M_LOOKONCE               /* not again after the entry is there */
     entry[me]=1; KILL;
#elif defined(M_LOOKFIRST)      /* the second look comes before the entry */
     if :: child[me]==LIVE :: else -> goto again fi; KILL;
     entry[me]=1; KILL;
#else
     entry[me]=1; KILL;
     /* undone(), look() */
     if :: child[me]==LIVE                    :: atomic{ child[me]!=LIVE -> entry[me]=0; goto again } fi;
#endif
     KILL;
     /* use */
     assert(!ended && !released && !late); KILL;
     entry[me]=0; KILL
  :: else -> break
  od;
out: skip
}
init {
  atomic{ run worker(0); run worker(1); run destroyer();
#ifdef REPLACE
    run replacer(); run batch()
#endif
  };
  timeout -> assert(cache!=RETIRED || released)
}
