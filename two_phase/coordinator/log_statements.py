"""The statements of a decision log, built once from the application's mapped table.

What the table has is what is written, so that a new field of the application is a column of its
model and nothing here. The log's own tables are found by the search path of the connection.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Column, Table, text
from sqlalchemy.dialects import postgresql

from two_phase.messages import Decision
from two_phase.sql import Planned

#: A row of the application's table, by column.
Row = dict[str, Any]

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]
_QUOTED = _DIALECT.identifier_preparer

#: Set by the database in the row that is inserted.
_NOT_WRITTEN = {"decided_at"}

# The slot is taken when all rows are in, so that two inserts never wait for each other crosswise.
_DECIDE = """
    WITH level AS MATERIALIZED (
        SELECT set_config('synchronous_commit', :level, true), set_config('lock_timeout', :lock_timeout, true)
    ), log AS MATERIALIZED (
        SELECT generation, written FROM log_state, (SELECT CAST(sum(written) AS bigint) AS written FROM log_counters) AS sum
        WHERE written >= :known AND NOT EXISTS (SELECT FROM restored_participants WHERE participant = 'log')
    ), decided AS (
        INSERT INTO {table} ({names})
        SELECT {values}
        FROM level, jsonb_to_recordset(CAST(:rows AS jsonb)) AS decision ({types})
        JOIN log ON log.generation = decision.generation
        ORDER BY decision.transaction_id
        ON CONFLICT DO NOTHING
        RETURNING transaction_id::text, status
    ), counted AS (
        UPDATE log_counters SET written = log_counters.written + 1, heard = heard || (
            SELECT coalesce(jsonb_object_agg(key, value), '{{}}') FROM jsonb_each(CAST(:heard AS jsonb))
            WHERE CAST(value AS bigint) > coalesce(CAST(log_counters.heard->>key AS bigint), 0))
        FROM log
        WHERE :level = 'on' AND slot = (SELECT CAST(floor(random() * 16) AS smallint)) AND (SELECT count(*) FROM decided) > 0
        RETURNING log.written + 1 AS written
    )
    SELECT transaction_id, status, (SELECT written FROM counted) FROM decided
"""
_FOUND = """
    WITH forced AS MATERIALIZED (SELECT pg_logical_emit_message(true, 'two_phase', ''))
    SELECT transaction_id::text, status FROM forced, {table} WHERE transaction_id = ANY (CAST(:ids AS uuid[]))
"""
_PEEK = "SELECT transaction_id::text, status FROM {table} WHERE transaction_id = ANY (CAST(:ids AS uuid[]))"
_ONE = "SELECT * FROM {table} WHERE transaction_id = CAST(:id AS uuid)"
_DECISIONS = """
    SELECT *, CAST(extract(epoch FROM clock_timestamp() - decided_at) AS float) AS age_seconds
    FROM {table} WHERE transaction_id > CAST(:after AS uuid) ORDER BY transaction_id LIMIT :limit
"""
_REBUILD = """
    WITH lost AS MATERIALIZED (
        SELECT * FROM json_to_recordset(CAST(:rows AS json)) AS lost ({types})
    ), claimed AS (
        INSERT INTO claims ({scope}, idempotency_key, transaction_id, request_digest, expires_at)
        SELECT {scope}, idempotency_key, transaction_id, request_digest, clock_timestamp() FROM lost
        WHERE idempotency_key IS NOT NULL ORDER BY {scope}, idempotency_key
        ON CONFLICT DO NOTHING
    )
    INSERT INTO {table} ({names})
    SELECT {values}
    FROM lost AS decision ORDER BY decision.transaction_id
    ON CONFLICT DO NOTHING
"""
_CLAIM = """
    INSERT INTO claims ({scope}, idempotency_key, transaction_id, request_digest, expires_at)
    SELECT scope, key, transaction_id, digest, clock_timestamp() + make_interval(secs => :claim_seconds)
    FROM json_to_recordset(CAST(:rows AS json)) AS claim (scope {scope_type}, key text, transaction_id uuid, digest text)
    ORDER BY scope, key
    ON CONFLICT DO NOTHING
    RETURNING transaction_id::text
"""
_LOOK = """
    WITH forced AS MATERIALIZED (SELECT pg_logical_emit_message(true, 'two_phase', ''))
    SELECT wanted.transaction_id::text AS wanted, claims.transaction_id::text AS holder, claims.request_digest AS digest,
           claims.attempts, attempt.status AS holder_status, answer.transaction_id::text AS answer,
           -- What runs out later than anything claimed now was claimed by a clock that was ahead.
           claims.expires_at <= clock_timestamp()
               OR claims.expires_at > clock_timestamp() + make_interval(secs => :claim_seconds) AS expired
    FROM forced, json_to_recordset(CAST(:rows AS json)) AS wanted (scope {scope_type}, key text, transaction_id uuid)
    JOIN claims ON claims.{scope} = wanted.scope AND claims.idempotency_key = wanted.key
    LEFT JOIN {table} AS attempt ON attempt.transaction_id = claims.transaction_id
    LEFT JOIN {table} AS answer ON answer.{scope} = wanted.scope AND answer.idempotency_key = wanted.key
"""
_TAKE_OVER = """
    UPDATE claims SET transaction_id = CAST(:transaction_id AS uuid), attempts = attempts || CAST(:holder AS text),
           expires_at = clock_timestamp() + make_interval(secs => :claim_seconds)
    WHERE {scope} = :scope AND idempotency_key = :key AND transaction_id = CAST(:holder AS uuid)
    RETURNING attempts
"""
_RELEASE = """
    UPDATE claims SET expires_at = clock_timestamp()
    WHERE {scope} = :scope AND idempotency_key = :key AND transaction_id = CAST(:transaction_id AS uuid)
"""

# These are about the log's own tables alone.
STATUS = text("""
    SELECT generation, (SELECT CAST(sum(written) AS bigint) FROM log_counters),
           (SELECT coalesce(jsonb_object_agg(participant, counter), '{}') FROM (
                SELECT key AS participant, max(CAST(value AS bigint)) AS counter
                FROM log_counters, jsonb_each_text(heard) GROUP BY key) AS highest),
           (SELECT coalesce(jsonb_agg(participant), '[]') FROM restored_participants)
    FROM log_state
""")
WRITTEN = text("""
    WITH forced AS MATERIALIZED (SELECT pg_logical_emit_message(true, 'two_phase', ''))
    SELECT CAST(sum(written) AS bigint) FROM forced, log_counters
""")
NOTE = text("""
    WITH noted AS (
        INSERT INTO restored_participants (participant)
        SELECT :name WHERE :name <> 'log' OR (SELECT sum(written) FROM log_counters) < :seen
        ON CONFLICT DO NOTHING
    )
    UPDATE log_counters SET heard = heard || jsonb_build_object(CAST(:name AS text), CAST(:seen AS bigint))
    WHERE slot = 0 AND coalesce(CAST(heard->>CAST(:name AS text) AS bigint), 0) < :seen
""")
GENERATION = text("SELECT generation FROM log_state")
RESUME = text("""
    WITH now AS MATERIALIZED (SELECT CAST(sum(written) AS bigint) AS written FROM log_counters), raised AS (
        UPDATE log_state SET generation = generation + 1 WHERE (SELECT written FROM now) < :log_counter
    ), lifted AS (
        UPDATE log_counters SET written = written + :log_counter - (SELECT written FROM now)
        WHERE slot = 0 AND (SELECT written FROM now) < :log_counter
    )
    DELETE FROM restored_participants WHERE participant = ANY (CAST(:reconciled AS text[]))
""")


class LogStatements:
    """The SQL over the application's ``table``, whose column ``scope`` bounds its keys.

    Share one among all that work on the table: a connection plans the hot ones once for each.
    """

    def __init__(self, table: Any, *, scope: str) -> None:
        mapped: Table = getattr(table, "__table__", table)
        columns = [each for each in mapped.columns if each.name not in _NOT_WRITTEN]
        words = {
            "table": _QUOTED.format_table(mapped),
            "names": ", ".join(_QUOTED.quote(each.name) for each in columns),
            "values": ", ".join(map(_value, columns)),
            "types": ", ".join(f"{_QUOTED.quote(each.name)} {_type(each)}" for each in columns),
            "scope": _QUOTED.quote(scope),
            "scope_type": _type(mapped.columns[scope]),
        }
        # Every transaction needs these two, and PostgreSQL plans them longer than it executes them.
        self.decide = Planned(_DECIDE.format_map(words))
        self.claim = Planned(_CLAIM.format_map(words))
        self.found = text(_FOUND.format_map(words))
        self.peek = text(_PEEK.format_map(words))
        self.one = text(_ONE.format_map(words))
        self.decisions = text(_DECISIONS.format_map(words))
        self.rebuild = text(_REBUILD.format_map(words))
        self.look = text(_LOOK.format_map(words))
        self.take_over = text(_TAKE_OVER.format_map(words))
        self.release = text(_RELEASE.format_map(words))


def tombstone(row: Mapping[str, Any]) -> Row:
    """Return the row of a cancelled transaction of which only ``row`` is known."""
    return {
        "transaction_id": row["transaction_id"],
        "generation": row["generation"],
        "status": Decision.CANCELLED,
        "idempotency_key": None,
    }


def _type(column: Column[Any]) -> str:
    return str(column.type.compile(_DIALECT)).lower()


def _value(column: Column[Any]) -> str:
    """Return what is inserted: the row's value, or the default of a column that needs one."""
    value = f"decision.{_QUOTED.quote(column.name)}"
    default: Any = column.server_default
    if column.nullable or default is None:
        return value
    constant = getattr(default.arg, "text", None) or f"'{default.arg}'"
    return f"coalesce({value}, {constant})"
