"""What rendered resources mean to a cluster.

Which pods they start, who is selected by what, and who may talk to whom.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Resource = Mapping[str, Any]
WITH_PODS = ("Deployment", "StatefulSet", "Job", "Pod")


@dataclass(frozen=True)
class Workload:
    """The pods that one resource starts."""

    kind: str
    name: str
    labels: Mapping[str, str]
    spec: Mapping[str, Any]

    def __str__(self) -> str:
        """Return what a failing test calls it."""
        return f"{self.kind} {self.name}"

    @property
    def containers(self) -> Sequence[Mapping[str, Any]]:
        """Return all containers, those that run first too."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]


def of_kind(resources: Iterable[Resource], *kinds: str) -> list[Resource]:
    """Return the resources of some kinds."""
    return [resource for resource in resources if resource["kind"] in kinds]


def workloads(resources: Iterable[Resource], *kinds: str) -> Iterator[Workload]:
    """Return whatever starts pods, or only some kinds of it."""
    for resource in of_kind(resources, *(kinds or WITH_PODS)):
        pod = resource if resource["kind"] == "Pod" else resource["spec"]["template"]
        yield Workload(
            resource["kind"], resource["metadata"]["name"], pod["metadata"]["labels"], pod["spec"]
        )


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Return whether a label selector chooses something with ``labels``."""
    wanted = selector.get("matchLabels", {}).items()
    expressions = selector.get("matchExpressions", [])
    assert all(each["operator"] == "In" for each in expressions), "only In is understood here"
    return all(labels.get(key) == value for key, value in wanted) and all(
        labels.get(each["key"]) in each["values"] for each in expressions
    )


def may_talk(
    resources: Iterable[Resource], source: Mapping[str, str], target: Mapping[str, str], port: int
) -> bool:
    """Return whether the network policies let pods with ``source`` labels reach ``port`` of pods with ``target`` labels."""
    policies = [policy["spec"] for policy in of_kind(resources, "NetworkPolicy")]
    return _allowed(policies, "Egress", source, target, port) and _allowed(
        policies, "Ingress", target, source, port
    )


def _allowed(
    policies: Sequence[Mapping[str, Any]],
    direction: str,
    own: Mapping[str, str],
    other: Mapping[str, str],
    port: int,
) -> bool:
    concerned = [
        policy
        for policy in policies
        if direction in policy["policyTypes"] and selects(policy["podSelector"], own)
    ]
    rules = [rule for policy in concerned for rule in policy.get(direction.lower(), [])]
    return not concerned or any(_matches(rule, direction, other, port) for rule in rules)


def _matches(rule: Mapping[str, Any], direction: str, other: Mapping[str, str], port: int) -> bool:
    peers = rule.get("to" if direction == "Egress" else "from")
    ports = rule.get("ports")
    at_the_port = ports is None or any(
        each["port"] == port and each["protocol"] == "TCP" for each in ports
    )
    # A peer of another namespace is none of ours.
    with_the_peer = peers is None or any(
        selects(peer["podSelector"], other)
        for peer in peers
        if "podSelector" in peer and "namespaceSelector" not in peer
    )
    return at_the_port and with_the_peer


def environment(workload: Workload) -> list[str]:
    """Return the names of the variables that a workload's containers are given by name."""
    return [
        variable["name"]
        for container in workload.containers
        for variable in container.get("env", [])
    ]


def broken_restrictions(workload: Workload) -> list[str]:
    """Return what a namespace with the pod security level "restricted" would refuse, and a root that can be written."""
    pod = workload.spec.get("securityContext", {})
    broken = [name for name in ("hostNetwork", "hostPID", "hostIPC") if workload.spec.get(name)]
    broken += [
        f"volume {each['name']}" for each in workload.spec.get("volumes", []) if "hostPath" in each
    ]
    for container in workload.containers:
        own = {**pod, **container.get("securityContext", {})}
        right = {
            "runAsNonRoot": own.get("runAsNonRoot") is True,
            "runAsUser": own.get("runAsUser", 0) > 0,
            "seccompProfile": own.get("seccompProfile", {}).get("type")
            in ("RuntimeDefault", "Localhost"),
            "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
            "capabilities": own.get("capabilities") == {"drop": ["ALL"]},
            "readOnlyRootFilesystem": own.get("readOnlyRootFilesystem") is True,
            "privileged": not own.get("privileged"),
        }
        broken += [f"{container['name']}: {name}" for name, holds in right.items() if not holds]
    return broken
