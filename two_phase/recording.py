"""What a participant writes down of a verdict: all that is needed to say it again, to commit it, or to give it back."""

from pydantic_core import to_json

from two_phase.branches import Branch
from two_phase.protocol import Prepare, Refused, State, Taken


def branch_of(prepare: Prepare, generation: int, verdict: Taken | Refused) -> Branch:
    """Return the branch that a verdict on a prepare leaves."""
    if isinstance(verdict, Refused):
        return refusal_of(prepare, generation, verdict)
    payload = to_json(prepare.payload).decode()
    return Branch(prepare.transaction_id, State.PREPARED, generation, payload, verdict.facts, memo=_memo(prepare))


def _memo(prepare: Prepare) -> str | None:
    return None if prepare.memo is None else to_json(prepare.memo).decode()


def refusal_of(prepare: Prepare, generation: int, refusal: Refused) -> Branch:
    """Return the branch that a refusal leaves, so that it can be repeated."""
    return Branch(
        prepare.transaction_id,
        State.ABORTED,
        generation,
        to_json(prepare.payload).decode(),
        refusal.facts,
        refusal.reason,
        refusal.detail,
        refusal.contended,
        _memo(prepare),
    )
