"""Participants that each break one rule about what comes over the wire, or about a restart."""

import contextlib
import json
from typing import Any

import httpx

from conformance.in_memory import KEY, Malformed, MemoryParticipant
from two_phase.messages import ROUND_BYTES_MAX, Ballot, Round, State


class IsPoisoned(MemoryParticipant):
    """One payload that it cannot process breaks the round."""

    def prepare_all(self, message: Round, ballot: Ballot) -> None:
        """Refuse everything."""
        if any(
            self.blocking_reason(prepare.payload) == "not_accepted"
            for prepare in message.prepares[1:]
        ):
            raise Malformed
        super().prepare_all(message, ballot)


class DoesWhatItUnderstands(MemoryParticipant):
    """It applies the aborts before it reads the rest of a round."""

    def parsed(self, body: bytes) -> Round:
        """Abort at once, then complain."""
        with contextlib.suppress(ValueError, AttributeError, KeyError, TypeError):
            message = json.loads(body)
            whole = (
                message["version"] == 1
                and "colour" not in str(message)
                and len(body) < ROUND_BYTES_MAX // 1000
            )
            for each in message["aborts"] if whole else []:
                self.abort(each, 1, Ballot())
        return super().parsed(body)


class SpeaksAnyVersion(MemoryParticipant):
    """It does not look at the version."""

    def parsed(self, body: bytes) -> Round:
        """Take every version for its own."""
        if len(body) <= ROUND_BYTES_MAX:
            body = (
                Round.model_validate_json(body)
                .model_copy(update={"version": 1})
                .model_dump_json()
                .encode()
            )
        return super().parsed(body)


class SkipsUnknownMembers(MemoryParticipant):
    """It drops what it does not know."""

    def parsed(self, body: bytes) -> Round:
        """Keep the members that it knows."""
        message: Any = json.loads(body)
        if isinstance(message, dict) and message.pop("colour", None):
            body = json.dumps(message).encode()
        return super().parsed(body)


class TakesAnySize(MemoryParticipant):
    """It has no limit for a body."""

    def parsed(self, body: bytes) -> Round:
        """Read it all."""
        return super().parsed(body.strip())


class AsksForNoKey(MemoryParticipant):
    """It checks a key only if there is one."""

    def knows(self, authorization: str) -> bool:
        """Let in who says nothing."""
        return not authorization or super().knows(authorization)


class ComparesBeginnings(MemoryParticipant):
    """It lets in whoever begins with the key."""

    def knows(self, authorization: str) -> bool:
        """Compare carelessly."""
        return authorization.startswith(f"Bearer {KEY}")


class ListsEverything(MemoryParticipant):
    """Its list of prepared branches does not look at the state."""

    def listed(self, query: httpx.QueryParams) -> list[dict[str, Any]]:
        """List them all as prepared."""
        states = [super(ListsEverything, self).listed(query.set("state", state)) for state in State]
        return [{**item, "state": "prepared"} for items in states for item in items]


class ForgetsOnRestart(MemoryParticipant):
    """It keeps its branches in memory, and its units on disk."""

    def restart(self) -> None:
        """Come back with what was free, and nothing else."""
        self.branches.clear()


class AbortsOnRestart(MemoryParticipant):
    """It takes what it finds prepared at its start for rubbish."""

    def restart(self) -> None:
        """Clean up."""
        for branch in self.branches.values():
            if branch.state is State.PREPARED:
                self.give_back(branch)
