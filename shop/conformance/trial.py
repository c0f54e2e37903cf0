"""What every rule works with.

Prepares to send, rounds and their ballots, and a list of what must be given back in the end.
"""

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
from pydantic import ValidationError

from shop.conformance.wire import Broken, Exchange, NotTried, Wire
from two_phase.http.paths import BRANCHES_PATH
from two_phase.messages import (
    PROTOCOL_VERSION,
    Ballot,
    Prepare,
    Round,
    State,
    TransactionId,
    Vote,
    new_transaction_id,
)

Payload = dict[str, Any]

#: Decisions sent in one round when giving back.
GIVEN_BACK_AT_ONCE = 1000


@dataclass(frozen=True)
class Offer:
    """Payloads that the participant takes and refuses, and one of any size."""

    payload: Payload | None = None
    refused_payload: Payload | None = None
    #: JSON in which ``{amount}`` stands for a number, and how much of it is there.
    sized_payload: str | None = None
    capacity: int | None = None

    def sized(self, amount: int) -> Payload:
        """Return the payload that asks for ``amount``; raises NotTried."""
        if self.sized_payload is None:
            raise NotTried("no --sized-payload was given")
        payload: Payload = json.loads(self.sized_payload.replace("{amount}", str(amount)))
        return payload


class Trial:
    """One participant under trial."""

    def __init__(self, wire: Wire, offer: Offer, restart: Callable[[], None] | None = None) -> None:
        """Try the participant behind ``wire``.

        ``restart`` restarts it, and returns when it answers again.
        """
        self.wire = wire
        self.offer = offer
        self.capacity = offer.capacity
        #: The first answer that was no ballot on what was asked. Every rule may come across one; a
        #: single rule is broken by it.
        self.ill_formed: Broken | None = None
        self._restart = restart
        self._sent: dict[TransactionId, None] = {}
        self._open: dict[TransactionId, None] = {}

    def new(
        self, payload: Payload | None = None, instead_of: Sequence[TransactionId] = ()
    ) -> Prepare:
        """Return a prepare of a new transaction, not sent yet; raises NotTried."""
        payload = self.offer.payload if payload is None else payload
        if payload is None:
            raise NotTried("no --payload was given")
        return Prepare(
            transaction_id=new_transaction_id(), payload=payload, instead_of=list(instead_of)
        )

    def prepared(self, payload: Payload | None = None) -> Prepare:
        """Return a prepare that the participant has voted yes on; raises NotTried."""
        prepare = self.new(payload)
        vote = self.vote(prepare)
        if not vote.prepared:
            raise NotTried(
                f"the participant refuses {json.dumps(prepare.payload)}: {vote.reason}, {vote.detail}"
            )
        return prepare

    def vote(self, prepare: Prepare) -> Vote:
        """Send ``prepare`` alone and return the vote."""
        ballot = self.round(prepares=[prepare])
        if not ballot.votes:
            raise Broken("a vote was due, and this is a violation")
        return ballot.votes[0]

    def round(
        self,
        *,
        aborts: Sequence[TransactionId] = (),
        commits: Sequence[TransactionId] = (),
        prepares: Sequence[Prepare] = (),
        **counting: int,
    ) -> Ballot:
        """Send a round and return its ballot.

        Raises Broken where no answer comes, and NotTried where it is ill-formed.
        """
        message = Round(
            version=PROTOCOL_VERSION,
            generation=self.wire.generation,
            aborts=list(aborts),
            commits=list(commits),
            prepares=list(prepares),
            **counting,
        )
        self.opened([prepare.transaction_id for prepare in prepares])
        ballot = self._read(message, self.wire.post(message.model_dump_json(exclude_unset=True)))
        self._note(message, ballot)
        return ballot

    def _read(self, message: Round, exchange: Exchange) -> Ballot:
        if exchange.status != httpx.codes.OK:
            raise Broken("200 with a ballot was due", exchange)
        try:
            ballot = Ballot.model_validate_json(exchange.answer)
            complaint = _complaint(message, ballot)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            complaint = f"{'.'.join(map(str, first['loc'])) or 'the body'}: {first['msg']}"
        if complaint:
            self.ill_formed = self.ill_formed or Broken(complaint, exchange)
            raise NotTried(f"the answer is no well-formed ballot: {complaint}")
        return ballot

    def opened(self, ids: Sequence[TransactionId]) -> None:
        """Remember that ``ids`` may be prepared by now."""
        self._sent.update(dict.fromkeys(ids))
        self._open.update(dict.fromkeys(ids))

    def left_alone(self, prepared: TransactionId) -> None:
        """Remember that of all that may be prepared nothing is, but for ``prepared``."""
        self._open = {prepared: None}

    def _note(self, message: Round, ballot: Ballot) -> None:
        for each in ballot.acknowledged:
            self._open.pop(each, None)
        for vote in ballot.votes:
            if not vote.prepared:
                self._open.pop(vote.transaction_id, None)
            elif (
                vote.transaction_id not in message.commits
                or vote.transaction_id not in ballot.acknowledged
            ):
                self._open[vote.transaction_id] = None

    def restart(self) -> None:
        """Have the participant restarted and wait until it answers again; raises NotTried."""
        if self._restart is None:
            raise NotTried(
                "nobody can restart it: give --restart-command, or run this in a terminal"
            )
        self._restart()

    def give_back(self) -> None:
        """Abort whatever may be prepared; what cannot be aborted is tried again at the end."""
        waiting = list(self._open)
        for start in range(0, len(waiting), GIVEN_BACK_AT_ONCE):
            self.round(aborts=waiting[start : start + GIVEN_BACK_AT_ONCE])

    def left_behind(self) -> list[TransactionId]:
        """Return what is still prepared, by the participant's list or by all that was asked."""
        listed: list[dict[str, Any]] | None = None
        with contextlib.suppress(Broken):
            listed = self.listed_from(min(self._sent)) if self._sent else None
        if listed is not None:
            ids = {each.get("transaction_id") for each in listed}
            self._open = dict.fromkeys(each for each in self._sent if each in ids)
        return list(self._open)

    def listed_from(self, transaction_id: TransactionId) -> list[dict[str, Any]] | None:
        """Return the prepared branches listed from ``transaction_id`` on, None without a list."""
        before = UUID(int=UUID(transaction_id).int - 1)
        exchange = self.wire.get(
            f"{BRANCHES_PATH}?state={State.PREPARED}&limit=1000&after={before}"
        )
        if exchange.status == httpx.codes.NOT_FOUND:
            return None
        try:
            items = json.loads(exchange.answer)["items"]
        except (ValueError, KeyError, TypeError):
            items = None
        if exchange.status != httpx.codes.OK or not isinstance(items, list):
            raise Broken("a list of branches was due")
        return [each for each in items if isinstance(each, dict)]


def demand(holds: bool, otherwise: str, exchange: Exchange | None = None) -> None:  # noqa: FBT001 - it reads like an assertion
    """Raise Broken unless it ``holds``."""
    if not holds:
        raise Broken(otherwise, exchange)


def violated(ballot: Ballot, transaction_id: TransactionId) -> bool:
    """Return whether ``ballot`` refuses the transaction as a violation, and does not acknowledge it at the same time."""
    return any(each.transaction_id == transaction_id for each in ballot.violations) and (
        transaction_id not in ballot.acknowledged
    )


def _complaint(message: Round, ballot: Ballot) -> str | None:
    """Return what is wrong with a ballot whose members are all of the right types."""
    asked = {prepare.transaction_id for prepare in message.prepares}
    decided = {
        *message.aborts,
        *message.commits,
        *(each for prepare in message.prepares for each in prepare.instead_of),
    }
    violations = {violation.transaction_id for violation in ballot.violations}
    votes = {vote.transaction_id: vote for vote in ballot.votes}
    complaints = {
        f"version {ballot.version} was not asked for": ballot.version != PROTOCOL_VERSION,
        "a vote for a transaction that was not asked about": not votes.keys() <= asked,
        "a prepare without a vote": not message.counter_heard
        and not asked <= votes.keys() | violations,
        "two votes that differ for one transaction": any(
            votes[vote.transaction_id] != vote for vote in ballot.votes
        ),
        "a refusal without a reason": any(
            not vote.prepared and not vote.reason for vote in ballot.votes
        ),
        "a yes with a reason": any(
            vote.prepared and vote.reason is not None for vote in ballot.votes
        ),
        "an acknowledgement of what was not sent": not decided.issuperset(ballot.acknowledged),
        "a violation by a transaction that was not sent": not violations <= asked | decided,
    }
    return next((complaint for complaint, applies in complaints.items() if applies), None)
