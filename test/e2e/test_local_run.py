"""`shop up` and `shop demo` as a person meets them.

Restarts, replicas, refusals to start, ends, and data that stays.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import ready_data
from given import Given
from running_shop import ROOT, Shop, launch
from shop import topology

SERVICES = tuple(service.name for service in topology.SERVICES)
PROCESSES = ("postgres", *SERVICES[1:], "order", "gateway")
TWO_OF_EACH = (
    "payment",
    "payment-2",
    "stock",
    "stock-2",
    "delivery",
    "delivery-2",
    "order",
    "order-2",
)


@pytest.fixture(scope="module")
def pair(start_shop: Callable[..., Shop]) -> Iterator[Shop]:
    """Return a shop with two replicas of each service, stopped when this module's tests are done with it."""
    shop = start_shop(SHOP_REPLICAS="2")
    yield shop
    shop.stop()


@pytest.fixture(scope="module")
def order(pair: Shop) -> dict[str, Any]:
    """Return an order that the shop with two replicas can take many times."""
    with httpx.Client(base_url=f"http://{pair.address}", timeout=10) as client:
        return Given(client).order_body(balance=1000, couriers=100)


def _get(shop: Shop, path: str) -> httpx.Response:
    return httpx.get(f"http://{shop.address}{path}", timeout=10)


def _pids(shop: Shop) -> dict[str, int]:
    found = {}
    for path in (shop.data / "run").glob("*.pid"):
        # A process that has just died may lose its file between the two steps.
        with contextlib.suppress(FileNotFoundError):
            found[path.stem] = int(path.read_text())
    return found


def _lives(pid: int) -> bool:
    return Path(f"/proc/{pid}/exe").exists()


def _wait_until(is_so: Callable[[], bool], what: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            pytest.fail(f"after {seconds} seconds still not so: {what}")
        time.sleep(0.05)


def test_every_process_has_a_pid_file_and_is_alive(shop: Shop) -> None:
    """Tests and operators find each process by its name."""
    pids = _pids(shop)

    assert set(pids) == set(PROCESSES)
    assert all(_lives(pid) for pid in pids.values())


@pytest.mark.parametrize("name", ["postgres", "order-2", "delivery", "gateway"])
def test_process_that_is_killed_comes_back(pair: Shop, order: dict[str, Any], name: str) -> None:
    """Whatever dies is started again by itself, its pid file follows, and the shop takes orders again."""
    killed = pair.pid(name)
    os.kill(killed, signal.SIGKILL)

    _wait_until(lambda: _pids(pair).get(name, killed) != killed, f"{name} has a new pid")
    _wait_until(lambda: _lives(_pids(pair).get(name, 0)), f"{name} lives")
    _wait_until(lambda: _takes(pair, order), "an order is confirmed")


def _takes(shop: Shop, order: dict[str, Any]) -> bool:
    """Return whether the order is confirmed.

    A clean 503 means not yet, as does a gateway that is just dying.
    """
    try:
        response = httpx.post(f"http://{shop.address}/orders", json=order, timeout=10)
    except httpx.TransportError:
        return False
    assert response.status_code in (201, 503), response.text
    return response.status_code == 201


def test_two_replicas_of_each_service_share_the_work(pair: Shop) -> None:
    """Any replica may get any request, and with one of them dead nobody sees a failure."""
    pids = _pids(pair)
    assert {*TWO_OF_EACH, "postgres", "gateway"} == set(pids)
    os.kill(pids["stock-2"], signal.SIGKILL)

    answers = [_get(pair, "/stock/health/ready").status_code for _ in range(20)]

    assert set(answers) == {200}
    _wait_until(
        lambda: _pids(pair).get("stock-2", 0) not in (0, pids["stock-2"]), "stock-2 is back"
    )


def test_second_run_on_the_same_data_is_refused(shop: Shop) -> None:
    """The first run is not disturbed, and the user hears which setting to change."""
    second = _up(SHOP_DATA=str(shop.data), SHOP_PORT="0")

    assert second.returncode == 1
    assert "already runs" in second.stdout
    assert "SHOP_DATA" in second.stdout
    assert _get(shop, "/health/ready").status_code == 200


def test_port_that_is_taken_is_named(shop: Shop, tmp_path: Path) -> None:
    """The user hears which port, before anything is started."""
    second = _up(SHOP_DATA=str(tmp_path), SHOP_PORT=str(shop.port))

    assert second.returncode == 1
    assert f"127.0.0.1:{shop.port} (Address already in use): set another SHOP_PORT" in second.stdout
    assert not (tmp_path / "postgres").exists()


def _up(**settings: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "shop", "up"],
        cwd=ROOT,
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=30,
        check=False,
    )


def test_two_runs_side_by_side_do_not_meet(shop: Shop, pair: Shop) -> None:
    """Another SHOP_PORT and another SHOP_DATA are another shop."""
    with httpx.Client(base_url=f"http://{shop.address}") as client:
        created = client.post("/payment/users", json={"name": "only here", "balance": 1}).json()

    assert _get(pair, f"/payment/users/{created['user_id']}").json().get("name") != "only here"
    assert not set(_pids(shop).values()) & set(_pids(pair).values())


def test_data_survive_a_kill_of_everything_and_nothing_is_left_running(
    ready: Path, tmp_path: Path
) -> None:
    """A kill -9 of the run takes all processes with it.

    The next run on the folder has the data, migrates nothing, and ends by Ctrl-C.
    """
    ready_data.copy(ready, tmp_path / "data")
    first = launch(tmp_path)
    first.wait_until_ready()
    created = httpx.post(
        f"http://{first.address}/payment/users", json={"name": "Ivan", "balance": 7}, timeout=10
    ).json()
    pids = _pids(first)
    first.process.kill()
    first.process.wait()

    second = launch(tmp_path)
    second.wait_until_ready()

    assert not any(_lives(pid) for pid in pids.values())
    assert _get(second, f"/payment/users/{created['user_id']}").json() == created
    assert not list((second.data / "logs").glob("migrate-*.log"))
    pids = _pids(second)
    second.process.send_signal(signal.SIGINT)
    assert second.process.wait(10) == 0
    assert not any(_lives(pid) for pid in pids.values())
    assert not _pids(second)


@pytest.mark.parametrize("line", ["PostgreSQL", "database"])
def test_stop_in_the_middle_of_the_start_is_obeyed(ready: Path, tmp_path: Path, line: str) -> None:
    """SIGTERM ends the start as it ends the run: in time, in order, with nothing left."""
    ready_data.copy(ready, tmp_path / "data")
    shop = launch(tmp_path)
    try:
        _wait_until(lambda: line in shop.output.read_text(), f"it has said {line}", 60)
        pids = _pids(shop)
    finally:
        shop.stop()

    assert pids
    assert not any(_lives(pid) for pid in pids.values())
    assert "ready" not in shop.output.read_text().split()


def _picture() -> list[str]:
    """Return the lines of the console that the README shows."""
    blocks = re.findall(
        r"^```text\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )
    return next(block for block in blocks if "scenario" in block).splitlines()


def test_demo_plays_all_seven_steps_and_leaves_nothing(tmp_path: Path) -> None:
    """`make demo` shows every request and answer, and exits 0 because all seven steps held."""
    demo = subprocess.run(
        [sys.executable, "-m", "shop", "demo"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )

    assert demo.returncode == 0, demo.stdout + demo.stderr
    table = demo.stdout[demo.stdout.index("The homework scenario") :]
    assert table.count("held") == 7 + 1
    assert [line.rstrip() for line in table.splitlines()] == _picture()
    for shown in (
        'POST /payment/users {"name": "Ivan", "balance": 110}',
        "insufficient_funds",
        "out_of_stock",
        "no_courier",
    ):
        assert shown in demo.stdout
    assert not list(tmp_path.glob("shop-demo-*"))


def test_addresses_are_told_while_it_runs(shop: Shop) -> None:
    """Tests and tools find every listener without searching."""
    addresses = json.loads((shop.data / "run" / "addresses.json").read_text())

    assert addresses["gateway"] == f"http://{shop.address}"
    assert set(addresses["services"]) == {*SERVICES}
    assert httpx.get(f"{addresses['services']['order']['internal']}/metrics").status_code == 200
