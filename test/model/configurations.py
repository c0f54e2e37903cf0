"""What is checked: the configurations in which the model must hold, and the mutants that must be rejected, each by its law.

A mutant is a configuration that holds, less one rule. Some rules defend the same law twice over;
such a mutant stands in the configuration where the other defence is away.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Configuration:
    """What is switched on, and how it is searched.

    ``broken_laws`` are those that a mutant must break (none: it must hold).
    """

    name: str
    switches: str
    about: str
    search: str = "safety"
    broken_laws: tuple[str, ...] = ()
    #: Long ones start first, so that both cores are busy to the end.
    long: bool = False


ORDER = "-DN=2 -DT=1"
KEY = "-DN=2 -DT=2 -DKEY"
TWO = "-DN=2 -DT=2 -DTWO"
RETRY = "-DN=2 -DT=2 -DKEY -DRETRY"
THREE = "-DN=2 -DT=3 -DKEY -DRETRY -DFAULTS=0 -DHEALTHY"
RESTORED_KEY = f"{KEY} -DFAULTS=1 -DRESTORE -DNO_CRASH"
RESTORED_TWO = f"{TWO} -DUNITS=2 -DWILLING -DPATIENT -DFAULTS=1 -DRESTORE -DNO_CRASH -DMORTAL"

HOLD = [
    Configuration("order", f"{ORDER} -DFAULTS=3", "one order, 2 participants, 3 faults"),
    Configuration(
        "order-3", "-DN=3 -DT=1 -DFAULTS=3", "one order, 3 participants, 3 faults", long=True
    ),
    Configuration("restore", f"{ORDER} -DFAULTS=3 -DRESTORE", "the log may be restored, 3 faults"),
    Configuration(
        "restore-3",
        "-DN=3 -DT=1 -DFAULTS=2 -DRESTORE",
        "the same, 3 participants, 2 faults",
        long=True,
    ),
    Configuration(
        "no-recovery",
        f"{ORDER} -DFAULTS=0 -DOFF_SWEEP",
        "without a recovery pass and without a fault",
    ),
    Configuration(
        "lossy",
        "-DN=3 -DT=1 -DFAULTS=3 -DLOSSY -DNO_CRASH -DOFF_SWEEP",
        "without a recovery pass, 3 decisions lost",
    ),
    Configuration(
        "healthy", "-DN=3 -DT=1 -DFAULTS=0 -DHEALTHY", "nothing goes wrong: it is confirmed"
    ),
    Configuration(
        "refused",
        "-DN=3 -DT=1 -DFAULTS=0 -DREFUSING",
        "one refuses, no key: cancelled, all given back",
    ),
    Configuration(
        "two", f"{TWO} -DFAULTS=0 -DMORTAL", "two orders, one unit, replicas die", long=True
    ),
    Configuration("two-restore", RESTORED_TWO, "two orders, the log may be restored, replicas die"),
    Configuration(
        "key",
        f"{KEY} -DFAULTS=0 -DMORTAL",
        "one key on two replicas, which pause or die",
        long=True,
    ),
    Configuration(
        "key-1", f"{KEY} -DFAULTS=1", "one key on two replicas, 1 fault of any kind", long=True
    ),
    Configuration("key-restore", RESTORED_KEY, "one key, the log may be restored", long=True),
    Configuration("retry", f"{RETRY} -DFAULTS=2", "a second attempt, 2 faults", long=True),
    Configuration(
        "retry-healthy", f"{RETRY} -DFAULTS=0 -DHEALTHY", "the second attempt must succeed"
    ),
    Configuration("retry-3", THREE, "a second attempt, and another replica with its key"),
    Configuration(
        "ends", f"{ORDER} -DFAULTS=3", "no circle: every run comes to rest", "every run ends"
    ),
    Configuration(
        "ends-3", "-DN=3 -DT=1 -DFAULTS=2", "the same, 3 participants", "every run ends", long=True
    ),
    Configuration(
        "ends-key",
        f"{KEY} -DFAULTS=0",
        "the same, one key on two replicas",
        "every run ends",
        long=True,
    ),
    Configuration(
        "live",
        f"{ORDER} -DFAULTS=2 -DLIVENESS",
        "resolved, replicas asleep, 2 faults",
        "fair liveness",
        long=True,
    ),
    Configuration(
        "live-restore",
        f"{ORDER} -DFAULTS=1 -DRESTORE -DLIVENESS",
        "resolved, restored log",
        "fair liveness",
    ),
    Configuration(
        "live-3",
        "-DN=3 -DT=1 -DFAULTS=0 -DLIVENESS",
        "resolved, 3 participants",
        "fair liveness",
        long=True,
    ),
]

BY_NAME = {each.name: each for each in HOLD}


def mutant(rule: str, base: str, *laws: str, about: str) -> Configuration:
    """Return the ``base`` configuration, which holds, without one rule.

    It must break one of ``laws``.
    """
    found = BY_NAME[base]
    return Configuration(rule, f"{found.switches} -DOFF_{rule}", about, found.search, laws)


#: Which of these is met first is a matter of search order: all of them say that a transaction was
#: split.
SPLIT = (
    "decision_never_changes",
    "confirmed_only_by_all_votes",
    "all_or_nothing",
    "violation_reported",
)
ONE_ANSWER = ("key_competes_with_itself", "one_order_per_key", "same_key_same_answer")

MUTANTS = [
    # the decision
    mutant("COMPARE_AND_SET", "order", *SPLIT, about="a decision overwrites the row found"),
    mutant("ALL_VOTES", "order", *SPLIT, about="confirms with a vote missing"),
    mutant("DECISION_FORCED", "order", *SPLIT, about="tells a decision that is not flushed"),
    mutant("DECIDE_BEFORE_TELLING", "order", *SPLIT, about="tells the participants, then writes"),
    mutant(
        "GIVE_UP",
        "order",
        "told_503_then_confirmed",
        about="confirms what a client was sent away from with 503",
    ),
    mutant(
        "ASK_BY_INSERT",
        "order",
        *SPLIT,
        about="a plain read after a lost reply: none means cancelled",
    ),
    mutant(
        "ASK_FORCED",
        "order",
        *SPLIT,
        about="the cancellation that answers a lost reply is not flushed",
    ),
    mutant("FOUND_FORCED", "order", *SPLIT, about="answers from a row found that is not flushed"),
    mutant("PEEK_FORCED", "order", *SPLIT, about="a peek applies a row found that is not flushed"),
    mutant(
        "IDLE_TIMEOUT",
        "order",
        "branch_left_in_doubt",
        about="a coordinator frozen before COMMIT blocks its row for ever",
    ),
    mutant(
        "FORGETTING_A_REFUSAL",
        "order",
        "told_and_forgotten",
        about="not promised: that no told refusal is ever forgotten",
    ),
    # the participant
    mutant("PREPARE_FORCED", "order", *SPLIT, about="votes before its branch is flushed"),
    mutant(
        "VOTE_FORCED", "order", *SPLIT, about="repeats a vote from a branch that is not flushed"
    ),
    mutant(
        "GIVE_BACK_ONCE", "order", "conserved", about="an abort that comes twice gives back twice"
    ),
    mutant(
        "NEVER_GUESS", "order", *SPLIT, about="a participant aborts a prepared branch on its own"
    ),
    mutant(
        "ABORTED_ROW",
        "no-recovery",
        "branch_left_in_doubt",
        about="an abort of an unknown transaction leaves no row",
    ),
    mutant(
        "BRANCH_STAYS",
        "live",
        "acceptance cycle",
        about="an abort deletes the row (safety alone does not see it)",
    ),
    mutant("ESCROW", "two", "conserved", about="prepare looks, and commit takes"),
    # telling and asking
    mutant(
        "ABORT_TO_ALL",
        "no-recovery",
        "branch_left_in_doubt",
        about="the silent one hears of no abort, and there is no recovery",
    ),
    mutant(
        "UNTIL_ACKNOWLEDGED",
        "lossy",
        "branch_left_in_doubt",
        about="a decision is struck off the list when it is sent",
    ),
    mutant("SWEEP", "order", "branch_left_in_doubt", about="nobody asks"),
    mutant(
        "SWEEP_GOES_PAST",
        "two-restore",
        "branch_left_in_doubt",
        about="asks about the oldest alone, answered or not",
    ),
    mutant(
        "OUTCOMES_WRITES",
        "order",
        *SPLIT,
        about="answers `cancelled` for an unknown id, and writes nothing",
    ),
    mutant("OUTCOMES_FORCED", "order", *SPLIT, about="writes it, and does not flush"),
    mutant(
        "OUTCOMES_DECIDE",
        "live",
        "acceptance cycle",
        about="`undecided`, for ever (safety alone does not see it)",
    ),
    mutant(
        "READ_WITHOUT_WRITING",
        "healthy",
        "good_order_failed",
        about="a GET cancels an order under way",
    ),
    # keys
    mutant("CLAIM_FORCED", "key-1", *ONE_ANSWER, about="a crash forgets the claim"),
    mutant(
        "FENCE", "key", *SPLIT, *ONE_ANSWER, about="takes a claim over without fencing its holder"
    ),
    mutant("INSTEAD", "key", *ONE_ANSWER, about="... without aborting its holder's branches first"),
    mutant(
        "KEY_UNIQUE", "key", *ONE_ANSWER, about="the decision insert does not hold the key unique"
    ),
    mutant(
        "REFUSAL_FORCED", "key-1", *ONE_ANSWER, about="a 409 with a key is told and not flushed"
    ),
    mutant(
        "ANSWER_FROM_ROW",
        "key",
        *ONE_ANSWER,
        about="tells 409 because of the votes, though the log's row holds no key",
    ),
    mutant(
        "RETRY_INSTEAD", "retry", *ONE_ANSWER, about="the second attempt does not abort the first"
    ),
    mutant(
        "ONLY_FINAL_ANSWERS_HOLD_THE_KEY",
        "retry-healthy",
        "good_order_failed",
        about="the first attempt's refusal holds it",
    ),
    mutant(
        "MOVE_COMPARED",
        "retry-3",
        *ONE_ANSWER,
        about="a second attempt starts though another replica has the claim",
    ),
    # generations
    mutant(
        "GENERATION_ON_OUTCOMES",
        "restore",
        *SPLIT,
        about="a restored log cancels what it has forgotten",
    ),
    mutant(
        "GENERATION_ON_DECISION", "restore", *SPLIT, about="a late decision enters a restored log"
    ),
    mutant(
        "NEW_ORDERS_WAIT",
        "key-restore",
        *ONE_ANSWER,
        about="a restored log answers keys before it is reconciled",
    ),
]
