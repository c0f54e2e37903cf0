"""The ballot of a round in the making, and of a round that was taken apart because it cannot be applied as a whole (R8)."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from two_phase import metrics
from two_phase.messages import Ballot, Round, TransactionId, Violation, Vote
from two_phase.participant.round_counter import Counters

log = logging.getLogger(__name__)

_KINDS = ("aborts", "commits", "prepares")


@dataclass(slots=True)
class Answer:
    """A ballot in the making."""

    votes: list[Vote] = field(default_factory=list)
    acknowledged: list[TransactionId] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    counters: Counters | None = None

    def ballot(self) -> Ballot:
        """Return it as it is by now."""
        counters = self.counters
        return Ballot(
            counter=counters.counter if counters else None,
            log_seen=counters.log_seen if counters else 0,
            votes=self.votes,
            acknowledged=self.acknowledged,
            violations=self.violations,
        )

    def violation(self, transaction_id: TransactionId, detail: str) -> None:
        """Put down what will not be done, and call a human."""
        log.error("protocol violation: %s", detail, extra={"transaction_id": transaction_id})
        metrics.VIOLATIONS.inc()
        self.violations.append(Violation(transaction_id=transaction_id, detail=detail))


def singles(message: Round) -> list[Round]:
    """Return a round for each thing that ``message`` says, in its order."""
    return [
        _only(message, kind, slice(place, place + 1))
        for kind in _KINDS
        for place in range(len(getattr(message, kind)))
    ]


def halves(message: Round) -> list[Round]:
    """Return smaller rounds that say the same in the same order: each kind alone, or two halves.

    None if it says one thing.
    """
    kinds = [kind for kind in _KINDS if getattr(message, kind)]
    if len(kinds) > 1:
        return [_only(message, kind, slice(None)) for kind in kinds]
    count = len(getattr(message, kinds[0])) if kinds else 0
    return (
        []
        if count < 2  # noqa: PLR2004 - one thing has no halves
        else [
            _only(message, kinds[0], each) for each in (slice(count // 2), slice(count // 2, None))
        ]
    )


def _only(message: Round, kind: str, part: slice) -> Round:
    return message.model_copy(
        update={each: getattr(message, each)[part] if each == kind else [] for each in _KINDS}
    )


def joined(message: Round, parts: Sequence[tuple[Round, Ballot]]) -> Ballot:
    """Return one ballot for the pieces of ``message``."""
    ballots = [ballot for _, ballot in parts]
    # The first that was forced, if any should be: a restored participant must not pass by the
    # number of its pieces, nor a sound one fail by a commit, which is not counted.
    counting = [ballot.counter for piece, ballot in parts if piece.prepares or not message.prepares]
    return Ballot(
        counter=min((each for each in counting if each is not None), default=None),
        log_seen=max((ballot.log_seen for ballot in ballots), default=0),
        votes=[vote for ballot in ballots for vote in ballot.votes],
        acknowledged=[each for ballot in ballots for each in ballot.acknowledged],
        violations=[each for ballot in ballots for each in ballot.violations],
    )
