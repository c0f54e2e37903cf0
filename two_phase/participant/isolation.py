"""A round that cannot be applied as a whole: one branch must not take the others down (R8).

What meets a locked row gets no answer and comes again; what fails alone is refused alone.
"""

import logging
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from two_phase import metrics
from two_phase.errors import Unavailable
from two_phase.messages import Ballot, Round
from two_phase.participant.branches import Locked

log = logging.getLogger(__name__)

#: So many pieces of a round may find a locked row, each after a short wait; what is left then gets
#: no answer.
LOCKED_MAX = 16

_KINDS = ("aborts", "commits", "prepares")


class Apply(Protocol):
    """Apply a round in one local transaction.

    If ``hurried``, wait for no row; if ``refusing``, refuse what is new without looking at it.
    """

    def __call__(self, message: Round, *, hurried: bool = False, refusing: bool = False) -> Ballot:
        """Return the ballot; raises what ``BranchStore.begin`` raises."""
        ...


def in_pieces(message: Round, failure: Exception, apply: Apply) -> Ballot:
    """Apply what can be applied of a round that has failed; return one ballot.

    Raises Unavailable.
    """
    if not any(getattr(message, kind) for kind in _KINDS):
        # A greeting that hears no counters takes us for one that does not count, for good (F21).
        raise Unavailable("the counters cannot be read") from failure
    if isinstance(failure, Locked):
        return _around_locks(message, apply)
    log.error(
        "a round broke and is tried again piece by piece",
        exc_info=failure,
        extra={"prepares": len(message.prepares)},
    )
    return _piece_by_piece(message, apply)


def _around_locks(message: Round, apply: Apply) -> Ballot:
    """Apply what touches no locked row; the rest gets no answer, and comes again."""
    waiting, parts, locked = deque(_halves(message)), list[tuple[Round, Ballot]](), 0
    while waiting and locked < LOCKED_MAX:
        piece = waiting.popleft()
        try:
            parts.append((piece, apply(piece, hurried=True)))
        except Locked:
            locked += 1
            waiting.extendleft(reversed(_halves(piece)))
        except Unavailable:
            raise
        except Exception:
            log.exception("a piece of a round broke")
            parts.append((piece, _piece_by_piece(piece, apply)))
    metrics.LOCKED.inc()
    ballot = _joined(message, parts)
    log.warning(
        "a row is locked by another session: what touches it gets no answer",
        extra={"prepares": len(message.prepares), "votes": len(ballot.votes)},
    )
    return ballot


def _piece_by_piece(message: Round, apply: Apply) -> Ballot:
    return _joined(message, [(piece, _alone(piece, apply)) for piece in _singles(message)])


def _alone(piece: Round, apply: Apply) -> Ballot:
    try:
        return apply(piece, hurried=True)
    except Locked:
        return Ballot()
    except Unavailable:
        raise
    except Exception:
        transactions = piece.model_dump(exclude={"prepares"})
        log.exception("a branch failed alone", extra={"transactions": transactions})
    if not piece.prepares:
        # A decision stays unacknowledged, and comes again.
        return Ballot()
    prepares = [each.model_copy(update={"instead_of": []}) for each in piece.prepares]
    try:
        return apply(piece.model_copy(update={"prepares": prepares}), refusing=True)
    except Locked as locked:
        raise Unavailable(str(locked)) from locked


def _singles(message: Round) -> list[Round]:
    """Return a round for each thing that ``message`` says, in its order."""
    return [
        _only(message, kind, slice(place, place + 1))
        for kind in _KINDS
        for place in range(len(getattr(message, kind)))
    ]


def _halves(message: Round) -> list[Round]:
    """Return rounds that say the same in this order: each kind alone, or halves, if any."""
    kinds = [kind for kind in _KINDS if getattr(message, kind)]
    if len(kinds) > 1:
        return [_only(message, kind, slice(None)) for kind in kinds]
    middle = len(getattr(message, kinds[0])) // 2 if kinds else 0
    parts = (slice(middle), slice(middle, None)) if middle else ()
    return [_only(message, kinds[0], part) for part in parts]


def _only(message: Round, kind: str, part: slice) -> Round:
    return message.model_copy(
        update={each: getattr(message, each)[part] if each == kind else [] for each in _KINDS}
    )


def _joined(message: Round, parts: Sequence[tuple[Round, Ballot]]) -> Ballot:
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
