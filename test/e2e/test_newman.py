"""The homework scenario as the collection tells it, run by newman against a real shop."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from running_shop import Shop

FOLDER = Path(__file__).parents[1]
COLLECTION = FOLDER / "hw10.postman_collection.json"
NEWMAN = FOLDER / "node_modules" / ".bin" / "newman"


def _steps(items: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for item in items:
        if "item" in item:
            yield from _steps(item["item"])
        else:
            yield item


def _run(address: str) -> subprocess.CompletedProcess[str]:
    assert NEWMAN.exists(), "newman is not installed: make test/node_modules/installed"
    command = [NEWMAN, "run", COLLECTION, "--env-var", f"baseUrl={address}", "--color", "off"]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def first(shop: Shop) -> subprocess.CompletedProcess[str]:
    """Return a run of the collection."""
    return _run(shop.address)


def test_collection_passes_twice_in_a_row_on_the_same_database(
    shop: Shop, first: subprocess.CompletedProcess[str]
) -> None:
    """The scenario holds on any database, because every run makes its own user, products and slots."""
    second = _run(shop.address)

    assert first.returncode == 0, first.stdout
    assert second.returncode == 0, second.stdout


def test_run_shows_every_request_and_response(first: subprocess.CompletedProcess[str]) -> None:
    """Whoever watches the run sees what was sent and what came back, bodies included."""
    output = first.stdout.replace("\n  │ ", "")

    assert '{ "name": "Ivan", "balance": 110 }' in output
    assert '"status":"confirmed"' in output.replace(": ", ":")
    for reason in ("insufficient_funds", "out_of_stock", "no_courier"):
        assert f'"urn:shop:problem:{reason}"' in output


def test_collection_is_of_version_2_1_and_points_at_the_ingress() -> None:
    """Imported as it is, the collection speaks to arch.homework, and one variable points it elsewhere."""
    collection = json.loads(COLLECTION.read_text())

    assert collection["info"]["schema"].endswith("/collection/v2.1.0/collection.json")
    assert [(each["key"], each["value"]) for each in collection["variable"]] == [
        ("baseUrl", "arch.homework")
    ]
    assert all(
        step["request"]["url"]["raw"].startswith("http://{{baseUrl}}/")
        for step in _steps(collection["item"])
    )


def test_every_step_asserts_and_every_refusal_is_followed_by_a_look_at_all_three() -> None:
    """No step passes unseen, and a refusal counts only if balance, stock and slot are as before."""
    folders = json.loads(COLLECTION.read_text())["item"]
    refusals = [folder for folder in folders if folder["name"].split(". ")[1].startswith("Fail ")]

    assert all("pm.test(" in json.dumps(step["event"]) for step in _steps(folders))
    assert len(refusals) == 3
    for folder in refusals:
        looked_at = {
            step["request"]["url"]["path"][0]
            for step in folder["item"]
            if step["request"]["method"] == "GET"
        }
        assert looked_at == {"payment", "stock", "delivery"}
