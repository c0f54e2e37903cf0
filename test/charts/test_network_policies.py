"""Who may talk to whom: the network policies allow what is needed and nothing else."""

from collections.abc import Callable

from charts.conftest import Resource
from charts.workloads import (
    may_talk,
    workloads,
)
from shop import topology

Rendered = Callable[..., tuple[Resource, ...]]
PARTICIPANTS = tuple(participant.host for participant in topology.PARTICIPANTS)


def _labels(resources: tuple[Resource, ...]) -> dict[str, dict[str, str]]:
    pods = {
        each.labels["app.kubernetes.io/name"]: dict(each.labels) for each in workloads(resources)
    }
    return {**pods, "a stranger": {"app": "stranger"}}


def _talks(source: str, target: str, port: int) -> bool:
    """Return whether ``source`` has business at ``port`` of ``target``."""
    clients = (
        "order-service",
        *PARTICIPANTS,
        *(f"{service.name}-migration" for service in topology.SERVICES),
    )
    return (
        (port == 5432 and source in clients and target == "service-postgresql")
        or (port == 8001 and source == "order-service" and target in PARTICIPANTS)
        or (port == 8001 and source in PARTICIPANTS and target == "order-service")
        or (
            port == 8000
            and source in ("a stranger", "shop-test")
            and target in ("order-service", *PARTICIPANTS)
        )
    )


def test_network_policies_allow_what_is_needed_and_nothing_else(rendered: Rendered) -> None:
    """From every kind of pod to every other, at every port.

    The internal protocol is for two, the database for its clients.
    """
    resources = rendered()
    labels = _labels(resources)
    wrong = [
        f"{source} -> {target}:{port}"
        for source in labels
        for target in labels
        for port in (8000, 8001, 5432, 22)
        if target != "a stranger"
        if may_talk(resources, labels[source], labels[target], port) != _talks(source, target, port)
    ]

    assert not wrong


def test_strangers_are_kept_from_the_public_port_when_the_ways_in_are_named(
    rendered: Rendered,
) -> None:
    """`publicFrom` closes the port for all others but helm's test."""
    resources = rendered(
        "--set=networkPolicy.publicFrom[0].namespaceSelector.matchLabels.name=ingress"
    )
    labels = _labels(resources)

    assert not may_talk(resources, labels["a stranger"], labels["order-service"], 8000)
    assert may_talk(resources, labels["shop-test"], labels["order-service"], 8000)
