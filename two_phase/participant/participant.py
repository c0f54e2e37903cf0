"""One round at one participant.

Aborts, then commits, then prepares, in one local transaction with one flush.

    unknown --prepare--> prepared --commit--> committed
       |        |            |
       |      (no)         abort
       +--abort-+--> aborted <-+           every other arrow is a violation: refused, logged, counted

A participant contributes a payload model and two functions, ``take`` and ``give_back``. Everything
that makes them safe is here: votes are recorded before they are given, repeated messages find the
record, and a branch that breaks the transaction is tried again alone, so that its neighbours go
ahead.
"""

import json
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Generic, Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from two_phase import crash_points, metrics
from two_phase.errors import Refused, Unavailable
from two_phase.messages import Ballot, Prepare, Round, State, Taken, TransactionId
from two_phase.participant.branches import (
    Branch,
    BranchStore,
    Collision,
    Locked,
    branch_of,
    refusal_of,
)
from two_phase.participant.pieces import Answer, halves, joined, singles
from two_phase.participant.round_counter import Counters

log = logging.getLogger(__name__)

COLLISIONS_MAX = 10
#: So many pieces of a round may find a locked row, each after a short wait; what is left then gets
#: no answer.
LOCKED_MAX = 16

C = TypeVar("C")
C_contra = TypeVar("C_contra", contravariant=True)
P = TypeVar("P", bound=BaseModel)
P_contra = TypeVar("P_contra", bound=BaseModel, contravariant=True)


class Take(Protocol[C_contra, P_contra]):
    """Take what each of ``asked`` wants, in their order, as far as it goes.

    After it returns, what was answered Taken is held by this local transaction; a Refused holds
    nothing. An order that does not fit must not block a smaller one behind it. Raising spoils the
    whole round: it is repeated one by one.
    """

    def __call__(
        self, connection: C_contra, asked: Sequence[tuple[TransactionId, P_contra]], /
    ) -> Sequence[Taken | Refused]:
        """Return one verdict for each of ``asked``."""
        ...


class GiveBack(Protocol[C_contra, P_contra]):
    """Give back all that ``taken`` hold. It must never fail.

    It undoes what was promised to be undoable.
    """

    def __call__(
        self, connection: C_contra, taken: Sequence[tuple[TransactionId, P_contra]], /
    ) -> None:
        """Undo the take of each, exactly once (the caller sees to that)."""
        ...


class _FallenBackError(Exception):
    """Somebody has heard a higher counter of ours than we have.

    The round must leave nothing behind.
    """

    def __init__(self, counters: Counters) -> None:
        super().__init__(counters)
        self.counters = counters


class Participant(Generic[C, P]):
    """The protocol's participant side over any store."""

    def __init__(
        self, store: BranchStore[C], payload: type[P], take: Take[C, P], give_back: GiveBack[C, P]
    ) -> None:
        self.store = store
        self._payload = payload
        self._take = take
        self._give_back = give_back

    def round(self, message: Round) -> Ballot:
        """Apply a round and return the ballot; its votes are durable by then.

        Raises Unavailable, and nothing was done.
        """
        crash_points.reach("prepare_not_durable" if message.prepares else "decision_not_durable")
        try:
            ballot = self._applied(message)
        except Locked:
            ballot = self._around_locks(message)
        except Unavailable:
            raise
        except Exception:
            log.exception(
                "a round broke and is tried again piece by piece",
                extra={"prepares": len(message.prepares)},
            )
            ballot = self._piece_by_piece(message)
        metrics.VOTES.labels("prepared").inc(sum(vote.prepared for vote in ballot.votes))
        metrics.VOTES.labels("refused").inc(sum(not vote.prepared for vote in ballot.votes))
        crash_points.reach("prepare_durable" if message.prepares else "decision_durable")
        return ballot

    def _around_locks(self, message: Round) -> Ballot:
        """Apply what touches no locked row; the rest gets no answer, and comes again.

        One row must not hold up the others.
        """
        waiting, parts, locked = deque(halves(message)), list[tuple[Round, Ballot]](), 0
        while waiting and locked < LOCKED_MAX:
            piece = waiting.popleft()
            try:
                parts.append((piece, self._applied(piece, hurried=True)))
            except Locked:
                locked += 1
                waiting.extendleft(reversed(halves(piece)))
            except Unavailable:
                raise
            except Exception:
                log.exception("a piece of a round broke")
                parts.append((piece, self._piece_by_piece(piece)))
        metrics.LOCKED.inc()
        ballot = joined(message, parts)
        log.warning(
            "a row is locked by another session: what touches it gets no answer",
            extra={"prepares": len(message.prepares), "votes": len(ballot.votes)},
        )
        return ballot

    def _piece_by_piece(self, message: Round) -> Ballot:
        """Apply what can be applied: one poisonous branch must not take the others down (R8)."""
        return joined(message, [(piece, self._one_piece(piece)) for piece in singles(message)])

    def _one_piece(self, piece: Round) -> Ballot:
        try:
            return self._applied(piece, hurried=True)
        except Locked:
            return Ballot()
        except Unavailable:
            raise
        except Exception:
            log.exception(
                "a branch failed alone",
                extra={"transactions": piece.model_dump(exclude={"prepares"})},
            )
            try:
                return self._refused_alone(piece)
            except Collision as collision:
                raise Unavailable(str(collision)) from collision

    def _refused_alone(self, piece: Round) -> Ballot:
        """Record a refusal for a prepare that failed alone.

        A decision that failed stays unacknowledged, to come again.
        """
        answer = Answer()
        for prepare in piece.prepares:
            refusal = Refused("not_accepted", "the participant could not process this branch")
            # Without its payload: that may be what the database cannot store.
            branch = replace(
                refusal_of(prepare, piece.generation, refusal), payload=None, memo=None
            )
            with self.store.begin(forced=True) as connection:
                known = self.store.find(connection, [prepare.transaction_id])
                self._add(connection, piece, [] if known else [branch], answer, asked=False)
            answer.votes.append(known.get(prepare.transaction_id, branch).vote())
        return answer.ballot()

    def _applied(self, message: Round, *, hurried: bool = False) -> Ballot:
        for attempt in range(COLLISIONS_MAX):
            try:
                with self.store.begin(forced=bool(message.prepares), hurried=hurried) as connection:
                    # Nearly every prepare is new. One that is not collides with its branch, and is
                    # looked up the next time.
                    return self._in_transaction(connection, message, looking_up=attempt > 0)
            except _FallenBackError as fallen:
                # Not even counted: else another coordinator, that has heard less of us, would find
                # us where it expects us.
                log.error(  # noqa: TRY400
                    "our database was restored from an older backup", extra=asdict(fallen.counters)
                )
                counters = fallen.counters
                return Ballot(counter=counters.counter - 1, log_seen=counters.log_seen)
            except Locked:
                raise
            except Collision as collision:
                metrics.COLLISIONS.inc()
                log.info("a round is repeated", extra={"why": str(collision)})
        raise Unavailable("too many rounds at once stand in each other's way")

    def _in_transaction(self, connection: C, message: Round, *, looking_up: bool) -> Ballot:
        aborts = [
            *message.aborts,
            *(each for prepare in message.prepares for each in prepare.instead_of),
        ]
        answer = Answer()
        # Nearly every commit meets its prepared branch, which then need not be read: only the
        # others are looked at.
        expected = sorted(set(message.commits).difference(aborts))
        committed = (
            set(self.store.settle(connection, expected, State.COMMITTED)) if expected else set()
        )
        prepares = {prepare.transaction_id for prepare in message.prepares} if looking_up else set()
        ids = ({*aborts, *message.commits} - committed) | prepares
        known = self.store.find(connection, sorted(ids)) if ids else {}
        added = self._abort(connection, message, aborts, known, answer)
        self._commit(connection, message, committed, known, answer)
        added += self._prepare(connection, message, known, answer)
        self._add(
            connection,
            message,
            added,
            answer,
            asked=not (aborts or message.commits or message.prepares),
        )
        return answer.ballot()

    def _add(
        self,
        connection: C,
        message: Round,
        branches: Sequence[Branch],
        answer: Answer,
        *,
        asked: bool,
    ) -> None:
        """Write new branches and count a forced round, last of all.

        A round with nothing in it asks whether we count.

        It is a write, so that a vote that was found, and not written, leaves after a flush as well
        (R4).
        """
        forced = bool(message.prepares)
        counters = self.store.add(
            connection, branches, forced=forced, log_counter=message.log_counter or 0
        )
        if forced and counters.counter <= message.counter_heard:
            raise _FallenBackError(counters)
        if asked or message.log_counter is not None:
            answer.counters = counters

    def _abort(
        self,
        connection: C,
        message: Round,
        aborts: list[TransactionId],
        known: dict[str, Branch],
        answer: Answer,
    ) -> list[Branch]:
        prepared: list[Branch] = []
        tombstones: list[Branch] = []
        for each in dict.fromkeys(aborts):
            branch = known.get(each)
            if branch is None:
                known[each] = Branch(each, State.ABORTED, message.generation)
                tombstones.append(known[each])
            elif branch.state is State.COMMITTED:
                answer.violation(each, "abort of a committed branch")
                continue
            elif branch.state is State.PREPARED:
                prepared.append(branch)
                known[each] = replace(branch, state=State.ABORTED)
            answer.acknowledged.append(each)
        if prepared:
            self.store.settle(
                connection, [branch.transaction_id for branch in prepared], State.ABORTED
            )
            self._give_back(
                connection, [(branch.transaction_id, self._recorded(branch)) for branch in prepared]
            )
        return tombstones

    def _commit(
        self,
        connection: C,
        message: Round,
        committed: set[TransactionId],
        known: dict[str, Branch],
        answer: Answer,
    ) -> None:
        prepared: list[TransactionId] = []
        for each in dict.fromkeys(message.commits):
            if each in committed:
                answer.acknowledged.append(each)
                continue
            branch = known.get(each)
            if branch is None or branch.state is State.ABORTED:
                answer.violation(
                    each, f"commit of an {'unknown' if branch is None else 'aborted'} branch"
                )
                continue
            if branch.state is State.PREPARED:
                prepared.append(each)
                known[each] = replace(branch, state=State.COMMITTED)
            answer.acknowledged.append(each)
        if prepared:
            self.store.settle(connection, prepared, State.COMMITTED)

    def _prepare(
        self, connection: C, message: Round, known: dict[str, Branch], answer: Answer
    ) -> list[Branch]:
        fresh: dict[TransactionId, tuple[Prepare, P]] = {}
        refused: dict[TransactionId, Branch] = {}
        for prepare in message.prepares:
            if prepare.transaction_id in known:
                self._repeat(prepare, known[prepare.transaction_id], answer)
                continue
            try:
                fresh.setdefault(
                    prepare.transaction_id, (prepare, self._payload.model_validate(prepare.payload))
                )
            except ValidationError as error:
                refusal = Refused(
                    "not_accepted", f"the payload is not valid: {error.error_count()} errors"
                )
                refused.setdefault(
                    prepare.transaction_id, refusal_of(prepare, message.generation, refusal)
                )
        asked = [(transaction_id, payload) for transaction_id, (_, payload) in fresh.items()]
        verdicts = self._take(connection, asked) if asked else []
        assert len(verdicts) == len(asked)
        decided = [
            branch_of(prepare, message.generation, verdict)
            for (prepare, _), verdict in zip(fresh.values(), verdicts, strict=True)
        ]
        branches = [*decided, *refused.values()]
        answer.votes.extend(branch.vote() for branch in branches)
        return branches

    def _repeat(self, prepare: Prepare, branch: Branch, answer: Answer) -> None:
        if branch.payload is not None and json.loads(branch.payload) != prepare.payload:
            answer.violation(
                prepare.transaction_id, "prepare of a known transaction with another body"
            )
            return
        answer.votes.append(branch.vote())

    def _recorded(self, branch: Branch) -> P:
        assert branch.payload is not None
        return self._payload.model_validate_json(branch.payload)
