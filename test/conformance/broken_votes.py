"""Participants that each break one rule about votes and holds."""

import contextlib
import itertools
import json
import time
from collections import Counter

from conformance.in_memory import Branch, MemoryParticipant
from two_phase.messages import Ballot, Prepare, Round, State, Vote


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
