"""A participant over the simulated store, whose trade hands out so much of what there is."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from simulation.disk import Disk, LocalTransaction
from simulation.store import MemoryBranchStore
from two_phase.errors import Refused
from two_phase.messages import Prepare, Round, State, Taken, TransactionId
from two_phase.participant.participant import Participant


class Ask(BaseModel):
    """So much of what there is."""

    amount: int


class Script:
    """A fate that is written down: what happens to the next local transactions."""

    def __init__(self) -> None:
        self.over = False
        self.next: list[str] = []

    def at(self, _kind: str, _what: str) -> str:
        """Return the next fault."""
        return self.next.pop(0) if self.next else ""


class Place:
    """A participant with ten units, on a disk that forgets what was not flushed."""

    def __init__(self) -> None:
        self.script: Any = Script()
        self.disk = Disk("place", ("branches", "counters", "stock"))
        self.disk.tables["stock"]["units"] = 10
        self.store = MemoryBranchStore(
            self.disk, self.script, lambda: 0.0, lambda: self.disk.die(0)
        )
        self.participant: Participant[Any, Ask] = Participant(
            self.store, Ask, self._take, self._give_back
        )
        self.poison: set[TransactionId] = set()

    def _take(
        self, connection: LocalTransaction, asked: Sequence[tuple[TransactionId, Ask]]
    ) -> list[Taken | Refused]:
        return [self._taken(connection, *each) for each in asked]

    def _taken(
        self, connection: LocalTransaction, transaction_id: TransactionId, ask: Ask
    ) -> Taken | Refused:
        if transaction_id in self.poison:
            raise ZeroDivisionError(transaction_id)
        if ask.amount > self.units:
            return Refused(
                "too_much", f"{self.units} are left", contended=True, facts={"left": self.units}
            )
        connection.put("stock", "units", self.units - ask.amount)
        return Taken(facts={"took": ask.amount})

    def _give_back(
        self, connection: LocalTransaction, taken: Sequence[tuple[TransactionId, Ask]]
    ) -> None:
        for _, ask in taken:
            connection.put("stock", "units", self.units + ask.amount)

    @property
    def units(self) -> int:
        """How many are left."""
        return int(self.disk.tables["stock"]["units"])

    def states(self) -> dict[TransactionId, State]:
        """Return every branch's state."""
        return {each: row.branch.state for each, row in self.disk.tables["branches"].items()}

    def say(self, **contents: Any) -> Any:
        """Send a round and return its ballot."""
        return self.participant.round(Round(generation=1, **contents))


def identity(number: int) -> TransactionId:
    """Return an id."""
    return f"00000000-0000-7000-8000-{number:012x}"


def prepare(number: int, amount: int = 1, *instead_of: int) -> Prepare:
    """Return a prepare."""
    earlier = [identity(each) for each in instead_of]
    return Prepare(transaction_id=identity(number), payload={"amount": amount}, instead_of=earlier)


def votes(ballot: Any) -> dict[TransactionId, bool]:
    """Return the votes of a ballot."""
    return {vote.transaction_id: vote.prepared for vote in ballot.votes}
