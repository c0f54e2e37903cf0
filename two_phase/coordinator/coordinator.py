"""The batch loop of the coordinator.

Take what has arrived, ask everybody at once, decide once, tell.

    submit() -> [queue] -> take -> ask three participants -> judge -> DecisionLog.decide -> tell the callers and the participants
                             ^______________________ next batch ______________________|

A batch is whatever arrived while the last one was under way: there is no timer, a lone transaction
travels at once, and 128 concurrent ones share one forced write per participant and one in the log.
The order of two lines is the whole proof: ``decide`` returns, and only then anybody is told.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from two_phase import crash_points, metrics
from two_phase.coordinator.batch_queue import BatchQueue
from two_phase.coordinator.decision_log import DecisionLog, LoggedDecision
from two_phase.coordinator.remote_participant import RemoteParticipant
from two_phase.coordinator.restore_detector import RestoreDetector
from two_phase.coordinator.verdict import Transaction, Verdict, judge
from two_phase.coordinator.wording import Wording
from two_phase.errors import Unavailable
from two_phase.messages import (
    ROUND_PREPARES_MAX,
    Decision,
    LogPosition,
    Prepare,
    TransactionId,
    Vote,
)

log = logging.getLogger(__name__)

#: What the log says of each transaction that it was asked to write.
Records = Mapping[TransactionId, LoggedDecision]

#: Inserts of one batch that may wait for the log at a time: the first one, and its repetition.
ATTEMPTS_UNDER_WAY_MAX = 2


@dataclass(frozen=True, slots=True)
class Limits:
    """A limit on everything the coordinator does (R13)."""

    batch: int = 128
    queue: int = 512
    #: Decisions sent to the log whose fate is not known yet; past it new work is refused.
    unsure: int = 1024
    prepare_seconds: float = 2.0
    decision_seconds: float = 1.0
    #: How long a batch waits for what is expected: some forced writes of a claim, not its
    #: time-outs.
    arrival_seconds: float = 0.1
    #: How long a transaction may wait in the queue and still be worth starting.
    queue_timeout_seconds: float = 2.0
    #: How long, after the start, a silent participant may keep questions about unknown transactions
    #: without an answer.
    startup_grace_seconds: float = 10.0


@dataclass(slots=True, eq=False)
class Ticket:
    """What ``submit`` gives back.

    The caller awaits ``outcome`` and, when its time is up first, calls ``give_up``.
    """

    transaction: Transaction
    submitted: float
    outcome: asyncio.Future["Outcome"] = field(repr=False)
    #: A ``confirmed`` insert has left for the log: from here on only the log knows.
    confirm_sent: bool = False
    #: The caller gave up while nothing was decided: from here on it can only be cancelled.
    abandoned: bool = False

    def give_up(self) -> bool:
        """Return True if the transaction can only be cancelled from now on, False if its decision is with the log."""
        self.abandoned = not self.confirm_sent
        return self.abandoned


@dataclass(frozen=True, slots=True)
class Outcome:
    """A durable decision, and the verdict that led to it (which the log may have overruled).

    ``existed`` if the decision was in the log already: by an earlier try to write it, or by
    somebody else.
    """

    decision: Decision
    verdict: Verdict
    existed: bool = False


class Coordinator:
    """Drives transactions to their decision, a batch at a time."""

    def __init__(
        self,
        participants: Sequence[RemoteParticipant],
        decision_log: DecisionLog,
        limits: Limits,
        wording: Wording = Wording(),  # noqa: B008 - immutable
    ) -> None:
        self._participants = {participant.name: participant for participant in participants}
        self._log = decision_log
        self._limits = limits
        self._wording = wording
        self._queue: BatchQueue[Ticket] = BatchQueue(limits.arrival_seconds)
        #: Lets the next batch wait for what follows the block: an order whose key is claimed first.
        self.arriving = self._queue.arriving
        self._background: set[asyncio.Task[None]] = set()
        self._unsure = 0
        self._restore_detector = RestoreDetector(
            participants,
            decision_log,
            wording,
            startup_grace_seconds=limits.startup_grace_seconds,
        )
        self.is_open = self._restore_detector.is_open

    def submit(self, transaction: Transaction) -> Ticket:
        """Queue a transaction; raises Unavailable at once when the coordinator has all that it can bear."""
        self.check_capacity()
        assert transaction.payloads.keys() == self._participants.keys()
        loop = asyncio.get_running_loop()
        ticket = Ticket(transaction, loop.time(), loop.create_future())
        self._queue.put(ticket)
        return ticket

    def check_capacity(self) -> None:
        """Raise Unavailable if the coordinator can bear no more, or nothing at all for now, as ``submit`` would."""
        if blocking_reason := self._restore_detector.blocking_reason():
            raise Unavailable(blocking_reason)
        if len(self._queue) >= self._limits.queue or self._unsure >= self._limits.unsure:
            raise Unavailable(self._wording.too_many)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._restore_detector.watch())
            for participant in self._participants.values():
                group.create_task(
                    participant.deliver(self._restore_detector.position, self._queue.is_under_way)
                )
            while True:
                await self._queue.wait_for_batch(self._limits.batch)
                await self._one_batch(self._take())

    async def drain(self) -> None:
        """Return when everything that was submitted is decided and told, as far as the participants can be reached."""
        while (  # noqa: ASYNC110 - many things may keep us
            len(self._queue)
            or self._background
            or any(participant.unacknowledged for participant in self._participants.values())
        ):
            await asyncio.sleep(0.01)

    def _take(self) -> list[Ticket]:
        metrics.QUEUE.set(len(self._queue))
        # Of a crowd half: the more share a round, while some are left to go when these are
        # answered.
        most = min(ROUND_PREPARES_MAX, max(self._limits.batch, len(self._queue) // 2))
        oldest = asyncio.get_running_loop().time() - self._limits.queue_timeout_seconds
        batch: list[Ticket] = []
        while len(batch) < most and (ticket := self._queue.take()):
            if ticket.submitted < oldest:
                _fail(ticket, Unavailable(self._wording.waited_too_long))
            elif not ticket.abandoned:
                batch.append(ticket)
        if not self._queue.is_under_way():
            metrics.QUEUE.set(0)
        return batch

    async def _one_batch(self, batch: list[Ticket]) -> None:
        if not batch:
            return
        if blocking_reason := self._restore_detector.blocking_reason():
            for ticket in batch:
                _fail(ticket, Unavailable(blocking_reason))
            return
        metrics.BATCH.observe(len(batch))
        crash_points.reach("prepares_not_left")
        position = self._restore_detector.position()
        votes = await self._ask_everybody(batch, position)
        verdicts = [_verdict(ticket, votes) for ticket in batch]
        crash_points.reach("all_votes_in")
        for ticket, verdict in zip(batch, verdicts, strict=True):
            ticket.confirm_sent = verdict.decision is Decision.CONFIRMED
        await self._decide(batch, verdicts, position.generation)

    async def _ask_everybody(
        self, batch: Sequence[Ticket], position: LogPosition
    ) -> Mapping[str, Mapping[TransactionId, Vote]]:
        async def ask(participant: RemoteParticipant) -> Mapping[TransactionId, Vote]:
            prepares = [_prepare(ticket.transaction, participant) for ticket in batch]
            try:
                async with asyncio.timeout(self._limits.prepare_seconds):
                    votes = await participant.ask(prepares, position)
            except (Unavailable, TimeoutError) as silence:
                log.warning(
                    "no vote from %s",
                    participant.name,
                    extra={"why": str(silence), "transactions": len(prepares)},
                )
                return {}
            crash_points.reach("first_votes_in")
            return votes

        return dict(
            zip(
                self._participants,
                await asyncio.gather(*map(ask, self._participants.values())),
                strict=True,
            )
        )

    def _write(self, verdicts: Sequence[Verdict], generation: int) -> "asyncio.Future[Records]":
        self._restore_detector.observe()
        return asyncio.ensure_future(
            self._log.decide(verdicts, generation, self._restore_detector.round_counts_seen())
        )

    async def _decide(
        self, batch: Sequence[Ticket], verdicts: Sequence[Verdict], generation: int
    ) -> None:
        asking = self._write(verdicts, generation)
        try:
            recorded = await asyncio.wait_for(asyncio.shield(asking), self._limits.decision_seconds)
        except Exception as failure:  # noqa: BLE001 - whatever it was, only the log knows now
            log.warning(
                "the decision log gave no answer",
                extra={"why": str(failure), "transactions": len(batch)},
            )
            self._spawn(self._learn(batch, verdicts, generation, asking))
            return
        crash_points.reach("decision_durable")
        self._announce(batch, verdicts, recorded)

    async def _learn(
        self,
        batch: Sequence[Ticket],
        verdicts: Sequence[Verdict],
        generation: int,
        asking: "asyncio.Future[Records]",
    ) -> None:
        """Repeat the same insert until the log tells what became of the first one (R3).

        The first one may hang for ever on a broken connection, so a second one is sent while it is
        still under way.
        """
        self._unsure += len(batch)
        metrics.UNSURE.set(self._unsure)
        under_way = [asking]
        pause_seconds = 0.05
        while True:
            done, _ = await asyncio.wait(
                under_way, timeout=pause_seconds, return_when=asyncio.FIRST_COMPLETED
            )
            answered = [
                attempt for attempt in under_way if attempt in done and attempt.exception() is None
            ]
            under_way = [attempt for attempt in under_way if attempt not in done]
            if answered:
                break
            if done:
                await asyncio.sleep(pause_seconds)
            pause_seconds = min(1.0, pause_seconds * 2)
            if len(under_way) < ATTEMPTS_UNDER_WAY_MAX:
                under_way.append(self._write(verdicts, generation))
        for attempt in under_way:
            attempt.add_done_callback(_let_go)
        self._unsure -= len(batch)
        metrics.UNSURE.set(self._unsure)
        self._announce(batch, verdicts, answered[0].result())

    def _announce(
        self, batch: Sequence[Ticket], verdicts: Sequence[Verdict], recorded: Records
    ) -> None:
        announced = [(transaction_id, row.decision) for transaction_id, row in recorded.items()]
        for participant in self._participants.values():
            participant.announce(announced)
        for decision, count in Counter(decision for _, decision in announced).items():
            metrics.DECISIONS.labels(decision).inc(count)
        for ticket, verdict in zip(batch, verdicts, strict=True):
            self._settle(ticket, verdict, recorded.get(verdict.transaction.transaction_id))

    def _settle(self, ticket: Ticket, verdict: Verdict, recorded: LoggedDecision | None) -> None:
        if recorded is None:
            log.error(
                "the log was restored", extra={"transaction_id": verdict.transaction.transaction_id}
            )
            self._restore_detector.log_is_behind()
            _fail(
                ticket,
                Unavailable(self._wording.restored("the decision log")),
            )
        elif not ticket.outcome.done():
            ticket.outcome.set_result(Outcome(recorded.decision, verdict, existed=recorded.existed))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _prepare(transaction: Transaction, participant: RemoteParticipant) -> Prepare:
    memo: dict[str, Any] = (
        {"memo": dict(transaction.memo)}
        if transaction.memo is not None and participant.counts
        else {}
    )
    return Prepare(
        transaction_id=transaction.transaction_id,
        payload=dict(transaction.payloads[participant.name]),
        instead_of=list(transaction.instead_of),
        **memo,
    )


def _verdict(ticket: Ticket, votes: Mapping[str, Mapping[TransactionId, Vote]]) -> Verdict:
    transaction = ticket.transaction
    heard = {
        name: ballot[transaction.transaction_id]
        for name, ballot in votes.items()
        if transaction.transaction_id in ballot
    }
    # Nobody waits for an abandoned one any more: whatever was voted, it counts as unanswered.
    return judge(transaction, {} if ticket.abandoned else heard)


def _let_go(future: "asyncio.Future[Any]") -> None:
    """Look at a failure that nobody may be left to hear of.

    Asyncio would report it as forgotten.
    """
    if not future.cancelled():
        future.exception()


def _fail(ticket: Ticket, failure: Exception) -> None:
    if not ticket.outcome.done():
        ticket.outcome.set_exception(failure)
        _let_go(ticket.outcome)
