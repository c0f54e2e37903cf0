"""The OpenAPI documents: what linters say of them, and that they say what was agreed."""

import json
import subprocess
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest

from documents import SERVICES, documents
from running_shop import ROOT, Shop

REDOCLY = ROOT / "test" / "node_modules" / ".bin" / "redocly"
NAMES = sorted(f"{service}{suffix}" for service in SERVICES for suffix in ("", "-internal"))
OPERATIONS = {
    "order": {"place_order", "list_orders", "show_order"},
    "payment": {"open_account", "list_accounts", "show_account", "add_deposit", "show_statement"},
    "stock": {"add_product", "list_products", "show_product", "change_price", "restock"},
    "delivery": {"open_slot", "list_slots", "show_slot"},
}
HEADERS = {"202": "Location", "401": "WWW-Authenticate", "405": "Allow", "503": "Retry-After"}


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Return method, path and operation of everything in a document."""
    return [
        (method, path, found)
        for path, item in document["paths"].items()
        for method, found in item.items()
    ]


def test_a_linter_finds_no_error_and_no_warning(tmp_path: Path) -> None:
    """Redocly's recommended rules, with every example held against its schema."""
    for name, document in documents().items():
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    (tmp_path / "redocly.yaml").write_text("extends: [recommended]\ntelemetry: 'off'\n")

    done = subprocess.run(
        [str(REDOCLY), "lint", "--format=json", *(f"{name}.json" for name in NAMES)],
        cwd=tmp_path,
        env={
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true",
            "HOME": str(tmp_path),
        },
        capture_output=True,
        text=True,
        check=False,
    )

    report, _ = json.JSONDecoder().raw_decode(done.stdout[done.stdout.index("{") :])
    assert [(each["message"], each["location"]) for each in report["problems"]] == []
    assert report["totals"] == {"errors": 0, "warnings": 0, "ignored": 0}
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_every_answer_has_a_schema_of_its_own(name: str) -> None:
    """Models stand in components, and an answer refers to them; nothing is a free object."""
    document = documents()[name]

    for method, path, operation in operations(document):
        assert operation["operationId"].replace("_", "").isalpha(), (method, path)
        for status, answer in operation["responses"].items():
            (content,) = answer["content"].items()
            media, described = content
            assert (
                media == ("application/json" if status < "3" else "application/problem+json")
                or path == "/metrics"
            )
            choices = described["schema"].get("anyOf", [described["schema"]])
            assert all("$ref" in choice for choice in choices) or path == "/metrics", (
                method,
                path,
                status,
            )
            assert HEADERS.get(status) in {None, *answer.get("headers", {})}, (method, path, status)


@pytest.mark.parametrize("name", NAMES)
def test_an_operation_names_only_the_statuses_that_it_can_give(name: str) -> None:
    """A body's problems stand where there is a body, and a parameter's where there is a parameter."""
    document = documents()[name]

    for method, path, operation in operations(document):
        statuses = operation["responses"].keys()
        assert ("415" in statuses) is ("requestBody" in operation), (method, path)
        assert ("400" in statuses) is ("requestBody" in operation), (method, path)
        assert ("422" in statuses) >= bool(operation.get("parameters")), (method, path)
        assert ("404" in statuses) is ("{" in path), (method, path)
        assert ("401" in statuses) is (name.endswith("internal") and path != "/metrics"), (
            method,
            path,
        )


@pytest.mark.parametrize("service", SERVICES)
def test_operations_have_the_names_that_people_call(service: str) -> None:
    """A generated client has a method place_order, and none called place_order_orders_post."""
    found = {operation["operationId"] for _, _, operation in operations(documents()[service])}

    assert found == OPERATIONS[service] | {"show_live", "show_ready"}


@pytest.mark.parametrize("name", NAMES)
def test_examples_and_the_head_of_a_document(name: str) -> None:
    """Servers, security, licence and tags; an example wherever a model has fields of its own."""
    document = documents()[name]

    assert document["servers"] == [{"url": "/", "description": "Where this document was found"}]
    assert document["security"] == ([{"key": []}] if name.endswith("internal") else [])
    assert document["info"]["license"] == {"name": "MIT", "identifier": "MIT"}
    tags = {tag["name"] for tag in document["tags"]}
    for method, path, operation in operations(document):
        assert set(operation["tags"]) <= tags, (method, path)
        for status, answer in operation["responses"].items():
            content = answer["content"].get("application/problem+json")
            assert content is None or content["example"]["status"] == int(status)


@pytest.mark.parametrize("name", NAMES)
def test_the_schemas_are_schemas(name: str) -> None:
    """Every one of them is valid JSON Schema 2020-12, and their own examples are valid by them."""
    document = documents()[name]

    for schema in document["components"]["schemas"].values():
        jsonschema_rs.meta.validate(schema)
        for field in schema.get("properties", {}).values():
            validator = jsonschema_rs.validator_for({**field, "components": document["components"]})
            assert [
                example for example in field.get("examples", []) if not validator.is_valid(example)
            ] == []


def test_the_documents_are_served_as_they_are_made(shop: Shop) -> None:
    """The public one under the service's prefix, the internal one on the internal port, which asks for no key to read it."""
    for service in SERVICES:
        at = shop.services()[service]
        prefix = "" if service == "order" else f"/{service}"
        assert httpx.get(f"{at['public']}{prefix}/openapi.json").json() == documents()[service]
        assert (
            httpx.get(f"{at['internal']}/openapi.json").json() == documents()[f"{service}-internal"]
        )
