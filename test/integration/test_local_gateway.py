"""The gateway as it really runs: who gets a request, and what a client hears when nobody does."""

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from shop import topology
from shop.local import gateway
from shop.local.ports import Ports

SERVICES = tuple(service.host for service in topology.SERVICES)


class Stub(ThreadingHTTPServer):
    """A service that answers with its own name.

    As often as ``breaks`` says it drops the connection instead.
    """

    def __init__(self, name: str) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.name = name
        self.breaks = 0
        self.asked = 0
        threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()


class _Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Stub

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.asked += 1
        if self.server.breaks:
            self.server.breaks -= 1
            self.close_connection = True
            return
        body = f"{self.server.name} {self.path} {self.headers['host']}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 - http.server's own name

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def stubs() -> Iterator[dict[str, Stub]]:
    """Return a stub of each service, and a second one of payment-service."""
    made = {name: Stub(name) for name in (*SERVICES, "payment-service-2")}
    yield made
    for stub in made.values():
        stub.shutdown()
        stub.server_close()


@pytest.fixture(scope="module")
def client(
    stubs: dict[str, Stub], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """Return a client of a gateway.

    Stock-service is down, and payment-service has a third replica that is down.
    """
    folder = tmp_path_factory.mktemp("gateway")
    with ExitStack() as stack:
        ports = stack.enter_context(Ports())
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        replicas = {name: [f"127.0.0.1:{stubs[name].server_port}"] for name in SERVICES}
        replicas["stock-service"] = [f"127.0.0.1:{ports.reserve()}"]
        replicas["payment-service"] += [
            f"127.0.0.1:{stubs['payment-service-2'].server_port}",
            f"127.0.0.1:{ports.reserve()}",
        ]
        config = gateway.configuration(gateway.routes(), replicas, listener.fileno())
        process = gateway.program(config, folder, listener.fileno()).start(subprocess.DEVNULL)
        stack.callback(process.wait)
        stack.callback(process.terminate)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        yield stack.enter_context(httpx.Client(base_url=url, trust_env=False))


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/", "order-service"),
        ("/orders?limit=5", "order-service"),
        ("/transactions/1", "order-service"),
        ("/paymentx", "order-service"),
        ("/PAYMENT", "order-service"),
        ("/delivery", "delivery-service"),
        ("/delivery/slots/1?a=%2F", "delivery-service"),
    ],
)
def test_request_reaches_the_service_of_its_prefix_unchanged(
    client: httpx.Client, path: str, name: str
) -> None:
    """No rewrite: path, query and Host arrive as they were sent, whatever the Host is."""
    assert (
        client.get(path, headers={"Host": "arch.homework"}).text == f"{name} {path} arch.homework"
    )


def test_service_that_is_down_is_a_503_that_says_when_to_come_again(client: httpx.Client) -> None:
    """The client hears a problem like any other of the shop's, and that repeating is right."""
    response = client.post("/stock/products", json={})

    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"
    assert int(response.headers["retry-after"]) > 0
    problem = response.json()
    assert (problem["type"], problem["title"], problem["status"]) == (
        "urn:shop:problem:unavailable",
        "Service Unavailable",
        503,
    )
    assert "stock-service" in problem["detail"]


def test_replica_that_refuses_the_connection_is_skipped(
    client: httpx.Client, stubs: dict[str, Stub]
) -> None:
    """With one replica of three down nobody notices, not even whoever changes something.

    The others share the work.
    """
    asked = {name: stubs[name].asked for name in ("payment-service", "payment-service-2")}

    answers = [client.post("/payment/users", json={}) for _ in range(30)]

    assert {answer.status_code for answer in answers} == {200}
    assert all(stubs[name].asked > before for name, before in asked.items())
    assert sum(stubs[name].asked - before for name, before in asked.items()) == 30


def test_request_that_may_have_been_carried_out_is_not_sent_again(
    client: httpx.Client, stubs: dict[str, Stub]
) -> None:
    """A service that dies while it answers may have done the work.

    Only the client may repeat that, with its key.
    """
    stub = stubs["delivery-service"]
    stub.breaks = 1
    asked = stub.asked

    response = client.post("/delivery/slots", json={})

    assert (response.status_code, response.headers["content-type"]) == (
        503,
        "application/problem+json",
    )
    assert stub.asked == asked + 1
    assert client.post("/delivery/slots", json={}).status_code == 200


def test_requests_wait_while_the_gateway_is_started_again(
    tmp_path: Path, stubs: dict[str, Stub]
) -> None:
    """The listening socket outlives the process.

    Nobody else can take the port, and a client waits instead of failing.
    """
    replicas = {name: [f"127.0.0.1:{stubs[name].server_port}"] for name in SERVICES}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        program = gateway.program(
            gateway.configuration(gateway.routes(), replicas, listener.fileno()),
            tmp_path,
            listener.fileno(),
        )
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/orders"
        process = program.start(subprocess.DEVNULL)
        assert httpx.get(url, trust_env=False).status_code == 200
        process.kill()
        process.wait()

        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(httpx.get, url, trust_env=False)
            time.sleep(0.3)
            assert not waiting.done()
            again = program.start(subprocess.DEVNULL)
            assert waiting.result().status_code == 200

        again.terminate()
        again.wait()


def test_gateway_writes_nothing_outside_its_folder(tmp_path: Path) -> None:
    """What a run leaves is where SHOP_DATA says."""
    program = gateway.program({}, tmp_path, listener=0)

    assert set(program.environment.values()) == {str(tmp_path)}
    assert {"HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"} <= set(program.environment)
