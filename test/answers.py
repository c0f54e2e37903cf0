"""What every answer of the shop must be: JSON, or a problem as RFC 9457 wants it."""

from typing import Any

import httpx

#: The largest amount, quantity or id.
MAX_INTEGER = 2**53 - 1


def assert_problem(response: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    """Check that ``response`` is a problem as RFC 9457 wants it, of the type ``urn:shop:problem:<kind>``; return its body."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert problem["type"] == f"urn:shop:problem:{kind}"
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    return problem


def assert_json(response: httpx.Response, status: int) -> dict[str, Any]:
    """Check that ``response`` is JSON with ``status``; return its body."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body: dict[str, Any] = response.json()
    return body
