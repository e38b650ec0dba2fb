/* How groups and caches end: the queue of ended groups, their children, a cache with two names, and
 * a batch that takes so many at a time.
 *
 * Code: fst_registry_queue_group(), fst_registry_queue_cache(), rebuild() (core/alloc/registry.c);
 * fst_cache_end_name(), fst_cache_end() (core/alloc/cache.c); fst_end_group()
 * (core/teardown/end.c); fst_queue_splice(), fst_queue_group_done(), fst_queue_all_groups_done()
 * (core/teardown/queue.c); release_cache(), fst_release_group(), fst_release_children(),
 * fst_release_ended() (core/teardown/release.c). Each inline below is called like its function.
 *
 * Two groups, each with one child of the same cache, which has a name of its own and an alias. Each
 * child has one object, which a user has and drops, or sends away: in flight, it stays until its
 * group is destroyed. An ender closes or destroys groups and destroys names, OPS times; a batch
 * takes one group off the queue. The ender, a user and the reaper may be killed between any two
 * steps, KILLS and RKILLS times, the first two being replaced; who finds the lock of a dead owner
 * takes it over and rebuilds. What an object's release needs is models/references.pml; here an
 * object without a user is released in one step by the batch that looks at its child. Memory is
 * sequentially consistent: everything but the drop happens under the lock.
 *
 * Safety: nothing is released twice, a group not before its child, a cache not before its children,
 * none while it is on the queue or taken off it by a batch under way; nothing is linked twice.
 * Nothing lost: when nobody has anything to do, whatever ended and is not used is FREE, and no flag
 * is left.
 *
 *  holds: -DOPS=1
 *  holds: -DKILLS=0 -DRKILLS=0
 *  holds: -DKILLS=0
 *  fails: -DM_NOQUEUED -DOPS=1 -DKILLS=0 -DRKILLS=0
 *  fails: -DM_NOAGAIN -DKILLS=0 -DRKILLS=0
 *  fails: -DM_CLEARFIRST -DKILLS=0 -DRKILLS=0
 *  fails: -DM_GROUPFIRST -DOPS=1 -DKILLS=0 -DRKILLS=0
 *  fails: -DM_ALIASENDS -DOPS=1 -DKILLS=0 -DRKILLS=0
 *  fails: -DM_QUEUEFIRST -DKILLS=0 -DRKILLS=0
 *  fails: -DM_NOCACHEQUEUED -DKILLS=0 -DRKILLS=0
 *  fails: -DM_NODIRTY -DOPS=1 -DKILLS=0
 *  fails: -DM_KEEPAGAIN -DKILLS=0 -DRKILLS=2
 *  fails: -DM_NOWALK -DRKILLS=0
 *  fails: -DM_KEEPHEAD -DRKILLS=0
 *  fails: -DM_NOFINISH -DRKILLS=0
 *  deep: -DKILLS=0 -DRKILLS=2
 *  deep: -DRKILLS=0
 *  deep: -DRKILLS=0 -DV_NOREBUILDWALK
 */
#ifndef OPS
#define OPS 2
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef RKILLS
#define RKILLS 1
#endif

/* States of groups, of children (CLOSED: OFFLINE, DESTROYED: ENDED) and of the cache. */
#define FREE 0
#define LIVE 1
#define CLOSED 2
#define DESTROYED 3
#define NAMELESS 2
#define ENDED 3
#define NONE 2

/* Who may have the lock: an ender, a user for each object, reapers one after the other, the
 * ender after the killed one. */
#define ENDER 0
#define USER 1
#define REAPER 3
#define SECOND 6
#define NOBODY 255
#define FLIGHT 2                /* the object is used by a message on its way */

byte gs[2] = LIVE;
bit queued[2], again[2];
byte next[2] = NONE;
byte head = NONE, tail = NONE;
byte cs[2] = LIVE;
bit obj[2] = 1; byte used[2] = 1;
byte ks = LIVE;
/* the second name; the cache is on its own queue; that, or a batch has it */
bit alias = 1, kq, kqueued;
bit walk, dirty, started;
byte lock = NOBODY;
bit dead[7], buried[7], done[3];
byte kills = KILLS, reaper_kills = RKILLS;

#define KILL(p) if :: skip :: atomic{ kills>0 -> kills--; dead[p]=1; goto out } fi
#define DIES(p) if :: skip :: atomic{ reaper_kills>0 -> reaper_kills--; dead[me]=1; goto dead_reaper } fi

/* rebuild() of core/alloc/registry.c: children from their group and cache, the queues empty, and
 * a batch that looks at everything. */
inline rebuild() {
  d_step{
    if :: gs[0]==DESTROYED || (ks==ENDED && cs[0]!=FREE) -> if :: cs[0]!=FREE -> cs[0]=DESTROYED :: else fi :: else fi;
    if :: gs[1]==DESTROYED || (ks==ENDED && cs[1]!=FREE) -> if :: cs[1]!=FREE -> cs[1]=DESTROYED :: else fi :: else fi;
    if :: gs[0]==CLOSED && cs[0]==LIVE -> cs[0]=CLOSED :: else fi;
    if :: gs[1]==CLOSED && cs[1]==LIVE -> cs[1]=CLOSED :: else fi;
    if :: ks==ENDED || ks==FREE -> alias=0 :: else fi;
#ifndef M_KEEPHEAD              /* a queue that a dead owner left half linked is kept */
    head=NONE; kq=0;
#endif
/* the batch that buries the dead owner looks at everything anyway */
#ifndef V_NOREBUILDWALK
    walk=1
#endif
  }
}

/* fst_registry_lock() */
#define TAKE_LOCK(p) if :: atomic{ lock==NOBODY -> lock=p } \
                        :: atomic{ lock!=NOBODY && dead[lock] -> lock=p; rebuild() } fi
#define LEAVE_LOCK(p) atomic{ assert(lock==p); lock=NOBODY }

/* queue(): STEP is a point to be killed at. */
#define QUEUE(g, STEP)                                                                    \
  if :: atomic{ queued[g] -> if :: started -> AGAIN(g) :: else fi }                       \
     :: atomic{ !queued[g] -> queued[g]=1; next[g]=NONE; assert(gs[g]>=CLOSED && head!=g && !(head==1-g && next[1-g]==g)) }; STEP; \
        atomic{ if :: head==NONE -> head=g :: else -> next[tail]=g fi }; STEP;             \
        tail=g                                                                             \
  fi
/* ended further while a batch has it, which may be past it: not queued once more */
#ifdef M_NOAGAIN
#define AGAIN(g) skip
#else
#define AGAIN(g) again[g]=1
#endif

#ifdef M_NOQUEUED               /* a group that is on the queue is released */
#define UNQUEUED(g) true
#else
#define UNQUEUED(g) (!queued[g])
#endif
#ifdef M_GROUPFIRST             /* a group is released before its child */
#define CHILDLESS(g) true
#else
#define CHILDLESS(g) (cs[g]==FREE)
#endif
/* what a killed batch left half said about a group is kept beyond its release */
#ifdef M_KEEPAGAIN
#define FORGET_AGAIN(g) skip
#else
#define FORGET_AGAIN(g) again[g]=0
#endif
/* fst_release_group(). A FREE descriptor is anybody's: it must not be linked, nor be a batch's. */
#define TRY_GROUP(g) atomic{ if :: gs[g]>=CLOSED && CHILDLESS(g) && UNQUEUED(g) -> \
                                   assert(cs[g]==FREE && head!=g && !(head==1-g && next[1-g]==g)); gs[g]=FREE; FORGET_AGAIN(g) :: else fi }
/* release_cache(). k: a batch has it. */
#ifdef M_NOCACHEQUEUED          /* a cache that is on the queue is released */
#define CACHE_UNQUEUED true
#else
#define CACHE_UNQUEUED (!kqueued)
#endif
#define TRY_CACHE atomic{ if :: ks==ENDED && cs[0]==FREE && cs[1]==FREE && CACHE_UNQUEUED -> assert(!kq); ks=FREE :: else fi }
/* fst_release_children() */
#define RELEASE_CHILD(p, i, STEP)                                                          \
  if :: cs[i]>=CLOSED && !obj[i] ->                                                        \
        TAKE_LOCK(p); STEP;                                                                \
        if :: atomic{ cs[i]>=CLOSED && !obj[i] -> cs[i]=FREE }; STEP;                      \
              TRY_CACHE; STEP; TRY_GROUP(i); STEP                                          \
           :: else fi;                                                                     \
        LEAVE_LOCK(p)                                                                      \
     :: else fi

proctype user(bit i) {
  /* drop, shared: the next batch releases the object */
  if :: used[i]=0
     /* send, and drop: nobody asks for it */
     :: atomic{ gs[i]==LIVE && ks<ENDED -> used[i]=FLIGHT }
     /* drop, private */
     :: atomic{ used[i]=0; obj[i]=0 }; KILL(USER+i); RELEASE_CHILD(USER+i, i, KILL(USER+i))
     :: skip                                                                  /* it stays */
  fi;
out: atomic{ done[USER+i]=1 }
}

inline end_group(g, to) {                                                  /* fst_end_group() */
  TAKE_LOCK(me); KILL(me);
  if :: atomic{ gs[g]!=FREE && gs[g]<to -> gs[g]=to }; KILL(me);
        atomic{ if :: cs[g]!=FREE && cs[g]<to -> cs[g]=to :: else fi }; KILL(me);
        QUEUE(g, KILL(me)); KILL(me)
     :: else fi;
  LEAVE_LOCK(me)
}

/* fst_cache_destroy(): of the alias, or of the cache's own name. The last name to go ends the
 * body, if nobody uses an object. */
#ifdef M_ALIASENDS              /* any name ends the body */
#define LAST(a) true
#else
#define LAST(a) ((a) && ks==NAMELESS || !(a) && !alias)
#endif
#define QUEUE_CACHE if :: atomic{ ks==ENDED && !kqueued -> kqueued=1 }; KILL(me); kq=1 :: else fi
inline destroy_name(a) {
  TAKE_LOCK(me); KILL(me);
  if :: atomic{ (ks==LIVE || ks==NAMELESS && (a)) && (!(a) || alias) && !(LAST(a)) -> if :: (a) -> alias=0 :: else -> ks=NAMELESS fi }
     :: (ks==LIVE || ks==NAMELESS && (a)) && (!(a) || alias) && (LAST(a)) && !used[0] && !used[1] ->
        atomic{ assert(!alias || ks==NAMELESS); ks=ENDED }; KILL(me);   /* end_last() */
        alias=0; KILL(me);
#ifdef M_QUEUEFIRST             /* it is queued before its children have ended */
        QUEUE_CACHE; KILL(me);
#endif
        LEAVE_LOCK(me); KILL(me);
        TAKE_LOCK(me); atomic{ if :: cs[0]!=FREE -> cs[0]=DESTROYED :: else fi }; LEAVE_LOCK(me); KILL(me);
        TAKE_LOCK(me); atomic{ if :: cs[1]!=FREE -> cs[1]=DESTROYED :: else fi }; LEAVE_LOCK(me); KILL(me);
        TAKE_LOCK(me); KILL(me);
#ifndef M_QUEUEFIRST
        /* fst_registry_queue_cache() */
        QUEUE_CACHE; KILL(me)
#endif
     :: else fi;
  LEAVE_LOCK(me); KILL(me)
}

proctype ender() {
  byte me = ENDER, ops = OPS; bit g;
begin:
  do
  :: ops>0 -> ops--; if :: g=0 :: g=1 fi;
     if :: end_group(g, CLOSED) :: end_group(g, DESTROYED) :: destroy_name(g) fi
  :: ops==0 -> break
  od;
  goto over;
out: atomic{ me=SECOND; g=0; goto begin }
over: atomic{ done[ENDER]=1; g=0 }
}

#define UNBURIED(p) (dead[p] && !buried[p])
#define ASKED(i) (obj[i] && (!used[i] || (dead[USER+i] && used[i]==1)))
#define WORK (head!=NONE || kq || walk || dirty || UNBURIED(0) || UNBURIED(1) || UNBURIED(2) || UNBURIED(6) || ASKED(0) || ASKED(1))
/* fst_finish_deaths(): what the dead had is asked for; and it may have been killed between the
 * end of one thing and that of the next. */
#if defined(M_NOWALK)           /* nobody looks at everything after a death */
#define BURY(p) if :: atomic{ UNBURIED(p) -> buried[p]=1 } :: else fi
#else
#define BURY(p) if :: atomic{ UNBURIED(p) -> buried[p]=1 }; DIES(me); walk=1; DIES(me) :: else fi
#endif
/* What nobody uses; and of what was taken as destroyed, what is in flight. */
#define FREE_OBJECT(i) atomic{ if :: dead[USER+i] && used[i]==1 || used[i]==FLIGHT && (all || k || g==i) && (gs[i]==DESTROYED || ks==ENDED) \
                                     -> used[i]=0 :: else fi; if :: obj[i] && !used[i] -> obj[i]=0 :: else fi }

/* fst_queue_group_done() */
#define TAKEN(g)                                                                           \
  atomic{ a=again[g]; queued[g]=0; again[g]=0 }; DIES(me);                                 \
  if :: a -> QUEUE(g, DIES(me)) :: else -> TRY_GROUP(g) fi; a=0; DIES(me)

proctype reaper() {
  byte me = REAPER, g = NONE; bit all, k, a;
begin:
  do
  :: atomic{ WORK ->
#ifndef M_NODIRTY               /* a batch that was broken off is not begun again */
       all=dirty;
#endif
       dirty=1; started=1 }; DIES(me);
     BURY(0); BURY(1); BURY(2); BURY(6);
     if :: all -> BURY(3); BURY(4) :: else fi;
     /* fst_queue_splice(): one group at a time */
     TAKE_LOCK(me); DIES(me);
     atomic{ all=all||walk; walk=0; k=kq; kq=0 }; DIES(me);
/* a destroyer that was killed between the body's end and its children's */
#ifndef M_NOFINISH
     atomic{ if :: all && ks==ENDED -> if :: cs[0]!=FREE -> cs[0]=DESTROYED :: else fi; if :: cs[1]!=FREE -> cs[1]=DESTROYED :: else fi :: else fi };
#endif
     DIES(me);
     if :: atomic{ head!=NONE -> g=head; head=next[g] }; DIES(me); next[g]=NONE :: else fi;
#ifdef M_CLEARFIRST             /* it is not QUEUED any more while the batch has it */
     atomic{ if :: g!=NONE -> queued[g]=0 :: else fi };
#endif
     DIES(me); LEAVE_LOCK(me); DIES(me);
     /* fst_release_ended() */
     FREE_OBJECT(0); DIES(me); FREE_OBJECT(1); DIES(me);
     if :: all || k || g==0 || cs[0]>=CLOSED && !obj[0] -> RELEASE_CHILD(me, 0, DIES(me)) :: else fi; DIES(me);
     if :: all || k || g==1 || cs[1]>=CLOSED && !obj[1] -> RELEASE_CHILD(me, 1, DIES(me)) :: else fi; DIES(me);
     if :: k || all -> TAKE_LOCK(me); DIES(me); kqueued=kq; TRY_CACHE; DIES(me); LEAVE_LOCK(me) :: else fi; DIES(me);
     /* fst_queue_all_groups_done() */
     if :: all -> TAKE_LOCK(me); DIES(me);
           atomic{ queued[0]=0; queued[1]=0;
                   if :: head!=NONE -> queued[head]=1; if :: next[head]!=NONE -> queued[next[head]]=1 :: else fi :: else fi }; DIES(me);
           if :: !queued[0] -> TAKEN(0) :: else fi;
           if :: !queued[1] -> TAKEN(1) :: else fi;
           LEAVE_LOCK(me)
        :: !all && g!=NONE -> TAKE_LOCK(me); DIES(me);
           if :: g==0 -> TAKEN(0) :: g==1 -> TAKEN(1) fi; LEAVE_LOCK(me)
        :: else fi; DIES(me);
     atomic{ g=NONE; all=0; k=0; a=0; dirty=0; started=0 }
  :: atomic{ done[0] && done[1] && done[2] && !WORK -> break }
  od;
  /* nothing lost */
  assert(gs[0]<=LIVE || (used[0]==1 && !dead[USER]) || (used[0]==FLIGHT && gs[0]==CLOSED) || (gs[0]==FREE && cs[0]==FREE));
  assert(gs[1]<=LIVE || (used[1]==1 && !dead[USER+1]) || (used[1]==FLIGHT && gs[1]==CLOSED) || (gs[1]==FREE && cs[1]==FREE));
  assert(ks!=ENDED);
  assert(!queued[0] && !queued[1] && !kqueued && (ks!=FREE || !alias));
  goto over;
dead_reaper:
  atomic{ me++; g=NONE; all=0; k=0; a=0; goto begin }
over: skip
}
init { atomic{ run ender(); run user(0); run user(1); run reaper() } }
