"""Schemathesis makes requests of all kinds from the documents, good and bad ones, and holds the answers against them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from documents import SERVICES
from running_shop import ROOT, Shop

#: Of each operation, beside what follows from its document: no limit of time, so that a busy
#: machine tries as much as an idle one.
EXAMPLES = 3
_CONFIG = """\
[warnings]
fail-on = false
"""


@pytest.fixture(scope="module")
def spoilt(start_shop: Callable[..., Shop]) -> Iterator[Shop]:
    """Return a shop of its own: requests to the internal ports leave traces that no customer should meet."""
    shop = start_shop()
    yield shop
    shop.stop()


def assert_nothing_is_found(folder: Path, url: str, *options: str) -> None:
    """Let schemathesis try everything that the document at ``url`` has, by all of its checks."""
    (folder / "schemathesis.toml").write_text(_CONFIG)
    limits = (f"--max-examples={EXAMPLES}", "--seed=1", "--no-color")
    done = subprocess.run(
        [
            str(Path(sys.executable).parent / "schemathesis"),
            "run",
            url,
            "--checks=all",
            *limits,
            *options,
        ],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT / "test"),
            "SCHEMATHESIS_HOOKS": "schemathesis_hooks",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("service", SERVICES)
def test_public_requests(tmp_path: Path, shop: Shop, service: str) -> None:
    """What the document allows is accepted, what it forbids is refused, and every answer is as it says."""
    prefix = "" if service == "order" else f"/{service}"

    assert_nothing_is_found(tmp_path, f"http://{shop.address}{prefix}/openapi.json")


@pytest.mark.parametrize("service", SERVICES)
def test_internal_requests(tmp_path: Path, spoilt: Shop, service: str) -> None:
    """The same with the key of a pair of services, and without it 401."""
    keys = json.loads((spoilt.data / "secrets.json").read_text())
    key = keys["payment_key" if service == "order" else f"{service}_key"]

    internal = spoilt.services()[service]["internal"]
    assert_nothing_is_found(
        tmp_path, f"{internal}/openapi.json", f"--header=Authorization: Bearer {key}"
    )
