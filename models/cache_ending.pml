/* destroy() of a cache looks for users, while others allocate from it.
 *
 * Code: fst_cache_destroy(), unused(), finish() (core/arena/destroy.c); fst_children_suspend(), fst_child_resumed()
 * (core/alloc/child.c); fst_cache_lock_ending(), finish_ending(), fst_cache_resumed_for() (core/alloc/cache.c); undone(), try_get()
 * (core/arena/object.c).
 *
 * One cache with two children, and a worker for each, which allocates (or resolves: the same to this) and drops. A destroyer takes the
 * cache's lock `ending`, suspends the children one after the other, looks at the entries of the living, and ends the cache or lets the
 * children go on. All of them may be killed between any two steps, KILLS times in all; a killed destroyer is replaced. Memory is sequentially
 * consistent: worker and destroyer both have a full barrier between their store and their look (PAIR(cache-ending)); when the names' lock
 * is held between two steps of the destroyer makes no difference here.
 *
 * Safety: who has an object finds the cache not ended; who is told that it has ended, finds it so; who has the lock finds no child
 * suspended by somebody else.
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

#define DESTROYER 2             /* workers are 0 and 1; the second destroyer is 3, the third 4 */
#define NOBODY 9

byte child[2] = LIVE;
bit ended;                      /* the cache itself */
bit entry[2];                   /* a worker's entry is LIVE */
byte lock = NOBODY;             /* `ending` */
bit dead[5];
byte kills = KILLS;

#define KILL if :: skip :: atomic{ kills>0 -> kills--; dead[me]=1; goto out } fi

/* finish_ending(): what a dead owner of the lock left. */
#define MOVE(i, to) atomic{ if :: child[i]==ENDING || (to)==ENDED -> child[i]=to :: else fi }
#ifdef M_NORESTORE              /* the lock is taken over, and nothing else */
#define FINISH skip
#elif defined(M_ALWAYSLIVE)     /* also of a cache that had ended */
#define FINISH MOVE(0, LIVE); KILL; MOVE(1, LIVE)
#else
#define FINISH if :: ended -> MOVE(0, ENDED); KILL; MOVE(1, ENDED) :: else -> MOVE(0, LIVE); KILL; MOVE(1, LIVE) fi
#endif
#define LOCK if :: atomic{ lock==NOBODY -> lock=me } :: atomic{ lock!=NOBODY && dead[lock] -> lock=me }; KILL; FINISH fi; KILL
#define UNLOCK atomic{ assert(lock==me); lock=NOBODY }

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
     child[0]=ENDING; KILL; child[1]=ENDING; KILL;                        /* fst_children_suspend() */
#endif
#ifndef M_SCANFIRST
     used=USED(0); KILL; used=used||USED(1); KILL;                        /* count_users() */
#endif
#ifdef M_UNLOCKEARLY            /* the lock is let go before the children are what they will be */
     UNLOCK; KILL;
#endif
     if :: used -> MOVE(0, LIVE); KILL; MOVE(1, LIVE); KILL
        :: !used ->
#ifdef M_ENDFIRST               /* the children end before the cache */
           MOVE(0, ENDED); KILL; MOVE(1, ENDED); KILL; ended=1
#else
           ended=1; KILL; MOVE(0, ENDED); KILL; MOVE(1, ENDED)
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

proctype worker(bit me) {
  byte ops = OPS;
  do
  :: ops>0 -> ops--;
again:
     if :: child[me]==ENDED -> assert(ended); break
#ifdef M_NOWAIT                 /* suspended is taken for ended */
        :: child[me]==ENDING -> assert(ended); break
#else
        :: child[me]==ENDING -> LOCK; assert(child[me]!=ENDING); UNLOCK; goto again    /* fst_child_resumed() */
#endif
        :: child[me]==LIVE
     fi; KILL;
#ifdef M_LOOKONCE               /* not again after the entry is there */
     entry[me]=1; KILL;
#elif defined(M_LOOKFIRST)      /* the second look comes before the entry */
     if :: child[me]==LIVE :: else -> goto again fi; KILL;
     entry[me]=1; KILL;
#else
     entry[me]=1; KILL;
     if :: child[me]==LIVE                    :: atomic{ child[me]!=LIVE -> entry[me]=0; goto again } fi;   /* undone(), look() */
#endif
     KILL;
     assert(!ended); KILL;                                                /* use */
     entry[me]=0; KILL
  :: else -> break
  od;
out: skip
}
init { atomic{ run worker(0); run worker(1); run destroyer() } }
