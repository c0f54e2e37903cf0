"""Participants with one fault each, of the kind that is made in practice.

The table at the end says which rule each breaks.
"""

from conformance.broken_counters import BelievesTheLast, CountsNothing, TakesAllTheSame
from conformance.broken_decisions import (
    AbortsOnce,
    AbortsTheCommitted,
    CommitsFirst,
    CommitsOnce,
    CommitsTheAborted,
    CommitsTheUnknown,
    ForgetsEarlyAborts,
    PreparesBeforeAborts,
    PreparesBeforeCommits,
)
from conformance.broken_votes import (
    AcceptsAnotherBody,
    AddsAMember,
    ChangesItsFacts,
    GivesBackTwice,
    IgnoresInsteadOf,
    KeepsWhatItTook,
    LosesRaces,
    RefusesAnew,
    ReleasesOnCommit,
    StaysSilent,
    StopsAtTheFirstNo,
    TakesAgain,
)
from conformance.broken_wire import (
    AbortsOnRestart,
    AsksForNoKey,
    ComparesBeginnings,
    DoesWhatItUnderstands,
    ForgetsOnRestart,
    IsPoisoned,
    ListsEverything,
    SkipsUnknownMembers,
    SpeaksAnyVersion,
    TakesAnySize,
)
from conformance.in_memory import MemoryParticipant

#: Which rule each of them breaks, and no other.
BROKEN: dict[type[MemoryParticipant], str] = {
    AddsAMember: "well_formed_ballot",
    StaysSilent: "well_formed_ballot",
    StopsAtTheFirstNo: "greedy_votes",
    TakesAgain: "one_hold",
    GivesBackTwice: "given_back_once",
    KeepsWhatItTook: "given_back_once",
    ReleasesOnCommit: "committed_stays_taken",
    IgnoresInsteadOf: "instead_of",
    ChangesItsFacts: "repeated_prepare",
    LosesRaces: "prepares_at_once",
    RefusesAnew: "refusal_is_kept",
    AcceptsAnotherBody: "prepare_with_another_body",
    CountsNothing: "counters",
    BelievesTheLast: "counters",
    TakesAllTheSame: "counters",
    ForgetsEarlyAborts: "abort_before_prepare",
    CommitsTheUnknown: "commit_of_unknown",
    CommitsTheAborted: "commit_of_aborted",
    AbortsTheCommitted: "abort_of_committed",
    CommitsOnce: "repeated_commit",
    AbortsOnce: "repeated_abort",
    CommitsFirst: "order_inside_a_round",
    PreparesBeforeCommits: "order_inside_a_round",
    PreparesBeforeAborts: "order_inside_a_round",
    IsPoisoned: "poisonous_neighbour",
    DoesWhatItUnderstands: "malformed_rounds",
    SpeaksAnyVersion: "unknown_versions",
    SkipsUnknownMembers: "unknown_members",
    TakesAnySize: "too_large_rounds",
    AsksForNoKey: "no_key",
    ComparesBeginnings: "wrong_key",
    ListsEverything: "list_of_branches",
    ForgetsOnRestart: "restart_keeps_promises",
    AbortsOnRestart: "restart_keeps_promises",
}
