"""Idempotency keys: who may answer for a key, so that the same request gets the same answer (R11).

A claim is written, and flushed, before its order's first round leaves. Whoever finds the key
claimed answers with the final order that holds it; or waits while its transaction is under way; or,
when that transaction's patience is over, fences it by the same insert that recovery uses, obeys
what it finds, and takes the claim over.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json
from sqlalchemy import Connection, text

from order_service.decision_log import SqlDecisionLog
from two_phase import crash_points
from two_phase.coordinator.group_commit import GroupCommit
from two_phase.messages import Decision, InDoubt, TransactionId
from two_phase.sql import Planned

#: Earlier attempts that a transaction carries along; older ones have long been resolved by
#: recovery.
ATTEMPTS_MAX = 16
_BATCH = 256

_CLAIM = Planned("""
    INSERT INTO claims (user_id, idempotency_key, transaction_id, request_digest, expires_at)
    SELECT user_id, key, transaction_id, digest, clock_timestamp() + make_interval(secs => :claim_seconds)
    FROM json_to_recordset(CAST(:rows AS json)) AS claim (user_id bigint, key text, transaction_id uuid, digest text)
    ORDER BY user_id, key
    ON CONFLICT DO NOTHING
    RETURNING transaction_id::text
""")
_LOOK = text("""
    WITH forced AS MATERIALIZED (SELECT pg_logical_emit_message(true, 'two_phase', ''))
    SELECT wanted.transaction_id::text AS wanted, claims.transaction_id::text AS holder, claims.request_digest AS digest,
           claims.attempts, attempt.status AS holder_status, answer.transaction_id::text AS answer,
           -- What runs out later than anything claimed now was claimed by a clock that was ahead.
           claims.expires_at <= clock_timestamp()
               OR claims.expires_at > clock_timestamp() + make_interval(secs => :claim_seconds) AS expired
    FROM forced, json_to_recordset(CAST(:rows AS json)) AS wanted (user_id bigint, key text, transaction_id uuid)
    JOIN claims ON claims.user_id = wanted.user_id AND claims.idempotency_key = wanted.key
    LEFT JOIN orders AS attempt ON attempt.transaction_id = claims.transaction_id
    LEFT JOIN orders AS answer ON answer.user_id = wanted.user_id AND answer.idempotency_key = wanted.key
""")
_TAKE_OVER = text("""
    UPDATE claims SET transaction_id = CAST(:transaction_id AS uuid), attempts = attempts || CAST(:holder AS text),
           expires_at = clock_timestamp() + make_interval(secs => :claim_seconds)
    WHERE user_id = :user_id AND idempotency_key = :key AND transaction_id = CAST(:holder AS uuid)
    RETURNING attempts
""")
_GENERATION = text("SELECT generation FROM log_state")
_RELEASE = text("""
    UPDATE claims SET expires_at = clock_timestamp()
    WHERE user_id = :user_id AND idempotency_key = :key AND transaction_id = CAST(:transaction_id AS uuid)
""")


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """A request with a key: ``transaction_id`` is the transaction that is to answer it, ``digest`` stands for its body."""

    user_id: int
    key: str
    digest: str
    transaction_id: TransactionId


@dataclass(frozen=True, slots=True)
class Claimed:
    """The key is ours; the participants abort ``instead_of`` before they take anything for us."""

    instead_of: tuple[TransactionId, ...] = ()


@dataclass(frozen=True, slots=True)
class Answered:
    """The key has its final answer: this order."""

    order_id: TransactionId


class Busy:
    """Another transaction works on the key and may still answer it."""


class Reused:
    """The key was used before, for another request."""


ClaimResult = Claimed | Answered | Busy | Reused


def digest_of(request: Any) -> str:
    """Return a digest of a JSON-like request: equal for equal requests."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


class Claims:
    """The claims of all replicas; calls that arrive together share one forced write."""

    def __init__(self, decision_log: SqlDecisionLog, *, claim_seconds: float) -> None:
        self._log = decision_log
        self._claim_seconds = claim_seconds
        self.claim = GroupCommit(self._claim, _BATCH)

    async def _claim(self, key_request: Sequence[KeyRequest]) -> Sequence[ClaimResult]:
        claim_results = await self._log.run(
            lambda connection: self._claimed(connection, key_request)
        )
        crash_points.reach("claim_durable")
        return claim_results

    async def move(self, key_request: KeyRequest, successor: TransactionId) -> bool:
        """Hand a claim of ours on to the next attempt.

        False if somebody has taken it over meanwhile.
        """
        moved = await self._log.run(
            lambda connection: self._taken_over(
                connection, key_request, successor, key_request.transaction_id
            )
        )
        return moved is not None

    async def release(self, key_request: KeyRequest) -> None:
        """Let the next request with this key take over at once, because nothing will come of ours."""
        parameters = {
            "user_id": key_request.user_id,
            "key": key_request.key,
            "transaction_id": key_request.transaction_id,
        }
        await self._log.run(lambda connection: connection.execute(_RELEASE, parameters))

    def _claimed(
        self, connection: Connection, key_request: Sequence[KeyRequest]
    ) -> list[ClaimResult]:
        rows = to_json([_row(each) for each in key_request]).decode()
        ours = {
            row[0]
            for row in _CLAIM.rows(connection, {"rows": rows, "claim_seconds": self._claim_seconds})
        }
        others = [each for each in key_request if each.transaction_id not in ours]
        found = {}
        if others:
            asked = {
                "rows": to_json([_row(each) for each in others]).decode(),
                "claim_seconds": self._claim_seconds,
            }
            looked = connection.execute(_LOOK, asked)
            found = {row.wanted: row for row in looked}
        return [
            Claimed()
            if each.transaction_id in ours
            else self._claim_result(connection, each, found.get(each.transaction_id))
            for each in key_request
        ]

    def _claim_result(
        self, connection: Connection, key_request: KeyRequest, found: Any
    ) -> ClaimResult:
        if found is None:
            return Busy()
        if found.digest != key_request.digest:
            return Reused()
        if found.answer is not None:
            return Answered(found.answer)
        if not found.expired and found.holder_status is None:
            return Busy()
        return self._take_over(connection, key_request, found.holder)

    def _take_over(
        self, connection: Connection, key_request: KeyRequest, holder: TransactionId
    ) -> ClaimResult:
        generation = int(connection.execute(_GENERATION).scalar_one())
        fenced = self._log.ask(connection, [InDoubt(transaction_id=holder, generation=generation)])
        if fenced.get(holder) is Decision.CONFIRMED:
            return Answered(holder)
        if holder not in fenced:
            return Busy()
        attempts = self._taken_over(connection, key_request, key_request.transaction_id, holder)
        return Busy() if attempts is None else Claimed(tuple(attempts[-ATTEMPTS_MAX:]))

    def _taken_over(
        self,
        connection: Connection,
        key_request: KeyRequest,
        successor: TransactionId,
        holder: TransactionId,
    ) -> list[TransactionId] | None:
        parameters = {
            "transaction_id": successor,
            "holder": holder,
            "user_id": key_request.user_id,
            "key": key_request.key,
            "claim_seconds": self._claim_seconds,
        }
        return connection.execute(_TAKE_OVER, parameters).scalar_one_or_none()


def _row(key_request: KeyRequest) -> dict[str, Any]:
    return {
        "user_id": key_request.user_id,
        "key": key_request.key,
        "transaction_id": key_request.transaction_id,
        "digest": key_request.digest,
    }
