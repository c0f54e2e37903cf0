"""The messages: what is on the wire is checked, and an id tells when it was made."""

import json
import uuid
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from two_phase.errors import ProtocolViolation, Refused, Unavailable
from two_phase.messages import (
    MAX_INTEGER,
    Ballot,
    Outcomes,
    Prepare,
    Question,
    Round,
    Taken,
    Vote,
    new_transaction_id,
)

ID = "00000000-0000-7000-8000-000000000001"


def test_new_ids_are_uuid_version_7_in_the_order_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids are the keys of every table: a newer one sorts behind, and no two are equal."""
    times = iter([1_700_000_000_123_000_000, 1_700_000_000_124_000_000])
    monkeypatch.setattr("two_phase.messages.time.time_ns", lambda: next(times))

    first, second = uuid.UUID(new_transaction_id()), uuid.UUID(new_transaction_id())

    assert first < second
    assert first.version == second.version == 7
    assert first.variant == second.variant == uuid.RFC_4122
    assert first.int >> 80 == 1_700_000_000_123


def test_new_ids_differ_within_one_millisecond(monkeypatch: pytest.MonkeyPatch) -> None:
    """74 bits are random: orders of the same millisecond do not meet."""
    monkeypatch.setattr("two_phase.messages.time.time_ns", lambda: 1_700_000_000_123_000_000)

    assert len({new_transaction_id() for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    "message",
    [
        Round(
            generation=1,
            aborts=[ID],
            commits=[ID],
            prepares=[Prepare(transaction_id=ID, payload={"a": [1]}, instead_of=[ID])],
        ),
        Ballot(
            votes=[
                Vote(
                    transaction_id=ID,
                    prepared=False,
                    reason="r",
                    detail="d",
                    contended=True,
                    facts={"b": "c"},
                )
            ]
        ),
        Outcomes(confirmed=[ID], cancelled=[]),
    ],
)
def test_a_message_survives_the_wire(message: BaseModel) -> None:
    """What is read is what was sent."""
    assert type(message).model_validate_json(message.model_dump_json()) == message


@pytest.mark.parametrize(
    "change",
    [
        {"generation": 0},
        {"generation": MAX_INTEGER + 1},
        {"generation": "1"},
        {"generation": 1.5},
        {"generation": None},
        {"surprise": 1},
        {"aborts": ["not-an-id"]},
        {"aborts": [ID.upper().replace("0", "A")]},
        {"commits": [ID] * 4097},
        {"prepares": [{"transaction_id": ID, "payload": {}, "instead_of": [ID] * 17}]},
        {"prepares": [{"transaction_id": ID, "payload": {}}] * 1025},
        {"prepares": [{"transaction_id": ID}]},
    ],
)
def test_a_round_that_is_not_well_formed_is_not_understood(change: dict[str, Any]) -> None:
    """R6 and R13: strict types, closed fields and limits on everything, or no message at all."""
    with pytest.raises(ValidationError):
        Round.model_validate_json(json.dumps({"generation": 1} | change))


@pytest.mark.parametrize(
    "change", [{"prepared": "yes"}, {"prepared": 1}, {"transaction_id": "x"}, {"facts": [1]}]
)
def test_a_vote_that_is_not_well_formed_is_no_vote(change: dict[str, Any]) -> None:
    """R6: only a positive, well-formed answer counts."""
    with pytest.raises(ValidationError):
        Vote.model_validate_json(json.dumps({"transaction_id": ID, "prepared": True} | change))


def test_a_question_has_a_limit() -> None:
    """R13: nobody asks about everything at once."""
    with pytest.raises(ValidationError):
        Question.model_validate({"transactions": [{"transaction_id": ID, "generation": 1}] * 4097})


def test_messages_cannot_be_changed_and_share_nothing() -> None:
    """A message that was checked stays as it was, and an empty list of one is not that of another."""
    first, second = Round(generation=1), Round(generation=1)

    with pytest.raises(ValidationError):
        first.generation = 2  # type: ignore[misc]
    assert first.aborts is not second.aborts
    assert (
        Vote(transaction_id=ID, prepared=True).facts
        is not Vote(transaction_id=ID, prepared=True).facts
    )


def test_failures_say_what_their_receiver_needs() -> None:
    """Three kinds of failure: a business no with its facts, come again, and a bug."""
    facts = {"prices": {"1": 10}}
    refused = Refused("price_changed", "another price", contended=True, facts=facts)

    assert (refused.reason, refused.detail, refused.contended, refused.facts) == (
        "price_changed",
        "another price",
        True,
        facts,
    )
    assert Refused("no", "no").facts == {}
    assert not Refused("no", "no").contended
    assert Unavailable("later").retry_after_seconds == 1
    assert Unavailable("later", retry_after_seconds=3).retry_after_seconds == 3
    assert ProtocolViolation("bug").detail == "bug"
    assert Taken().facts == {}
