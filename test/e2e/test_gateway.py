"""What the gateway lets through and what not.

Pages and health of every service, nothing internal, problems for all else.
"""

import os
import signal
import time
from typing import Any

import httpx
import pytest

from answers import assert_json, assert_problem
from given import Given
from running_shop import Shop

#: Prefix, and what the service's OpenAPI document must list.
SERVICES = {
    "": {"/orders": {"get", "post"}, "/orders/{order_id}": {"get"}},
    "/payment": {
        "/payment/users": {"get", "post"},
        "/payment/users/{user_id}": {"get"},
        "/payment/users/{user_id}/deposits": {"post"},
        "/payment/users/{user_id}/statement": {"get"},
    },
    "/stock": {
        "/stock/products": {"get", "post"},
        "/stock/products/{product_id}": {"get", "patch"},
        "/stock/products/{product_id}/restocks": {"post"},
    },
    "/delivery": {"/delivery/slots": {"get", "post"}, "/delivery/slots/{slot_id}": {"get"}},
}


@pytest.mark.parametrize("prefix", SERVICES)
def test_service_documents_itself(client: httpx.Client, prefix: str) -> None:
    """OpenAPI lists every call of the contract, health too, and only paths that the gateway routes to this service."""
    document = assert_json(client.get(f"{prefix}/openapi.json"), 200)

    assert document["openapi"].startswith("3.")
    for path, methods in SERVICES[prefix].items():
        assert document["paths"][path].keys() >= methods
    others = tuple(f"{other}/" for other in SERVICES if other != prefix and other)
    assert not [path for path in document["paths"] if path.startswith(others) and not prefix]
    assert all(path.startswith(f"{prefix}/") for path in document["paths"])
    page = client.get(f"{prefix}/docs")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")


@pytest.mark.parametrize("prefix", SERVICES)
def test_body_and_key_are_documented(client: httpx.Client, prefix: str) -> None:
    """Every call that takes a body says which, and every reference in the document leads somewhere."""
    document = client.get(f"{prefix}/openapi.json").json()

    for path, operations in document["paths"].items():
        for method in operations.keys() & {"post", "patch"}:
            schema = operations[method]["requestBody"]["content"]["application/json"]["schema"]
            for choice in schema.get("oneOf", [schema]):
                assert resolved(document, choice)["properties"], path
            if method == "post":
                assert "Idempotency-Key" in [
                    each["name"] for each in operations[method]["parameters"]
                ], path
    for reference in references(document):
        resolved(document, {"$ref": reference})


def resolved(document: dict[str, Any], schema: dict[str, Any]) -> Any:
    """Return what ``schema`` refers to."""
    place: Any = schema
    if "$ref" in schema:
        place = document
        for part in schema["$ref"].removeprefix("#/").split("/"):
            place = place[part.replace("~1", "/")]
    return place


def references(node: Any) -> list[str]:
    """Return all references in a JSON document."""
    if isinstance(node, list):
        return [found for each in node for found in references(each)]
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for each in node.values() for found in references(each)]
    return []


@pytest.mark.parametrize("kind", ["live", "ready"])
@pytest.mark.parametrize("prefix", SERVICES)
def test_service_tells_its_health(client: httpx.Client, prefix: str, kind: str) -> None:
    """Each service is live and ready under its own prefix."""
    assert_json(client.get(f"{prefix}/health/{kind}"), 200)


def test_front_page_is_a_page(client: httpx.Client) -> None:
    """Whoever opens the shop in a browser sees where everything is."""
    page = client.get("/")

    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")


HIDDEN = [
    "/metrics",
    "/two-phase/v1/round",
    "/two-phase/v1/outcomes",
    "/two-phase/v1/peek",
    "/two-phase/v1/branches?state=prepared",
]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", HIDDEN)
@pytest.mark.parametrize("prefix", SERVICES)
def test_nothing_internal_is_reachable(
    client: httpx.Client, prefix: str, path: str, method: str
) -> None:
    """The protocol and the metrics are on the internal port alone."""
    assert_problem(client.request(method, f"{prefix}{path}"), 404, "not_found")


UNKNOWN = [
    "/nothing",
    "/nothing/at/all",
    "/orders/1/2",
    "/orders/",
    "/payments",
    "/payment",
    "/payment/",
    "/payment/nothing",
    "/stock/nothing",
    "/stock/products/",
    "/delivery/nothing",
    "/ordersx",
    "/%00",
    "/..%2f..%2fetc/passwd",
]


@pytest.mark.parametrize("path", UNKNOWN)
def test_unknown_path_is_not_found(client: httpx.Client, path: str) -> None:
    """A path that nobody serves is a problem like any other, never a redirect and never a page of the gateway's own."""
    assert_problem(client.get(path), 404, "not_found")


WRONG_METHODS = [
    ("DELETE", "/orders", {"GET", "HEAD", "POST"}),
    ("PUT", "/orders", {"GET", "HEAD", "POST"}),
    ("POST", "/orders/01890000-0000-7000-8000-000000000000", {"GET", "HEAD"}),
    ("PATCH", "/payment/users", {"GET", "HEAD", "POST"}),
    ("DELETE", "/payment/users/1", {"GET", "HEAD"}),
    ("GET", "/payment/users/1/deposits", {"POST"}),
    ("POST", "/payment/users/1/statement", {"GET", "HEAD"}),
    ("PUT", "/stock/products/1", {"GET", "HEAD", "PATCH"}),
    ("DELETE", "/stock/products", {"GET", "HEAD", "POST"}),
    ("GET", "/stock/products/1/restocks", {"POST"}),
    ("PATCH", "/delivery/slots/1", {"GET", "HEAD"}),
    ("OPTIONS", "/delivery/slots", {"GET", "HEAD", "POST"}),
    ("POST", "/health/live", {"GET", "HEAD"}),
    ("POST", "/delivery/health/ready", {"GET", "HEAD"}),
]


@pytest.mark.parametrize(("method", "path", "allowed"), WRONG_METHODS)
def test_unknown_method_is_not_allowed(
    client: httpx.Client, method: str, path: str, allowed: set[str]
) -> None:
    """A path that exists says which methods it has."""
    response = client.request(method, path)

    assert_problem(response, 405, "method_not_allowed")
    assert set(response.headers["allow"].split(", ")) == allowed


def test_method_that_nobody_has_heard_of_is_a_bad_request(client: httpx.Client) -> None:
    """What cannot be parsed as HTTP never reaches an endpoint, and is a problem all the same."""
    assert_problem(client.request("BREW", "/orders"), 400, "malformed")


def test_any_host_is_served(client: httpx.Client) -> None:
    """The local gateway routes by path alone, so that arch.homework may point at it."""
    assert_json(client.get("/health/ready", headers={"Host": "arch.homework"}), 200)


def test_order_is_answered_503_while_a_participant_is_silent_and_takes_nothing(
    client: httpx.Client, shop: Shop, given: Given
) -> None:
    """Silence is a no: 503 with Retry-After and the order, which is cancelled.

    What was taken is given back.
    """
    order = given.order_body()
    before = given.state_of(order)
    delivery = shop.pid("delivery")
    os.kill(delivery, signal.SIGSTOP)
    try:
        response = client.post("/orders", json=order)
    finally:
        os.kill(delivery, signal.SIGCONT)

    problem = assert_problem(response, 503, "unavailable")
    assert int(response.headers["retry-after"]) > 0
    assert problem["order_status"] == "cancelled"
    assert given.state_of(order) == before
    assert client.get(f"/orders/{problem['order_id']}").json()["status"] == "cancelled"


def test_service_that_is_down_is_503_until_it_is_back(
    client: httpx.Client, shop: Shop, given: Given
) -> None:
    """The gateway answers for a dead service with a problem and Retry-After.

    The local run starts it again by itself.
    """
    path = f"/delivery/slots/{given.slot()['slot_id']}"
    os.kill(shop.pid("delivery"), signal.SIGKILL)
    answers = [client.get(path)]
    deadline = time.monotonic() + 15
    while answers[-1].status_code != 200 and time.monotonic() < deadline:
        time.sleep(0.05)
        answers.append(client.get(path))

    assert answers[-1].status_code == 200
    assert len(answers) > 1
    for answer in answers[:-1]:
        assert_problem(answer, 503, "unavailable")
        assert int(answer.headers["retry-after"]) > 0
