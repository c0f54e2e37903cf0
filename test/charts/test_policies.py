"""What every pod, service and route of the shop must be like, whatever the values."""

import copy
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest

from charts.conftest import Resource, values
from charts.workloads import (
    Workload,
    broken_restrictions,
    environment,
    of_kind,
    selects,
    workloads,
)
from order_service.settings import OrderSettings
from service_chassis.settings import ParticipantSettings
from shop import topology

Rendered = Callable[..., tuple[Resource, ...]]
PARTICIPANTS = tuple(participant.host for participant in topology.PARTICIPANTS)


def test_pods_are_what_the_restricted_level_takes(resources: tuple[Resource, ...]) -> None:
    """A process that is taken over has no root, no capability, and nothing that it can write to but /tmp and its data."""
    assert not {
        str(each): broken for each in workloads(resources) if (broken := broken_restrictions(each))
    }


@pytest.mark.parametrize(
    "name", ["allowPrivilegeEscalation", "readOnlyRootFilesystem", "capabilities"]
)
def test_restriction_that_is_dropped_is_noticed(rendered: Rendered, name: str) -> None:
    """Without this the test above might check nothing."""
    workload = copy.deepcopy(next(workloads(rendered())))
    del workload.spec["containers"][0]["securityContext"][name]

    assert broken_restrictions(workload) == [f"{workload.containers[0]['name']}: {name}"]


def test_no_pod_has_a_token_for_the_cluster_or_shares_an_account_with_another_part(
    resources: tuple[Resource, ...],
) -> None:
    """Nobody in the shop talks to Kubernetes; a service's migration is that service."""
    accounts = {each["metadata"]["name"]: each for each in of_kind(resources, "ServiceAccount")}

    assert not [
        name
        for name, account in accounts.items()
        if account["automountServiceAccountToken"] is not False
    ]
    for workload in workloads(resources):
        own = (
            workload.labels["app.kubernetes.io/name"]
            .replace("-migration", "-service")
            .replace("shop-test", "order-service")
        )
        assert workload.spec["automountServiceAccountToken"] is False
        assert workload.spec["serviceAccountName"] == own
        assert own in accounts


def test_pods_are_not_told_of_every_service_by_variables(resources: tuple[Resource, ...]) -> None:
    """Variables such as ORDER_SERVICE_PORT would mix with the settings."""
    assert all(workload.spec["enableServiceLinks"] is False for workload in workloads(resources))


def test_containers_ask_for_what_they_need_and_have_a_limit_of_memory(
    resources: tuple[Resource, ...],
) -> None:
    """The scheduler must know; and processor time is not limited, because a throttled coordinator is a slow shop."""
    for workload in workloads(resources):
        for container in workload.containers:
            assert {"cpu", "memory"} <= set(container["resources"]["requests"]), workload
            assert set(container["resources"]["limits"]) == {"memory"}, workload


def test_images_have_a_version_and_cannot_come_from_a_stranger(
    resources: tuple[Resource, ...],
) -> None:
    """`latest` is another image tomorrow.

    Our own are loaded or come from a registry that somebody names.
    """
    for workload in workloads(resources):
        for container in workload.containers:
            image = container["image"]
            assert "@sha256:" in image or ":" in image.rsplit("/", 1)[-1], workload
            assert not image.endswith(":latest"), workload
            assert image.startswith(("localhost/shop/", "postgres:")), workload
            assert container["imagePullPolicy"] == "IfNotPresent"


def test_probes_tell_alive_from_ready(resources: tuple[Resource, ...]) -> None:
    """Alive must not depend on the database, ready must; and a slow start is neither."""
    for workload in workloads(resources, "Deployment"):
        prefix = (
            "" if workload.name == "order-service" else f"/{workload.name.removesuffix('-service')}"
        )
        (container,) = workload.containers
        paths = {
            name: container[f"{name}Probe"]["httpGet"]["path"]
            for name in ("startup", "liveness", "readiness")
        }

        live, ready = f"{prefix}/health/live", f"{prefix}/health/ready"
        assert paths == {"startup": live, "liveness": live, "readiness": ready}
        assert container["readinessProbe"]["timeoutSeconds"] >= 3, "the database has 2 s to connect"


def test_stopping_pod_waits_for_the_proxies_and_then_has_time_to_finish(
    resources: tuple[Resource, ...],
) -> None:
    """First no new requests come, then the signal; a service needs up to 10 s from there."""
    for workload in workloads(resources, "Deployment"):
        (container,) = workload.containers
        command, seconds = container["lifecycle"]["preStop"]["exec"]["command"]

        assert command == "sleep"
        assert workload.spec["terminationGracePeriodSeconds"] >= int(seconds) + 10


def test_rollout_takes_nobody_away_before_another_is_ready(resources: tuple[Resource, ...]) -> None:
    """A new version that does not get ready harms nobody."""
    for deployment in of_kind(resources, "Deployment"):
        assert deployment["spec"]["strategy"]["rollingUpdate"] == {
            "maxSurge": 1,
            "maxUnavailable": 0,
        }


def test_variables_are_named_once_and_are_all_that_the_settings_require(
    resources: tuple[Resource, ...],
) -> None:
    """A service that lacks a setting does not start; a name given twice hides one of two values."""
    for workload in workloads(resources):
        assert len(set(environment(workload))) == len(environment(workload)), workload
    for workload in workloads(resources, "Deployment"):
        settings = OrderSettings if workload.name == "order-service" else ParticipantSettings
        required = {
            name.upper() for name, field in settings.model_fields.items() if field.is_required()
        }
        assert set(environment(workload)) == required | {"DATABASE_PASSWORD"}


def test_both_ends_of_the_protocol_share_a_key(
    rendered: Rendered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key that order_service shows to a participant is the one that the participant takes, and no other's."""
    coordinator, *others = workloads(rendered(), "Deployment")
    variables = {each["name"]: each.get("value", "") for each in coordinator.containers[0]["env"]}
    mounts = {each["name"]: each["mountPath"] for each in coordinator.containers[0]["volumeMounts"]}
    (keys,) = (
        each["secret"]["items"] for each in coordinator.spec["volumes"] if each["name"] == "keys"
    )
    for each in keys:
        (tmp_path / each["path"]).write_text(f"{each['key']}, made for both ends of a test\n")
    monkeypatch.setenv("DATABASE_URL", "postgresql+psycopg2://order_service@db/shop")
    monkeypatch.setenv(
        "PARTICIPANTS", variables["PARTICIPANTS"].replace(mounts["keys"], str(tmp_path))
    )
    asked = OrderSettings.load().participants
    taken = {
        workload.name: variable["valueFrom"]["secretKeyRef"]["key"]
        for workload in others
        for variable in workload.containers[0]["env"]
        if variable["name"] == "ORDER_KEY"
    }

    assert {
        f"{name}-service": each.key.get_secret_value().split(",")[0] for name, each in asked.items()
    } == taken
    assert len(set(taken.values())) == len(PARTICIPANTS)
    assert [each.urls for each in asked.values()] == [
        (f"http://{each}-internal:8001",) for each in PARTICIPANTS
    ]


def test_services_find_the_pods_that_they_are_named_after(resources: tuple[Resource, ...]) -> None:
    """A Service without pods is an address at which nobody answers."""
    pods = list(workloads(resources))
    for service in of_kind(resources, "Service"):
        name = service["metadata"]["name"].removesuffix("-internal")
        chosen = [
            pod for pod in pods if selects({"matchLabels": service["spec"]["selector"]}, pod.labels)
        ]
        ports = {port["name"] for pod in chosen for port in pod.containers[0]["ports"]}

        assert [pod.name for pod in chosen] == [name]
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


def test_every_path_of_the_ingress_is_served_on_a_public_port(rendered: Rendered) -> None:
    """Six prefixes, one host, no annotation; and nothing leads to an internal port."""
    resources = rendered()
    services = {
        each["metadata"]["name"]: each["spec"]["ports"] for each in of_kind(resources, "Service")
    }
    (ingress,) = of_kind(resources, "Ingress")
    (rule,) = ingress["spec"]["rules"]

    backends = {path["path"]: path["backend"]["service"] for path in rule["http"]["paths"]}

    assert rule["host"] == "arch.homework"
    assert "annotations" not in ingress["metadata"]
    assert set(backends) == {"/", "/orders", "/transactions", "/payment", "/stock", "/delivery"}
    assert all(path["pathType"] == "Prefix" for path in rule["http"]["paths"])
    for backend in backends.values():
        assert backend["port"] == {"name": "http"}
        assert [port["targetPort"] for port in services[backend["name"]]] == ["http"]


def test_route_of_the_gateway_api_is_the_same_as_the_ingress(rendered: Rendered) -> None:
    """Two ways in, one table."""
    resources = rendered("--set=httpRoute.enabled=true,httpRoute.parentRefs[0].name=public")
    (ingress,), (route,) = of_kind(resources, "Ingress"), of_kind(resources, "HTTPRoute")

    by_ingress = {
        path["path"]: path["backend"]["service"]["name"]
        for path in ingress["spec"]["rules"][0]["http"]["paths"]
    }
    by_route = {
        rule["matches"][0]["path"]["value"]: rule["backendRefs"][0]["name"]
        for rule in route["spec"]["rules"]
    }

    assert by_route == by_ingress
    assert {rule["backendRefs"][0]["port"] for rule in route["spec"]["rules"]} == {80}


def test_disruption_budgets_and_spreading_choose_each_services_own_pods(rendered: Rendered) -> None:
    """A drained node or zone takes one pod of a service at a time."""
    resources = rendered()
    budgets = {
        each["metadata"]["name"]: each["spec"] for each in of_kind(resources, "PodDisruptionBudget")
    }
    for workload in workloads(resources, "Deployment"):
        selectors = [
            budgets[workload.name]["selector"],
            *(each["labelSelector"] for each in workload.spec["topologySpreadConstraints"]),
        ]
        assert all(selects(selector, workload.labels) for selector in selectors)
        assert budgets[workload.name]["maxUnavailable"] == 1


def test_all_pods_at_their_most_fit_into_the_databases_connections() -> None:
    """The chart says so when they do not; its own values must be well inside."""
    settings = values()
    pods = sum(service["replicas"] + 1 for service in settings["services"].values())

    assert (
        pods * settings["config"]["DATABASE_POOL_SIZE"]
        <= settings["postgresql"]["settings"]["max_connections"] * 0.6
    )


def test_volumes_of_services_hold_nothing_that_matters(resources: tuple[Resource, ...]) -> None:
    """All state of a service is in its schema."""
    volumes = chain.from_iterable(
        each.spec["volumes"] for each in workloads(resources, "Deployment", "Job")
    )

    assert all(
        each == {"name": "tmp", "emptyDir": {}} or each["name"] in ("database-ca", "keys")
        for each in volumes
    )


def test_workload_is_called_by_its_kind_in_a_failure(rendered: Rendered) -> None:
    """A failing policy must say whom it means."""
    assert str(next(workloads(rendered(), "StatefulSet"))) == "StatefulSet service-postgresql"
    assert isinstance(next(workloads(rendered())), Workload)
