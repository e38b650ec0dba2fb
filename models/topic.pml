/* A topic: every subscriber reads every message, and only those that wait hold a publisher back
 * (core/channel/topic.c).
 *
 * The queue of channel.pml, in which publishers take what is oldest themselves, to make room,
 * unless a subscriber that blocks has not read it: QUEUED -> OWNED by the publisher, so that of two
 * one has it, and of exactly that position. Subscribers take nothing: they copy, and look whether
 * the node still says QUEUED at their position; then the copy is good. Each has a cursor of its
 * own. One blocks, one may be lapped. PUBLISHERS publish PUTS messages each; KILLS of all are
 * killed between any two steps, and a mender frees what they had. Positions wrap.
 *
 * Safety: what is read at a position is what was published there; a subscriber that blocks misses
 * nothing after it came; one that is lapped reads in order. In the end each node is FREE or QUEUED
 * in its cell, no dead subscriber holds anybody back, and the head is not left behind.
 *
 *  holds: -DPUBLISHERS=1
 *  holds: -DPUTS=1 -DREADERS=1
 *  holds: -DREADERS=1 -DKILLS=0
 *  holds: -DCAP=2 -DPUBLISHERS=1 -DPUTS=3
 *  fails: -DM_NOVALIDATE -DPUBLISHERS=1 -DPUTS=4 -DKILLS=0
 *  fails: -DM_EVICTBLIND -DPUTS=3 -DKILLS=0 -DREADERS=1
 *  fails: -DM_EVICTHEAD -DPUTS=2 -DCAP=2 -DKILLS=0 -DREADERS=1 -DPUBLISHERS=2
 *  fails: -DM_JOINBLIND -DPUTS=3 -DPUBLISHERS=1 -DKILLS=0 -DREADERS=1
 *  fails: -DM_CURSORFIRST -DPUTS=3 -DPUBLISHERS=1 -DKILLS=0 -DREADERS=1
 *  fails: -DM_NOHOLD -DPUTS=3 -DPUBLISHERS=1 -DKILLS=0 -DREADERS=1
 *  fails: -DM_DEADHOLDS -DPUBLISHERS=1
 *  fails: -DM_NOMEND -DPUBLISHERS=1
 *  fails: -DM_HEADSTAYS -DPUTS=4 -DREADERS=1
 *  deep: -DREADERS=1
 *  deep:
 */
#ifndef PUTS
#define PUTS 2
#endif
#ifndef PUBLISHERS
#define PUBLISHERS 2
#endif
#ifndef READERS
#define READERS 2
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef CAP
#define CAP 1
#endif
#define GETS 2
#define N 4
#define M 4                     /* nodes 1 to M; in a cell 0 says EMPTY */
#define P 16                    /* positions */
#define START (P-2)
#define NEXT(x) (((x)+1)%P)
#define BACK(x,n) (((x)+P-(n))%P)

#define CELL(pos,node) ((pos)*8+(node))
#define POS(c) ((c)/8)
#define NODE(c) ((c)%8)
#define FREE 0
#define OWNED 1
#define QUEUED 2
#define WORD(state,who,pos) ((state)+4*(who)+16*(pos))
#define STATE(w) ((w)%4)
#define OWNER(w) (((w)/4)%4)
#define AT(w) ((w)/16)
#define IS_QUEUED(w,pos) (STATE(w)==QUEUED && AT(w)==(pos))

byte cell[N], word[8], load[8];
/* what was published at a position: 1 + publisher * PUTS + number */
byte at[P];
byte tail = START, head = START;
bit there[2]; byte cursor[2];  /* the subscribers: 0 blocks, 1 may be lapped */
bit dead[4], done[4];           /* publishers 0 and 1, subscribers 2 and 3 */
byte kills = KILLS;

#define KILL if :: skip :: atomic{ kills>0 -> kills--; dead[id]=1; goto out } fi
/* Has a subscriber that blocks not read this position? */
#define BEHIND(pos) (there[0] && ((pos)+P-cursor[0])%P < P/2)

proctype publisher(byte id) {
  byte k, t, c, d, h, e, n;
  do
  :: n<PUTS ->
     atomic{ k=1; do :: k<=M && STATE(word[k])!=FREE -> k++ :: else -> break od };
     if :: atomic{ k<=M && STATE(word[k])==FREE -> word[k]=WORD(OWNED,id,AT(word[k])) } :: atomic{ k>M -> n++; k=0 }; goto next :: atomic{ k<=M && STATE(word[k])!=FREE -> k=0 }; goto next fi;
     KILL;
     load[k]=1+id*PUTS+n; KILL;
again: skip;
     t=tail;
     c=cell[t%N];
     if
     :: c==CELL(t,0) || POS(c)==BACK(t,N) ->
        h=BACK(t,CAP);
        d=cell[h%N];
        if
        /* full */
        :: POS(d)==h && NODE(d)!=0 && IS_QUEUED(word[NODE(d)],h) ->
#ifndef M_NOHOLD
           if :: BEHIND(h) -> atomic{ word[k]=WORD(FREE,0,AT(word[k])); n++ }; KILL; goto next :: else fi;
#endif
#ifdef M_EVICTHEAD              /* whatever is oldest by now */
           h=head; d=cell[h%N];
           if :: POS(d)!=h || NODE(d)==0 -> goto again :: else fi;
#endif
           e=word[NODE(d)];
#ifdef M_EVICTBLIND             /* a store where a swing is needed */
           if :: IS_QUEUED(e,h) -> word[NODE(d)]=WORD(OWNED,id,h) :: else -> e=0 fi; KILL;
#else
           if :: atomic{ IS_QUEUED(e,h) && word[NODE(d)]==e -> word[NODE(d)]=WORD(OWNED,id,h) } :: atomic{ !IS_QUEUED(e,h) || word[NODE(d)]!=e -> e=0 } fi; KILL;
#endif
#ifdef M_HEADSTAYS              /* only by who finds it at its own position */
           atomic{ if :: head==h -> head=NEXT(h) :: else fi }; KILL;
#else
           atomic{ if :: (h+P-head)%P < P/2 -> head=NEXT(h) :: else fi }; KILL;
#endif
           if :: e!=0 -> load[NODE(d)]=0; atomic{ assert(STATE(word[NODE(d)])==OWNED && OWNER(word[NODE(d)])==id); word[NODE(d)]=WORD(FREE,0,h) }; KILL :: else fi;
           goto again
        :: else
        fi;
        word[k]=WORD(QUEUED,id,t); KILL;
        if :: atomic{ cell[t%N]==c -> cell[t%N]=CELL(t,k); at[t]=load[k] } :: atomic{ cell[t%N]!=c }; goto again fi; KILL;
        atomic{ if :: (t+P-tail)%P < P/2 -> tail=NEXT(t) :: else fi; n++ }; KILL
     :: else ->
        atomic{ if :: (t+P-tail)%P < P/2 -> tail=NEXT(t) :: else fi }; KILL;
        goto again
     fi;
next: atomic{ k=0; t=0; c=0; d=0; h=0; e=0 }
  :: n==PUTS -> break
  od;
out: atomic{ k=0; t=0; c=0; d=0; h=0; e=0; n=0; done[id]=1 }
}

proctype subscriber(byte id) {
  byte s, r, c, v, x, gets; bit lapped;
  s=id-2;
  r=tail; KILL;
  atomic{ cursor[s]=r; there[s]=1 }; KILL;
/* a publisher that did not see it may have made room for others meanwhile */
#ifndef M_JOINBLIND
look:
  r=tail;
  if :: (r+P-cursor[s])%P >= CAP -> cursor[s]=r; KILL; goto look :: else fi;
#endif
  do
  :: gets<GETS ->
     gets++;
     r=cursor[s];
     c=cell[r%N];
     lapped=0;
     if
     :: POS(c)==r && NODE(c)!=0 ->
        v=word[NODE(c)];
        if
        :: IS_QUEUED(v,r) ->
#ifdef M_CURSORFIRST            /* it says that it has read before it has */
           cursor[s]=NEXT(r); KILL;
#endif
           x=load[NODE(c)];
#ifndef M_NOVALIDATE
           if :: word[NODE(c)]!=v -> lapped=1 :: else fi;
#endif
           if :: !lapped -> assert(x==at[r]);
#ifndef M_CURSORFIRST
                 cursor[s]=NEXT(r); KILL
#endif
              :: else
           fi
        :: else -> lapped=1
        fi
     :: (POS(c)+P-r)%P < P/2 && POS(c)!=r -> lapped=1
     :: else                                                /* nothing yet */
     fi;
     if :: lapped -> assert(s==1); cursor[s]=NEXT(r); KILL :: else fi;
     atomic{ r=0; c=0; v=0; x=0; lapped=0 }
  :: gets==GETS -> break
  od;
  there[s]=0;
out: atomic{ r=0; c=0; v=0; x=0; gets=0; lapped=0; done[id]=1 }
}

proctype mender() {
  byte d, k, v, again;
begin:
  (done[0] && done[1] && done[2] && done[3]) || (again==0 && ((dead[0] && done[0]) || (dead[1] && done[1]) || (dead[2] && done[2]) || (dead[3] && done[3])));
  again++;
  d=0;
  do
  :: d<4 ->
     if :: dead[d] && done[d] ->
        k=1;
        do
        :: k<=M && d<2 ->
           v=word[k];
           if
           :: (STATE(v)==OWNED && OWNER(v)==d) || (STATE(v)==QUEUED && OWNER(v)==d && cell[AT(v)%N]!=CELL(AT(v),k)) ->
              atomic{ if :: word[k]==v -> word[k]=WORD(FREE,0,AT(v)); load[k]=0 :: else fi }
           :: else
           fi;
           k++
        :: else -> break
        od;
#ifndef M_DEADHOLDS
        if :: d>=2 -> there[d-2]=0 :: else fi
#endif
        :: else
     fi;
     d++
  :: d==4 -> break
  od;
  if :: !(done[0] && done[1] && done[2] && done[3]) || again==1 -> atomic{ k=0; v=0; again=1; d=0 };
        (done[0] && done[1] && done[2] && done[3]); again=2; goto begin
     :: else
  fi;
  d_step{
    byte i;
    i=1;
    do
    :: i<=M ->
       assert(STATE(word[i])==FREE || (STATE(word[i])==QUEUED && cell[AT(word[i])%N]==CELL(AT(word[i]),i)));
       i++
    :: else -> break
    od;
    assert(!there[0] && !there[1]);
    assert((tail+P-head)%P <= CAP+1 || (tail+P-head)%P == P-1)
  }
}

init {
  byte i;
  atomic{
    i=0;
    do :: i<N -> cell[(START+i)%N]=CELL((START+i)%P,0); i++ :: else -> break od;
    i=0;
    run publisher(0);
    if :: PUBLISHERS>1 -> run publisher(1) :: else -> done[1]=1 fi;
    run subscriber(2);
    if :: READERS>1 -> run subscriber(3) :: else -> done[3]=1 fi;
#ifndef M_NOMEND
    run mender()
#endif
  }
#ifdef M_NOMEND
  ; done[0] && done[1] && done[2] && done[3];
  assert(STATE(word[1])!=OWNED && STATE(word[2])!=OWNED && STATE(word[3])!=OWNED && STATE(word[4])!=OWNED)
#endif
}
