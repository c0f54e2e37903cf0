"""order_service's database in memory.

Each SQL statement of the decision log and of the claims, by its meaning.

The code around the statements is the real one. A statement takes time, and while it does it holds
its rows: another one that wants to insert the same row waits, as in PostgreSQL. What happens to it
is a matter of fate: it may fail before, after, or long in flight.
"""

import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from order_service import orders
from order_service.models import LOG as STATEMENTS
from simulation.disk import Disk, LocalTransaction
from simulation.sessions import Rows, failure
from simulation.statements import LOCK_TIMEOUT_SECONDS, SimulatedServer
from two_phase.coordinator import log_statements
from two_phase.coordinator.decision_log import LOG

CHECK_VIOLATION = "23514"


class LogDatabase(SimulatedServer):
    """Answers the statements of the decision log, of the claims, and of one page."""

    def __init__(self, disk: Disk, *arguments: Any) -> None:
        super().__init__(disk, *arguments)
        disk.tables["log_state"].update(generation=1, counters=(0, {}))
        self._writes |= {
            STATEMENTS.decide.call: self._decide,
            STATEMENTS.claim.call: self._claim,
            STATEMENTS.take_over.text: self._take_over,
            STATEMENTS.release.text: self._release,
            log_statements.NOTE.text: self._note,
        }
        self._reads |= {
            STATEMENTS.found.text: self._found,
            STATEMENTS.peek.text: self._peek,
            log_statements.STATUS.text: self._status,
            log_statements.WRITTEN.text: self._written,
            log_statements.GENERATION.text: self._generation,
            STATEMENTS.look.text: self._look,
            orders._ONE.text: self._one,
        }

    async def _decide(self, parameters: Mapping[str, Any], fault: str) -> Rows:
        rows = sorted(json.loads(parameters["rows"]), key=lambda row: row["transaction_id"])
        keys = [
            (row["user_id"], row["idempotency_key"])
            for row in rows
            if row["idempotency_key"] is not None
        ]
        ids = [row["transaction_id"] for row in rows]
        async with self._locked([*ids, *keys], fault, _seconds(parameters["lock_timeout"])):
            transaction = LocalTransaction(self.disk)
            counter, heard = transaction.get("log_state", "counters")
            if counter < parameters["known"] or LOG in self.disk.tables["restored"]:
                return Rows()
            generation = transaction.get("log_state", "generation")
            decided = [
                row
                for row in rows
                if row["generation"] == generation and self._insert(transaction, row)
            ]
            written = counter + 1 if decided and parameters["level"] == "on" else None
            if written:
                transaction.put(
                    "log_state",
                    "counters",
                    (written, _highest(heard, json.loads(parameters["heard"]))),
                )
            self._commit(transaction, fault, forced=parameters["level"] == "on")
            return Rows((row["transaction_id"], row["status"], written) for row in decided)

    def _insert(self, transaction: LocalTransaction, row: dict[str, Any]) -> bool:
        key = None if row["idempotency_key"] is None else (row["user_id"], row["idempotency_key"])
        if transaction.get("orders", row["transaction_id"]) is not None:
            return False
        if key is not None and transaction.get("keys", key) is not None:
            return False
        self._check(row)
        transaction.put("orders", row["transaction_id"], row)
        if key is not None:
            transaction.put("keys", key, row["transaction_id"])
        return True

    def insert_again(self, transaction: LocalTransaction, row: dict[str, Any]) -> None:
        """Write a row that was lost, and the claim on its key."""
        key = (row.get("user_id"), row["idempotency_key"])
        if row["idempotency_key"] is not None and transaction.get("claims", key) is None:
            claim = _Claim(row["transaction_id"], row["request_digest"], (), self._clock())
            transaction.put("claims", key, claim)
        self._insert(transaction, row)

    def _check(self, row: Mapping[str, Any]) -> None:
        complete = all(
            row.get(column) is not None
            for column in ("user_id", "slot_id", "items", "total", "courier")
        )
        if row["status"] == "confirmed" and (not complete or row["refusals"]):
            self._refuse("confirmed_order_is_complete", row)
        if (
            row["idempotency_key"] is not None
            and row["status"] == "cancelled"
            and not row["refusals"]
        ):
            self._refuse("only_final_answers_hold_a_key", row)

    def _refuse(self, constraint: str, row: Mapping[str, Any]) -> None:
        """Refuse what no correct code ever writes."""
        self._broke(constraint, str(row))
        raise failure(CHECK_VIOLATION)

    def _found(self, parameters: Mapping[str, Any]) -> Rows:
        rows = self._peek(parameters)
        self.disk.flush()
        return rows

    def _peek(self, parameters: Mapping[str, Any]) -> Rows:
        ids = parameters["ids"].strip("{}").split(",")
        known = self.disk.tables["orders"]
        return Rows((each, known[each]["status"]) for each in ids if each in known)

    def _generation(self, _parameters: Mapping[str, Any]) -> Rows:
        return Rows([(self.disk.tables["log_state"]["generation"],)])

    def _status(self, _parameters: Mapping[str, Any]) -> Rows:
        state = self.disk.tables["log_state"]
        return Rows([(state["generation"], *state["counters"], list(self.disk.tables["restored"]))])

    def _written(self, _parameters: Mapping[str, Any]) -> Rows:
        self.disk.flush()
        return Rows([(self.disk.tables["log_state"]["counters"][0],)])

    async def _note(self, parameters: Mapping[str, Any], fault: str) -> Rows:
        name, seen = parameters["name"], parameters["seen"]
        async with self._locked([name], fault, LOCK_TIMEOUT_SECONDS):
            transaction = LocalTransaction(self.disk)
            written, heard = transaction.get("log_state", "counters")
            if name != LOG or written < seen:
                transaction.put("restored", name, True)
            transaction.put("log_state", "counters", (written, _highest(heard, {name: seen})))
            self._commit(transaction, fault, forced=True)
            return Rows()

    async def _claim(self, parameters: Mapping[str, Any], fault: str) -> Rows:
        rows = sorted(json.loads(parameters["rows"]), key=_key)
        async with self._locked(
            [("claim", *_key(row)) for row in rows], fault, LOCK_TIMEOUT_SECONDS
        ):
            transaction = LocalTransaction(self.disk)
            claimed = Rows()
            for row in rows:
                if transaction.get("claims", _key(row)) is None:
                    claim = _Claim(
                        row["transaction_id"], row["digest"], (), self._expiry(parameters)
                    )
                    transaction.put("claims", _key(row), claim)
                    claimed.append((row["transaction_id"],))
            self._commit(transaction, fault, forced=True)
            return claimed

    def _expiry(self, parameters: Mapping[str, Any]) -> float:
        return self._clock() + float(parameters["claim_seconds"])

    def _clock(self) -> float:
        return self._loop.now + self.disk.clock_ahead_seconds

    def _look(self, parameters: Mapping[str, Any]) -> Rows:
        known = [
            row for row in json.loads(parameters["rows"]) if _key(row) in self.disk.tables["claims"]
        ]
        looked = Rows(self._looked(row, self._expiry(parameters)) for row in known)
        self.disk.flush()
        return looked

    def _looked(self, row: Mapping[str, Any], latest: float) -> SimpleNamespace:
        tables, claim = self.disk.tables, self.disk.tables["claims"][_key(row)]
        return SimpleNamespace(
            wanted=row["transaction_id"],
            holder=claim.transaction_id,
            digest=claim.digest,
            attempts=list(claim.attempts),
            expired=not self._clock() < claim.expires_at <= latest,
            holder_status=tables["orders"].get(claim.transaction_id, {}).get("status"),
            answer=tables["keys"].get(_key(row)),
        )

    async def _take_over(self, parameters: Mapping[str, Any], fault: str) -> Rows:
        key = (parameters["scope"], parameters["key"])
        async with self._locked([("claim", *key)], fault, LOCK_TIMEOUT_SECONDS):
            transaction = LocalTransaction(self.disk)
            claim, holder = transaction.get("claims", key), parameters["holder"]
            if claim is None or claim.transaction_id != holder:
                return Rows()
            attempts = (*claim.attempts, holder)
            taken = _Claim(
                parameters["transaction_id"], claim.digest, attempts, self._expiry(parameters)
            )
            transaction.put("claims", key, taken)
            self._commit(transaction, fault, forced=True)
            return Rows([(list(attempts),)])

    async def _release(self, parameters: Mapping[str, Any], fault: str) -> Rows:
        key = (parameters["scope"], parameters["key"])
        async with self._locked([("claim", *key)], fault, LOCK_TIMEOUT_SECONDS):
            transaction = LocalTransaction(self.disk)
            claim = transaction.get("claims", key)
            if claim is not None and claim.transaction_id == parameters["transaction_id"]:
                released = _Claim(claim.transaction_id, claim.digest, claim.attempts, self._clock())
                transaction.put("claims", key, released)
            self._commit(transaction, fault, forced=True)
            return Rows()

    def _one(self, parameters: Mapping[str, Any]) -> Rows:
        row = self.disk.tables["orders"].get(parameters["order_id"])
        return (
            Rows()
            if row is None
            else Rows([SimpleNamespace(order_id=row["transaction_id"], **_OF_NO_CUSTOMER | row)])
        )


_OF_NO_CUSTOMER = dict.fromkeys(("user_id", "slot_id", "items", "total", "courier"), None) | {
    "refusals": []
}


class _Claim(SimpleNamespace):
    def __init__(
        self, transaction_id: str, digest: str, attempts: tuple[str, ...], expires_at: float
    ) -> None:
        super().__init__(
            transaction_id=transaction_id, digest=digest, attempts=attempts, expires_at=expires_at
        )


def _highest(heard: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    return {name: max(heard.get(name, 0), more.get(name, 0)) for name in {*heard, *more}}


def _key(row: Mapping[str, Any]) -> tuple[int, str]:
    return row["scope"], row["key"]


def _seconds(interval: str) -> float:
    return float(interval[:-2]) / 1000 if interval.endswith("ms") else float(interval[:-1])
