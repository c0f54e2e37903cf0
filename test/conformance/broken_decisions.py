"""Participants that each break one rule about decisions and the order inside a round."""

from conformance.in_memory import MemoryParticipant
from two_phase.messages import Ballot, Round, State


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
