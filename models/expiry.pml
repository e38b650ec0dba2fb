/* When messages expire, and who knows that they will.
 *
 * Code: fst_message_expire(), fst_message_will_expire() (core/reclaim/message.c), run()
 * (core/reclaim/batch.c), fst_inflight_date() (core/refs/inflight.c).
 *
 * Two senders with one message each, a batch that gives up what has expired, and somebody else who
 * does when asked. `at` is sb->expire_at, of which only matters whether it is "never": nobody looks
 * then, until somebody dies. Whether a message that is looked at has expired is anybody's guess,
 * but one that does not say when it was sent has not. KILLS of all of them are killed between any
 * two steps; an expirer that was killed is replaced. How a message is given up, so that nothing of
 * it is lost, is in references.pml (-DEXPIRY).
 *
 * Nothing lost: when all have sent or were killed, nobody has died whom nobody has buried, and `at`
 * is never, no message is left.
 *
 *  holds:
 *  fails: -DM_NEVERLAST
 *  fails: -DM_SAYFIRST
 *  fails: -DM_NOLOOK
 *  fails: -DM_NOREST
 *  fails: -DM_SAIDONLY
 *  deep: -DKILLS=3
 */
#ifndef KILLS
#define KILLS 2
#endif

#define NEVER 0
#define SOON 1

bit live[2], said[2];           /* the message; when it was sent stands beside it */
bit sent[2];                    /* the sender has come to its end, or was killed */
byte at = NEVER;
byte unburied;                  /* deaths that no batch has seen */
byte busy;                      /* who looks just now */
byte kills = KILLS;

#define KILL if :: skip :: atomic{ kills>0 -> kills--; unburied++; goto out } fi

proctype sender(bit i) {
#ifdef M_SAYFIRST               /* the time is made earlier before the message is there */
  at=SOON; KILL;
  live[i]=1; KILL; said[i]=1
#else
  live[i]=1; KILL; said[i]=1; KILL;
  at=SOON
#endif
  ;
out: sent[i]=1
}

/* One message. What stays makes the next look come. */
#ifdef M_SAIDONLY               /* what does not say when it was sent is not waited for */
#define YOUNG(i) said[i]
#else
#define YOUNG(i) true
#endif
#define LOOK(i)                                                                          \
     if :: atomic{ live[i] && said[i] -> live[i]=0 }; KILL                               \
        :: atomic{ live[i] -> if :: YOUNG(i) -> rest=1 :: else fi }                      \
        :: !live[i]                                                                      \
     fi

/* only a batch buries, and there is one at a time; others come when they are asked to */
proctype expirer(bit batch) {
  bit rest; byte buried;
again:
end: do
  :: atomic{ at==SOON || (batch && unburied>0) -> busy++; if :: batch -> buried=unburied :: else fi };
#ifdef M_NOLOOK                 /* only `at` makes anybody look */
     if :: atomic{ at==NEVER -> unburied=unburied-buried; buried=0; busy--; goto again } :: else fi;
#endif
#ifndef M_NEVERLAST             /* it is set to never after the look */
     at=NEVER; KILL;
#endif
     LOOK(0); LOOK(1);
#ifdef M_NEVERLAST
     at=NEVER; KILL;
#endif
#ifndef M_NOREST                /* what stays is forgotten */
     if :: rest -> at=SOON; KILL :: else fi;
#endif
     /* What the dead left unsaid is given a time. */
     if :: atomic{ buried>0 -> if :: sent[0] -> said[0]=1 :: else fi; if :: sent[1] -> said[1]=1 :: else fi }; KILL :: else fi;
     atomic{ rest=0; unburied=unburied-buried; buried=0; busy-- }
  od;
out: atomic{ rest=0; buried=0; busy--; goto again }
}

init {
  atomic{ run sender(0); run sender(1); run expirer(0); run expirer(1) };
  atomic{ sent[0] && sent[1] && busy==0 && at==NEVER && unburied==0 -> assert(!live[0] && !live[1]) }
}
