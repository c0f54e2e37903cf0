"""What the simulation believes of PostgreSQL is true.

Its stores answer every sequence of messages as the SQL ones do.

Many sequences run side by side, each with transactions, an account and a key of its own, so that
one round or one statement carries the same step of all of them: that is how every sequence of six
messages fits into a test.
"""

import itertools
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from sqlalchemy import Engine, text

from integration.sequences import identity
from payment_service import charge
from simulation import escrow
from simulation.disk import Disk
from simulation.fate import ChosenFate
from simulation.store import MemoryBranchStore
from two_phase.messages import Ballot, InDoubt, Prepare, Round, State
from two_phase.participant.branches import Branch
from two_phase.participant.participant import Participant
from two_phase.participant.sql_branches import BRANCHES_DDL_1, BRANCHES_DDL_2, SqlBranchStore
from two_phase.sql import bigint_array

#: As many sequences as fit into one round.
GROUP = 512


ACCOUNTS = """
CREATE TABLE accounts (user_id bigint PRIMARY KEY, available bigint NOT NULL CONSTRAINT account_not_overdrawn CHECK (available >= 0))
"""


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
