"""The time slots themselves: opened, looked at."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, insert, text

from delivery_service.book import held
from delivery_service.models import Slot
from delivery_service.schemas import NewSlot
from service_chassis.problems import Invalid, NotFound
from two_phase.participant.reads import DOUBTS, Seen, in_doubt_among, undecided
from two_phase.sql import Planned, bigint_array

_OPEN = insert(Slot).returning(Slot.slot_id, Slot.starts_at, sort_by_parameter_order=True)
_COURIERS = text("""
    INSERT INTO couriers (slot_id, position, name)
    SELECT * FROM unnest(CAST(:ids AS bigint[]), CAST(:positions AS bigint[]), CAST(:names AS text[]))
""")
# Asked for by every customer who chooses a time: the slot and the branches in doubt that touch it
# in one statement, so that a snapshot and a connection serve for both.
_SHOW = Planned(f"""
    SELECT slot_id, starts_at, couriers, available, held, doubts FROM slots, (
        SELECT count(*) AS couriers, count(*) - count(transaction_id) AS available FROM couriers
        WHERE slot_id = CAST(:slot_id AS bigint)
    ) AS counted, (
        SELECT count(*) AS held, {DOUBTS} AS doubts
        FROM branches WHERE state = 'prepared' AND CAST(payload->>'slot_id' AS bigint) = CAST(:slot_id AS bigint)
    ) AS undecided
    WHERE slot_id = CAST(:slot_id AS bigint)
""")  # noqa: S608 - a constant
_PAGE = text(
    "SELECT slot_id, starts_at FROM slots WHERE slot_id > :after ORDER BY slot_id LIMIT :limit"
)
_COUNT = text("""
    SELECT slot_id, count(*) AS couriers, count(*) - count(transaction_id) AS available FROM couriers
    WHERE slot_id = ANY (CAST(:ids AS bigint[])) GROUP BY slot_id
""")

_UNBALANCED = text("""
    SELECT slot_id AS id, count(transaction_id) AS put_in, 0 AS available, coalesce(max(taken), 0) AS taken FROM slots
    LEFT JOIN couriers USING (slot_id)
    LEFT JOIN (
        SELECT CAST(payload->>'slot_id' AS bigint) AS slot_id, count(*) AS taken FROM branches WHERE state <> 'aborted' GROUP BY 1
    ) AS takings USING (slot_id)
    GROUP BY slot_id HAVING count(transaction_id) <> coalesce(max(taken), 0)
""")
_SLOTS = text("SELECT count(*) FROM slots")

Body = dict[str, Any]


def open_slots(connection: Connection, new: Sequence[NewSlot], *, many: bool = False) -> list[Body]:
    """Open each slot with its couriers and return them, in this order.

    Raises Invalid for a time that has come.
    """
    for number, slot in enumerate(new):
        if slot.starts_at <= datetime.now(UTC):
            raise Invalid(
                f"items.{number}.starts_at" if many else "starts_at", "must be in the future"
            )
    slots = connection.execute(_OPEN, [{"starts_at": slot.starts_at} for slot in new]).all()
    couriers = [
        (row.slot_id, position, name)
        for row, slot in zip(slots, new, strict=True)
        for position, name in enumerate(slot.couriers, 1)
    ]
    ids, positions, names = zip(*couriers, strict=True) if couriers else ((), (), ())
    connection.execute(
        _COURIERS,
        {"ids": bigint_array(ids), "positions": bigint_array(positions), "names": list(names)},
    )
    return _bodies(connection, slots)


def shown(connection: Connection, slot_id: int) -> Seen[Body]:
    """Return the slot; raises NotFound."""
    rows = _SHOW.rows(connection, {"slot_id": slot_id})
    if not rows:
        raise NotFound(f"there is no slot {slot_id}")
    *slot, doubts = rows[0]
    return _body(*slot), in_doubt_among(doubts)


def page(connection: Connection, after: int, limit: int) -> Seen[list[Body]]:
    """Return up to ``limit`` slots behind the id ``after``."""
    slots = connection.execute(_PAGE, {"after": after, "limit": limit}).all()
    return _bodies(connection, slots), undecided(connection)


def unbalanced(connection: Connection) -> tuple[int, list[Body]]:
    """Return the number of slots, and those where the couriers taken are not as many as the live branches."""
    broken = [dict(row) for row in connection.execute(_UNBALANCED).mappings()]
    return connection.execute(_SLOTS).scalar_one(), broken


def _bodies(connection: Connection, slots: Sequence[Any]) -> list[Body]:
    ids = {slot.slot_id for slot in slots}
    rows = connection.execute(_COUNT, {"ids": bigint_array(ids)})
    counts = {row.slot_id: (row.couriers, row.available) for row in rows}
    on_hold = held(connection, ids)
    return [
        _body(
            slot.slot_id,
            slot.starts_at,
            *counts.get(slot.slot_id, (0, 0)),
            on_hold.get(slot.slot_id, 0),
        )
        for slot in slots
    ]


def _body(slot_id: int, starts_at: datetime, couriers: int, available: int, on_hold: int) -> Body:
    return {
        "slot_id": slot_id,
        "starts_at": starts_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "couriers": couriers,
        "held": on_hold,
        "booked": couriers - available - on_hold,
        "available": available,
    }
