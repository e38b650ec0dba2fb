/* A record that one writes again and again and anybody reads without a lock: a batch's, a burial's,
 * a process slot's, who sent a message (core/reclaim/batch.c, core/process/burial.c,
 * core/process/slot.c, core/refs/inflight.c).
 *
 * The writer sets the number to 0, writes two fields, and sets the number of the next record. A
 * reader that finds the same number before and after it has read the fields believes them. Stores
 * may arrive in any order but those to the same word, and loads may be made in any order: a fence,
 * or the ordering of the last store and of the first load, is what forbids some of them. A *release
 * store* orders what came before it, and nothing that comes after: that is the trap.
 *
 * Safety: what a reader believes is of one writing, and of the number that it says.
 *
 *  holds:
 *  holds: -DROUNDS=3
 *  fails: -DM_RELEASEZERO
 *  fails: -DM_NUMBERPLAIN
 *  fails: -DM_FIRSTPLAIN
 *  fails: -DM_NOLASTFENCE
 *  fails: -DM_NOLASTLOOK
 */
#ifndef ROUNDS
#define ROUNDS 2
#endif

byte number, first, second;     /* as everybody sees them */
chan toNumber = [4] of { byte };/* stores under way, in order for each word */
chan toFirst = [2] of { byte };
chan toSecond = [2] of { byte };
#define DRAINED (empty(toNumber) && empty(toFirst) && empty(toSecond))

/* The memory: any store that is under way may arrive next. */
active proctype memory()
{
    byte value;
end:
    do
    :: atomic{ toNumber?value -> number=value }
    :: atomic{ toFirst?value -> first=value }
    :: atomic{ toSecond?value -> second=value }
    od
}

active proctype writer()
{
    byte n=0;
    do
    :: n<ROUNDS ->
        n++;
        toNumber!0;
#ifndef M_RELEASEZERO           /* the 0 is a release store, and no fence follows it */
        DRAINED;
#endif
        toFirst!n;
        toSecond!n;
/* the number is no release store: it may arrive before the fields */
#ifndef M_NUMBERPLAIN
        DRAINED;
#endif
        toNumber!n;
#ifdef M_RELEASEZERO            /* the next 0 comes after what came before it */
        DRAINED;
#endif
    :: else -> break
    od
}

active proctype reader()
{
    byte before, after, one, two;
    bit gotBefore, gotOne, gotTwo, gotAfter;
    /* The loads, in whatever order is allowed. */
    do
    :: !gotBefore -> atomic{ before=number; gotBefore=1 }
#ifdef M_FIRSTPLAIN             /* the first load is no acquire load */
    :: !gotOne -> atomic{ one=first; gotOne=1 }
    :: !gotTwo -> atomic{ two=second; gotTwo=1 }
#else
    :: gotBefore && !gotOne -> atomic{ one=first; gotOne=1 }
    :: gotBefore && !gotTwo -> atomic{ two=second; gotTwo=1 }
#endif
#ifdef M_NOLASTFENCE            /* no fence before the last look */
    :: gotBefore && !gotAfter -> atomic{ after=number; gotAfter=1 }
#else
    :: gotBefore && gotOne && gotTwo && !gotAfter -> atomic{ after=number; gotAfter=1 }
#endif
    :: gotBefore && gotOne && gotTwo && gotAfter -> break
    od;
#ifdef M_NOLASTLOOK
    after=before;
#endif
    if
    :: before!=0 && before==after -> assert(one==before && two==before)
    :: else
    fi
}
