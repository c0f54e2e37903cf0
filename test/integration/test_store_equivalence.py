"""What the simulation believes of PostgreSQL is true.

Its stores answer every sequence of messages as the SQL ones do.

Many sequences run side by side, each with transactions, an account and a key of its own, so that
one round or one statement carries the same step of all of them: that is how every sequence of six
messages fits into a test.
"""

import asyncio
import itertools
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine, text

from order_service.claims import Answered, Busy, Claimed, Claims, KeyRequest, Reused
from order_service.decision_log import SqlDecisionLog
from order_service.order import OrderRecord
from payment_service import charge
from simulation import escrow
from simulation.clock import VirtualLoop
from simulation.disk import Disk
from simulation.fate import ChosenFate
from simulation.log import LogDatabase
from simulation.sessions import Sessions
from simulation.store import MemoryBranchStore
from two_phase.coordinator.verdict import Transaction, judge
from two_phase.messages import Ballot, InDoubt, Prepare, Round, State, TransactionId, Vote
from two_phase.participant.branches import Branch
from two_phase.participant.participant import Participant
from two_phase.participant.sql_branches import BRANCHES_DDL_1, BRANCHES_DDL_2, SqlBranchStore
from two_phase.sql import bigint_array

#: As many sequences as fit into one round.
GROUP = 512
PARTICIPANTS = ("payment", "stock", "delivery")


ACCOUNTS = """
CREATE TABLE accounts (user_id bigint PRIMARY KEY, available bigint NOT NULL CONSTRAINT account_not_overdrawn CHECK (available >= 0))
"""


def identity(sequence: int, name: str) -> TransactionId:
    """Return the id of a transaction of one sequence."""
    return f"{sequence:08x}-0000-7000-8000-{ord(name):012x}"


# One account with one unit: T takes it, is asked again with the same body or another, decided
# either way, replaced by V, or loses it to U.
MESSAGES: dict[str, Callable[[int], dict[str, Any]]] = {
    "prepare": lambda each: {"prepares": [prepare(each, "T")]},
    "prepare another body": lambda each: {"prepares": [prepare(each, "T", amount=2)]},
    "commit": lambda each: {"commits": [identity(each, "T")]},
    "abort": lambda each: {"aborts": [identity(each, "T")]},
    "prepare V instead": lambda each: {"prepares": [prepare(each, "V", instead_of=["T"])]},
    "prepare U": lambda each: {"prepares": [prepare(each, "U")]},
}


def prepare(
    sequence: int, name: str, *, amount: int = 1, instead_of: Sequence[str] = ()
) -> Prepare:
    """Return the prepare of one transaction of a sequence."""
    return Prepare(
        transaction_id=identity(sequence, name),
        payload={"user_id": sequence + 1, "amount": amount},
        instead_of=[identity(sequence, each) for each in instead_of],
        memo={"key": f"{sequence}", "of": name} if sequence % 2 else None,
    )


def groups(length: int) -> Iterator[tuple[list[int], Iterator[Round]]]:
    """Return, for each group of sequences of this length, its users and the rounds that carry them step by step."""
    sequences = list(enumerate(itertools.product(MESSAGES.values(), repeat=length)))
    for start in range(0, len(sequences), GROUP):
        group = sequences[start : start + GROUP]
        yield [number + 1 for number, _ in group], rounds(group)


def rounds(
    sequences: Sequence[tuple[int, Sequence[Callable[[int], dict[str, Any]]]]],
) -> Iterator[Round]:
    """Return one round per step."""
    for step in range(len(sequences[0][1])):
        contents: dict[str, list[Any]] = {"aborts": [], "commits": [], "prepares": []}
        for number, messages in sequences:
            for part, said in messages[step](number).items():
                contents[part] += said
        # Sometimes from a coordinator that does not count, and not always by one that has heard the
        # newest.
        yield Round(generation=1, log_counter=(None, 7, 3, 9, 9, 10)[step], **contents)


def heard(ballot: Ballot) -> Any:
    """Return an answer without its order and its prose."""
    votes = {
        each.transaction_id: (each.prepared, each.reason, each.contended, each.facts)
        for each in ballot.votes
    }
    violations = {each.transaction_id: each.detail for each in ballot.violations}
    return votes, set(ballot.acknowledged), violations, ballot.counter, ballot.log_seen


def status(branches: Sequence[Branch]) -> Any:
    """Return what is on record, without prose."""
    return {
        each.transaction_id: (
            each.state,
            each.generation,
            each.payload and json.loads(each.payload),
            each.facts,
            each.reason,
            each.contended,
            each.memo and json.loads(each.memo),
        )
        for each in branches
    }


@pytest.mark.timeout(900)
@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, pytest.param(6, marks=pytest.mark.slow)])
def test_every_sequence_of_messages_is_answered_alike(
    participant_engine: Engine, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The simulated store and the simulated account are PostgreSQL's, for all that can be said to them (L2, L3, L7, F6)."""
    # Thousands of the sequences contain violations, and all of them are compared.
    monkeypatch.setattr(logging.root.manager, "disable", logging.CRITICAL)
    accounts = len(MESSAGES) ** length
    with participant_engine.begin() as connection:
        for statement in (BRANCHES_DDL_1, BRANCHES_DDL_2, ACCOUNTS):
            connection.execute(text(statement))
        connection.execute(
            text("INSERT INTO accounts SELECT generate_series(1, :accounts), 1"),
            {"accounts": accounts},
        )
    real: Participant[Any, Any] = Participant(
        SqlBranchStore(participant_engine), charge.Charge, charge.take, charge.give_back
    )

    counted: dict[str, Any] = {}
    for users, group in groups(length):
        disk = Disk("payment", ("branches", "counters", "accounts"))
        # The counters are those of the whole database.
        disk.tables["counters"] = counted
        disk.tables["accounts"].update(dict.fromkeys(users, 1))
        memory = MemoryBranchStore(disk, ChosenFate({}), lambda: 0.0, lambda: None)
        simulated: Participant[Any, Any] = Participant(
            memory, escrow.Charge, escrow.take_money, escrow.give_money_back
        )
        for message in group:
            assert heard(simulated.round(message)) == heard(real.round(message))

        assert on_record(participant_engine, disk) == (
            status([row.branch for row in disk.tables["branches"].values()]),
            disk.tables["accounts"],
        )


@pytest.mark.parametrize("jump_seconds", [0, 4, 5, 6, 30 * 86_400, -1, -30 * 86_400])
def test_a_branch_is_in_doubt_alike_whatever_the_clock_does(
    participant_engine: Engine, jump_seconds: float
) -> None:
    """L4: a clock that jumps costs an early question at most, and never lets a branch wait until it has caught up."""
    with participant_engine.begin() as connection:
        connection.execute(text(BRANCHES_DDL_1 + BRANCHES_DDL_2))
    disk = Disk("payment", ("branches", "counters"))
    memory = MemoryBranchStore(disk, ChosenFate({}), lambda: 0.0, lambda: None)
    real = SqlBranchStore(participant_engine)
    branch = Branch(identity(1, "T"), State.PREPARED, 3, "{}")
    with memory.begin(forced=True) as transaction:
        memory.add(transaction, [branch], forced=True, log_counter=0)
    with real.begin(forced=True) as connection:
        real.add(connection, [branch], forced=True, log_counter=0)

    disk.clock_ahead_seconds = jump_seconds
    with participant_engine.begin() as connection:
        back = {"seconds": jump_seconds}
        connection.execute(
            text("UPDATE branches SET recorded_at = recorded_at - make_interval(secs => :seconds)"),
            back,
        )

    expected = (
        [InDoubt(transaction_id=branch.transaction_id, generation=3)]
        if not 0 <= jump_seconds < 5
        else []
    )
    assert memory.in_doubt(5, 10) == expected
    assert real.in_doubt(5, 10) == expected
    assert (
        memory.in_doubt(5, 10, after=branch.transaction_id)
        == real.in_doubt(5, 10, after=branch.transaction_id)
        == []
    )


def on_record(engine: Engine, disk: Disk) -> Any:
    """Return what PostgreSQL holds of the branches and accounts that the simulated disk holds."""
    with engine.begin() as connection:
        branches = SqlBranchStore(engine).find(connection, list(disk.tables["branches"]))
        left = connection.execute(
            text(
                "SELECT user_id, available FROM accounts WHERE user_id = ANY (CAST(:ids AS bigint[]))"
            ),
            {"ids": bigint_array(disk.tables["accounts"])},
        )
        return status(list(branches.values())), {row[0]: row[1] for row in left}


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
    first, second = (Replica(SqlDecisionLog(sessions, executor)) for _ in range(2))
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
        simulated.extend(await answers(Replica(SqlDecisionLog(sessions, sessions)), length))  # type: ignore[arg-type]

    loop = VirtualLoop(0.0)
    disk = Disk("order", ("orders", "keys", "claims", "log_state", "restored"))
    sessions = Sessions(
        LogDatabase(disk, ChosenFate({}), loop, lambda: None, lambda *_: None, copy_context()), loop
    )
    await asyncio.to_thread(loop.run, simulation())
    with order_engine.begin() as connection:
        connection.execute(text("TRUNCATE orders, claims"))
    with ThreadPoolExecutor(4) as executor:
        real = await answers(Replica(SqlDecisionLog(log_engine, executor)), length)

    assert simulated == real
    heard = [answer for _, answers_heard in real for answer in answers_heard]
    assert {Busy, Reused} <= {each for each in heard if isinstance(each, type)}
    assert any(isinstance(each, Answered) for each in heard)
    assert any(isinstance(each, Claimed) and each.instead_of for each in heard)
