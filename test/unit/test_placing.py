"""What placing an order costs a service that can take no more."""

from typing import Any, NoReturn

import pytest
from fastapi import Request

from order_service.api import OrderEndpoints, placing
from order_service.checkout import Checkout, OrderRequest
from service_chassis.json_body import read_json
from service_chassis.problems import Problem
from two_phase.errors import Unavailable


class Full:
    """A coordinator, or a checkout: it has no capacity for another order."""

    arriving = None

    def check_capacity(self) -> NoReturn:
        """Say so."""
        raise Unavailable("too many orders are under way")


async def _unread() -> NoReturn:
    raise AssertionError("the body was read")


async def _gone() -> Any:
    return {"type": "http.disconnect"}


async def test_a_caller_who_hangs_up_in_the_middle_of_a_body_is_no_failure_of_ours() -> None:
    """Nobody hears the answer; it must not be logged as an error of the service either."""
    headers = [(b"content-type", b"application/json")]
    request = Request(
        {"type": "http", "method": "POST", "path": "/orders", "headers": headers}, _gone
    )

    with pytest.raises(Problem, match="hung up"):
        await read_json(request)


def _posting(body: bytes) -> Request:
    async def whole() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [(b"content-type", b"application/json")]
    return Request({"type": "http", "method": "POST", "path": "/orders", "headers": headers}, whole)


async def test_json_is_utf_8_with_or_without_a_byte_order_mark() -> None:
    """RFC 8259, section 8.1: some editors write the mark, and a reader may pass over it."""
    assert await read_json(_posting('{"name": "Иван"}'.encode())) == {"name": "Иван"}
    assert await read_json(_posting('{"name": "Иван"}'.encode("utf-8-sig"))) == {"name": "Иван"}


@pytest.mark.parametrize("body", ['{"name": "Иван"}'.encode("utf-16"), b'{"name": "\xed\xa0\x80"}'])
async def test_json_in_another_encoding_is_malformed(body: bytes) -> None:
    """Nor is half a surrogate pair a character."""
    with pytest.raises(Problem, match="not valid JSON"):
        await read_json(_posting(body))


async def test_who_is_sent_away_is_sent_away_before_the_body_is_read() -> None:
    """R13: at once, and at the least cost to those who are being served."""
    checkout: Any = Full()
    request = Request({"type": "http", "method": "POST", "path": "/orders", "headers": []}, _unread)

    with pytest.raises(Unavailable):
        await placing(OrderEndpoints(checkout, checkout))(request)


async def test_no_key_is_claimed_for_an_order_that_is_sent_away() -> None:
    """The claim would be a forced write, and its release another."""
    engine: Any = Full()
    no_claims: Any = None

    with pytest.raises(Unavailable):
        await Checkout(engine, no_claims, deadline_seconds=5).place(
            OrderRequest(1, {1: 1}, 1, "key")
        )
