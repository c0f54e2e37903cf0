"""How far a participant has come, counted in its own database.

A database that was restored from an older backup has fallen back, and is found by its counter. The
counter is the sum over sixteen rows. Every forced local transaction adds one to one of them,
chosen by lot, as the last thing it does. A sequence would not do: it is logged ahead, so that a
restored one may come back too high. Nor would a single row: all replicas would wait for each
other's flush at its lock.

What a statement reads of others' rows is what they have committed, so that the sum is exact and
never falls: a transaction that begins after another has ended gets a higher one. Two that overlap
may get the same.
"""

import logging
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, text

from two_phase.messages import Ballot, Round

log = logging.getLogger(__name__)

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
    SET forced = forced
        + greatest(0, :counter - (SELECT CAST(sum(forced) AS bigint) FROM round_counters))
    WHERE slot = 0
""")


@dataclass(frozen=True, slots=True)
class Counters:
    """``counter`` forced local transactions were made, and the log was seen at ``log_seen``."""

    counter: int
    log_seen: int


class FallenBack(Exception):
    """A higher counter of ours was seen than we have; the round must leave nothing behind."""

    def __init__(self, counters: Counters) -> None:
        super().__init__(counters)
        self._counters = counters

    def ballot(self) -> Ballot:
        """Return the ballot of such a round: no votes, and the counters.

        The round is not even counted: else another coordinator, that has seen less of us, would
        find us where it expects us.
        """
        log.error("our database was restored from an older backup", extra=asdict(self._counters))
        return Ballot(counter=self._counters.counter - 1, log_seen=self._counters.log_seen)


def counters_to_tell(message: Round, counters: Counters) -> Counters | None:
    """Return what the ballot says of ``counters``, counted with this round, if anything.

    A round with nothing in it asks whether we count. Raises FallenBack.
    """
    if message.prepares and counters.counter <= message.counter_heard:
        raise FallenBack(counters)
    is_question = not (message.aborts or message.commits or message.prepares)
    return counters if is_question or message.log_counter is not None else None


def read_counters(connection: Connection) -> Counters:
    """Return the counters as they are."""
    return Counters(*connection.execute(_READ).one())


def raise_to(connection: Connection, counter: int) -> Counters:
    """Bring the counter to ``counter`` at least, and return the counters."""
    connection.execute(_LIFT, {"counter": counter})
    return read_counters(connection)
