"""Holds answers against the OpenAPI documents.

Status, content type, headers and body of every one that a test sees.
"""

import re
from functools import cache
from typing import Any

import httpx
import jsonschema_rs

from documents import SERVICES, documents

_PROBLEM = "application/problem+json"
#: What any request may get that no operation is meant by.
_OF_NO_OPERATION = {400, 404, 405}


@cache
def _validator(name: str, schema: str) -> jsonschema_rs.Validator:
    """Return a validator that takes no member which the document does not name, where answers may grow."""
    closed = {
        key: {"additionalProperties": False, **model}
        if model.get("type") == "object" and model.get("properties")
        else model
        for key, model in documents()[name]["components"]["schemas"].items()
    }
    root = {**_schemas()[schema], "components": {"schemas": closed}}
    return jsonschema_rs.validator_for(root, validate_formats=True)


@cache
def _schemas() -> dict[str, dict[str, Any]]:
    return {}


def _compiled(name: str, schema: dict[str, Any]) -> jsonschema_rs.Validator:
    key = repr(schema)
    _schemas()[key] = schema
    return _validator(name, key)


def operation(document: dict[str, Any], method: str, path: str) -> dict[str, Any] | None:
    """Return the operation that a request is for, if there is one."""
    for template, item in document["paths"].items():
        pattern = re.sub(r"\\\{[a-z_]+\\\}", "[^/]+", re.escape(template))
        if re.fullmatch(pattern, path) and method in item:
            return dict(item[method])
    return None


def check(response: httpx.Response) -> None:
    """Fail unless the document of the service has this answer.

    For an event hook of a client of the gateway.
    """
    request = response.request
    prefix = request.url.path.split("/")[1]
    name = prefix if prefix in SERVICES[1:] else "order"
    method = "get" if request.method == "HEAD" else request.method.lower()
    found = operation(documents()[name], method, request.url.raw_path.decode().partition("?")[0])
    response.read()
    media = response.headers.get("content-type", "")
    if found is None:
        assert response.status_code in _OF_NO_OPERATION or media.startswith(
            ("text/html", "application/json")
        ), request
        return
    if response.status_code == 400 and media == _PROBLEM and method == "get":
        return  # the request was no HTTP, which no operation can be blamed for
    said = found["responses"].get(str(response.status_code))
    assert said is not None, (
        f"{request} was answered {response.status_code}, which its document does not have"
    )
    assert media in said["content"], f"{request} was answered in {media}"
    for header, described in said.get("headers", {}).items():
        value = response.headers.get(header)
        assert value is not None or not described["required"], (
            f"{request} was answered without {header}"
        )
    if request.method != "HEAD":
        errors = list(
            _compiled(name, said["content"][media]["schema"]).iter_errors(response.json())
        )
        assert errors == [], (
            f"{request} was answered {response.text}: {errors[0].message} at {errors[0].instance_path}"
        )
