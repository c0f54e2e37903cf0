"""Where a service listens: IPv4, IPv6, or both by one port."""

import socket

import pytest

from service_chassis import server
from service_chassis.settings import ServiceSettings


@pytest.mark.parametrize(
    ("host", "reached"),
    [
        ("127.0.0.1", ["127.0.0.1"]),
        ("0.0.0.0", ["127.0.0.1"]),  # noqa: S104
        ("::1", ["::1"]),
        ("::", ["127.0.0.1", "::1"]),
    ],
)
def test_service_is_reached_at_every_address_that_its_host_stands_for(
    host: str, reached: list[str]
) -> None:
    """A pod in a cluster of IPv6 has no other address."""
    if "::1" in reached and not _has_ipv6():
        pytest.skip("this machine has no IPv6")
    settings = ServiceSettings(
        database_url="postgresql+psycopg2://shop@localhost/shop", host=host, public_port=0
    )
    with server._bound("public_port", settings) as listener:
        port = listener.getsockname()[1]
        for address in reached:
            socket.create_connection((address, port), timeout=5).close()


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True
