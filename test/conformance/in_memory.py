"""A correct participant in memory, as small as the wire protocol allows.

The broken ones change one method of it each.

It owns a number of units, and knows nothing of `two_phase` but the shape of the messages.
"""

import hmac
import json
from contextlib import AbstractContextManager
from dataclasses import dataclass
from threading import Lock
from typing import Any

import httpx

from two_phase.messages import (
    MAX_INTEGER,
    PROTOCOL_VERSION,
    ROUND_BYTES_MAX,
    Ballot,
    Prepare,
    Round,
    State,
    Violation,
    Vote,
)

KEY = "a key of this test, shared by both sides"
UNITS = 20


@dataclass
class Branch:
    """What is held for one transaction; an abort that came first leaves one without a payload."""

    state: State
    generation: int
    payload: dict[str, Any] | None
    vote: Vote


class Malformed(Exception):
    """Not a round of ours."""


class MemoryParticipant:
    """A participant that lives as long as the test; its memory is its disk."""

    def __init__(self) -> None:
        self.free = UNITS
        self.branches: dict[str, Branch] = {}
        self.lock: AbstractContextManager[object] = Lock()

    def answer(self, request: httpx.Request) -> httpx.Response:
        """Answer like a server."""
        if not self.knows(request.headers.get("Authorization", "")):
            return httpx.Response(401)
        with self.lock:
            if request.method == "GET":
                return httpx.Response(200, json={"items": self.listed(request.url.params)})
            try:
                return httpx.Response(
                    200, text=self.written(self.round(self.parsed(request.content)))
                )
            except (Malformed, ValueError):
                return httpx.Response(400)

    def knows(self, authorization: str) -> bool:
        """Return whether the caller has the key."""
        return hmac.compare_digest(authorization.encode(), f"Bearer {KEY}".encode())

    def parsed(self, body: bytes) -> Round:
        """Return the message; raises Malformed, or pydantic's ValueError."""
        if len(body) > ROUND_BYTES_MAX:
            raise Malformed
        message = Round.model_validate_json(body)
        if message.version != PROTOCOL_VERSION:
            raise Malformed
        return message

    def written(self, ballot: Ballot) -> str:
        """Return the ballot as it travels."""
        return ballot.model_dump_json(exclude={"counter", "log_seen"})

    def listed(self, query: httpx.QueryParams) -> list[dict[str, Any]]:
        """Return the branches asked for."""
        return [
            {
                "transaction_id": each,
                "state": branch.state,
                "generation": branch.generation,
                "payload": branch.payload,
            }
            for each, branch in sorted(self.branches.items())
            if each > query["after"] and branch.state == query["state"]
        ]

    def restart(self) -> None:
        """Stop and come back."""

    def round(self, message: Round) -> Ballot:
        """Apply a round."""
        ballot = Ballot()
        self.abort_all(message, ballot)
        for each in dict.fromkeys(message.commits):
            self.commit(each, ballot)
        self.prepare_all(message, ballot)
        return ballot

    def abort_all(self, message: Round, ballot: Ballot) -> None:
        """Apply all that counts as an abort."""
        earlier = [each for prepare in message.prepares for each in self.earlier(prepare)]
        for each in dict.fromkeys([*message.aborts, *earlier]):
            self.abort(each, message.generation, ballot)

    def earlier(self, prepare: Prepare) -> list[str]:
        """Return which transactions are to be aborted for this one."""
        return prepare.instead_of

    def abort(self, transaction_id: str, generation: int, ballot: Ballot) -> None:
        """Give back, once."""
        branch = self.branches.get(transaction_id)
        if branch is None:
            self.remember_early_abort(transaction_id, generation)
        elif branch.state is State.COMMITTED:
            self.contradict_abort(transaction_id, ballot)
            return
        elif branch.state is State.PREPARED:
            self.give_back(branch)
        ballot.acknowledged.append(transaction_id)

    def remember_early_abort(self, transaction_id: str, generation: int) -> None:
        """Make a later prepare refuse."""
        vote = Vote(transaction_id=transaction_id, prepared=False, reason="aborted")
        self.branches[transaction_id] = Branch(State.ABORTED, generation, None, vote)

    def contradict_abort(self, transaction_id: str, ballot: Ballot) -> None:
        """Refuse to abort what is committed."""
        ballot.violations.append(Violation(transaction_id=transaction_id, detail="it is committed"))

    def give_back(self, branch: Branch) -> None:
        """Undo what a prepare has taken."""
        assert branch.payload
        self.free += branch.payload["units"]
        branch.state = State.ABORTED
        branch.vote = Vote(
            transaction_id=branch.vote.transaction_id, prepared=False, reason="aborted"
        )

    def commit(self, transaction_id: str, ballot: Ballot) -> None:
        """Keep what was taken."""
        branch = self.branches.get(transaction_id)
        if branch is None:
            self.contradict_commit(transaction_id, ballot)
        elif branch.state is State.ABORTED:
            self.contradict_commit_of_aborted(transaction_id, ballot)
        else:
            branch.state = State.COMMITTED
            ballot.acknowledged.append(transaction_id)

    def contradict_commit(self, transaction_id: str, ballot: Ballot) -> None:
        """Refuse to commit what was never prepared."""
        ballot.violations.append(
            Violation(transaction_id=transaction_id, detail="it is not prepared")
        )

    def contradict_commit_of_aborted(self, transaction_id: str, ballot: Ballot) -> None:
        """Refuse to commit what was given back."""
        self.contradict_commit(transaction_id, ballot)

    def prepare_all(self, message: Round, ballot: Ballot) -> None:
        """Vote on each prepare, in the order of arrival."""
        for prepare in message.prepares:
            branch = self.branches.get(prepare.transaction_id)
            if branch is None:
                ballot.votes.append(self.prepare(prepare, message.generation))
            elif branch.payload is not None and json.dumps(branch.payload) != json.dumps(
                prepare.payload
            ):
                self.contradict_prepare(prepare, branch, ballot)
            else:
                ballot.votes.append(self.repeated(branch))

    def prepare(self, prepare: Prepare, generation: int) -> Vote:
        """Take what is asked for, or refuse; keep the vote."""
        reason = self.blocking_reason(prepare.payload)
        vote = Vote(transaction_id=prepare.transaction_id, prepared=reason is None, reason=reason)
        state = State.ABORTED if reason else State.PREPARED
        self.free -= 0 if reason else prepare.payload["units"]
        self.branches[prepare.transaction_id] = Branch(state, generation, prepare.payload, vote)
        return vote

    def blocking_reason(self, payload: dict[str, Any]) -> str | None:
        """Return why not, if so."""
        units = payload.get("units")
        if payload.keys() != {"units"} or type(units) is not int or not 1 <= units <= MAX_INTEGER:
            return "not_accepted"
        return None if units <= self.free else "too_few"

    def repeated(self, branch: Branch) -> Vote:
        """Return the vote that was given."""
        return branch.vote

    def contradict_prepare(self, prepare: Prepare, branch: Branch, ballot: Ballot) -> None:
        """Refuse another payload."""
        assert branch
        ballot.violations.append(
            Violation(transaction_id=prepare.transaction_id, detail="it had another payload")
        )
