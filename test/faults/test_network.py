"""F5: whatever the network does to the messages between two services, no order is split, and all of it heals."""

from collections.abc import Callable

import pytest

from faults.crashing import until
from faults.load import Load
from faults.market import Market, assert_sound
from faults.proxied import IN_DOUBT_SECONDS, PARTICIPANTS, Proxied, state_hash
from faults.report import Row
from faults.wire_faults import NETWORK, decisions_lost

#: How many messages must meet a fault before it is healed.
MET = 5
MET_SECONDS = 30
#: Twice what a branch waits before it is asked about, and what a loaded machine needs on top.
RESOLVED_SECONDS = 2 * IN_DOUBT_SECONDS + 10

#: What `make test` runs; `make faults` runs every fault on every link.
QUICK = {
    ("order to payment", "cut after the request and before the answer"),
}
LINKS = [f"order to {name}" for name in PARTICIPANTS] + [
    f"{name} to order" for name in PARTICIPANTS
]
CASES = [
    pytest.param(
        link,
        fault,
        marks=[] if (link, fault) in QUICK else [pytest.mark.slow],
        id=f"{link}-{fault}",
    )
    for link in LINKS
    for fault in NETWORK
]


@pytest.mark.parametrize(("link", "fault"), CASES)
def test_no_order_is_split_when_messages_from(
    proxied: Proxied, tell: Callable[[Row], None], link: str, fault: str
) -> None:
    """Clean answers meanwhile; once the link is healed everything is resolved in twice the time after which it is asked about."""
    market = Market.opened(proxied.given)
    if link.endswith(" to order"):
        # A participant asks only about what it was not told.
        proxied.links[f"order to {link.removesuffix(' to order')}"].suffer(decisions_lost)
    suffering = proxied.links[link]

    with Load(proxied.shop.address, market.bodies) as load:
        suffering.suffer(NETWORK[fault])
        until(lambda: suffering.met >= MET, f"no messages went from {link}", MET_SECONDS)
        proxied.heal()

    assert load.told.unclean == []
    tell(assert_sound(proxied, load, market, f"{link}: {fault}", seconds=RESOLVED_SECONDS))


def test_a_recorded_run_that_is_sent_again_changes_nothing(
    proxied: Proxied, tell: Callable[[Row], None]
) -> None:
    """Every message, rounds and questions alike, may come a second time, however late.

    Not a row differs afterwards.
    """
    market = Market.opened(proxied.given)
    for link in proxied.links.values():
        link.recorded.clear()
    proxied.links["order to payment"].suffer(decisions_lost)
    with Load(proxied.shop.address, market.bodies) as load:
        until(
            lambda: proxied.links["payment to order"].met >= MET, "payment never asked", MET_SECONDS
        )
        proxied.heal()
    row = assert_sound(
        proxied, load, market, "a recorded run, sent again", seconds=RESOLVED_SECONDS
    )
    before = state_hash(proxied.admin)

    answers = [answer for link in proxied.links.values() for answer in proxied.proxy.replay(link)]

    assert len(answers) > len(load.told.confirmed)
    assert {answer.split(b" ", 2)[1] for answer in answers} == {b"200"}
    assert state_hash(proxied.admin) == before
    tell(row)
