"""A participant in memory behind a RemoteParticipant, and what both are given."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from two_phase.coordinator.remote_participant import RemoteParticipant
from two_phase.errors import Unavailable
from two_phase.messages import (
    Ballot,
    LogPosition,
    Prepare,
    Round,
    TransactionId,
    Vote,
)


def identity(number: int) -> TransactionId:
    """Return an id."""
    return f"00000000-0000-7000-8000-{number:012x}"


FIRST, SECOND = identity(1), identity(2)


POSITION = LogPosition(7, 40)


PREPARE = Prepare(transaction_id=SECOND, payload={})


class Participant:
    """Acknowledges everything and votes yes, unless it is told to be silent."""

    def __init__(self) -> None:
        self.rounds: list[Round] = []
        self.answers: list[Ballot | None] = []
        self.free = asyncio.Event()
        self.free.set()

    async def send(self, message: Round) -> Ballot:
        """Return a ballot; the next of ``answers``, or all that was asked for."""
        self.rounds.append(message)
        await self.free.wait()
        answer = self.answers.pop(0) if self.answers else self._all(message)
        if answer is None:
            raise Unavailable("silent")
        return answer

    def _all(self, message: Round) -> Ballot:
        votes = [
            Vote(transaction_id=each.transaction_id, prepared=True) for each in message.prepares
        ]
        return Ballot(votes=votes, acknowledged=[*message.aborts, *message.commits])


@asynccontextmanager
async def delivering(remote: RemoteParticipant) -> AsyncIterator[None]:
    """Let the remote deliver what no round of prepares carries."""
    task = asyncio.create_task(remote.deliver(lambda: POSITION, lambda: False))
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def until(condition: object) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(5):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.001)
