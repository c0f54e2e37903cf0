"""What placing an order costs a service that can take no more."""

from typing import Any, NoReturn

import pytest
from fastapi import Request

from order_service.api import Counter, placing
from two_phase.hosting.json_body import read_json
from two_phase.hosting.problems import Problem
from two_phase.protocol import Unavailable


class FullCheckout:
    """Has no room for another order."""

    def check_room(self) -> NoReturn:
        """Say so."""
        raise Unavailable("too many orders are under way")


async def _unread() -> NoReturn:
    raise AssertionError("the body was read")


async def _gone() -> Any:
    return {"type": "http.disconnect"}


async def test_a_caller_who_hangs_up_in_the_middle_of_a_body_is_no_failure_of_ours() -> None:
    """Nobody hears the answer; it must not be logged as an error of the service either."""
    headers = [(b"content-type", b"application/json")]
    request = Request({"type": "http", "method": "POST", "path": "/orders", "headers": headers}, _gone)

    with pytest.raises(Problem, match="hung up"):
        await read_json(request)


async def test_who_is_sent_away_is_sent_away_before_the_body_is_read() -> None:
    """Rule 13: at once, and at the least cost to those who are being served."""
    checkout: Any = FullCheckout()
    request = Request({"type": "http", "method": "POST", "path": "/orders", "headers": []}, _unread)

    with pytest.raises(Unavailable):
        await placing(Counter(checkout, checkout))(request)
