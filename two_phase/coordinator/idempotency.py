"""Idempotency keys: which transaction may answer for a key, so that its answer stays (R11).

A claim is written, and flushed, before its transaction's first round leaves. A request that finds
its key claimed gets the answer of the final transaction that holds it; or waits while the claiming
one is under way; or, when that one's time is over, fences it by the same insert that recovery uses,
obeys what it finds, and takes the claim over.
"""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pydantic_core import to_json
from sqlalchemy import Connection

from two_phase import crash_points
from two_phase.coordinator.group_commit import GroupCommit
from two_phase.coordinator.log_statements import GENERATION
from two_phase.coordinator.sql_decision_log import SqlDecisionLog
from two_phase.errors import Unavailable
from two_phase.messages import Decision, InDoubt, TransactionId, new_transaction_id

A = TypeVar("A")

#: Earlier attempts that a transaction carries along; older ones have long been resolved by
#: recovery.
INSTEAD_OF_MAX = 16
_BATCH = 256
#: Pauses between two looks at a key that another process works on.
_POLL_SECONDS, _POLL_SECONDS_MAX = 0.05, 0.4


class KeyReused(Exception):
    """The key was used before, for another request."""


class KeyBusy(Unavailable):
    """Another request with this key is under way, and was not answered in time."""

    def __init__(self) -> None:
        super().__init__("another request with the same Idempotency-Key is under way")


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """A request with a key: ``transaction_id`` is to answer it, ``digest`` stands for its body.

    Equal keys are the same key only within one ``scope``.
    """

    scope: Any
    key: str
    digest: str
    transaction_id: TransactionId


@dataclass(frozen=True, slots=True)
class Claimed:
    """The key is ours; the participants abort ``instead_of`` before they take anything for us."""

    instead_of: tuple[TransactionId, ...] = ()


@dataclass(frozen=True, slots=True)
class Answered:
    """The key has its final answer: that of this transaction."""

    transaction_id: TransactionId


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
        self._statements = decision_log.statements
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

        Return False if another request has taken it over meanwhile.
        """
        moved = await self._log.run(
            lambda connection: self._taken_over(
                connection, key_request, successor, key_request.transaction_id
            )
        )
        return moved is not None

    async def release(self, key_request: KeyRequest) -> None:
        """Let the next request with this key take over at once: nothing will come of ours."""
        parameters = {
            "scope": key_request.scope,
            "key": key_request.key,
            "transaction_id": key_request.transaction_id,
        }
        await self._log.run(
            lambda connection: connection.execute(self._statements.release, parameters)
        )

    def _claimed(
        self, connection: Connection, key_request: Sequence[KeyRequest]
    ) -> list[ClaimResult]:
        rows = to_json([_row(each) for each in key_request]).decode()
        ours = {
            row[0]
            for row in self._statements.claim.rows(
                connection, {"rows": rows, "claim_seconds": self._claim_seconds}
            )
        }
        others = [each for each in key_request if each.transaction_id not in ours]
        found = {}
        if others:
            asked = {
                "rows": to_json([_row(each) for each in others]).decode(),
                "claim_seconds": self._claim_seconds,
            }
            looked = connection.execute(self._statements.look, asked)
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
        generation = int(connection.execute(GENERATION).scalar_one())
        fenced = self._log.ask(connection, [InDoubt(transaction_id=holder, generation=generation)])
        if fenced.get(holder) is Decision.CONFIRMED:
            return Answered(holder)
        if holder not in fenced:
            return Busy()
        attempts = self._taken_over(connection, key_request, key_request.transaction_id, holder)
        return Busy() if attempts is None else Claimed(tuple(attempts[-INSTEAD_OF_MAX:]))

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
            "scope": key_request.scope,
            "key": key_request.key,
            "claim_seconds": self._claim_seconds,
        }
        return connection.execute(self._statements.take_over, parameters).scalar_one_or_none()


def _row(key_request: KeyRequest) -> dict[str, Any]:
    return {
        "scope": key_request.scope,
        "key": key_request.key,
        "transaction_id": key_request.transaction_id,
        "digest": key_request.digest,
    }


class Keys:
    """Answers requests with a key: one at a time in this process, once for all replicas.

    Inside ``arriving`` the coordinator's next batch waits for the transaction that is to follow.
    """

    def __init__(
        self,
        claims: Claims,
        arriving: Callable[[], AbstractContextManager[None]],
        new_id: Callable[[], TransactionId] = new_transaction_id,
    ) -> None:
        self._claims = claims
        self._arriving = arriving
        self._new_id = new_id
        self._under_way: dict[tuple[Any, str], asyncio.Future[None]] = {}

    async def answer(
        self,
        request: KeyRequest,
        attempt: Callable[[KeyRequest, tuple[TransactionId, ...]], Awaitable[A | None]],
        deadline: float,
    ) -> A | Answered:
        """Return the answer of ``attempt``, or Answered if the key has one already.

        ``attempt`` is given the request and the earlier attempts to abort first, and returns None
        if it has lost the key. Raises KeyReused, and KeyBusy when the ``deadline`` of the event
        loop's clock has passed.
        """
        key = (request.scope, request.key)
        while earlier := self._under_way.get(key):
            await _until(deadline, asyncio.wait({earlier}))
        self._under_way[key] = asyncio.get_running_loop().create_future()
        try:
            return await self._alone(request, attempt, deadline)
        finally:
            self._under_way.pop(key).set_result(None)

    async def _alone(
        self,
        request: KeyRequest,
        attempt: Callable[[KeyRequest, tuple[TransactionId, ...]], Awaitable[A | None]],
        deadline: float,
    ) -> A | Answered:
        pause_seconds = _POLL_SECONDS
        while True:
            with self._arriving():
                claimed = await _until(deadline, self._claims.claim(request))
            match claimed:
                case Claimed(instead_of):
                    answer = await attempt(request, instead_of)
                    if answer is not None:
                        return answer
                    # The key was taken over, and the log has decided: a transaction of ours cannot
                    # be used again.
                    request = replace(request, transaction_id=self._new_id())
                case Answered():
                    return claimed
                case Reused():
                    raise KeyReused
                case Busy():
                    await _until(deadline, asyncio.sleep(pause_seconds))
                    pause_seconds = min(_POLL_SECONDS_MAX, pause_seconds * 2)

    async def move(
        self, request: KeyRequest, successor: TransactionId, deadline: float
    ) -> KeyRequest | None:
        """Hand the claim on to the next attempt; return its request, None if the key is lost."""
        if not await _until(deadline, self._claims.move(request, successor)):
            return None
        return replace(request, transaction_id=successor)

    async def release(self, request: KeyRequest) -> None:
        """Let the next request with this key take over at once."""
        await self._claims.release(request)


async def _until(deadline: float, waiting: Awaitable[A]) -> A:
    try:
        async with asyncio.timeout_at(deadline):
            return await waiting
    except TimeoutError:
        raise KeyBusy from None
