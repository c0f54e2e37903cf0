"""A participant more: how much of the shop has to know of it, and that old orders stay in order."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

import ready_data
from fifth import addition
from given import Given
from running_shop import Shop, launch

FILES_MAX = 8
#: What a tree with a participant more must still pass, of what reads all of its files.
_HELD = (
    "test/charts/test_compose.py",
    "test/charts/test_manifests.py",
    "test/charts/test_network_policies.py",
    "test/unit/test_image_contents.py",
)
_RENDERED = {"k8s/44-loyalty-service.yaml", "k8s/60-ingress.yaml", "config/roles.sql"}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the tree that nobody has changed yet."""
    return addition.copied(tmp_path_factory.mktemp("five") / "tree")


def _python(tree: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *words],
        cwd=tree,
        env={
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "PYTHONPATH": f"{tree}:{tree}/test",
        },
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@contextmanager
def _running(tree: Path, folder: Path) -> Iterator[tuple[Shop, httpx.Client]]:
    """Run the shop of ``tree`` on the data of ``folder``."""
    shop = launch(folder, PYTHONPATH=f"{tree}:{tree}/test", PYTHONSAFEPATH="1")
    try:
        shop.wait_until_ready()
        with httpx.Client(base_url=f"http://{shop.address}", timeout=10) as client:
            yield shop, client
    finally:
        shop.stop()


def _placed(client: httpx.Client, body: dict[str, Any], code: int) -> dict[str, Any]:
    answer = client.post("/orders", json=body)
    assert answer.status_code == code, answer.text
    return dict(answer.json())


@pytest.mark.timeout(300)
def test_a_fifth_participant_takes_a_few_files_and_old_orders_stay_in_order(
    tree: Path, ready: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Orders through four branches, the addition, orders through five; the auditor finds nothing in either."""
    ready_data.copy(ready, tmp_path / "data")
    with _running(tree, tmp_path) as (_, client):
        before = Given(client).order_body(couriers=5)
        old = _placed(client, before, 201)
        refused = _placed(client, Given(client).order_body(balance=0), 409)

    lines = addition.add(tree)
    made = _python(tree, "-m", "shop.deploy.manifests")
    assert made.returncode == 0, made.stderr

    with _running(tree, tmp_path) as (shop, client):
        assert client.get(f"/orders/{old['order_id']}").json() == old
        assert client.get(f"/orders/{refused['order_id']}").json()["status"] == "cancelled"
        assert client.put(f"/loyalty/members/{before['user_id']}?points=1").status_code == 200
        new = _placed(client, before, 201)
        without_points = _placed(client, before, 409)
        assert client.get(f"/loyalty/members/{before['user_id']}").json()["points"] == 0
        account = client.get(f"/payment/users/{before['user_id']}").json()
        audit = _python(tree, "-m", "shop", "audit", "--json", "--data", str(shop.data))

    assert new["status"] == "confirmed"
    assert without_points["refusals"][0]["participant"] == "loyalty"
    assert account["balance"] == account["available"] == 80
    found = json.loads(audit.stdout)
    assert (found["violations"], found["confirmed"]) == ([], 2), found
    assert set(found["resources"]) == {"payment", "stock", "delivery", "loyalty"}
    with capsys.disabled():
        print(_told(lines))  # noqa: T201 - the figure is what the test is for
    assert len(lines) <= FILES_MAX


def _told(lines: dict[str, int]) -> str:
    each = ", ".join(f"{name} {count}" for name, count in lines.items())
    return f"\na fifth participant: {len(lines)} files outside of its package, {sum(lines.values())} lines ({each})"


@pytest.mark.timeout(200)
def test_tree_with_a_fifth_participant_still_passes_what_is_held_about_deployments(
    tmp_path: Path,
) -> None:
    """The chart renders it, Compose runs it, secrets are made for it: nothing was forgotten."""
    tree = addition.copied(tmp_path / "tree")
    addition.add(tree)
    made = _python(tree, "-m", "shop.deploy.manifests")
    assert made.returncode == 0, made.stderr
    for name in _RENDERED:
        assert "loyalty" in (tree / name).read_text(), name

    done = _python(
        tree, "-m", "pytest", "-q", "-p", "no:randomly", "-k", "not git and not repository", *_HELD
    )

    assert done.returncode == 0, done.stdout + done.stderr
