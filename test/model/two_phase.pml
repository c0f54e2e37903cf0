/* The shop's group presumed-abort two-phase commit, as a Spin model: no begin record, and the order row is the decision.
 *
 * One atomic step is one local database transaction or one message, so that a crash, or a pause of any length, falls between
 * any two of them.  Batches are left out on purpose: a batch only makes several of these steps one, which removes behaviour.
 *
 *   network       sets of sent messages.  What is in a set may be read at once, late, twice, out of order, or never: this is
 *                 what "lost, repeated, reordered" comes to, and what lets an abort overtake its prepare
 *   databases     `x` is what readers see, `x_disk` what a crash leaves.  PostgreSQL's log is one sequence, so a forced write
 *                 flushes all before it; an unforced one is flushed later, or lost.  A forced write that is interrupted
 *                 while it waits for its flush (or for its synchronous replica) leaves a row that is visible and not safe
 *   replicas      replica t drives transaction t; `outcomes` is answered by any replica.  A pause is a step that comes late
 *                 or never; a crash is pc = GONE, and nothing is kept
 *
 * What is switched on, by -D...
 *   N=2|3         participants
 *   T=1           one order
 *   T=2 TWO       two orders without a key, which compete for the same unit
 *   T=2 KEY       one idempotency key, sent to both replicas (by an impatient client, or by a proxy that repeats)
 *   T=2 KEY RETRY one key, one replica: transaction 1 is the second attempt of 0 (`price_changed` or `contended`)
 *   T=3 KEY RETRY both: transaction 2 is the other replica's (without faults: the crashes below know two transactions)
 *   FAULTS=n      so many crashes, lost replies, interrupted flushes and restores, together
 *   RESTORE       one of the faults may be that the log comes back from an older backup, as a new generation
 *   NO_CRASH      the faults are those of RESTORE and LOSSY alone
 *   MORTAL        a replica may die at any time, and this counts as no fault
 *   LOSSY         one of the faults may be that a decision on its way is gone for good, and has to be sent again
 *   WILLING       a participant refuses only what does not fit
 *   PATIENT       no deadline for a vote, and none for the client
 *   HEALTHY       both, and neither fault nor sweep: then the order must succeed (with RETRY: participant 0 refuses the first
 *                 attempt, and the second must succeed)
 *   UNITS=n       what each participant has
 *   REFUSING      as HEALTHY, and participant 0 refuses: then nothing may stay taken
 *   LIVENESS      checks the property `resolved` at the end of this file; replicas may fall asleep for ever, or wake again
 *   OFF_rule      one rule is left out; check.sh holds that each such mutant is rejected, by the law that it should break  */

#ifndef N
#define N 2
#endif
#ifndef T
#define T 1
#endif
#ifndef FAULTS
#define FAULTS 2
#endif
#if T > 2 && FAULTS > 0
#error "three transactions are modelled without faults"
#endif
#ifdef KEY
#define KEYED true
#else
#define KEYED false
#endif
#ifdef REFUSING
#define HEALTHY
#endif
#ifdef HEALTHY
#define WILLING
#define PATIENT
#endif

#define ALL           ((1 << N) - 1)
#define HAS(set, p)   (((set) >> (p)) & 1)
#define ADD(set, p)   set = (set) | (1 << (p))
#define DROP(set, p)  set = (set) & ~(1 << (p))
#define NEXT(t)       (((t) + 1) % T)         /* the other transactions of the same key; with T = 2 both are the same one */
#define LAST(t)       (((t) + T - 1) % T)

byte faults = FAULTS;
#ifdef NO_CRASH
#define MAY_FAIL  false
#else
#define MAY_FAIL  (faults > 0)
#endif
#ifdef MORTAL
#define FOR_FREE  true
#else
#define FOR_FREE  false
#endif

/* ------------------------------------------------------------------------------------------------------------ laws
 * Hidden: they are no part of the state.  Each has a name, so that a violation says which one it was.                 */
hidden byte decision_never_changes, confirmed_only_by_all_votes, all_or_nothing, conserved, read_your_writes,
            one_order_per_key, same_key_same_answer, key_competes_with_itself, violation_reported, told_503_then_confirmed,
            told_and_forgotten, branch_left_in_doubt, confirmed_and_not_committed, good_order_failed;
#define LAW(name, holds)  name = (holds); assert(name)
#define NEVER(name)       name = false; assert(name)    /* reaching this line is the violation */

/* ------------------------------------------------------------------------------------------------- the decision log */
#define NONE      0
#define CONFIRMED 1                   /* 201 */
#define CANCELLED 2                   /* without a key: a deadline, a fence, a tombstone, an attempt that is repeated */
#define REFUSED   3                   /* cancelled too, but the final answer (409) of an order with a key: it holds the key */

byte row[T], row_disk[T];             /* orders(transaction_id primary key, status, key unique where final) */
byte claim;                           /* 1 + the transaction at work on the key; forced, so it is on disk at once */
byte attempts;                        /* ... and the set of transactions that had the claim before */
byte generation;                      /* of the log; rises when it is restored from an older backup */
byte began_in[T];                     /* the generation that t's branches, and every insert for t, carry */

#define ON_THE_WIRE 1                 /* a decision insert whose reply its coordinator will not see: not arrived yet, */
#define OPEN        2                 /* or inserted and not committed: invisible, but an insert of the same id or key waits, */
#define ABANDONED   3                 /* or as OPEN, and its client will never send the COMMIT */
byte flight[T], cargo[T];             /* where that insert is, and what it says */

#define IS_OPEN(t)    (flight[t] == OPEN || flight[t] == ABANDONED)
#define IS_FINAL(r)   ((r) == CONFIRMED || (r) == REFUSED)
#define FOREIGN(t)    (began_in[t] != generation)
#define KEY_HELD(t)   (KEYED && (IS_FINAL(row[NEXT(t)]) || IS_FINAL(row[LAST(t)])))
#define KEY_OPEN(t)   (KEYED && ((IS_OPEN(NEXT(t)) && IS_FINAL(cargo[NEXT(t)])) || (IS_OPEN(LAST(t)) && IS_FINAL(cargo[LAST(t)]))))
#define LANDED(t)     flight[t] = 0; cargo[t] = NONE

#if T == 1
#define FLUSH_LOG     row_disk[0] = row[0]
#define UNSAFE_LOG    (row[0] != row_disk[0])
#elif T == 2
#define FLUSH_LOG     row_disk[0] = row[0]; row_disk[1] = row[1]
#define UNSAFE_LOG    (row[0] != row_disk[0] || row[1] != row_disk[1])
#else
#define FLUSH_LOG     row_disk[0] = row[0]; row_disk[1] = row[1]; row_disk[2] = row[2]
#define UNSAFE_LOG    (row[0] != row_disk[0] || row[1] != row_disk[1] || row[2] != row_disk[2])
#endif

#ifdef OFF_KEY_UNIQUE
#define LOSES_KEY(t)  false
#else
#define LOSES_KEY(t)  KEY_HELD(t)
#endif
#ifdef OFF_GENERATION_ON_DECISION     /* R12 with its comparison in the sweep alone */
#define MAY_DECIDE(t) true
#else
#define MAY_DECIDE(t) (!FOREIGN(t))
#endif
#ifdef OFF_GENERATION_ON_OUTCOMES
#define MAY_PRESUME(t) true
#else
#define MAY_PRESUME(t) (!FOREIGN(t))
#endif

#define FORCED   true
#define UNFORCED false
#ifdef OFF_OUTCOMES_FORCED
#define OUTCOMES_FORCED UNFORCED
#else
#define OUTCOMES_FORCED FORCED
#endif
#ifdef OFF_DECISION_FORCED
#define DECISION_FORCED UNFORCED
#else
#define DECISION_FORCED FORCED
#endif
#ifdef OFF_REFUSAL_FORCED
#define REFUSAL_FORCED UNFORCED
#else
#define REFUSAL_FORCED FORCED
#endif
#ifdef OFF_ASK_FORCED
#define ASK_FORCED UNFORCED
#else
#define ASK_FORCED FORCED
#endif
#ifdef OFF_FOUND_FORCED               /* R4: a row found is not a row flushed */
#define FLUSH_FOUND   skip
#else
#define FLUSH_FOUND   FLUSH_LOG
#endif

/* INSERT ... ON CONFLICT DO NOTHING; then a second, forced statement reads whoever won.  Who lost the key has no row, and
 * writes `cancelled` for its own id.  (That this is two statements in the code changes nothing: between them the row can
 * only be cancelled by somebody else, and a crash there is a crash before the first one.)                                */
inline insert(t, value, forced) {
    if
#ifdef OFF_COMPARE_AND_SET
    :: row[t] = value; FLUSH_LOG
#else
    :: row[t] != NONE -> FLUSH_FOUND
    :: row[t] == NONE ->
            if
            :: IS_FINAL(value) && LOSES_KEY(t) -> row[t] = CANCELLED
            :: else -> row[t] = value
            fi;
            if :: forced -> FLUSH_LOG :: else fi
#endif
    fi
}

/* ----------------------------------------------------------------------------------------------------- participants */
#if defined(REFUSING)                 /* who may refuse for reasons of its own, and who may accept */
#define REFUSES(p, t) (p == 0)
#define ACCEPTS(p, t) (p != 0)
#elif defined(HEALTHY) && defined(RETRY)
#define REFUSES(p, t) (p == 0 && t == 0)
#define ACCEPTS(p, t) (p != 0 || t != 0)
#elif defined(WILLING)
#define REFUSES(p, t) false
#define ACCEPTS(p, t) true
#else
#define REFUSES(p, t) (T == 1 || p == 0)
#define ACCEPTS(p, t) true
#endif

#define PREPARED  1
#define COMMITTED 2
#define ABORTED   3                   /* given back, refused, or aborted before its prepare came */
#ifndef UNITS
#define UNITS 1
#endif

byte branch[N * T], branch_disk[N * T];
byte free[N] = UNITS, free_disk[N] = UNITS;   /* escrow: prepare takes, abort gives back, commit only flips */

#define B(p, t)     branch[(p) * T + (t)]
#define DISK(p, t)  branch_disk[(p) * T + (t)]
#define HOLDS(p, t) (B(p, t) == PREPARED || B(p, t) == COMMITTED)
#ifdef OFF_ESCROW
#define TAKES(p, t) (B(p, t) == COMMITTED)
#else
#define TAKES(p, t) HOLDS(p, t)
#endif
#if T == 1
#define FLUSH(p)    DISK(p, 0) = B(p, 0); free_disk[p] = free[p]
#define UNSAFE(p)   (B(p, 0) != DISK(p, 0))
#define TAKEN(p)    (TAKES(p, 0))
#elif T == 2
#define FLUSH(p)    DISK(p, 0) = B(p, 0); DISK(p, 1) = B(p, 1); free_disk[p] = free[p]
#define UNSAFE(p)   (B(p, 0) != DISK(p, 0) || B(p, 1) != DISK(p, 1))
#define TAKEN(p)    (TAKES(p, 0) + TAKES(p, 1))
#else
#define FLUSH(p)    DISK(p, 0) = B(p, 0); DISK(p, 1) = B(p, 1); DISK(p, 2) = B(p, 2); free_disk[p] = free[p]
#define UNSAFE(p)   (B(p, 0) != DISK(p, 0) || B(p, 1) != DISK(p, 1) || B(p, 2) != DISK(p, 2))
#define TAKEN(p)    (TAKES(p, 0) + TAKES(p, 1) + TAKES(p, 2))
#endif

/* --------------------------------------------------------------------------------------------------------- messages
 * [t] = the set of participants that they were sent to, or by.  A repeated message is the same message, still there.  */
byte prepare[T], yes[T], no[T], commit[T], abort[T];
byte acknowledged[T];                 /* the lane has struck the decision off its list */
byte instead[T];                      /* t's prepares carry `instead_of`: the set of earlier attempts at the same order */

/* ----------------------------------------------------------------------------------------------------- coordinators */
#define IDLE       0
#define VOTING     1
#define UNSURE     2                  /* a `confirmed` insert was sent, and its reply lost */
#define KNOWS(r)   (2 + (r))          /* KNOWS(CONFIRMED), KNOWS(CANCELLED), KNOWS(REFUSED) */
#define AGAIN      6                  /* as KNOWS(CANCELLED), and a second attempt is to follow */
#define UNSURE_NO  7                  /* as UNSURE, for a `refused` insert */
#define GONE       8                  /* crashed, done, or left to a human because the log was restored */
byte pc[T];
bool gave_up[T];                      /* its client was told 503 before a `confirmed` insert was sent */
byte heard[T];                        /* only for OFF_ABORT_TO_ALL: the votes in when it decided */

#ifdef OFF_ABORT_TO_ALL
#define HEARS(p, t)  HAS(heard[t], p)
#else
#define HEARS(p, t)  true
#endif
#define KNOWS_CANCELLED(t) (pc[t] == KNOWS(CANCELLED) || pc[t] == KNOWS(REFUSED) || pc[t] == AGAIN)

#ifdef LIVENESS
bool asleep[T];
#define IDLES     (faults < 255)      /* always true: whoever has this choice may idle for ever, and owes no step to fairness */
#define AWAKE(t)  (!asleep[t])
#else
#define AWAKE(t)  true                /* a step may come late anyway, or never */
#endif

/* -------------------------------------------------------------------------------------------------- laws, in detail */
byte acted[T];                        /* ghost: 1 somebody acted on `confirmed`, 2 somebody acted on `cancelled` */
bool told_201[T], told_409;           /* ghost: final answers that the client (of the key) has had */

#define ACT(t, r)       acted[t] = acted[t] | ((r) == CONFIRMED -> 1 : 2)
#define PROMISED(p, t)  (DISK(p, t) == PREPARED || DISK(p, t) == COMMITTED)
#define SPLIT(p, q, t)  (B(p, t) == COMMITTED && B(q, t) == ABORTED)
#define SHOWN(t)        (row[t] == CONFIRMED || told_201[t])

inline laws_of(t) {
    LAW(decision_never_changes, acted[t] != 3);
    LAW(told_503_then_confirmed, !(gave_up[t] && row[t] == CONFIRMED));
    LAW(read_your_writes, !(told_201[t] && row[t] != CONFIRMED && !FOREIGN(t)));
    LAW(confirmed_only_by_all_votes, !(SHOWN(t) && !(PROMISED(0, t) && PROMISED(1, t))));
    LAW(all_or_nothing, !(SPLIT(0, 1, t) || SPLIT(1, 0, t)));
#if N > 2
    LAW(confirmed_only_by_all_votes, !(SHOWN(t) && !PROMISED(2, t)));
    LAW(all_or_nothing, !(SPLIT(0, 2, t) || SPLIT(2, 0, t) || SPLIT(1, 2, t) || SPLIT(2, 1, t)));
#endif
#ifdef OFF_FORGETTING_A_REFUSAL       /* a law that is *not* kept: see README */
    LAW(told_and_forgotten, !(acted[t] == 2 && row[t] == NONE && !FOREIGN(t)));
#endif
}

inline laws() {
    laws_of(0);
#if T > 1
    laws_of(1);
#endif
#if T > 2
    laws_of(2);
#endif
#ifdef KEY
    LAW(one_order_per_key, (row[0] == CONFIRMED) + (row[NEXT(0)] == CONFIRMED) + (T > 2 && row[LAST(0)] == CONFIRMED) <= 1);
    LAW(same_key_same_answer, told_201[0] + told_201[NEXT(0)] + (T > 2 && told_201[LAST(0)]) + told_409 <= 1);
#endif
    LAW(conserved, free[0] + TAKEN(0) == UNITS && free[1] + TAKEN(1) == UNITS);    /* bytes: 255 is "overdrawn", and no sum */
#if N > 2
    LAW(conserved, free[2] + TAKEN(2) == UNITS);
#endif
}

inline tell(t) {                      /* the HTTP answer: only from a row that was read */
    if
    :: row[t] == CONFIRMED || pc[t] == KNOWS(CONFIRMED) -> told_201[t] = true; ACT(t, CONFIRMED)
    :: else -> ACT(t, CANCELLED); if :: KEYED && (row[t] == REFUSED || pc[t] == KNOWS(REFUSED)) -> told_409 = true :: else fi
    fi
}

/* A replica began with the log's generation of its start, which may be older than the log's own. */
inline begin(t) {
    if
    :: began_in[t] = generation
    :: generation > 0 -> began_in[t] = 0
    fi;
    pc[t] = VOTING
}

#ifdef OFF_NEW_ORDERS_WAIT
#define OPEN_FOR_ORDERS true
#else
#define OPEN_FOR_ORDERS (generation == 0 || !KEYED)    /* R12: after a restore keys are answered by nobody until `reconcile` */
#endif

proctype Coordinator(byte t) {
    do
#ifdef LIVENESS
    :: IDLES
    :: atomic { asleep[t] = !asleep[t] }
#endif
    /* ---- begin: an order with a key first claims the key, forced, before its round leaves (R11) */
#ifndef KEY
    :: atomic { pc[t] == IDLE && AWAKE(t) -> begin(t) }
#else
#ifdef RETRY
#define COMES_FROM_A_CLIENT(t) (t != 1)
#else
#define COMES_FROM_A_CLIENT(t) true
#endif
    :: atomic { COMES_FROM_A_CLIENT(t) && pc[t] == IDLE && claim == 0 && OPEN_FOR_ORDERS -> claim = t + 1; FLUSH_LOG; begin(t) }
    /*      ... found claimed: answer with the final row of the key, whoever's it is */
    :: atomic { COMES_FROM_A_CLIENT(t) && pc[t] == IDLE && claim != 0 && OPEN_FOR_ORDERS && IS_FINAL(row[NEXT(t)]) -> tell(NEXT(t)); pc[t] = GONE; laws() }
    :: atomic { COMES_FROM_A_CLIENT(t) && pc[t] == IDLE && claim != 0 && OPEN_FOR_ORDERS && IS_FINAL(row[LAST(t)]) -> tell(LAST(t)); pc[t] = GONE; laws() }
    /*      ... or, its patience over, fence the holder, obey what is found, and carry its abort along.  Between looking and
     *      fencing the holder may have been refused for good: then the take-over goes on, and loses the key in the end */
    :: atomic { COMES_FROM_A_CLIENT(t) && pc[t] == IDLE && claim != 0 && claim != t + 1 && OPEN_FOR_ORDERS && !IS_OPEN(claim - 1) ->
#ifndef OFF_FENCE
            insert(claim - 1, CANCELLED, FORCED);
#endif
            if
            :: row[claim - 1] == CONFIRMED -> tell(claim - 1); pc[t] = GONE
            :: else ->
                    ADD(attempts, claim - 1);
#ifndef OFF_INSTEAD
                    instead[t] = attempts;
#endif
                    claim = t + 1; FLUSH_LOG; begin(t)
            fi; laws() }
#endif

    /* ---- R1: all votes are in and the client has not been sent away: decide by compare-and-set, forced */
#ifdef OFF_ALL_VOTES
    :: atomic { pc[t] == VOTING && AWAKE(t) && yes[t] != 0 && !gave_up[t] ->
#elif defined(OFF_GIVE_UP)
    :: atomic { pc[t] == VOTING && AWAKE(t) && yes[t] == ALL ->
#else
    :: atomic { pc[t] == VOTING && AWAKE(t) && yes[t] == ALL && !gave_up[t] ->
#endif
            if
            :: !MAY_DECIDE(t) && row[t] == NONE -> pc[t] = GONE
            :: (MAY_DECIDE(t) || row[t] != NONE) && !KEY_OPEN(t) -> insert(t, CONFIRMED, DECISION_FORCED); pc[t] = KNOWS(row[t])
            :: MAY_FAIL -> faults--; flight[t] = ON_THE_WIRE; cargo[t] = CONFIRMED;
                    if :: pc[t] = UNSURE :: pc[t] = GONE fi                          /* the reply is lost, or the replica dies */
#ifdef OFF_DECIDE_BEFORE_TELLING
            :: ACT(t, CONFIRMED); commit[t] = ALL
#endif
            fi; laws() }

#ifndef PATIENT
    /* ---- R7: silence is a no.  Nobody else could ever confirm t, so this row need not be forced */
    :: atomic { pc[t] == VOTING && AWAKE(t) && (MAY_DECIDE(t) || row[t] != NONE) -> insert(t, CANCELLED, UNFORCED); pc[t] = KNOWS(row[t]);
#ifdef OFF_ABORT_TO_ALL
            heard[t] = yes[t];
#endif
            laws() }
    /*      the client's deadline, before any `confirmed` insert was sent: 503, and from now on it can only be cancelled */
    :: atomic { pc[t] == VOTING && AWAKE(t) && !gave_up[t] -> gave_up[t] = true; laws() }
#endif

    /* ---- refused: without a key as a deadline, unforced; with one it is a final answer, which holds the key, forced */
#ifndef KEY
    :: atomic { pc[t] == VOTING && AWAKE(t) && no[t] != 0 && (MAY_DECIDE(t) || row[t] != NONE) -> insert(t, CANCELLED, UNFORCED); pc[t] = KNOWS(row[t]); laws() }
#else
#if defined(HEALTHY) && defined(RETRY)
    :: atomic { t != 0 && pc[t] == VOTING && no[t] != 0 && !KEY_OPEN(t) && (MAY_DECIDE(t) || row[t] != NONE) ->
#else
    :: atomic { pc[t] == VOTING && no[t] != 0 && !KEY_OPEN(t) && (MAY_DECIDE(t) || row[t] != NONE) ->
#endif
            if
            :: insert(t, REFUSED, REFUSAL_FORCED);
#ifdef OFF_ANSWER_FROM_ROW
                    if :: row[t] == CANCELLED -> pc[t] = KNOWS(REFUSED) :: else -> pc[t] = KNOWS(row[t]) fi
#else
                    pc[t] = KNOWS(row[t])
#endif
            :: MAY_FAIL -> faults--; flight[t] = ON_THE_WIRE; cargo[t] = REFUSED; if :: pc[t] = UNSURE_NO :: pc[t] = GONE fi
            fi; laws() }
#ifdef RETRY
    /*      only a stale price or undecided orders stood in the way, and nobody was silent: cancel this attempt, without the
     *      key, and then hand the claim on to the next one, which carries this one's abort along */
    :: atomic { t == 0 && pc[t] == VOTING && no[t] != 0 && (no[t] | yes[t]) == ALL && (MAY_DECIDE(t) || row[t] != NONE) ->
#ifdef OFF_ONLY_FINAL_ANSWERS_HOLD_THE_KEY
            insert(t, REFUSED, FORCED);
#else
            insert(t, CANCELLED, UNFORCED);
#endif
            pc[t] = AGAIN; laws() }
    :: atomic { t == 0 && pc[t] == AGAIN && pc[1] == IDLE ->
            if
            :: claim == t + 1 -> claim = 2; ADD(attempts, t); FLUSH_LOG;
#ifndef OFF_RETRY_INSTEAD
                    instead[1] = attempts;
#endif
                    begin(1)
#ifdef OFF_MOVE_COMPARED
            :: claim != t + 1 -> claim = 2; ADD(attempts, t); instead[1] = attempts; begin(1)
#else
            :: claim != t + 1 -> pc[1] = GONE                                        /* taken over meanwhile: 503 */
#endif
            fi; laws() }
#endif
#endif

    /* ---- R3: a lost reply means unknown.  Repeat the same insert, as the code does, or ask by an insert of `cancelled`;
     *      both wait for the one in flight.  Its reply may be lost as well */
#ifdef OFF_ASK_BY_INSERT
    :: atomic { pc[t] == UNSURE -> pc[t] = (row[t] == NONE -> KNOWS(CANCELLED) : KNOWS(row[t])) }
#else
    :: atomic { (pc[t] == UNSURE || pc[t] == UNSURE_NO) && AWAKE(t) && !IS_OPEN(t) ->
            if
            :: row[t] == NONE && !MAY_DECIDE(t) -> pc[t] = GONE
            :: (row[t] != NONE || MAY_DECIDE(t)) && !KEY_OPEN(t) ->
                    if :: pc[t] == UNSURE -> insert(t, CONFIRMED, DECISION_FORCED) :: else -> insert(t, REFUSED, REFUSAL_FORCED) fi;
                    pc[t] = KNOWS(row[t])
            :: row[t] != NONE || MAY_PRESUME(t) -> insert(t, CANCELLED, ASK_FORCED); pc[t] = KNOWS(row[t])
            :: MAY_FAIL && flight[t] == 0 -> faults--; flight[t] = ON_THE_WIRE; cargo[t] = (pc[t] == UNSURE -> CONFIRMED : REFUSED)
            fi; laws() }
#endif

    /* ---- tell the client; who lost the key answers with the winner's row */
    :: atomic { pc[t] >= KNOWS(CONFIRMED) && pc[t] <= KNOWS(REFUSED) && AWAKE(t) && acted[t] == 0 -> tell(t); laws() }
#ifdef OFF_ANSWER_FROM_ROW
    :: atomic { KEYED && pc[t] == KNOWS(REFUSED) && !told_409 -> tell(t); laws() }
#endif
#ifdef KEY
    :: atomic { pc[t] == KNOWS(CANCELLED) && row[NEXT(t)] == CONFIRMED && !told_201[NEXT(t)] -> tell(NEXT(t)); laws() }
    :: atomic { pc[t] == KNOWS(CANCELLED) && row[LAST(t)] == CONFIRMED && !told_201[LAST(t)] -> tell(LAST(t)); laws() }
    :: atomic { pc[t] == KNOWS(CANCELLED) && (row[NEXT(t)] == REFUSED || row[LAST(t)] == REFUSED) && !told_409 -> told_409 = true; laws() }
#endif

    /* ---- crash */
    :: atomic { (MAY_FAIL || FOR_FREE) && pc[t] != IDLE && pc[t] != GONE -> faults = faults - !FOR_FREE; pc[t] = GONE;
#ifdef RETRY
            if :: t == 0 && pc[1] != IDLE -> pc[1] = GONE :: else fi                 /* both attempts live in one process */
#endif
            }
    od
}

proctype Log() {
    do
#ifdef LIVENESS
    :: IDLES
#endif
#if T == 1
    :: atomic { UNSAFE_LOG -> FLUSH_LOG }                                            /* the database's own writer */
#endif
#ifdef OFF_CLAIM_FORCED
    :: atomic { MAY_FAIL && claim != 0 -> faults--; claim = 0; attempts = 0 }
#endif
    :: atomic { MAY_FAIL && (UNSAFE_LOG || IS_OPEN(0) || IS_OPEN(NEXT(0)) || IS_OPEN(LAST(0))) ->              /* crash */
            faults--; row[0] = row_disk[0]; if :: IS_OPEN(0) -> LANDED(0) :: else fi;
#if T > 1
            row[1] = row_disk[1]; if :: IS_OPEN(1) -> LANDED(1) :: else fi;
#endif
            laws() }
#ifdef RESTORE
    /* An older backup: of each row, and of the claim, it may know nothing yet.  A human has raised the generation. */
    :: atomic { faults > 0 && generation == 0 ->
            faults--; generation = 1;
            if :: row[0] = NONE :: row[0] != NONE fi; if :: IS_OPEN(0) -> LANDED(0) :: else fi;
#if T > 1
            if :: row[1] = NONE :: row[1] != NONE fi; if :: IS_OPEN(1) -> LANDED(1) :: else fi;
            if :: claim != 0 :: claim = 0; attempts = 0 fi;
#endif
            FLUSH_LOG }
#endif
    od
}

/* The decision insert that is still under way. */
proctype Row(byte t) {
    do
    :: atomic { flight[t] == ON_THE_WIRE && (row[t] != NONE || !MAY_DECIDE(t) || LOSES_KEY(t)) -> LANDED(t) }    /* loses */
    :: atomic { flight[t] == ON_THE_WIRE && row[t] == NONE && !LOSES_KEY(t) && MAY_DECIDE(t) && !KEY_OPEN(t) -> flight[t] = OPEN }
    :: atomic { flight[t] == ON_THE_WIRE -> LANDED(t) }                                                          /* never arrives */
    :: atomic { flight[t] == OPEN -> row[t] = cargo[t]; LANDED(t);
            if
            :: FLUSH_LOG
            :: MAY_FAIL -> faults--                                                /* interrupted: visible, and not safe */
            fi; laws() }
    :: atomic { flight[t] == OPEN -> flight[t] = ABANDONED }                         /* frozen between INSERT and COMMIT */
#ifndef OFF_IDLE_TIMEOUT
    :: atomic { flight[t] == ABANDONED -> LANDED(t) }                                /* idle_in_transaction_session_timeout */
#endif
    od
}

/* The aborts that a prepare carries along come before it, in the same local transaction. */
inline abort_instead(p, t, u) {
    if
    :: HAS(instead[t], u) && B(p, u) == PREPARED -> B(p, u) = ABORTED; free[p]++; ACT(u, CANCELLED)
    :: HAS(instead[t], u) && B(p, u) == NONE -> B(p, u) = ABORTED; ACT(u, CANCELLED)
    :: HAS(instead[t], u) && B(p, u) == COMMITTED -> NEVER(violation_reported)
    :: else
    fi
}

proctype Branch(byte p; byte t) {
    do
    /* ---- the coordinator's lane to p: decisions stay on its list until acknowledged (R8), and go to all (R7) */
    :: atomic { pc[t] == VOTING && AWAKE(t) && !HAS(prepare[t], p) -> ADD(prepare[t], p) }
    :: atomic { pc[t] == KNOWS(CONFIRMED) && AWAKE(t) && !HAS(commit[t], p) && !HAS(acknowledged[t], p) -> ADD(commit[t], p); ACT(t, CONFIRMED);
#ifdef OFF_UNTIL_ACKNOWLEDGED
            ADD(acknowledged[t], p);
#endif
            laws() }
    :: atomic { KNOWS_CANCELLED(t) && AWAKE(t) && !HAS(abort[t], p) && !HAS(acknowledged[t], p) && HEARS(p, t) -> ADD(abort[t], p); ACT(t, CANCELLED);
#ifdef OFF_UNTIL_ACKNOWLEDGED
            ADD(acknowledged[t], p);
#endif
            laws() }
#ifdef LOSSY
    :: atomic { faults > 0 && HAS(commit[t], p) && !HAS(acknowledged[t], p) -> faults--; DROP(commit[t], p) }
    :: atomic { faults > 0 && HAS(abort[t], p) && !HAS(acknowledged[t], p) -> faults--; DROP(abort[t], p) }
#ifdef OFF_UNTIL_ACKNOWLEDGED
    :: atomic { faults > 0 && HAS(commit[t], p) -> faults--; DROP(commit[t], p) }
    :: atomic { faults > 0 && HAS(abort[t], p) -> faults--; DROP(abort[t], p) }
#endif
#endif

    /* ---- prepare: take, flush, and only then vote */
    :: atomic { HAS(prepare[t], p) && B(p, t) == NONE ->
#ifdef KEY
            abort_instead(p, t, NEXT(t)); if :: NEXT(t) != LAST(t) -> abort_instead(p, t, LAST(t)) :: else fi;
#ifndef OFF_COMPETE
            LAW(key_competes_with_itself, !(free[p] == 0 && (B(p, NEXT(t)) == PREPARED || B(p, LAST(t)) == PREPARED)));
#endif
#endif
            if
#ifdef OFF_ESCROW                     /* looks whether it fits, and takes at the commit */
            :: free[p] > 0 -> B(p, t) = PREPARED; FLUSH(p); ADD(yes[t], p)
#else
            :: free[p] > 0 && ACCEPTS(p, t) -> B(p, t) = PREPARED; free[p]--;
                    if
#ifndef OFF_PREPARE_FORCED
                    :: FLUSH(p); ADD(yes[t], p)
                    :: MAY_FAIL -> faults--                                        /* interrupted: visible, not safe, no vote */
#else
                    :: ADD(yes[t], p)
#endif
                    fi
#endif
            :: REFUSES(p, t) -> B(p, t) = ABORTED; ADD(no[t], p)                     /* recorded, so a repeat hears the same */
#if T > 1
            :: free[p] == 0 -> B(p, t) = ABORTED; ADD(no[t], p)                      /* another order holds it */
#endif
            fi; laws() }
    /*      repeated: the recorded vote, and not before it is safe (R4) */
    :: atomic { HAS(prepare[t], p) && HOLDS(p, t) && !HAS(yes[t], p) -> ADD(yes[t], p);
#ifndef OFF_VOTE_FORCED
            FLUSH(p)
#endif
            }
    :: atomic { HAS(prepare[t], p) && B(p, t) == ABORTED && !HAS(no[t], p) -> ADD(no[t], p) }

    /* ---- phase 2: a compare-and-set on the branch's own state, unforced */
    :: atomic { HAS(commit[t], p) && B(p, t) == PREPARED -> B(p, t) = COMMITTED; ADD(acknowledged[t], p);
#ifdef OFF_ESCROW
            free[p]--;
#endif
            laws() }
    :: atomic { HAS(commit[t], p) && (B(p, t) == NONE || B(p, t) == ABORTED) -> NEVER(violation_reported) }      /* pages somebody */
    :: atomic { HAS(abort[t], p) && B(p, t) == COMMITTED -> NEVER(violation_reported) }                          /* pages somebody */
#ifdef OFF_BRANCH_STAYS                /* an abort that deletes the row: a repeated prepare starts all over */
    :: atomic { HAS(abort[t], p) && B(p, t) == PREPARED -> B(p, t) = NONE; free[p]++; ADD(acknowledged[t], p); laws() }
#else
    :: atomic { HAS(abort[t], p) && B(p, t) == PREPARED -> B(p, t) = ABORTED; ADD(acknowledged[t], p);
#ifndef OFF_ESCROW
            free[p]++;
#endif
            laws() }
#endif
#ifdef OFF_GIVE_BACK_ONCE
    :: atomic { HAS(abort[t], p) && B(p, t) == ABORTED && free[p] <= UNITS -> free[p]++; laws() }
#endif
#if defined(OFF_ABORTED_ROW) || defined(OFF_BRANCH_STAYS)
    :: atomic { HAS(abort[t], p) && B(p, t) == NONE && !HAS(acknowledged[t], p) -> ADD(acknowledged[t], p)       /* "not found, so done" */
#ifdef OFF_ABORTED_ROW
            ; DROP(abort[t], p)                                                      /* ... and it comes only once */
#endif
            }
#else
    :: atomic { HAS(abort[t], p) && B(p, t) == NONE -> B(p, t) = ABORTED; ADD(acknowledged[t], p); laws() }
#endif
    :: atomic { (HAS(commit[t], p) && B(p, t) == COMMITTED || HAS(abort[t], p) && B(p, t) == ABORTED) && !HAS(acknowledged[t], p) -> ADD(acknowledged[t], p) }

#ifdef OFF_NEVER_GUESS
    :: atomic { B(p, t) == PREPARED -> B(p, t) = ABORTED; free[p]++; laws() }
#endif

    /* ---- R2: p asks, perhaps too early.  `outcomes`, on any replica, waits for an insert in flight, cancels an unknown id
     *      by a forced row, and only then answers; the answer may be late or lost, and p asks again */
#if (!defined(OFF_SWEEP) && !defined(HEALTHY)) || defined(OFF_READ_WITHOUT_WRITING)
#ifdef OFF_SWEEP_GOES_PAST            /* asks about the oldest branches alone, however long those cannot be answered */
    :: atomic { B(p, t) == PREPARED && !(t == 1 && B(p, 0) == PREPARED) && !IS_OPEN(t) && !HAS(commit[t], p) && !HAS(abort[t], p) && (row[t] != NONE || MAY_PRESUME(t)) ->
#else
    :: atomic { B(p, t) == PREPARED && !IS_OPEN(t) && !HAS(commit[t], p) && !HAS(abort[t], p) && (row[t] != NONE || MAY_PRESUME(t)) ->
#endif
#if !defined(OFF_OUTCOMES_WRITES) && !defined(OFF_OUTCOMES_DECIDE)
            insert(t, CANCELLED, OUTCOMES_FORCED);
#endif
            if
            :: row[t] == CONFIRMED -> ADD(commit[t], p); ACT(t, CONFIRMED)
#ifdef OFF_OUTCOMES_DECIDE            /* "undecided, ask again later": politely, for ever */
            :: row[t] == NONE
            :: row[t] == CANCELLED -> ADD(abort[t], p); ACT(t, CANCELLED)
#else
            :: else -> ADD(abort[t], p); ACT(t, CANCELLED)
#endif
            fi; laws() }
#endif
    /*      a GET peeks: it writes no decision, and what it finds recorded it applies.  Found, so flushed first (R4): with
     *      that it adds nothing to what `outcomes` may do with a row found, and is left out */
#ifdef OFF_PEEK_FORCED
    :: atomic { B(p, t) == PREPARED && !HAS(commit[t], p) && !HAS(abort[t], p) && row[t] != NONE ->
            if
            :: row[t] == CONFIRMED -> ADD(commit[t], p); ACT(t, CONFIRMED)
            :: else -> ADD(abort[t], p); ACT(t, CANCELLED)
            fi; laws() }
#endif
    od
}

/* p's database crashes; its connections break with it, so that what was in them may be gone for good. */
proctype Database(byte p) {
    do
#ifdef LIVENESS
    :: IDLES
#endif
#if T == 1                            /* with more transactions a crash loses all that is not flushed: fewer states, worse crashes */
    :: atomic { UNSAFE(p) -> FLUSH(p) }
#endif
    :: atomic { MAY_FAIL && UNSAFE(p) ->
            faults--; B(p, 0) = DISK(p, 0); free[p] = free_disk[p];
#if T > 1
            B(p, 1) = DISK(p, 1);
#endif
            if
            :: DROP(commit[0], p); DROP(abort[0], p);
#if T > 1
               DROP(commit[1], p); DROP(abort[1], p);
#endif
            :: skip
            fi; laws() }
    od
}

#ifndef LIVENESS
/* When nothing is left to happen, no branch is prepared, and what was promised is done.  Every cycle-free run ends here, so
 * with the proof that there is no cycle (check.sh: "every run ends") this is the liveness of L4, for every schedule.   */
proctype Quiet() {
    byte p = 0, t = 0;
    end: timeout -> atomic {
        do
        :: t < T ->
            p = 0;
            do
            :: p < N ->
                LAW(branch_left_in_doubt, B(p, t) != PREPARED || (FOREIGN(t) && row[t] == NONE));   /* those call a human */
                LAW(confirmed_and_not_committed, !((acted[t] == 1 || told_201[t]) && B(p, t) != COMMITTED && !FOREIGN(t)));
                p++
            :: else -> break
            od;
            t++
        :: else -> break
        od;
#if defined(REFUSING)
        LAW(good_order_failed, row[0] == (KEYED -> REFUSED : CANCELLED));
#elif defined(HEALTHY)
        LAW(good_order_failed, T > 2 || row[T - 1] == CONFIRMED);                    /* the order, or its second attempt */
#endif
        }
}
#endif

init {
    atomic {
        byte p = 0, t = 0;
        do :: t < T -> run Coordinator(t); run Row(t); p = 0;
                       do :: p < N -> run Branch(p, t); p++ :: else -> break od; t++
           :: else -> break od;
        p = 0; do :: p < N -> run Database(p); p++ :: else -> break od;
        run Log();
#ifndef LIVENESS
        run Quiet();
#endif
        p = 0; t = 0
    }
}

#ifdef LIVENESS
/* Under weak fairness of processes (whoever can move for ever, does): from some point on no branch is in doubt, but for those
 * that a restored log left to a human.  Crashes stop, because FAULTS is finite; messages get through, because Branch and Row
 * may not idle; replicas, the log's writer and the databases' may idle or sleep for ever.                                */
#define DOUBT(p, t)  (B(p, t) == PREPARED && !(FOREIGN(t) && row[t] == NONE))
#if N == 2 && T == 1
ltl resolved { <> [] !(DOUBT(0, 0) || DOUBT(1, 0)) }
#elif N == 3 && T == 1
ltl resolved { <> [] !(DOUBT(0, 0) || DOUBT(1, 0) || DOUBT(2, 0)) }
#else
ltl resolved { <> [] !(DOUBT(0, 0) || DOUBT(1, 0) || DOUBT(0, 1) || DOUBT(1, 1)) }
#endif
#endif
