"""The batch loop of the coordinator.

Take what has arrived, ask everybody at once, decide once, tell.

    submit() -> [queue] -> take -> ask the participants -> judge -> DecisionLog.decide -> announce
                             ^______________________ next batch ______________________|

A batch is whatever arrived while the last one was under way: there is no timer, a lone transaction
travels at once, and 128 concurrent ones share one forced write per participant and one in the log.
The order of two lines is the whole proof: ``decide`` returns, and only then anybody is told.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from two_phase import crash_points, metrics
from two_phase.coordinator.batch_queue import BatchQueue
from two_phase.coordinator.decision_log import DecisionLog, LoggedDecision
from two_phase.coordinator.limits import Limits
from two_phase.coordinator.remote_participant import RemoteParticipant
from two_phase.coordinator.restore_detector import RestoreDetector
from two_phase.coordinator.ticket import Outcome, Ticket
from two_phase.coordinator.unanswered import Records, Unanswered
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
        #: Lets the next batch wait for what follows the block, once its key is claimed.
        self.arriving = self._queue.arriving
        self._background: set[asyncio.Task[None]] = set()
        self._unanswered = Unanswered()
        self._restore_detector = RestoreDetector(
            participants,
            decision_log,
            wording,
            startup_grace_seconds=limits.startup_grace_seconds,
        )
        self.is_open = self._restore_detector.is_open

    def submit(self, transaction: Transaction) -> Ticket:
        """Queue a transaction; raises Unavailable at once if the coordinator is full."""
        self.check_capacity()
        assert transaction.payloads.keys() == self._participants.keys()
        loop = asyncio.get_running_loop()
        ticket = Ticket(transaction, loop.time(), loop.create_future())
        self._queue.put(ticket)
        return ticket

    def check_capacity(self) -> None:
        """Raise Unavailable where ``submit`` would."""
        if blocking_reason := self._restore_detector.blocking_reason():
            raise Unavailable(blocking_reason)
        if (
            len(self._queue) >= self._limits.queue
            or self._unanswered.transactions >= self._limits.unsure
        ):
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
        """Wait until all submitted is decided, and announced to those that can be reached."""
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
                ticket.fail(Unavailable(self._wording.waited_too_long))
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
                ticket.fail(Unavailable(blocking_reason))
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
        """Announce what became of an insert that was not answered, once the log tells (R3)."""
        recorded = await self._unanswered.answer(
            len(batch), asking, lambda: self._write(verdicts, generation)
        )
        self._announce(batch, verdicts, recorded)

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
            ticket.fail(Unavailable(self._wording.restored("the decision log")))
        elif not ticket.outcome.done():
            ticket.outcome.set_result(Outcome(recorded.decision, verdict, existed=recorded.existed))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _prepare(transaction: Transaction, participant: RemoteParticipant) -> Prepare:
    memo: dict[str, Any] = (
        {"memo": dict(transaction.memo)}
        if transaction.memo is not None and participant.history.counts
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
