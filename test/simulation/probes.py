"""What is done to a world after its end.

Everything is said once more, and nonsense is said to everybody. Nothing may change.

Each mechanism gets an oracle of its own here, because in a whole run one defence hides the absence
of another.
"""

from collections.abc import AsyncIterator, Iterator
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from order_service.models import LOG
from order_service.order import row_of
from simulation.balance import available
from simulation.escrow import TRADES
from simulation.plan import SERVICES
from simulation.processes import new_id_of
from simulation.store import MemoryBranchStore
from two_phase.coordinator.sql_decision_log import SqlDecisionLog
from two_phase.messages import Ballot, InDoubt, Prepare, Round, State
from two_phase.participant.participant import Participant

if TYPE_CHECKING:
    from simulation.world import World

_PAYLOADS: dict[str, dict[str, Any]] = {
    "payment": {"user_id": 1, "amount": 0},
    "stock": {"items": []},
    "delivery": {"slot_id": 1},
}


async def probe(world: "World") -> None:
    """Say everything again, then nonsense, and look whether the laws still hold."""
    participants = [_Probe(world, service) for service in SERVICES]
    before = _essence(world)
    broken = [sentence for each in participants for sentence in each.said_again()]
    # What a participant had never taken in, or had lost, is now resolved as it would have been
    # then.
    await world.rest()
    world.laws.hold_at_rest()
    if _essence(world) != before:
        broken.append(f"everything was said again, and {before} became {_essence(world)}")
    broken += [sentence for each in participants for sentence in each.nonsense()]
    broken += [sentence async for sentence in _asked(world)]
    for sentence in broken:
        world.laws.broke("probed", sentence)


def _essence(world: "World") -> Any:
    """Return what nothing may change any more.

    What is left of everything, and what was committed and confirmed.
    """
    committed = {
        (service, each)
        for service in SERVICES
        for each, row in world.disks[service].tables["branches"].items()
        if row.branch.state is State.COMMITTED
    }
    return available(world), committed


async def _asked(world: "World") -> AsyncIterator[str]:
    """Ask the log about a transaction that nobody has heard of."""
    log: Any = SqlDecisionLog(world.sessions, world.sessions, LOG, row_of)  # type: ignore[arg-type] # what it uses of both is there
    unknown = InDoubt(transaction_id=new_id_of(world)(), generation=1)
    peeked = await log.peek([unknown])
    if (
        peeked.confirmed
        or peeked.cancelled
        or unknown.transaction_id in world.disks["order"].tables["orders"]
    ):
        yield f"a peek at an unknown transaction says {peeked}, or has written"
    answered = await log.outcomes([unknown])
    if answered.cancelled != [unknown.transaction_id]:
        yield f"outcomes of an unknown transaction says {answered}"
    if world.disks["order"].durable("orders", unknown.transaction_id) is None:
        yield "outcomes of an unknown transaction has not written durably what it says"


class _Probe:
    def __init__(self, world: "World", service: str) -> None:
        self._world = world
        self._service = service
        self._disk = world.disks[service]
        store = MemoryBranchStore(self._disk, world.fate, world.loop.time, lambda: None)
        self._participant: Participant[Any, Any] = Participant(store, *TRADES[service])

    def said_again(self) -> Iterator[str]:
        """Say every round again."""
        for body in self._world.network.rounds[self._service]:
            ballot = self._participant.round(Round.model_validate_json(body))
            if ballot.violations:
                yield f"{self._service}: said again, {body} is a violation"

    def nonsense(self) -> Iterator[str]:
        """Say what contradicts the record."""
        known = self._disk.tables["branches"]
        committed = [each for each, row in known.items() if row.branch.state is State.COMMITTED][:1]
        aborted = [each for each, row in known.items() if row.branch.state is State.ABORTED][:1]
        unknown, overtaken = new_id_of(self._world)(), new_id_of(self._world)()
        for message in (
            *(self._round(aborts=[each]) for each in committed),
            *(self._round(commits=[each]) for each in aborted),
            *(
                self._round(prepares=[Prepare(transaction_id=each, payload={"other": 1})])
                for each in committed
            ),
            self._round(commits=[unknown]),
        ):
            before = self._recorded()
            ballot = self._participant.round(message)
            if (
                not ballot.violations
                or ballot.acknowledged
                or ballot.votes
                or self._recorded() != before
            ):
                yield f"{self._service}: {message} was answered with {ballot}"
        yield from self._overtaken(overtaken)

    def _recorded(self) -> Any:
        """Return all that nonsense must not change: it is counted as any other round."""
        return deepcopy(
            {name: rows for name, rows in self._disk.tables.items() if name != "counters"}
        )

    def _overtaken(self, transaction_id: str) -> Iterator[str]:
        aborted = self._participant.round(self._round(aborts=[transaction_id]))
        late = Prepare(transaction_id=transaction_id, payload=_PAYLOADS[self._service])
        ballot: Ballot = self._participant.round(self._round(prepares=[late]))
        if (
            aborted.acknowledged != [transaction_id]
            or len(ballot.votes) != 1
            or ballot.votes[0].prepared
        ):
            yield f"{self._service}: a prepare that its abort has overtaken is answered with {ballot}"

    def _round(self, **contents: Any) -> Round:
        return Round(generation=1, **contents)
