"""The batch loop of the coordinator: take what has arrived, ask everybody at once, decide once, tell.

    submit() -> [queue] -> take -> ask three lanes -> judge -> DecisionLog.decide -> tell the callers and the lanes
                             ^______________________ next batch ______________________|

A batch is whatever arrived while the last one was under way: there is no timer, a lone transaction travels at once, and 128
concurrent ones share one forced write per participant and one in the log. The order of two lines is the whole proof:
``decide`` returns, and only then anybody is told.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from two_phase import crash_points, metrics
from two_phase.coordinator.batch_queue import Gathering
from two_phase.coordinator.decision_log import DecisionLog, Recorded
from two_phase.coordinator.remote_participant import Lane
from two_phase.coordinator.restore_detector import Restores
from two_phase.coordinator.verdict import Transaction, Verdict, judge
from two_phase.errors import Unavailable
from two_phase.messages import ROUND_PREPARES_MAX, Decision, Mark, Prepare, TransactionId, Vote

log = logging.getLogger(__name__)

#: What the log says of each transaction that it was asked to write.
Records = Mapping[TransactionId, Recorded]

#: Inserts of one batch that may wait for the log at a time: the first one, and its repetition.
ATTEMPTS_UNDER_WAY_MAX = 2
TOO_MANY = "too many orders are under way"


@dataclass(frozen=True, slots=True)
class Limits:
    """A limit on everything the engine does (R13)."""

    batch: int = 128
    queue: int = 512
    #: Decisions sent to the log whose fate is not known yet; past it new work is refused.
    unsure: int = 1024
    prepare_seconds: float = 2.0
    decision_seconds: float = 1.0
    #: How long a batch waits for what is expected: some forced writes of a claim, not its time-outs.
    expected_seconds: float = 0.1
    #: How long a transaction may wait in the queue and still be worth starting.
    patience_seconds: float = 2.0
    #: How long, after the start, a silent participant may keep questions about unknown transactions without an answer.
    greeting_seconds: float = 10.0


@dataclass(slots=True, eq=False)
class Ticket:
    """What ``submit`` gives back: the caller awaits ``outcome`` and, when its patience ends first, calls ``give_up``."""

    transaction: Transaction
    submitted: float
    outcome: asyncio.Future["Settled"] = field(repr=False)
    #: A ``confirmed`` insert has left for the log: from here on only the log knows.
    confirm_sent: bool = False
    #: The caller gave up while nothing was decided: from here on it can only be cancelled.
    abandoned: bool = False

    def give_up(self) -> bool:
        """Return True if the transaction can only be cancelled from now on, False if its decision is with the log."""
        self.abandoned = not self.confirm_sent
        return self.abandoned


@dataclass(frozen=True, slots=True)
class Settled:
    """A durable decision, and the verdict that led to it (which the log may have overruled).

    ``found`` if the decision was in the log already: by an earlier try to write it, or by somebody else.
    """

    decision: Decision
    verdict: Verdict
    found: bool = False


class Engine:
    """Drives transactions to their decision, a batch at a time."""

    def __init__(self, lanes: Sequence[Lane], decision_log: DecisionLog, limits: Limits) -> None:
        self._lanes = {lane.name: lane for lane in lanes}
        self._log = decision_log
        self._limits = limits
        self._queue: Gathering[Ticket] = Gathering(limits.expected_seconds)
        #: Lets the next batch wait for what follows the block: an order whose key is claimed first.
        self.expecting = self._queue.expecting
        self._background: set[asyncio.Task[None]] = set()
        self._unsure = 0
        self._restores = Restores(lanes, decision_log, greeting_seconds=limits.greeting_seconds)
        self.is_open = self._restores.is_open

    def submit(self, transaction: Transaction) -> Ticket:
        """Queue a transaction; raises Unavailable at once when the engine has all that it can bear."""
        self.check_room()
        assert transaction.payloads.keys() == self._lanes.keys()
        loop = asyncio.get_running_loop()
        ticket = Ticket(transaction, loop.time(), loop.create_future())
        self._queue.put(ticket)
        return ticket

    def check_room(self) -> None:
        """Raise Unavailable if the engine can bear no more, or nothing at all for now, as ``submit`` would."""
        if obstacle := self._restores.obstacle():
            raise Unavailable(obstacle)
        if len(self._queue) >= self._limits.queue or self._unsure >= self._limits.unsure:
            raise Unavailable(TOO_MANY)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._restores.watch())
            for lane in self._lanes.values():
                group.create_task(lane.deliver(self._restores.mark, self._queue.is_under_way))
            while True:
                await self._queue.all_here(self._limits.batch)
                await self._one_batch(self._take())

    async def drain(self) -> None:
        """Return when everything that was submitted is decided and told, as far as the participants can be reached."""
        while len(self._queue) or self._background or any(lane.unheard for lane in self._lanes.values()):  # noqa: ASYNC110 - many things may keep us
            await asyncio.sleep(0.01)

    def _take(self) -> list[Ticket]:
        metrics.QUEUE.set(len(self._queue))
        # Of a crowd half: the more share a round, while some are left to go when these are answered.
        most = min(ROUND_PREPARES_MAX, max(self._limits.batch, len(self._queue) // 2))
        patience_ends = asyncio.get_running_loop().time() - self._limits.patience_seconds
        batch: list[Ticket] = []
        while len(batch) < most and (ticket := self._queue.take()):
            if ticket.submitted < patience_ends:
                _fail(ticket, Unavailable("the order waited too long for its turn"))
            elif not ticket.abandoned:
                batch.append(ticket)
        if not self._queue.is_under_way():
            metrics.QUEUE.set(0)
        return batch

    async def _one_batch(self, batch: list[Ticket]) -> None:
        if not batch:
            return
        if obstacle := self._restores.obstacle():
            for ticket in batch:
                _fail(ticket, Unavailable(obstacle))
            return
        metrics.BATCH.observe(len(batch))
        crash_points.reach("prepares_not_left")
        mark = self._restores.mark()
        votes = await self._ask_everybody(batch, mark)
        verdicts = [_verdict(ticket, votes) for ticket in batch]
        crash_points.reach("all_votes_in")
        for ticket, verdict in zip(batch, verdicts, strict=True):
            ticket.confirm_sent = verdict.decision is Decision.CONFIRMED
        await self._decide(batch, verdicts, mark.generation)

    async def _ask_everybody(self, batch: Sequence[Ticket], mark: Mark) -> Mapping[str, Mapping[TransactionId, Vote]]:
        async def ask(lane: Lane) -> Mapping[TransactionId, Vote]:
            prepares = [_prepare(ticket.transaction, lane) for ticket in batch]
            try:
                async with asyncio.timeout(self._limits.prepare_seconds):
                    votes = await lane.ask(prepares, mark)
            except (Unavailable, TimeoutError) as silence:
                log.warning("no vote from %s", lane.name, extra={"why": str(silence), "transactions": len(prepares)})
                return {}
            crash_points.reach("first_votes_in")
            return votes

        return dict(zip(self._lanes, await asyncio.gather(*map(ask, self._lanes.values())), strict=True))

    def _write(self, verdicts: Sequence[Verdict], generation: int) -> "asyncio.Future[Records]":
        self._restores.heed()
        return asyncio.ensure_future(self._log.decide(verdicts, generation, self._restores.heard()))

    async def _decide(self, batch: Sequence[Ticket], verdicts: Sequence[Verdict], generation: int) -> None:
        asking = self._write(verdicts, generation)
        try:
            recorded = await asyncio.wait_for(asyncio.shield(asking), self._limits.decision_seconds)
        except Exception as failure:  # noqa: BLE001 - whatever it was, only the log knows now
            log.warning("the decision log gave no answer", extra={"why": str(failure), "transactions": len(batch)})
            self._spawn(self._learn(batch, verdicts, generation, asking))
            return
        crash_points.reach("decision_durable")
        self._tell(batch, verdicts, recorded)

    async def _learn(
        self, batch: Sequence[Ticket], verdicts: Sequence[Verdict], generation: int, asking: "asyncio.Future[Records]"
    ) -> None:
        """Repeat the same insert until the log tells what became of the first one (R3).

        The first one may hang for ever on a broken connection, so a second one is sent while it is still under way.
        """
        self._unsure += len(batch)
        metrics.UNSURE.set(self._unsure)
        under_way = [asking]
        pause_seconds = 0.05
        while True:
            done, _ = await asyncio.wait(under_way, timeout=pause_seconds, return_when=asyncio.FIRST_COMPLETED)
            answered = [attempt for attempt in under_way if attempt in done and attempt.exception() is None]
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
        self._tell(batch, verdicts, answered[0].result())

    def _tell(self, batch: Sequence[Ticket], verdicts: Sequence[Verdict], recorded: Records) -> None:
        told = [(transaction_id, row.decision) for transaction_id, row in recorded.items()]
        for lane in self._lanes.values():
            lane.tell(told)
        for decision, count in Counter(decision for _, decision in told).items():
            metrics.DECISIONS.labels(decision).inc(count)
        for ticket, verdict in zip(batch, verdicts, strict=True):
            self._settle(ticket, verdict, recorded.get(verdict.transaction.transaction_id))

    def _settle(self, ticket: Ticket, verdict: Verdict, recorded: Recorded | None) -> None:
        if recorded is None:
            log.error("the log was restored", extra={"transaction_id": verdict.transaction.transaction_id})
            self._restores.log_is_behind()
            _fail(ticket, Unavailable("the decision log was restored; orders wait for its reconciliation"))
        elif not ticket.outcome.done():
            ticket.outcome.set_result(Settled(recorded.decision, verdict, found=recorded.found))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _prepare(transaction: Transaction, lane: Lane) -> Prepare:
    memo: dict[str, Any] = {"memo": dict(transaction.memo)} if transaction.memo is not None and lane.counts else {}
    return Prepare(
        transaction_id=transaction.transaction_id,
        payload=dict(transaction.payloads[lane.name]),
        instead_of=list(transaction.instead_of),
        **memo,
    )


def _verdict(ticket: Ticket, votes: Mapping[str, Mapping[TransactionId, Vote]]) -> Verdict:
    transaction = ticket.transaction
    heard = {
        name: ballot[transaction.transaction_id] for name, ballot in votes.items() if transaction.transaction_id in ballot
    }
    # Nobody waits for an abandoned one any more: whatever was voted, it counts as unanswered.
    return judge(transaction, {} if ticket.abandoned else heard)


def _let_go(future: "asyncio.Future[Any]") -> None:
    """Look at a failure that nobody may be left to hear of; asyncio would report it as forgotten."""
    if not future.cancelled():
        future.exception()


def _fail(ticket: Ticket, failure: Exception) -> None:
    if not ticket.outcome.done():
        ticket.outcome.set_exception(failure)
        _let_go(ticket.outcome)
