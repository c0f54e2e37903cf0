"""The local gateway and the cluster's Ingress route alike.

The table is the Ingress's own, and matches as Kubernetes says.
"""

import re
from pathlib import Path

import pytest

from shop.local import gateway

#: What the HTTP contract promises, written down a second time.
CONTRACT = {
    "/": "order-service",
    "/orders": "order-service",
    "/transactions": "order-service",
    "/payment": "payment-service",
    "/stock": "stock-service",
    "/delivery": "delivery-service",
}
REPLICAS = {
    service: [f"127.0.0.1:{7000 + number}"]
    for number, service in enumerate(sorted(set(CONTRACT.values())))
}


def test_gateway_has_the_prefixes_of_the_ingress_and_the_ingress_those_of_the_contract() -> None:
    """A path that works on a laptop works in the cluster."""
    table = {route.prefix: route.service for route in gateway.routes()}

    assert table == CONTRACT


@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("/", "order-service"),
        ("/orders", "order-service"),
        ("/health/ready", "order-service"),
        ("/payment", "payment-service"),
        ("/payment/", "payment-service"),
        ("/payment/users/1", "payment-service"),
        ("/paymentx", "order-service"),
        ("/payment.json", "order-service"),
        ("/Payment/users", "order-service"),
        ("/x/payment", "order-service"),
        ("/stock/products", "stock-service"),
        ("/delivery/slots", "delivery-service"),
    ],
)
def test_prefix_matches_whole_segments_and_the_longest_wins(path: str, service: str) -> None:
    """`pathType: Prefix`: /payment is not a prefix of /paymentx, and upper case is another path."""
    config = gateway.configuration(gateway.routes(), REPLICAS, listener=3)

    routes = config["apps"]["http"]["servers"]["shop"]["routes"]
    first = next(
        route for route in routes if re.search(route["match"][0]["path_regexp"]["pattern"], path)
    )

    proxy = first["handle"][0]["routes"][0]["handle"][0]
    assert proxy["upstreams"] == [{"dial": REPLICAS[service][0]}]


def test_longer_prefix_wins_wherever_it_stands_in_the_manifest(tmp_path: Path) -> None:
    """Kubernetes does not care for the order of paths, so the gateway must not either."""
    backend = "{service: {name: %s, port: {name: http}}}"
    paths = [
        f"{{path: {path}, pathType: Prefix, backend: {backend % name}}}"
        for path, name in (("/", "a"), ("/b", "b"), ("/b/c", "c"))
    ]
    manifest = tmp_path / "ingress.yaml"
    manifest.write_text(f"spec: {{rules: [{{http: {{paths: [{', '.join(paths)}]}}}}]}}")

    assert [route.service for route in gateway.routes(manifest)] == ["c", "b", "a"]


def test_gateway_can_be_told_nothing_at_run_time_and_asks_for_no_certificates() -> None:
    """Plain HTTP, no admin endpoint: nobody on the machine can change where requests go."""
    config = gateway.configuration(gateway.routes(), REPLICAS, listener=3)

    assert config["admin"] == {"disabled": True, "config": {"persist": False}}
    assert config["apps"]["http"]["servers"]["shop"]["automatic_https"] == {"disable": True}
