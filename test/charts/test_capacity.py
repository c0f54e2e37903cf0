"""What the shop asks a cluster for: a small node is enough for it, and a quota can bound it."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from charts.conftest import Resource, read
from charts.workloads import of_kind, workloads
from shop import topology
from shop.project import ROOT

Rendered = Callable[..., tuple[Resource, ...]]
#: A node of two processors and 3 GB, of which a cluster uses this much for itself.
NODE_MILLICORES, OWN_MILLICORES = 2000, 1100
NODE_MIB, OWN_MIB = 3072, 768
_FACTORS = {"m": 0.001, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "": 1}
SERVICES = tuple(service.name for service in topology.SERVICES)
PARTS = (
    *(f"services.{name}.resources" for name in SERVICES),
    *(f"{name}.resources" for name in ("postgresql", "migrations", "test")),
)


def _amount(quantity: str) -> float:
    number = quantity.rstrip("mKMGi")
    return float(number) * _FACTORS[quantity[len(number) :]]


def _asked(resources: Iterable[Resource], what: str) -> float:
    """Return what all pods ask for while everything is rolled, migrated and tested at once.

    An old pod that is stopping still has its place, so that there may be two of each for a moment.
    """
    total = 0.0
    for workload, resource in zip(workloads(resources), _with_pods(resources), strict=True):
        pods = resource["spec"].get("replicas", 1) * (2 if workload.kind == "Deployment" else 1)
        total += pods * sum(
            _amount(each["resources"]["requests"][what]) for each in workload.containers
        )
    return total


def _with_pods(resources: Iterable[Resource]) -> list[Resource]:
    return of_kind(resources, "Deployment", "StatefulSet", "Job", "Pod")


def _manifests() -> list[Resource]:
    return [each for path in sorted((ROOT / "k8s").glob("*.yaml")) for each in read(path)]


@pytest.mark.parametrize("source", ["chart", "k8s"])
def test_everything_can_be_rolled_at_once_on_a_small_node(rendered: Rendered, source: str) -> None:
    """Requests are what a service at rest uses, so that a rollout finds room beside what runs."""
    resources = rendered() if source == "chart" else _manifests()
    millicores, mib = _asked(resources, "cpu") * 1000, _asked(resources, "memory") / 2**20

    print(f"{source}: at most {millicores:.0f}m of 900m, {mib:.0f} MiB")  # noqa: T201 - a figure
    assert millicores <= NODE_MILLICORES - OWN_MILLICORES
    assert mib <= NODE_MIB - OWN_MIB


@pytest.mark.parametrize("name", SERVICES)
def test_request_covers_a_service_at_rest(rendered: Rendered, name: str) -> None:
    """Measured: 90 MB and half a percent of a core. Less than that would be evicted first."""
    (workload,) = [
        each for each in workloads(rendered(), "Deployment") if each.name == f"{name}-service"
    ]
    requests = workload.containers[0]["resources"]["requests"]

    assert _amount(requests["memory"]) >= 90e6
    assert _amount(requests["cpu"]) >= 0.005


def test_quota_can_bound_every_pod(rendered: Rendered) -> None:
    """A quota for limits.cpu refuses every pod that names none: jobs and the test's too."""
    bounded = ",".join(f"{part}.limits.cpu=1,{part}.requests.cpu=7m" for part in PARTS)
    resources = [each["resources"] for each in _containers(rendered(f"--set={bounded}"))]

    assert len(resources) == 10
    assert {each["limits"]["cpu"] for each in resources} == {"1"}
    assert {each["requests"]["cpu"] for each in resources} == {"7m"}


def _containers(resources: Iterable[Resource]) -> list[Any]:
    return [container for workload in workloads(resources) for container in workload.containers]


def test_node_that_is_too_small_is_noticed(rendered: Rendered) -> None:
    """Without this the sum above might add up nothing."""
    before = _asked(rendered("--set=services.order.resources.requests.cpu=200m"), "cpu")

    assert before - _asked(rendered(), "cpu") == pytest.approx(4 * 0.150)
