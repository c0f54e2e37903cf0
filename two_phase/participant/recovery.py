"""A participant's way out of doubt: it asks the coordinator, and never guesses (R2 and R10).

Recovery asks ``outcomes`` about branches that are in doubt for too long; the coordinator then
decides what was undecided. A read that meets a younger branch in doubt asks by ``peek``, which
never decides. Both apply the answer as a round of decisions.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

from two_phase import crash_points, metrics
from two_phase.errors import Unavailable
from two_phase.messages import InDoubt, Outcomes, Round
from two_phase.participant.branches import BEFORE_ALL
from two_phase.participant.participant import Participant

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Branches in one question, and questions in one recovery pass.
QUESTION_MAX = 500
QUESTIONS_PER_PASS = 40


class RemoteCoordinator(Protocol):
    """The coordinator, as a participant asks it about branches in doubt."""

    async def outcomes(self, transactions: Sequence[InDoubt], log_seen: int) -> Outcomes:
        """Return decisions, after deciding what was undecided; raises Unavailable."""

    async def peek(self, transactions: Sequence[InDoubt], log_seen: int) -> Outcomes:
        """Return the decisions that are recorded by now; raises Unavailable."""


#: Runs a blocking call without blocking the event loop.
Run = Callable[[Callable[[], T]], Awaitable[T]]


class Recovery:
    """Resolve the branches in doubt of one participant, side by side with its replicas."""

    def __init__(
        self,
        participant: Participant[Any, Any],
        coordinator: RemoteCoordinator,
        run: Run[Any] = asyncio.to_thread,
        *,
        in_doubt_after_seconds: float = 5.0,
        interval_seconds: float = 1.0,
    ) -> None:
        self._participant = participant
        self._store = participant.store
        self._coordinator = coordinator
        self._run = run
        self._in_doubt_after_seconds = in_doubt_after_seconds
        self._interval_seconds = interval_seconds

    async def run(self) -> None:
        """Make a recovery pass each interval, until cancelled; a failed one costs a log line."""
        while True:
            await asyncio.sleep(self._interval_seconds)
            try:
                await self.once()
            except Unavailable as failure:
                log.warning("branches stay in doubt", extra={"why": failure.detail})

    async def once(self) -> int:
        """Resolve what is in doubt for too long; return how many branches. Raises Unavailable."""
        resolved, after, seconds = 0, BEFORE_ALL, self._in_doubt_after_seconds
        for _ in range(QUESTIONS_PER_PASS):
            question = await self._run(partial(self._store.in_doubt, seconds, QUESTION_MAX, after))
            if not question:
                break
            # What has no answer yet may be more than one question holds.
            after = question[-1].transaction_id
            crash_points.reach("recovery_not_asked")
            outcomes = await self._coordinator.outcomes(question, await self._log_seen())
            crash_points.reach("recovery_answered")
            settled = await self._apply(_decided(question, outcomes))
            metrics.RECOVERED.inc(settled)
            resolved += settled
            if len(question) < QUESTION_MAX:
                break
        return resolved

    async def _log_seen(self) -> int:
        # A log that was restored behind this must not decide what it has forgotten.
        return int((await self._run(self._store.counters)).log_seen)

    async def peek(self, question: Sequence[InDoubt]) -> bool:
        """Apply what the coordinator has recorded about ``question``; return whether it has any.

        Raises Unavailable if it cannot be asked, or a decision cannot be applied.
        """
        any_decided = False
        for start in range(0, len(question), QUESTION_MAX):
            part = question[start : start + QUESTION_MAX]
            decided = _decided(part, await self._coordinator.peek(part, await self._log_seen()))
            if await self._apply(decided) < len(decided.aborts) + len(decided.commits):
                raise Unavailable("a decision could not be applied")
            any_decided = any_decided or bool(decided.aborts or decided.commits)
        return any_decided

    async def _apply(self, decided: Round) -> int:
        if not decided.commits and not decided.aborts:
            return 0
        ballot = await self._run(lambda: self._participant.round(decided))
        return len(ballot.acknowledged)


def _decided(question: Sequence[InDoubt], outcomes: Outcomes) -> Round:
    """Return the answer as a round of decisions, without what was not asked about."""
    asked = {each.transaction_id: each.generation for each in question}
    commits = [each for each in outcomes.confirmed if each in asked]
    aborts = [each for each in outcomes.cancelled if each in asked]
    return Round(generation=max(asked.values()), aborts=aborts, commits=commits)
