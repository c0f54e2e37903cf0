"""How far a participant has come, counted in its own database.

A database that was restored from an older backup has fallen back.

The counter is the sum over sixteen rows. Every forced local transaction adds one to one of them,
chosen by lot, as the last thing it does. A sequence would not do: it is logged ahead, so that a
restored one may come back too high. Nor would a single row: all replicas would wait for each
other's flush at its lock.

What a statement reads of others' rows is what they have committed, so that the sum is exact and
never falls: who begins after another has ended gets a higher one. Two that overlap may get the
same.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, text

ROUND_COUNTERS_DDL = """
CREATE TABLE round_counters (
    slot smallint PRIMARY KEY,
    forced bigint NOT NULL DEFAULT 0,
    log_seen bigint NOT NULL DEFAULT 0,
    CONSTRAINT counter_has_sixteen_slots CHECK (slot BETWEEN 0 AND 15)
);
INSERT INTO round_counters (slot) SELECT generate_series(0, 15);
"""

_READ = text("SELECT CAST(sum(forced) AS bigint), max(log_seen) FROM round_counters")
_LIFT = text("""
    UPDATE round_counters
    SET forced = forced + greatest(0, :counter - (SELECT CAST(sum(forced) AS bigint) FROM round_counters)) WHERE slot = 0
""")


@dataclass(frozen=True, slots=True)
class Counters:
    """``counter`` forced local transactions were made, and the log was seen at ``log_seen``."""

    counter: int
    log_seen: int


def read_counters(connection: Connection) -> Counters:
    """Return the counters as they are."""
    return Counters(*connection.execute(_READ).one())


def raise_to(connection: Connection, counter: int) -> Counters:
    """Bring the counter to ``counter`` at least, and return the counters."""
    connection.execute(_LIFT, {"counter": counter})
    return read_counters(connection)
