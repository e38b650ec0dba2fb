/* A channel: a bounded queue that no kill and no stop can hold up (core/channel/queue.c).
 *
 * Cells of a ring and nodes that carry messages. A cell is a position and a node; a node is FREE,
 * OWNED by a process, or QUEUED at a position. Two putters put PUTS messages each, takers take,
 * perhaps somebody closes; KILLS of them are killed between any two steps. A mender, which may
 * itself be broken off and begun again, frees what the dead had; with -DACK it puts back what a
 * dead taker had not acknowledged. Positions wrap around at P, and begin just below it. Everything
 * is sequentially consistent: each write that others decide by is a compare-and-swap.
 *
 * Tail and head are hints: who comes to a position that was used moves the hint behind it, or does
 * not, and goes on to the next position. A cell stays as it is when its message is taken, until the
 * message that comes N positions later is put there.
 *
 * Nobody waits: whoever goes round again has come further, or something has moved meanwhile.
 * Waiting on purpose is waiting.pml.
 *
 * Safety: no message is taken twice; those of one putter are taken in order; what put() said is in
 * the queue was taken, is in it, or (without -DACK) was taken by somebody who was killed; never
 * more than CAP are queued, at a put; nothing is put after the end. In the end each node is FREE or
 * QUEUED in its cell, at which takers come by.
 *
 *  holds:
 *  holds: -DPATIENCE -DKILLS=0
 *  holds: -DPUTTERS=1 -DTAKERS=2 -DPUTS=2
 *  holds: -DPUTTERS=1 -DTAKERS=2 -DPUTS=2 -DPATIENCE -DKILLS=0
 *  holds: -DCLOSE -DPUTTERS=1 -DPUTS=2
 *  holds: -DCLOSE -DPATIENCE -DPUTTERS=1 -DPUTS=2 -DKILLS=0
 *  deep: -DCLOSE
 *  holds: -DACK -DPUTTERS=1 -DTAKERS=2
 *  fails: -DM_WRITING -DPATIENCE -DKILLS=0
 *  fails: -DM_NOHELPTAIL -DPATIENCE -DKILLS=0
 *  fails: -DM_HELPTAILQUEUED -DPATIENCE -DKILLS=0 -DPUTTERS=1 -DPUTS=4 -DGETS=3
 *  fails: -DM_NOHELPHEAD -DPATIENCE -DKILLS=0 -DPUTTERS=1 -DTAKERS=2
 *  fails: -DM_GAP -DKILLS=0 -DPUTTERS=1 -DPUTS=4 -DGETS=4
 *  fails: -DM_NOPOSITION -DPUTTERS=1 -DTAKERS=2 -DPUTS=3 -DCAP=2 -DGETS=3 -DKILLS=0
 *  fails: -DM_CELLFIRST
 *  fails: -DM_QUEUEDLATE
 *  fails: -DM_TAKEBLIND -DPUTTERS=1 -DTAKERS=2
 *  fails: -DM_NOMEND
 *  fails: -DM_MENDOWNEDONLY
 *  fails: -DM_MENDQUEUED
 *  fails: -DM_FULLBYHINT
 *  fails: -DM_NOFULL
 *  fails: -DM_CLOSEANY -DCLOSE
 *  fails: -DM_CLOSEFLAG -DCLOSE
 *  fails: -DM_NOAGAIN -DACK -DPUTTERS=1 -DTAKERS=2
 *  deep: -DKILLS=2
 *  deep: -DPUTS=2
 *  deep: -DACK -DPUTTERS=1 -DTAKERS=2 -DPUTS=2
 */
#ifndef PUTS
#define PUTS 1
#endif
#ifndef PUTTERS
#define PUTTERS 2
#endif
#ifndef TAKERS
#define TAKERS 1
#endif
#ifndef GETS
#define GETS 2
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef CAP
#define CAP 1
#endif
#if CAP == 1 && !defined(ACK)
#define N 2
#else
#define N 4
#endif
#define M 4                     /* nodes 1 to M; in a cell 0 says EMPTY */
#define CLOSED 7
#define P 16                    /* positions */
#define START (P-2)
#define NEXT(x) (((x)+1)%P)
#define BACK(x,n) (((x)+P-(n))%P)

/* A cell: one word. */
#define CELL(pos,node) ((pos)*8+(node))
#define POS(c) ((c)/8)
#define NODE(c) ((c)%8)
/* A node's word: state, owner and position in one. */
#define FREE 0
#define OWNED 1
#define QUEUED 2
#ifdef M_NOPOSITION             /* a node's word says QUEUED, and not where */
#define WORD(state,who,pos) ((state)+4*(who))
#else
#define WORD(state,who,pos) ((state)+4*(who)+16*(pos))
#endif
#define STATE(w) ((w)%4)
#define OWNER(w) (((w)/4)%4)
#define AT(w) ((w)/16)
#ifdef M_NOPOSITION
#define IS_QUEUED(w,pos) (STATE(w)==QUEUED)
#else
#define IS_QUEUED(w,pos) (STATE(w)==QUEUED && AT(w)==(pos))
#endif

byte cell[N];
byte word[8], load[8];      /* load: the message, 1 + putter * PUTS + number; 0: none */
byte tail = START, head = START;
bit closing, ended;             /* M_CLOSEFLAG; close() has returned */
bit dead[4], done[4];
byte kills = KILLS;
byte said[2*PUTS+1], taken[2*PUTS+1], lost;   /* by message */
byte last[2];                   /* the last message taken of each putter */
/* by process: something that it decides by has moved since it last went round */
byte moved;

/* After each write: between two reads it would be the same kill. */
/* Is the message CAP before t still there to be taken? */
#define BEFORE(x,y) ((((x)+P-(y))%P)>=P/2)
/* The hint lies behind position t from now on, or where it was. */
#define PASS(hint,t) if :: BEFORE(hint,NEXT(t)) -> MOVED; hint=NEXT(t) :: skip fi
#define FULL(t) (POS(cell[BACK(t,CAP)%N])==BACK(t,CAP) && NODE(cell[BACK(t,CAP)%N])!=0 && NODE(cell[BACK(t,CAP)%N])!=CLOSED && \
                 IS_QUEUED(word[NODE(cell[BACK(t,CAP)%N])],BACK(t,CAP)))
#define KILL if :: skip :: atomic{ kills>0 -> kills--; dead[id]=1; goto out } fi
#ifdef PATIENCE
#define MOVED moved=31
#define ROUND atomic{ if :: moved&(1<<id) -> moved=moved&~(1<<id); tries=0 :: else -> tries++ fi; assert(tries<3) }
#define STEP tries=0
#else
#define MOVED skip
#define ROUND skip
#define STEP skip
#endif

/* ---- put ---- */

proctype putter(byte id) {
  byte k, t, c, d, n, tries; bit end;
  do
  :: n<PUTS && !end ->
     atomic{ k=1; do :: k<=M && word[k]%4!=FREE -> k++ :: else -> break od };
     if :: atomic{ k<=M && word[k]%4==FREE -> word[k]=WORD(OWNED,id,AT(word[k])) } :: atomic{ k>M -> n++; k=0 }; goto next :: atomic{ k<=M && word[k]%4!=FREE -> k=0 }; goto next fi;
     KILL;
     atomic{ load[k]=1+id*PUTS+n }; KILL;
     tries=0;
     t=tail;
again: skip;
     ROUND;
     c=cell[t%N];
#ifdef M_CLOSEFLAG              /* closing is a flag that putters look at */
     if :: atomic{ closing -> word[k]=WORD(FREE,0,AT(word[k])); end=1 }; goto next :: else fi; KILL;
#endif
     if
#ifdef M_GAP                    /* a cell of the round before may be passed */
     :: POS(c)==BACK(t,N) -> t=NEXT(t); goto again
#endif
     :: c==CELL(t,0) || POS(c)==BACK(t,N) ->
#ifdef M_FULLBYHINT             /* full by the difference of the two hints */
        if :: atomic{ BACK(t,CAP)==head -> assert(FULL(t)); word[k]=WORD(FREE,0,AT(word[k])); n++ }; goto next :: else fi; KILL;
#elif !defined(M_NOFULL)        /* it does not look whether there is room */
        d=cell[BACK(t,CAP)%N];
        if :: atomic{ POS(d)==BACK(t,CAP) && NODE(d)!=0 && NODE(d)!=CLOSED && IS_QUEUED(word[NODE(d)],BACK(t,CAP)) ->
                word[k]=WORD(FREE,0,AT(word[k])); n++ }; goto next      /* full */
           :: else
        fi; KILL;
#endif
#ifdef M_CELLFIRST              /* the cell first, the node after it */
        if :: atomic{ cell[t%N]==c -> MOVED; cell[t%N]=CELL(t,k) } :: atomic{ cell[t%N]!=c }; goto again fi; KILL;
        atomic{ word[k]=WORD(QUEUED,id,t); said[load[k]]++ }; KILL;
#elif defined(M_WRITING)        /* the cell is claimed, then written */
        if :: atomic{ cell[t%N]==c -> MOVED; cell[t%N]=CELL(t,6) } :: atomic{ cell[t%N]!=c }; goto again fi; KILL;
        atomic{ word[k]=WORD(QUEUED,id,t) }; KILL;
        atomic{ cell[t%N]=CELL(t,k); said[load[k]]++ }; KILL;
#else
#ifdef M_QUEUEDLATE             /* a node that was QUEUED elsewhere keeps saying so */
        if :: atomic{ STATE(word[k])!=QUEUED -> word[k]=WORD(QUEUED,id,t) } :: atomic{ STATE(word[k])==QUEUED } fi; KILL;
#else
        atomic{ word[k]=WORD(QUEUED,id,t) }; KILL;
#endif
        if :: atomic{ cell[t%N]==c -> MOVED; cell[t%N]=CELL(t,k); said[load[k]]++; assert(!ended); assert(!FULL(t)) } :: atomic{ cell[t%N]!=c }; goto again fi; KILL;
#endif
        atomic{ PASS(tail,t); n++ }; KILL
     :: c==CELL(t,CLOSED) -> atomic{ word[k]=WORD(FREE,0,AT(word[k])); end=1 }
     /* t was put to, and maybe taken: its putter has not come to the tail, and may not */
     :: else ->
#if defined(M_NOHELPTAIL)       /* it waits for the hint */
        t=tail;
#elif defined(M_HELPTAILQUEUED) /* it goes on only while the message is there */
        atomic{ if :: POS(c)==t -> PASS(tail,t); t=NEXT(t); STEP :: else fi }; KILL;
#else
        atomic{ PASS(tail,t); t=NEXT(t); STEP }; KILL;
#endif
        goto again
     fi;
next: atomic{ k=0; t=0; c=0; d=0; tries=0 }
  :: n==PUTS || end -> break
  od;
out: atomic{ k=0; t=0; c=0; d=0; tries=0; n=0; done[id]=1 }
}

/* ---- get ---- */

#define TAKE assert(taken[load[k]]==0 || (load[k]==0)); taken[load[k]]++;                                         \
     assert(load[k]>last[(load[k]-1)/PUTS]); last[(load[k]-1)/PUTS]=load[k]

proctype taker(byte id) {
  byte k, h, c, v, tries, gets; bit got;
  do
  :: gets<GETS && !dead[id] ->
     tries=0; gets++;
     h=head;
again: skip;
     ROUND;
     c=cell[h%N];
     if
     :: c==CELL(h,0) || POS(c)==BACK(h,N) -> goto next                  /* empty */
     :: c==CELL(h,CLOSED) -> goto next
     :: POS(c)==h && NODE(c)!=0 && NODE(c)!=CLOSED ->
        k=NODE(c);
#ifdef M_WRITING
        if :: k==6 -> goto again :: else fi;
#endif
        v=word[k];
#ifdef M_TAKEBLIND              /* a store where a swing is needed */
        if :: IS_QUEUED(v,h) -> KILL; atomic{ word[k]=WORD(OWNED,id,h); got=1; MOVED; TAKE } :: else fi; KILL;
#else
        if :: atomic{ IS_QUEUED(v,h) && word[k]==v -> word[k]=WORD(OWNED,id,h); got=1; MOVED;
#ifndef ACK
                TAKE
#endif
              }
           :: else
        fi; KILL;
#endif
#ifdef M_NOHELPHEAD             /* who loses waits for the winner to move the hint */
        if :: !got -> h=head; goto again :: else fi;
#endif
        atomic{ PASS(head,h); if :: !got -> h=NEXT(h); STEP :: else fi }; KILL;
        if :: !got -> goto again :: else fi;
#ifdef ACK
        /* acknowledged */
        atomic{ taken[load[k]]++; assert(taken[load[k]]==1); load[k]=0; word[k]=WORD(FREE,0,h) }; KILL;
#else
        atomic{ load[k]=0; word[k]=WORD(FREE,0,h) }; KILL;
#endif
        got=0
     /* put to again since: it was taken */
     :: else ->
        atomic{ PASS(head,h); h=NEXT(h); STEP }; KILL;
        goto again
     fi;
next: atomic{ k=0; h=0; c=0; v=0; tries=0 }
  :: gets==GETS -> break
  od;
out: atomic{ if :: got && dead[id] -> lost++ :: else fi; k=0; h=0; c=0; v=0; tries=0; got=0; gets=0; done[id]=1 }
}

#ifdef CLOSE
proctype closer() {
  byte t, c, tries, id;
  id = 4;
#ifdef M_CLOSEFLAG
  closing=1; ended=1;
  goto out;
#endif
  t=tail;
again: skip;
  ROUND;
  c=cell[t%N];
  if
  :: c==CELL(t,0) || POS(c)==BACK(t,N) ->
#ifdef M_CLOSEANY               /* closes whatever is there */
     atomic{ cell[t%N]=CELL(t,CLOSED); ended=1 }
#else
     if :: atomic{ cell[t%N]==c -> cell[t%N]=CELL(t,CLOSED); ended=1 } :: atomic{ cell[t%N]!=c }; goto again fi
#endif
  :: else ->
     atomic{ PASS(tail,t); t=NEXT(t); STEP };
     goto again
  fi;
out: skip
}
#endif

/* ---- what the dead leave ---- */

bit mended;
#define DEATH ((dead[0] && done[0]) || (dead[1] && done[1]) || (dead[2] && done[2]) || (dead[3] && done[3]))

/* -DACK: what was taken and not acknowledged goes to the end */
inline put_back(k) {
  t=tail;
  do
  :: c=cell[t%N];
     if
     :: c==CELL(t,0) || POS(c)==BACK(t,N) ->
        if :: atomic{ word[k]==v -> v=WORD(QUEUED,d,t); word[k]=v } :: atomic{ word[k]!=v -> c=0; t=0 }; break fi;
        if :: broken<1 -> broken++; goto begin :: skip fi;
        if :: atomic{ cell[t%N]==c -> MOVED; cell[t%N]=CELL(t,k); PASS(tail,t) }; break :: atomic{ cell[t%N]!=c } fi
     :: else -> atomic{ PASS(tail,t); t=NEXT(t) }
     fi
  od
}

proctype mender() {
  byte d, k, v, c, t, broken;
begin:
  atomic{ d=0; k=0; v=0; c=0; t=0 };
  DEATH || (done[0] && done[1] && done[2] && done[3]);
  do
  :: d<4 ->
     if :: dead[d] && done[d] ->
        k=1;
        do
        :: k<=M ->
           v=word[k];
           /* the batch is killed: the next one begins again */
           if :: broken<1 -> broken++; goto begin :: skip fi;
           if
           :: STATE(v)==OWNED && OWNER(v)==d ->
#ifdef ACK
              if :: d>=2 -> put_back(k)
                 :: else -> atomic{ if :: word[k]==v -> word[k]=WORD(FREE,0,AT(v)); load[k]=0 :: else fi }
              fi
#else
              atomic{ if :: word[k]==v -> word[k]=WORD(FREE,0,AT(v)); load[k]=0 :: else fi }
#endif
#ifndef M_MENDOWNEDONLY
           :: STATE(v)==QUEUED && OWNER(v)==d ->
              c=cell[AT(v)%N];
#ifdef M_MENDQUEUED             /* what a dead one had queued goes with it */
              atomic{ if :: word[k]==v -> word[k]=WORD(FREE,0,AT(v)) :: else fi }
#else
              if :: c==CELL(AT(v),k) -> skip
#if defined(ACK) && !defined(M_NOAGAIN)
                 /* of a mender that was killed half way */
                 :: c!=CELL(AT(v),k) && d>=2 -> put_back(k)
                 :: c!=CELL(AT(v),k) && d<2 ->
#else
                 :: c!=CELL(AT(v),k) ->
#endif
                    atomic{ if :: word[k]==v -> word[k]=WORD(FREE,0,AT(v)); load[k]=0 :: else fi }
              fi
#endif
#endif
           :: else
           fi;
           k++
        :: k>M -> break
        od
     :: else
     fi;
     atomic{ k=0; v=0; c=0; t=0; d++ }
  :: d==4 -> break
  od;
  if :: atomic{ done[0] && done[1] && done[2] && done[3] && !mended -> mended=1 }; broken=1; goto begin
     :: mended -> skip
     :: atomic{ !mended && !(done[0] && done[1] && done[2] && done[3]) -> (done[0] && done[1] && done[2] && done[3]) }; goto begin
  fi;
  /* the end */
  d_step{
    byte i, q, m;
    i=1;
    do
    :: i<=M ->
#ifndef M_NOPOSITION
       assert(STATE(word[i])==FREE || (STATE(word[i])==QUEUED && cell[AT(word[i])%N]==CELL(AT(word[i]),i)));
#endif
       /* it is there to be taken: takers have not passed it */
       assert(STATE(word[i])!=QUEUED || !BEFORE(AT(word[i]),head));
       if :: STATE(word[i])==QUEUED -> q++; taken[load[i]]++ :: else fi;
       i++
    :: else -> break
    od;
    m=1;
    do
    :: m<=2*PUTS ->
       assert(taken[m]<=1);
#ifdef ACK
       assert(taken[m]>=said[m]);
#else
       if :: taken[m]<said[m] -> assert(false) :: else fi;
#endif
       m++
    :: else -> break
    od
  }
}

init {
  byte i;
  atomic{
    i=0;
    do :: i<N -> cell[(START+i)%N]=CELL((START+i)%P,0); i++ :: else -> break od;
    i=0;
    run putter(0);
    if :: PUTTERS>1 -> run putter(1) :: else -> done[1]=1 fi;
    run taker(2);
    if :: TAKERS>1 -> run taker(3) :: else -> done[3]=1 fi;
#ifdef CLOSE
    run closer();
#endif
#ifdef M_NOMEND
    skip
#else
    run mender()
#endif
  }
#ifdef M_NOMEND
  ; done[0] && done[1] && done[2] && done[3];
  assert(STATE(word[1])!=OWNED && STATE(word[2])!=OWNED && STATE(word[3])!=OWNED && STATE(word[4])!=OWNED)
#endif
}
