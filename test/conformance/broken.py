"""Participants with one fault each, of the kind that is made in practice.

The table at the end says which rule each breaks.
"""

import contextlib
import itertools
import json
import time
from collections import Counter
from typing import Any

import httpx

from conformance.in_memory import KEY, Branch, Malformed, MemoryParticipant
from two_phase.messages import ROUND_BYTES_MAX, Ballot, Prepare, Round, State, Vote


class AddsAMember(MemoryParticipant):
    """Its ballots have a member more than the protocol knows."""

    def written(self, ballot: Ballot) -> str:
        """Add the time of day."""
        return json.dumps({**ballot.model_dump(), "at": "noon"})


class StaysSilent(MemoryParticipant):
    """It leaves refusals out of its ballots."""

    def written(self, ballot: Ballot) -> str:
        """Tell the good news alone."""
        return ballot.model_copy(
            update={"votes": [vote for vote in ballot.votes if vote.prepared]}
        ).model_dump_json()


class StopsAtTheFirstNo(MemoryParticipant):
    """Whatever stands behind an order that does not fit is refused with it."""

    def prepare_all(self, message: Round, ballot: Ballot) -> None:
        """Give up as soon as something does not fit."""
        super().prepare_all(message.model_copy(update={"prepares": []}), ballot)
        for number, prepare in enumerate(message.prepares):
            super().prepare_all(message.model_copy(update={"prepares": [prepare]}), ballot)
            if ballot.votes and ballot.votes[-1].reason == "too_few":
                for each in message.prepares[number + 1 :]:
                    vote = Vote(
                        transaction_id=each.transaction_id, prepared=False, reason="too_few"
                    )
                    self.branches[each.transaction_id] = Branch(
                        State.ABORTED, message.generation, each.payload, vote
                    )
                    ballot.votes.append(vote)
                return


class TakesAgain(MemoryParticipant):
    """A repeated prepare takes what it asks for a second time."""

    def __init__(self) -> None:
        super().__init__()
        self.taken_again: Counter[str] = Counter()

    def repeated(self, branch: Branch) -> Vote:
        """Take, and give the same vote."""
        if branch.state is State.PREPARED and branch.payload:
            self.free -= branch.payload["units"]
            self.taken_again[branch.vote.transaction_id] += branch.payload["units"]
        return branch.vote

    def give_back(self, branch: Branch) -> None:
        """Give back all that was taken."""
        self.free += self.taken_again.pop(branch.vote.transaction_id, 0)
        super().give_back(branch)


class GivesBackTwice(MemoryParticipant):
    """A repeated abort gives back a second time."""

    def abort(self, transaction_id: str, generation: int, ballot: Ballot) -> None:
        """Give back whatever the state is."""
        branch = self.branches.get(transaction_id)
        if branch and branch.state is State.ABORTED and branch.payload:
            self.free += branch.payload["units"]
        super().abort(transaction_id, generation, ballot)


class KeepsWhatItTook(MemoryParticipant):
    """An abort changes the state, and gives nothing back."""

    def give_back(self, branch: Branch) -> None:
        """Keep the units."""
        free = self.free
        super().give_back(branch)
        self.free = free


class ReleasesOnCommit(MemoryParticipant):
    """A commit forgets to keep what was taken."""

    def commit(self, transaction_id: str, ballot: Ballot) -> None:
        """Put the units back as if it were a reservation that has ended."""
        branch = self.branches.get(transaction_id)
        if branch and branch.state is State.PREPARED and branch.payload:
            self.free += branch.payload["units"]
        super().commit(transaction_id, ballot)


class IgnoresInsteadOf(MemoryParticipant):
    """It leaves the earlier attempt prepared."""

    def earlier(self, prepare: Prepare) -> list[str]:
        """Abort nothing."""
        assert prepare
        return []


class ChangesItsFacts(MemoryParticipant):
    """A repeated vote has the facts of today."""

    def repeated(self, branch: Branch) -> Vote:
        """Tell how much is free now."""
        return (
            branch.vote.model_copy(update={"facts": {"free": self.free}})
            if branch.vote.prepared
            else branch.vote
        )


class LosesRaces(MemoryParticipant):
    """It looks whether a transaction is known, and writes it down a moment later."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = contextlib.nullcontext()
        self.tickets = itertools.count()

    def prepare(self, prepare: Prepare, generation: int) -> Vote:
        """Hand out a ticket, and take a while."""
        ticket = next(self.tickets)
        time.sleep(0.02)
        vote = super().prepare(prepare, generation)
        self.branches[prepare.transaction_id].vote = vote.model_copy(
            update={"facts": {"ticket": ticket}}
        )
        return vote.model_copy(update={"facts": {"ticket": ticket}})


class RefusesAnew(MemoryParticipant):
    """A repeated prepare that was refused gets another reason."""

    def repeated(self, branch: Branch) -> Vote:
        """Say that it was refused before."""
        reason = "refused before" if branch.vote.reason == "too_few" else branch.vote.reason
        return branch.vote.model_copy(update={"reason": reason})


class AcceptsAnotherBody(MemoryParticipant):
    """It looks for the id alone."""

    def contradict_prepare(self, prepare: Prepare, branch: Branch, ballot: Ballot) -> None:
        """Repeat the vote on the first payload."""
        assert prepare
        ballot.votes.append(branch.vote)


class ForgetsEarlyAborts(MemoryParticipant):
    """It has nothing to abort, so it does nothing."""

    def remember_early_abort(self, transaction_id: str, generation: int) -> None:
        """Leave no trace."""


class CommitsTheUnknown(MemoryParticipant):
    """Not found, so done."""

    def contradict_commit(self, transaction_id: str, ballot: Ballot) -> None:
        """Acknowledge."""
        ballot.acknowledged.append(transaction_id)

    def contradict_commit_of_aborted(self, transaction_id: str, ballot: Ballot) -> None:
        """Refuse as ever."""
        MemoryParticipant.contradict_commit(self, transaction_id, ballot)


class CommitsTheAborted(MemoryParticipant):
    """It is settled, so done."""

    def contradict_commit_of_aborted(self, transaction_id: str, ballot: Ballot) -> None:
        """Acknowledge."""
        ballot.acknowledged.append(transaction_id)


class AbortsTheCommitted(MemoryParticipant):
    """The last word wins."""

    def contradict_abort(self, transaction_id: str, ballot: Ballot) -> None:
        """Give back and acknowledge."""
        self.give_back(self.branches[transaction_id])
        ballot.acknowledged.append(transaction_id)


class CommitsOnce(MemoryParticipant):
    """A repeated commit is an error to it."""

    def commit(self, transaction_id: str, ballot: Ballot) -> None:
        """Refuse what is committed already."""
        branch = self.branches.get(transaction_id)
        if branch and branch.state is State.COMMITTED:
            self.contradict_commit(transaction_id, ballot)
        else:
            super().commit(transaction_id, ballot)


class AbortsOnce(MemoryParticipant):
    """A repeated abort is an error to it."""

    def abort(self, transaction_id: str, generation: int, ballot: Ballot) -> None:
        """Refuse what is aborted already."""
        branch = self.branches.get(transaction_id)
        if branch and branch.state is State.ABORTED:
            self.contradict_abort(transaction_id, ballot)
        else:
            super().abort(transaction_id, generation, ballot)


class CommitsFirst(MemoryParticipant):
    """It applies the good news of a round first."""

    def round(self, message: Round) -> Ballot:
        """Commit, abort, prepare."""
        ballot = Ballot()
        for each in dict.fromkeys(message.commits):
            self.commit(each, ballot)
        self.abort_all(message, ballot)
        self.prepare_all(message, ballot)
        return ballot


class PreparesBeforeCommits(MemoryParticipant):
    """It applies a round in the order of a transaction's life."""

    def round(self, message: Round) -> Ballot:
        """Abort, prepare, commit."""
        ballot = Ballot()
        self.abort_all(message, ballot)
        self.prepare_all(message, ballot)
        for each in dict.fromkeys(message.commits):
            self.commit(each, ballot)
        return ballot


class PreparesBeforeAborts(MemoryParticipant):
    """It gives back last what a round gives back."""

    def round(self, message: Round) -> Ballot:
        """Abort earlier attempts, commit, prepare, abort the rest."""
        ballot = Ballot()
        known = [each for each in message.commits if each not in message.aborts]
        self.abort_all(message.model_copy(update={"aborts": []}), ballot)
        rest = super().round(message.model_copy(update={"aborts": [], "commits": known}))
        self.abort_all(message.model_copy(update={"prepares": []}), ballot)
        return ballot.model_copy(
            update={
                "votes": rest.votes,
                "acknowledged": [*ballot.acknowledged, *rest.acknowledged],
                "violations": [*ballot.violations, *rest.violations],
            }
        )


class IsPoisoned(MemoryParticipant):
    """One payload that it cannot process breaks the round."""

    def prepare_all(self, message: Round, ballot: Ballot) -> None:
        """Refuse everything."""
        if any(
            self.obstacle(prepare.payload) == "not_accepted" for prepare in message.prepares[1:]
        ):
            raise Malformed
        super().prepare_all(message, ballot)


class DoesWhatItUnderstands(MemoryParticipant):
    """It applies the aborts before it reads the rest of a round."""

    def parsed(self, body: bytes) -> Round:
        """Abort at once, then complain."""
        with contextlib.suppress(ValueError, AttributeError, KeyError, TypeError):
            message = json.loads(body)
            whole = (
                message["version"] == 1
                and "colour" not in str(message)
                and len(body) < ROUND_BYTES_MAX // 1000
            )
            for each in message["aborts"] if whole else []:
                self.abort(each, 1, Ballot())
        return super().parsed(body)


class SpeaksAnyVersion(MemoryParticipant):
    """It does not look at the version."""

    def parsed(self, body: bytes) -> Round:
        """Take every version for its own."""
        if len(body) <= ROUND_BYTES_MAX:
            body = (
                Round.model_validate_json(body)
                .model_copy(update={"version": 1})
                .model_dump_json()
                .encode()
            )
        return super().parsed(body)


class SkipsUnknownMembers(MemoryParticipant):
    """It drops what it does not know."""

    def parsed(self, body: bytes) -> Round:
        """Keep the members that it knows."""
        message: Any = json.loads(body)
        if isinstance(message, dict) and message.pop("colour", None):
            body = json.dumps(message).encode()
        return super().parsed(body)


class TakesAnySize(MemoryParticipant):
    """It has no limit for a body."""

    def parsed(self, body: bytes) -> Round:
        """Read it all."""
        return super().parsed(body.strip())


class AsksForNoKey(MemoryParticipant):
    """It checks a key only if there is one."""

    def knows(self, authorization: str) -> bool:
        """Let in who says nothing."""
        return not authorization or super().knows(authorization)


class ComparesBeginnings(MemoryParticipant):
    """It lets in whoever begins with the key."""

    def knows(self, authorization: str) -> bool:
        """Compare carelessly."""
        return authorization.startswith(f"Bearer {KEY}")


class ListsEverything(MemoryParticipant):
    """Its list of prepared branches does not look at the state."""

    def listed(self, query: httpx.QueryParams) -> list[dict[str, Any]]:
        """List them all as prepared."""
        states = [super(ListsEverything, self).listed(query.set("state", state)) for state in State]
        return [{**item, "state": "prepared"} for items in states for item in items]


class ForgetsOnRestart(MemoryParticipant):
    """It keeps its branches in memory, and its units on disk."""

    def restart(self) -> None:
        """Come back with what was free, and nothing else."""
        self.branches.clear()


class AbortsOnRestart(MemoryParticipant):
    """It takes what it finds prepared at its start for rubbish."""

    def restart(self) -> None:
        """Clean up."""
        for branch in self.branches.values():
            if branch.state is State.PREPARED:
                self.give_back(branch)


class Counts(MemoryParticipant):
    """It counts its forced rounds, and remembers how far it has seen the log.

    Nothing is wrong with it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counter = 0
        self.log_seen = 0

    def round(self, message: Round) -> Ballot:
        """Count, and tell those who ask."""
        if message.prepares and self.has_fallen_back(message):
            return Ballot(counter=self.counter, log_seen=self.log_seen)
        self.counter += self.steps(message)
        self.log_seen = self.remembered(message.log_counter or 0)
        ballot = super().round(message)
        asked = message.log_counter is not None or not (
            message.aborts or message.commits or message.prepares
        )
        told = {"counter": self.counter, "log_seen": self.log_seen} if asked else {}
        return ballot.model_copy(update=told)

    def has_fallen_back(self, message: Round) -> bool:
        """Return whether more was heard than there is."""
        return self.counter < message.counter_heard

    def steps(self, message: Round) -> int:
        """Return how much a round counts."""
        return bool(message.prepares)

    def remembered(self, log_counter: int) -> int:
        """Return how far the log was seen."""
        return max(self.log_seen, log_counter)

    def written(self, ballot: Ballot) -> str:
        """Tell the counters, where they were asked for."""
        return ballot.model_dump_json() if ballot.counter is not None else super().written(ballot)


class CountsNothing(Counts):
    """Its counter stands still."""

    def steps(self, message: Round) -> int:
        """Count none."""
        return 0 * len(message.prepares)


class TakesAllTheSame(Counts):
    """It does not mind how much was heard of it."""

    def has_fallen_back(self, message: Round) -> bool:
        """Never, it thinks."""
        return message.counter_heard < 0


class BelievesTheLast(Counts):
    """It remembers what it was told last of the log."""

    def remembered(self, log_counter: int) -> int:
        """Forget what was higher."""
        return log_counter or self.log_seen


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
