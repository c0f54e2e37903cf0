"""What delivery does for an order.

Takes a courier in its slot, and lets him go if the order is cancelled.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Connection, text

from two_phase.errors import Refused
from two_phase.messages import Taken, TransactionId
from two_phase.sql import Planned, bigint_array, id_array


class Booking(BaseModel):
    """A slot in which the order is to be brought."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    slot_id: int


class _Courier(NamedTuple):
    slot_id: int
    position: int
    name: str


_LOCK = Planned("""
    SELECT slot_id, starts_at <= clock_timestamp() AS started FROM slots
    WHERE slot_id = ANY (CAST(:ids AS bigint[])) ORDER BY slot_id FOR UPDATE
""")
_FREE = Planned("""
    SELECT wanted.slot_id, courier.position, courier.name
    FROM unnest(CAST(:ids AS bigint[]), CAST(:counts AS bigint[])) AS wanted (slot_id, count)
    CROSS JOIN LATERAL (
        SELECT position, name FROM couriers WHERE slot_id = wanted.slot_id AND transaction_id IS NULL
        ORDER BY position LIMIT wanted.count
    ) AS courier
""")
_TAKE = Planned("""
    UPDATE couriers SET transaction_id = taken.transaction_id
    FROM unnest(CAST(:ids AS uuid[]), CAST(:slots AS bigint[]), CAST(:positions AS bigint[]))
        AS taken (transaction_id, slot_id, position)
    WHERE couriers.slot_id = taken.slot_id AND couriers.position = taken.position
""")
_LET_GO = text(
    "UPDATE couriers SET transaction_id = NULL WHERE transaction_id = ANY (CAST(:ids AS uuid[]))"
)
_HELD = text("""
    SELECT CAST(payload->>'slot_id' AS bigint) AS slot_id, count(*) AS held FROM branches
    WHERE state = 'prepared' AND CAST(payload->>'slot_id' AS bigint) = ANY (CAST(:ids AS bigint[]))
    GROUP BY 1
""")


def take(
    connection: Connection, asked: Sequence[tuple[TransactionId, Booking]]
) -> list[Taken | Refused]:
    """Take a free courier for each, in the order of arrival."""
    wanted = Counter(booking.slot_id for _, booking in asked)
    started = _locked(connection, set(wanted))
    free = _free(connection, wanted)
    chosen: list[tuple[TransactionId, _Courier]] = []
    verdicts: list[Taken | Refused] = []
    for transaction_id, booking in asked:
        refusal = _refusal(booking.slot_id, started, free)
        if refusal is None:
            courier = free[booking.slot_id].popleft()
            chosen.append((transaction_id, courier))
            verdicts.append(Taken({"courier": courier.name}))
        else:
            verdicts.append(refusal)
    _mark_contended(connection, asked, verdicts, {courier.slot_id for _, courier in chosen})
    _take(connection, chosen)
    return verdicts


def give_back(connection: Connection, taken: Sequence[tuple[TransactionId, Booking]]) -> None:
    """Let the couriers go."""
    _locked(connection, {booking.slot_id for _, booking in taken})
    connection.execute(_LET_GO, {"ids": id_array([transaction_id for transaction_id, _ in taken])})


def held(connection: Connection, slot_ids: set[int]) -> dict[int, int]:
    """Return how many couriers undecided orders hold in each slot, where they hold any."""
    return {
        row.slot_id: row.held for row in connection.execute(_HELD, {"ids": bigint_array(slot_ids)})
    }


def _locked(connection: Connection, slot_ids: set[int]) -> dict[int, bool]:
    return dict(_LOCK.rows(connection, {"ids": bigint_array(slot_ids)}))


def _free(connection: Connection, wanted: Counter[int]) -> dict[int, deque[_Courier]]:
    free: dict[int, deque[_Courier]] = defaultdict(deque)
    parameters = {"ids": bigint_array(wanted.keys()), "counts": bigint_array(wanted.values())}
    for courier in map(_Courier._make, _FREE.rows(connection, parameters)):
        free[courier.slot_id].append(courier)
    return free


def _refusal(
    slot_id: int, started: dict[int, bool], free: dict[int, deque[_Courier]]
) -> Refused | None:
    if slot_id not in started:
        return Refused("unknown_slot", f"there is no slot {slot_id}")
    if started[slot_id]:
        return Refused("slot_started", f"slot {slot_id} has started")
    if not free[slot_id]:
        return Refused("no_courier", f"slot {slot_id} has no courier left")
    return None


def _take(connection: Connection, chosen: Sequence[tuple[TransactionId, _Courier]]) -> None:
    if not chosen:
        return
    parameters = {
        "ids": id_array([transaction_id for transaction_id, _ in chosen]),
        "slots": bigint_array([courier.slot_id for _, courier in chosen]),
        "positions": bigint_array([courier.position for _, courier in chosen]),
    }
    _TAKE.rows(connection, parameters)


def _mark_contended(
    connection: Connection,
    asked: Sequence[tuple[TransactionId, Booking]],
    verdicts: Sequence[Taken | Refused],
    taken_now: set[int],
) -> None:
    """Say of each refusal whether undecided orders hold a courier of its slot (R9)."""
    short = [
        (booking.slot_id, verdict)
        for (_, booking), verdict in zip(asked, verdicts, strict=True)
        if isinstance(verdict, Refused) and verdict.reason == "no_courier"
    ]
    if not short:
        return
    undecided = taken_now | held(connection, {slot_id for slot_id, _ in short}).keys()
    for slot_id, refusal in short:
        refusal.contended = slot_id in undecided
