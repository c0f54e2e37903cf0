"""What the simulation believes of the decision log and of claims on PostgreSQL is true.

Its log answers every sequence of calls as the SQL one does, many sequences side by side.
"""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace
from typing import Any

from sqlalchemy import Engine, text

from integration.sequences import identity
from order_service.models import LOG
from order_service.order import OrderRecord, row_of
from simulation.clock import VirtualLoop
from simulation.disk import Disk
from simulation.fate import ChosenFate
from simulation.log import LogDatabase
from simulation.sessions import Sessions
from two_phase.coordinator.idempotency import Answered, Busy, Claimed, Claims, KeyRequest, Reused
from two_phase.coordinator.sql_decision_log import SqlDecisionLog
from two_phase.coordinator.verdict import Transaction, judge
from two_phase.messages import InDoubt, Vote

PARTICIPANTS = ("payment", "stock", "delivery")


class Replica:
    """One replica of order_service with one order: T may answer the key, and U wants to."""

    def __init__(self, decision_log: SqlDecisionLog) -> None:
        self.log = decision_log
        self.claims = Claims(decision_log, claim_seconds=1000)
        self.expired = Claims(decision_log, claim_seconds=0)

    async def decide(self, sequences: Sequence[int], name: str, refusal: str | None) -> list[Any]:
        """Decide a transaction of each sequence: confirmed, or refused for a reason."""
        verdicts = [self._verdict(each, name, refusal) for each in sequences]
        decided = await self.log.decide(verdicts, 1, {})
        return [decided.get(each.transaction.transaction_id) for each in verdicts]

    def _verdict(self, sequence: int, name: str, refusal: str | None) -> Any:
        items = ({"product_id": 1, "quantity": 2, "price": 10},)
        record = OrderRecord(
            sequence + 1, 1, items, key="key", digest="digest", may_be_repeated=True
        )
        transaction = Transaction(
            identity(sequence, name), {each: {} for each in PARTICIPANTS}, (), record
        )
        votes = {
            each: Vote(transaction_id=transaction.transaction_id, prepared=True)
            for each in PARTICIPANTS
        }
        if refusal:
            refused = {"prepared": False, "reason": refusal, "detail": "no"}
            votes["stock"] = votes["stock"].model_copy(update=refused)
        return judge(transaction, votes)

    async def ask(self, sequences: Sequence[int], verb: str) -> list[Any]:
        """Ask about T, by outcomes or by peek."""
        question = [InDoubt(transaction_id=identity(each, "T"), generation=1) for each in sequences]
        answer = await getattr(self.log, verb)(question)
        ids = [each.transaction_id for each in question]
        return [(each in answer.confirmed, each in answer.cancelled) for each in ids]

    async def claim(
        self, sequences: Sequence[int], name: str, *, expired: bool = False, digest: str = "digest"
    ) -> list[Any]:
        """Claim the key for a transaction; a claim of no patience is expired at once."""
        claims = self.expired if expired else self.claims
        standings = await claims._claim(
            [replace(wanted(each, name), digest=digest) for each in sequences]
        )
        return [
            status if isinstance(status, Claimed | Answered) else type(status)
            for status in standings
        ]

    async def move(self, sequences: Sequence[int]) -> list[Any]:
        """Hand the claim of T on to U."""
        return [
            await self.claims.move(wanted(each, "T"), identity(each, "U")) for each in sequences
        ]

    async def release(self, sequences: Sequence[int]) -> list[Any]:
        """Give the claim of T up."""
        return [await self.claims.release(wanted(each, "T")) for each in sequences]


def wanted(sequence: int, name: str) -> KeyRequest:
    """Return what one transaction of a sequence wants."""
    return KeyRequest(sequence + 1, "key", "digest", identity(sequence, name))


CALLS: dict[str, Callable[[Replica, list[int]], Any]] = {
    "confirm T": lambda replica, each: replica.decide(each, "T", None),
    "refuse T": lambda replica, each: replica.decide(each, "T", "out_of_stock"),
    "repeat T": lambda replica, each: replica.decide(each, "T", "price_changed"),
    "confirm U": lambda replica, each: replica.decide(each, "U", None),
    "outcomes of T": lambda replica, each: replica.ask(each, "outcomes"),
    "peek at T": lambda replica, each: replica.ask(each, "peek"),
    "claim for T": lambda replica, each: replica.claim(each, "T"),
    "claim for U": lambda replica, each: replica.claim(each, "U"),
    "claim for U with another body": lambda replica, each: replica.claim(each, "U", digest="other"),
    "claim for T without patience": lambda replica, each: replica.claim(each, "T", expired=True),
    "move from T to U": lambda replica, each: replica.move(each),
    "release T": lambda replica, each: replica.release(each),
}


async def answers(replica: Replica, length: int) -> list[tuple[Any, ...]]:
    """Return what every sequence of calls of this length is answered.

    The same call of all sequences travels together.
    """
    sequences = list(itertools.product(CALLS, repeat=length))
    heard: list[list[Any]] = [[] for _ in sequences]
    for step in range(length):
        for name, call in CALLS.items():
            numbers = [number for number, calls in enumerate(sequences) if calls[step] == name]
            for number, answer in zip(numbers, await call(replica, numbers), strict=True):
                heard[number].append(answer)
    return [(calls, answer) for calls, answer in zip(sequences, heard, strict=True)]


async def _counted(sessions: Any, executor: Any) -> list[Any]:
    """Return what a log answers when it is written, asked, seen further than it is, and restored participants are noted."""
    first, second = (Replica(SqlDecisionLog(sessions, executor, LOG, row_of)) for _ in range(2))
    heard: list[Any] = []
    for step, (replica, seen) in enumerate(
        [(first, 0), (second, 0), (first, 2), (first, 9), (second, 0), (second, 9)]
    ):
        replica.log.observe(seen)
        numbers = [step]
        verdict = replica._verdict(step, "T", None)
        heard.append(
            await replica.log.decide([verdict], 1, {"payment": 10 - step, "stock": step + 1})
        )
        # Nothing of it is final, so nothing of it is forced.
        heard.append(await replica.decide(numbers, "V", "price_changed"))
        heard.append(await replica.ask(numbers, "outcomes"))
        heard.append(await replica.decide(numbers, "U", None))
        heard.extend([await replica.log.status(), replica.log.log_position])
    await first.log.note_restored("payment")
    return [*heard, await second.log.status()]


async def test_the_log_counts_alike(order_engine: Engine, log_engine: Engine) -> None:
    """The simulated log counts, compares and keeps what it has heard as PostgreSQL does (R12)."""
    simulated: list[Any] = []

    async def simulation() -> None:
        simulated.extend(await _counted(sessions, sessions))

    loop = VirtualLoop(0.0)
    disk = Disk("order", ("orders", "keys", "claims", "log_state", "restored"))
    sessions = Sessions(
        LogDatabase(disk, ChosenFate({}), loop, lambda: None, lambda *_: None, copy_context()), loop
    )
    await asyncio.to_thread(loop.run, simulation())
    with order_engine.begin() as connection:
        connection.execute(text("TRUNCATE orders, claims, restored_participants"))
        connection.execute(text("UPDATE log_counters SET written = 0, heard = '{}'"))
    with ThreadPoolExecutor(4) as executor:
        real = await _counted(log_engine, executor)
    with order_engine.begin() as connection:
        connection.execute(text("TRUNCATE restored_participants"))

    assert simulated == real
    assert real[-1].restored == {"payment"}
    assert real[-1].log_position < 9 <= real[-2]


async def test_every_sequence_of_calls_to_the_log_is_answered_alike(
    order_engine: Engine, log_engine: Engine
) -> None:
    """The simulated log and the simulated claims are PostgreSQL's, whoever decides, asks, claims and takes over (L2)."""
    length = 3
    simulated: list[Any] = []

    async def simulation() -> None:
        simulated.extend(
            await answers(Replica(SqlDecisionLog(sessions, sessions, LOG, row_of)), length)
        )  # type: ignore[arg-type]

    loop = VirtualLoop(0.0)
    disk = Disk("order", ("orders", "keys", "claims", "log_state", "restored"))
    sessions = Sessions(
        LogDatabase(disk, ChosenFate({}), loop, lambda: None, lambda *_: None, copy_context()), loop
    )
    await asyncio.to_thread(loop.run, simulation())
    with order_engine.begin() as connection:
        connection.execute(text("TRUNCATE orders, claims"))
    with ThreadPoolExecutor(4) as executor:
        real = await answers(Replica(SqlDecisionLog(log_engine, executor, LOG, row_of)), length)

    assert simulated == real
    heard = [answer for _, answers_heard in real for answer in answers_heard]
    assert {Busy, Reused} <= {each for each in heard if isinstance(each, type)}
    assert any(isinstance(each, Answered) for each in heard)
    assert any(isinstance(each, Claimed) and each.instead_of for each in heard)
