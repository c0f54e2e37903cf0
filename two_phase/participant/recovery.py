"""A participant's way out of doubt: it asks the coordinator, and never guesses (R2 and R10).

Recovery asks ``outcomes`` for branches that are in doubt for too long; the coordinator then decides
what was undecided. A read that meets a younger branch in doubt asks by ``peek``, which never
decides. Both apply what they hear by the same code as a round from the coordinator.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

from two_phase import crash_points, metrics
from two_phase.errors import Unavailable
from two_phase.messages import InDoubt, Outcomes, Round, TransactionId
from two_phase.participant.branches import BEFORE_ALL
from two_phase.participant.participant import Participant
from two_phase.participant.round_counter import Counters

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Branches asked about in one question; a recovery pass asks again until it has caught up, at most
#: so many times.
QUESTION_MAX = 500
QUESTIONS_PER_PASS = 40


class RemoteCoordinator(Protocol):
    """Whom a participant asks about its branches in doubt."""

    async def outcomes(self, transactions: Sequence[InDoubt], log_seen: int) -> Outcomes:
        """Return decisions, after deciding what was undecided; raises Unavailable."""
        ...

    async def peek(self, transactions: Sequence[InDoubt], log_seen: int) -> Outcomes:
        """Return the decisions that are recorded by now; raises Unavailable."""
        ...


#: Runs a blocking call without blocking the event loop.
Run = Callable[[Callable[[], T]], Awaitable[T]]


class Recovery:
    """Resolves the branches in doubt of one participant.

    Any number of replicas may recover at once.
    """

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
        self._coordinator = coordinator
        self._run = run
        self._in_doubt_after_seconds = in_doubt_after_seconds
        self._interval_seconds = interval_seconds

    async def run(self) -> None:
        """Recovery until cancelled; a coordinator that is away costs a log line, and the next recovery pass asks again."""
        while True:
            await asyncio.sleep(self._interval_seconds)
            try:
                await self.once()
            except Unavailable as failure:
                log.warning("branches stay in doubt", extra={"why": failure.detail})

    async def once(self) -> int:
        """Resolve what is in doubt for longer than the limit; return how many branches that were.

        Raises Unavailable.
        """
        resolved, after = 0, BEFORE_ALL
        for _ in range(QUESTIONS_PER_PASS):
            question = await self._question(after)
            if not question:
                break
            # Goes past what has no answer yet, which may be more than one question holds.
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

    async def _question(self, after: TransactionId) -> list[InDoubt]:
        found: list[InDoubt] = await self._run(
            lambda: self._participant.store.in_doubt(
                self._in_doubt_after_seconds, QUESTION_MAX, after
            )
        )
        return found

    async def _log_seen(self) -> int:
        """Return how far we have seen the log come, so that one that was restored does not decide what it has forgotten."""
        counters: Counters = await self._run(self._participant.store.counters)
        return counters.log_seen

    async def peek(self, question: Sequence[InDoubt]) -> bool:
        """Apply what the coordinator has recorded about ``question`` by now.

        Tell if that is anything.

        Raises Unavailable when it cannot be asked, or when what it has told cannot be applied: then
        nothing true can be shown.
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
    """Return what was heard as a round; what was not asked about is not heard."""
    asked = {each.transaction_id: each.generation for each in question}
    commits = [each for each in outcomes.confirmed if each in asked]
    aborts = [each for each in outcomes.cancelled if each in asked]
    return Round(generation=max(asked.values()), aborts=aborts, commits=commits)
