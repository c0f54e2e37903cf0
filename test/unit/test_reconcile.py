"""What `shop reconcile` makes of the branches and the log that it finds.

Every case of its table, and an end at any step.
"""

import json
from copy import deepcopy
from typing import Any

import httpx
import pytest

from shop.operator import reconcile as tool
from shop.operator.reconcile import ALL, Findings, Options
from two_phase.coordinator.decision_log import LOG
from unit.fake_services import PARTICIPANTS, Services, identity


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "NOTICED_SECONDS", 0)


def reconciled(services: Services, **options: Any) -> Findings:
    """Run the tool."""
    return tool.reconcile(services, Options(**options))  # type: ignore[arg-type] # what it uses is there


def lost_log() -> Services:
    """Return services whose log has fallen back."""
    services = Services()
    services.stands["written"] = 4
    return services


@pytest.mark.parametrize(
    ("states", "word"),
    [
        (("committed", "committed", "committed"), "confirmed"),
        (("committed", "prepared", "prepared"), "confirmed"),
        (("prepared", "prepared", "aborted"), "cancelled"),
        (("aborted", "aborted", "aborted"), "cancelled"),
        (("prepared", "prepared", None), "cancelled"),
        (("prepared", None, None), "cancelled"),
    ],
)
def test_what_the_branches_prove_is_written_again(
    states: tuple[str | None, ...], word: str
) -> None:
    """R12: committed anywhere, it was confirmed; not promised by all, it cannot have been."""
    services = lost_log()
    known = {name: state for name, state in zip(PARTICIPANTS, states, strict=True) if state}
    order_id = services.order(1, None, **known)

    findings = reconciled(services)

    assert services.orders == {order_id: word}
    assert (findings.rebuilt[word], findings.done) == ([order_id], True)
    assert (services.stands["generation"], services.stands["written"]) == (2, 6)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"confirm": [identity(1)]}, "confirmed"),
        ({"cancel": [identity(1)]}, "cancelled"),
        ({"confirm": [ALL]}, "confirmed"),
        ({"confirm": [ALL], "cancel": [identity(1)]}, "cancelled"),
        ({"confirm": [identity(1)], "cancel": [ALL]}, "confirmed"),
    ],
)
def test_what_nobody_can_prove_a_human_has_to_say(options: dict[str, Any], word: str) -> None:
    """R12: the lost log may have confirmed it and told so.

    Until a human has spoken no orders flow.
    """
    services = lost_log()
    order_id = services.order(1, None, payment="prepared", stock="prepared", delivery="prepared")

    asked = reconciled(services)
    before = deepcopy((services.orders, services.stands))
    answered = reconciled(services, **options)

    assert (asked.undecided, asked.done) == ([order_id], False)
    assert before == ({}, {**services.stands, "generation": 1, "written": 4})
    assert (services.orders, answered.done) == ({order_id: word}, True)
    assert services.stands["generation"] == 2


def test_a_log_that_has_caught_up_since_somebody_noticed_is_reconciled_all_the_same() -> None:
    """R12: how far it has come by now does not bring back what it has forgotten."""
    services = Services()
    services.stands |= {
        "written": 9,
        "restored": [LOG],
        "heard": {**services.stands["heard"], LOG: 7},
    }
    order_id = services.order(1, None, payment="committed", stock="committed", delivery="prepared")

    findings = reconciled(services)

    assert (findings.log_was_restored, findings.done, services.orders) == (
        True,
        True,
        {order_id: "confirmed"},
    )
    assert (
        services.stands["generation"],
        services.stands["written"],
        services.stands["restored"],
    ) == (2, 10, [])


def test_an_order_of_an_older_generation_is_known_by_its_oldest_branch() -> None:
    """An abort that arrives before its prepare leaves a branch of the round's generation, which may be younger than the order's."""
    services = Services()
    services.stands["generation"] = 2
    order_id = services.order(1, None, payment="prepared", stock="aborted", delivery="aborted")
    services.held["delivery"][order_id]["generation"] = 2

    findings = reconciled(services)

    assert (findings.done, services.orders) == (True, {order_id: "cancelled"})


def test_a_log_that_is_not_behind_keeps_its_undecided_orders() -> None:
    """Orders under way are nobody's business but their coordinator's."""
    services = Services()
    services.order(1, None, payment="prepared", stock="prepared")

    findings = reconciled(services)

    assert (findings.done, services.orders, services.changed) == (True, {}, 0)


def test_a_branch_that_a_participant_has_lost_itself_proves_nothing() -> None:
    """With two databases restored, what is missing may have been promised.

    It is never presumed cancelled.
    """
    services = lost_log()
    services.counted["stock"]["counter"] = 3
    order_id = services.order(1, None, payment="prepared", delivery="prepared")

    findings = reconciled(services)

    assert services.orders == {}
    (sentence,) = findings.for_a_human
    assert sentence.startswith(f"order {order_id} may have been confirmed and cannot be rebuilt")


def test_a_restored_participant_gets_back_what_it_has_lost() -> None:
    """R12: what is missing is prepared and committed, what is prepared committed.

    Nothing else is touched.
    """
    services = Services()
    services.counted["stock"]["counter"] = 3
    others = {"payment": "committed", "delivery": "committed"}
    missing = services.order(1, "confirmed", **others)
    half = services.order(2, "confirmed", **others, stock="prepared")
    whole = services.order(3, "confirmed", **others, stock="committed")
    services.order(4, "cancelled", payment="aborted", delivery="aborted")

    findings = reconciled(services)

    assert findings.replayed == {"stock": [missing, half]}
    assert {each: row["state"] for each, row in services.held["stock"].items()} == dict.fromkeys(
        (missing, half, whole), "committed"
    )
    assert (findings.done, services.counted["stock"]["counter"], services.stands["restored"]) == (
        True,
        11,
        [],
    )


def test_what_a_participant_refuses_is_left_to_a_human() -> None:
    """It is named, not forced; and orders flow again."""
    services = Services()
    services.stands["restored"] = ["payment"]
    order_id = services.order(1, "confirmed", stock="committed", delivery="committed")
    services.refuses.add(order_id)

    findings = reconciled(services)

    assert findings.for_a_human == [
        f"order {order_id} is confirmed, and payment refuses it now: gone"
    ]
    assert (findings.done, services.stands["restored"]) == (False, [])


def _both_lost() -> Services:
    services = lost_log()
    services.stands["restored"] = ["stock"]
    for number in range(1, 8):
        services.order(number, None, payment="committed", stock="prepared", delivery="committed")
    for number in range(8, 12):
        services.order(number, "confirmed", payment="committed", delivery="committed")
    services.order(12, None, payment="aborted", stock="prepared")
    return services


def test_a_dry_run_changes_nothing_and_tells_what_would_be_done() -> None:
    """Who looks first sees the same orders that are then mended."""
    services = _both_lost()

    planned = reconciled(services, dry_run=True)
    assert services.changed == 0
    done = reconciled(services)

    assert planned.rebuilt == done.rebuilt
    assert set(planned.replayed["stock"]) <= set(done.replayed["stock"])


def test_a_run_that_ends_at_any_step_is_finished_by_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every step stands for itself and may be repeated."""
    monkeypatch.setattr(tool, "BATCH", 2)
    whole = _both_lost()
    reconciled(whole)

    for calls in range(whole.changed):
        services = _both_lost()
        services.calls_left = calls
        with pytest.raises(httpx.ConnectError):
            reconciled(services)
        services.calls_left = 1000
        findings = reconciled(services)

        assert findings.done
        assert json.dumps([services.orders, services.held], sort_keys=True) == json.dumps(
            [whole.orders, whole.held], sort_keys=True
        )
        assert (services.stands["restored"], services.stands["written"]) == ([], 6)
