"""Decisions that were sent to the log and not answered: only the log knows of them (R3)."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from two_phase import metrics
from two_phase.coordinator.decision_log import LoggedDecision
from two_phase.messages import TransactionId

#: What the log says of each transaction that it was asked to write.
Records = Mapping[TransactionId, LoggedDecision]

#: Inserts of one batch that may wait for the log at a time: the first one, and its repetition.
ATTEMPTS_UNDER_WAY_MAX = 2
_PAUSE_SECONDS, _PAUSE_SECONDS_MAX = 0.05, 1.0


class Unanswered:
    """Repeats inserts until the log tells what became of them."""

    def __init__(self) -> None:
        #: Transactions whose fate is not known yet.
        self.transactions = 0

    async def answer(
        self,
        transactions: int,
        first: "asyncio.Future[Records]",
        repeat: "Callable[[], asyncio.Future[Records]]",
    ) -> Records:
        """Return the answer to an insert of ``transactions``, by the ``first`` attempt or another.

        The first one may hang for ever on a broken connection, so a second one is sent while it is
        still under way.
        """
        self._count(transactions)
        under_way = [first]
        pause_seconds = _PAUSE_SECONDS
        while True:
            done, _ = await asyncio.wait(
                under_way, timeout=pause_seconds, return_when=asyncio.FIRST_COMPLETED
            )
            answered = [each for each in under_way if each in done and each.exception() is None]
            under_way = [each for each in under_way if each not in done]
            if answered:
                break
            if done:
                await asyncio.sleep(pause_seconds)
            pause_seconds = min(_PAUSE_SECONDS_MAX, pause_seconds * 2)
            if len(under_way) < ATTEMPTS_UNDER_WAY_MAX:
                under_way.append(repeat())
        for attempt in under_way:
            attempt.add_done_callback(let_go)
        self._count(-transactions)
        return answered[0].result()

    def _count(self, transactions: int) -> None:
        self.transactions += transactions
        metrics.UNSURE.set(self.transactions)


def let_go(future: "asyncio.Future[Any]") -> None:
    """Look at a failure without a caller left, which asyncio would report as forgotten."""
    if not future.cancelled():
        future.exception()
