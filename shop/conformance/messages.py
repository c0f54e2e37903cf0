"""The rules on messages: what is not a round of this version, with the key, is refused."""

import json
from collections.abc import Iterable
from typing import Any

import httpx

from shop.conformance.trial import Payload, Trial, demand
from shop.conformance.wire import Exchange, NotTried
from two_phase.http.paths import BRANCHES_PATH, ROUND_PATH
from two_phase.messages import (
    MAX_INTEGER,
    ROUND_BYTES_MAX,
    ROUND_DECISIONS_MAX,
    ROUND_PREPARES_MAX,
    Prepare,
    State,
    TransactionId,
    new_transaction_id,
)

_HUGE = 10**30


def poisonous_neighbour(trial: Trial) -> None:
    """A payload that cannot be processed is refused alone, in a 200.

    Its neighbours in the round go ahead.
    """
    # Two fit at once, so that a refusal in worse company is due to the company.
    for _ in range(2):
        trial.prepared()
    trial.give_back()
    good = [trial.new(), trial.new()]
    poisons = [trial.new(payload) for payload in _poisons(good[0].payload)]

    ballot = trial.round(prepares=[good[0], *poisons, good[1]])

    votes = {vote.transaction_id: vote.prepared for vote in ballot.votes}
    if all(votes.get(poison.transaction_id) for poison in poisons):
        raise NotTried("the participant accepts whatever it is given")
    demand(
        all(votes.get(each.transaction_id) for each in good),
        "a good prepare was refused for its neighbour",
    )


def malformed_rounds(trial: Trial) -> None:
    """A malformed round is answered with 4xx, and nothing of it is done."""
    prepare = trial.prepared()
    for body in _malformed(trial, prepare.transaction_id):
        _check_undone(trial, prepare, trial.wire.post(body))


def unknown_versions(trial: Trial) -> None:
    """A round of another version is answered with 4xx, and nothing of it is done."""
    prepare = trial.prepared()
    for version in (0, 2):
        body = json.dumps({**_round(trial, prepare.transaction_id), "version": version})
        _check_undone(trial, prepare, trial.wire.post(body))


def unknown_members(trial: Trial) -> None:
    """A round with a member that the protocol does not know is answered with 4xx, and nothing of it is done."""
    prepare = trial.prepared()
    for place in ("round", "prepare"):
        message = _round(trial, prepare.transaction_id)
        (message if place == "round" else message["prepares"][0])["colour"] = "red"
        _check_undone(trial, prepare, trial.wire.post(json.dumps(message)))


def too_large_rounds(trial: Trial) -> None:
    """A round with too many prepares, aborts or bytes is answered with 4xx, and nothing of it is done."""
    prepare = trial.prepared()
    small = _round(trial, prepare.transaction_id)

    for name, count in (("prepares", ROUND_PREPARES_MAX + 1), ("aborts", ROUND_DECISIONS_MAX + 1)):
        body = json.dumps({**small, name: small[name] * count})
        _check_undone(trial, prepare, trial.wire.post(body))
    exchange = trial.wire.post(json.dumps(small).ljust(ROUND_BYTES_MAX + 1))
    # Who hangs up on so long a message before its end has refused it as well.
    _check_undone(trial, prepare, exchange, may_hang_up=True)


def no_key(trial: Trial) -> None:
    """A call without a key is answered with 401, and nothing of it is done."""
    _check_unauthenticated(trial, {"without a key": None})


def wrong_key(trial: Trial) -> None:
    """A call with a wrong key is answered with 401, and nothing of it is done."""
    key = trial.wire.key
    wrong = {
        "another key": "Bearer " + "x" * len(key),
        "the key and one letter more": f"Bearer {key}x",
        "the key less its last letter": f"Bearer {key[:-1]}",
        "no key after Bearer": "Bearer",
        "the key without Bearer": key,
    }
    _check_unauthenticated(trial, {f"with {what}": value for what, value in wrong.items()})


def list_of_branches(trial: Trial) -> None:
    """The list of prepared branches has each of them, as it was asked for, and none that is settled."""
    prepare, committed, aborted = trial.prepared(), trial.prepared(), trial.prepared()
    trial.round(commits=[committed.transaction_id], aborts=[aborted.transaction_id])

    listed = trial.listed_from(min(each.transaction_id for each in (prepare, committed, aborted)))

    if listed is None:
        raise NotTried(f"the participant has no {BRANCHES_PATH}, which only auditors need")
    expected = {
        "transaction_id": prepare.transaction_id,
        "state": State.PREPARED.value,
        "generation": trial.wire.generation,
        "payload": prepare.payload,
    }
    ours = {each.get("transaction_id"): each for each in listed}
    found = ours.get(prepare.transaction_id, {})
    demand(
        {member: found.get(member) for member in expected} == expected,
        "a prepared branch is not listed as it is",
    )
    demand(
        not {committed.transaction_id, aborted.transaction_id} & ours.keys(),
        "a settled branch is listed as prepared",
    )


def _poisons(payload: Payload) -> Iterable[Payload]:
    yield {}
    yield {**payload, "conformance": "\u0000"}
    yield {name: _inflated(value) for name, value in payload.items()}


def _inflated(value: Any) -> Any:
    match value:
        case bool():
            return value
        case int() | float():
            return _HUGE
        case list():
            return [_inflated(each) for each in value]
        case dict():
            return {name: _inflated(each) for name, each in value.items()}
    return value


def _round(trial: Trial, prepared: TransactionId) -> dict[str, Any]:
    """Return a good round, to be spoilt.

    It would abort what is ``prepared``, so that it can be seen whether it was applied.
    """
    prepare = trial.new()
    trial.opened([prepare.transaction_id])
    return {
        "version": 1,
        "generation": trial.wire.generation,
        "aborts": [prepared],
        "prepares": [prepare.model_dump(exclude_unset=True)],
    }


def _malformed(trial: Trial, prepared: TransactionId) -> Iterable[str]:
    good = _round(trial, prepared)
    asked = good["prepares"][0]
    yield from (
        "",
        "nonsense",
        json.dumps([good]),
        json.dumps(good)[:-1],
        json.dumps(json.dumps(good)),
    )
    yield json.dumps({name: value for name, value in good.items() if name != "generation"})
    another = new_transaction_id()
    bad_prepares = (
        {**asked, "transaction_id": "1"},
        {"transaction_id": another},
        {**asked, "instead_of": ["1"]},
    )
    no_objects: tuple[Any, ...] = (None, [], "{}")
    bad_payloads = ({"transaction_id": another, "payload": payload} for payload in no_objects)
    too_many = {**asked, "instead_of": [new_transaction_id() for _ in range(17)]}
    spoilt: dict[str, Iterable[Any]] = {
        "version": ("1", None),
        "generation": (0, -1, 1.5, "1", None, True, MAX_INTEGER + 1),
        "aborts": (
            None,
            prepared,
            *([prepared, each] for each in (prepared.upper(), "1", 1, None)),
        ),
        "commits": (None, {}, ["1"]),
        "prepares": (
            None,
            asked,
            [None],
            *([asked, each] for each in (*bad_prepares, *bad_payloads, too_many)),
        ),
    }
    yield from (
        json.dumps({**good, name: value}) for name, values in spoilt.items() for value in values
    )


def _check_unauthenticated(trial: Trial, authorizations: dict[str, str | None]) -> None:
    prepare = trial.prepared()
    for note, authorization in authorizations.items():
        body = json.dumps(_round(trial, prepare.transaction_id))
        exchange = trial.wire.send("POST", ROUND_PATH, body, authorization, f" ({note})")
        demand(exchange.status == httpx.codes.UNAUTHORIZED, "401 was due")
        _check_undone(trial, prepare, exchange)
        exchange = trial.wire.send(
            "GET", f"{BRANCHES_PATH}?state=prepared", "", authorization, f" ({note})"
        )
        demand(exchange.status in (httpx.codes.UNAUTHORIZED, httpx.codes.NOT_FOUND), "401 was due")


def _check_undone(
    trial: Trial, prepare: Prepare, exchange: Exchange, *, may_hang_up: bool = False
) -> None:
    hung_up = may_hang_up and exchange.status is None
    demand(hung_up or httpx.codes.is_client_error(exchange.status or 0), "4xx was due", exchange)
    demand(
        trial.vote(prepare).prepared,
        "it was refused, and its abort was applied all the same",
        exchange,
    )
    trial.left_alone(prepare.transaction_id)
