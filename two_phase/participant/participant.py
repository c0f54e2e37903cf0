"""One round at one participant: aborts, then commits, then prepares, in one local transaction.

A participant contributes a payload model and two functions, ``take`` and ``give_back``. What makes
them safe is here: ``TRANSITIONS`` says what each message does to a branch, a vote is recorded
before it is given, and a repeated message finds the record.

A round that cannot be applied as a whole is taken apart in ``isolation``; a database that came back
from an older backup is found in ``round_counter``.
"""

import json
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Generic, Literal, Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from two_phase import crash_points, metrics
from two_phase.errors import Refused, Unavailable
from two_phase.messages import Ballot, Prepare, Round, State, Taken, TransactionId, Violation, Vote
from two_phase.participant.branches import Branch, BranchStore, Collision, Locked, branch_of
from two_phase.participant.isolation import in_pieces
from two_phase.participant.round_counter import Counters, FallenBack, counters_to_tell

log = logging.getLogger(__name__)

COLLISIONS_MAX = 10
#: The vote on a prepare that failed alone.
UNPROCESSED = Refused("not_accepted", "the participant could not process this branch")

C = TypeVar("C")
C_contra = TypeVar("C_contra", contravariant=True)
P = TypeVar("P", bound=BaseModel)
P_contra = TypeVar("P_contra", bound=BaseModel, contravariant=True)


class Take(Protocol[C_contra, P_contra]):
    """Take what each of ``asked`` wants, in their order, and return one verdict for each.

    After it returns, what was answered Taken is held by this local transaction; a Refused holds
    nothing. A transaction that does not fit must not block a smaller one behind it. Raising spoils
    the whole round: it is repeated one by one.
    """

    def __call__(
        self, connection: C_contra, asked: Sequence[tuple[TransactionId, P_contra]], /
    ) -> Sequence[Taken | Refused]:
        """Return the verdicts in the order of ``asked``."""


class GiveBack(Protocol[C_contra, P_contra]):
    """Give back all that ``taken`` hold, each once. It must never fail."""

    def __call__(
        self, connection: C_contra, taken: Sequence[tuple[TransactionId, P_contra]], /
    ) -> None:
        """Undo the take of each, exactly once."""


#: What a round says of a transaction.
Said = Literal["abort", "commit", "prepare"]


class Effect(Enum):
    """What is done on a message, beside the move to the next state."""

    TAKE = "take what is asked for, record the vote, and give it"
    REPEAT = "give the recorded vote again"
    KEEP = "acknowledge"
    GIVE_BACK = "give back what is held, and acknowledge"
    BURY = "record a tombstone, so that a later prepare is refused, and acknowledge"
    NONE = "acknowledge again"
    VIOLATION = "do nothing, and call a human"


#: Every message in every state (None: unknown here); a refused prepare leaves ABORTED behind.
TRANSITIONS: dict[tuple[State | None, Said], tuple[State | None, Effect]] = {
    (None, "abort"): (State.ABORTED, Effect.BURY),
    (State.PREPARED, "abort"): (State.ABORTED, Effect.GIVE_BACK),
    (State.COMMITTED, "abort"): (State.COMMITTED, Effect.VIOLATION),
    (State.ABORTED, "abort"): (State.ABORTED, Effect.NONE),
    (None, "commit"): (None, Effect.VIOLATION),
    (State.PREPARED, "commit"): (State.COMMITTED, Effect.KEEP),
    (State.COMMITTED, "commit"): (State.COMMITTED, Effect.NONE),
    (State.ABORTED, "commit"): (State.ABORTED, Effect.VIOLATION),
    (None, "prepare"): (State.PREPARED, Effect.TAKE),
    (State.PREPARED, "prepare"): (State.PREPARED, Effect.REPEAT),
    (State.COMMITTED, "prepare"): (State.COMMITTED, Effect.REPEAT),
    (State.ABORTED, "prepare"): (State.ABORTED, Effect.REPEAT),
}
_KIND = {None: "an unknown", State.COMMITTED: "a committed", State.ABORTED: "an aborted"}


@dataclass(slots=True)
class _Step:
    """A round on its way: the branches it meets, where it leaves them, and its ballot so far."""

    message: Round
    aborts: list[TransactionId]
    #: What was read, buried or committed unread, as this round leaves it.
    branches: dict[TransactionId, Branch]
    added: list[Branch] = field(default_factory=list)
    votes: list[Vote] = field(default_factory=list)
    acknowledged: list[TransactionId] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)

    def state(self, transaction_id: TransactionId) -> State | None:
        """Return where a branch stands by now."""
        return self.branches[transaction_id].state if transaction_id in self.branches else None

    def violation(self, transaction_id: TransactionId, detail: str) -> None:
        """Say what is not done, because it contradicts what is recorded."""
        log.error("protocol violation: %s", detail, extra={"transaction_id": transaction_id})
        metrics.VIOLATIONS.inc()
        self.violations.append(Violation(transaction_id=transaction_id, detail=detail))

    def moved(self, said: Said, ids: Sequence[TransactionId]) -> dict[Effect, list[TransactionId]]:
        """Move each of ``ids`` as ``TRANSITIONS`` says; return what is to be done, by effect."""
        found = defaultdict[Effect, list[TransactionId]](list)
        for each in ids:
            before = self.state(each)
            after, effect = TRANSITIONS[before, said]
            found[effect].append(each)
            if before and after and after is not before:
                self.branches[each] = replace(self.branches[each], state=after)
            if effect is Effect.VIOLATION:
                self.violation(each, f"{said} of {_KIND[before]} branch")
            else:
                self.acknowledged.append(each)
        return found

    def repeat(self, prepare: Prepare) -> None:
        """Give the recorded vote again, if it was on the same body."""
        branch = self.branches[prepare.transaction_id]
        if branch.payload is not None and json.loads(branch.payload) != prepare.payload:
            self.violation(
                branch.transaction_id, "prepare of a known transaction with another body"
            )
        else:
            self.votes.append(branch.vote())

    def ballot(self, counters: Counters | None) -> Ballot:
        """Return the ballot; ``counters`` is what it says of our counters, if anything."""
        return Ballot(
            counter=counters.counter if counters else None,
            log_seen=counters.log_seen if counters else 0,
            votes=self.votes,
            acknowledged=self.acknowledged,
            violations=self.violations,
        )


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
        """Apply a round and return its durable ballot; raises Unavailable, and nothing was done."""
        crash_points.reach("prepare_not_durable" if message.prepares else "decision_not_durable")
        try:
            ballot = self._applied(message)
        except Unavailable:
            raise
        except Exception as failure:  # noqa: BLE001 - whatever broke it, its pieces may hold
            ballot = in_pieces(message, failure, self._applied)
        metrics.VOTES.labels("prepared").inc(sum(vote.prepared for vote in ballot.votes))
        metrics.VOTES.labels("refused").inc(sum(not vote.prepared for vote in ballot.votes))
        crash_points.reach("prepare_durable" if message.prepares else "decision_durable")
        return ballot

    def _applied(self, message: Round, *, hurried: bool = False, refusing: bool = False) -> Ballot:
        looking_up = refusing
        for _ in range(COLLISIONS_MAX):
            try:
                with self.store.begin(forced=bool(message.prepares), hurried=hurried) as connection:
                    step = self._begun(connection, message, looking_up=looking_up)
                    self._abort(connection, step)
                    self._commit(connection, step)
                    self._prepare(connection, step, refusing=refusing)
                    return step.ballot(self._count(connection, message, step.added))
            except FallenBack as fallen_back:
                return fallen_back.ballot()
            except Locked:
                raise
            except Collision as collision:
                # Nearly every prepare is new. One that is not collides with its branch.
                looking_up = True
                metrics.COLLISIONS.inc()
                log.info("a round is repeated", extra={"why": str(collision)})
        raise Unavailable("too many rounds at once stand in each other's way")

    def _begun(self, connection: C, message: Round, *, looking_up: bool) -> _Step:
        replaced = (each for prepare in message.prepares for each in prepare.instead_of)
        aborts = dict.fromkeys([*message.aborts, *replaced])
        prepares = {prepare.transaction_id for prepare in message.prepares}
        # Nearly every commit meets its prepared branch, which then need not be read.
        expected = sorted(set(message.commits).difference(aborts, prepares))
        settled = self.store.settle(connection, expected, State.COMMITTED) if expected else []
        ids = {*aborts, *message.commits, *(prepares if looking_up else ())}.difference(settled)
        branches = self.store.find(connection, sorted(ids)) if ids else {}
        branches |= {each: Branch(each, State.COMMITTED, message.generation) for each in settled}
        return _Step(message, list(aborts), branches)

    def _abort(self, connection: C, step: _Step) -> None:
        done = step.moved("abort", step.aborts)
        for each in done[Effect.BURY]:
            step.branches[each] = Branch(each, State.ABORTED, step.message.generation)
            step.added.append(step.branches[each])
        if ids := done[Effect.GIVE_BACK]:
            recorded = [str(step.branches[each].payload) for each in ids]
            payloads = [self._payload.model_validate_json(each) for each in recorded]
            self.store.settle(connection, ids, State.ABORTED)
            self._give_back(connection, list(zip(ids, payloads, strict=True)))

    def _commit(self, connection: C, step: _Step) -> None:
        done = step.moved("commit", list(dict.fromkeys(step.message.commits)))
        if kept := done[Effect.KEEP]:
            self.store.settle(connection, kept, State.COMMITTED)

    def _prepare(self, connection: C, step: _Step, *, refusing: bool) -> None:
        asked: dict[TransactionId, tuple[Prepare, P]] = {}
        refused: dict[TransactionId, Branch] = {}
        generation = step.message.generation
        for prepare in step.message.prepares:
            each = prepare.transaction_id
            _, effect = TRANSITIONS[step.state(each), "prepare"]
            if effect is Effect.REPEAT:
                step.repeat(prepare)
            elif refusing:
                refused[each] = branch_of(prepare, generation, UNPROCESSED).without_content()
            else:
                try:
                    asked.setdefault(each, (prepare, self._payload.model_validate(prepare.payload)))
                except ValidationError as error:
                    why = f"the payload is not valid: {error.error_count()} errors"
                    refused[each] = branch_of(prepare, generation, Refused("not_accepted", why))
        wanted = [(each, payload) for each, (_, payload) in asked.items()]
        verdicts = self._take(connection, wanted) if wanted else []
        prepares = [prepare for prepare, _ in asked.values()]
        pairs = zip(prepares, verdicts, strict=True)
        decided = [branch_of(prepare, generation, verdict) for prepare, verdict in pairs]
        step.added.extend((*decided, *refused.values()))
        step.votes.extend(branch.vote() for branch in (*decided, *refused.values()))

    def _count(self, connection: C, message: Round, added: Sequence[Branch]) -> Counters | None:
        # Last of all, and always a write: a vote that was found leaves after a flush as well (R4).
        forced, log_counter = bool(message.prepares), message.log_counter or 0
        counters = self.store.add(connection, added, forced=forced, log_counter=log_counter)
        return counters_to_tell(message, counters)
