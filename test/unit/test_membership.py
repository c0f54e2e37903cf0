"""Orders from before a participant was added: `shop reconcile` neither takes its silence for a no nor brings them back to it."""

import pytest

from shop.operator import reconcile as tool
from shop.operator.reconcile import Options
from unit.fake_services import Services


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "NOTICED_SECONDS", 0)


def _before_delivery(state: str, *, has_orders: bool) -> tuple[Services, str]:
    """Return a log that has lost an order which is in ``state`` at two, from before delivery was added."""
    services = Services()
    services.stands["written"] = 4
    order_id = services.order(1, None, payment=state, stock=state)
    if has_orders:
        services.order(2, "confirmed", payment="committed", stock="committed", delivery="committed")
    else:
        services.counted["delivery"] = {"counter": 0, "log_seen": 5}
        services.stands["heard"]["delivery"] = 0
    return services, order_id


@pytest.mark.parametrize("has_orders", [True, False])
def test_an_older_order_that_is_committed_was_confirmed(has_orders: bool) -> None:  # noqa: FBT001 - a case
    """All of its members say so."""
    services, order_id = _before_delivery("committed", has_orders=has_orders)

    findings = tool.reconcile(services, Options())  # type: ignore[arg-type]

    assert services.orders[order_id] == "confirmed"
    assert findings.done


@pytest.mark.parametrize("has_orders", [True, False])
def test_an_older_order_that_all_its_members_hold_is_for_a_human(has_orders: bool) -> None:  # noqa: FBT001 - a case
    """The lost log may have confirmed it; a participant that did not exist has not refused it."""
    services, order_id = _before_delivery("prepared", has_orders=has_orders)

    findings = tool.reconcile(services, Options())  # type: ignore[arg-type]

    assert order_id not in services.orders
    assert findings.undecided == [order_id]


def test_an_older_order_is_not_brought_back_to_a_participant_that_was_none_of_its() -> None:
    """A restored participant gets what the log says that it held."""
    services = Services()
    older = services.order(1, "confirmed", payment="committed", stock="committed")
    services.members[older] = ("payment", "stock")
    lost = services.order(2, "confirmed", payment="committed", stock="committed")
    services.counted["delivery"] = {"counter": 3, "log_seen": 5}

    findings = tool.reconcile(services, Options())  # type: ignore[arg-type]

    assert findings.replayed == {"delivery": [lost]}
    assert older not in services.held["delivery"]
