"""The chart: what it renders is right for a current Kubernetes, and what it cannot render it says in a sentence."""

import ast
import json
import re
import sys
import tomllib
from collections.abc import Callable
from typing import Any

import kubernetes_validate
import pytest
import yaml

from charts.conftest import VALUE_SETS, Resource, helm, templated, values
from charts.workloads import of_kind, workloads
from order_service.settings import OrderSettings
from service_chassis import web
from service_chassis.settings import ParticipantSettings
from shop import topology
from shop.deploy.manifests import CHART
from shop.project import ROOT

Rendered = Callable[..., tuple[Resource, ...]]
SERVICES = tuple(service.name for service in topology.SERVICES)
#: The newest that there are schemas for, and one that people still run.
VERSIONS = ("1.37", "1.29")
#: Kinds of other people's, which the schemas do not know.
FOREIGN = {"HTTPRoute", "ServiceMonitor", "PrometheusRule"}


@pytest.mark.parametrize("name", VALUE_SETS)
def test_chart_passes_the_linter(name: str) -> None:
    """A linter's warning is a defect somewhere else."""
    done = helm("lint", "--strict", str(CHART), *VALUE_SETS[name])

    assert not done.returncode, done.stdout


@pytest.mark.parametrize("version", VERSIONS)
def test_resources_are_what_kubernetes_takes_without_an_unknown_field(
    rendered: Rendered, version: str
) -> None:
    """A field that is misspelt is dropped silently by a cluster, and refused here.

    What several sets share is checked once.
    """
    everything = [resource for options in VALUE_SETS.values() for resource in rendered(*options)]
    different = {
        json.dumps(each, sort_keys=True): each for each in everything if each["kind"] not in FOREIGN
    }

    for resource in different.values():
        kubernetes_validate.validate(resource, version, strict=True)

    assert len({resource["kind"] for resource in different.values()}) == 13


def test_schema_check_itself_refuses_a_misspelt_field(rendered: Rendered) -> None:
    """Without this the test above might check nothing."""
    deployment = json.loads(json.dumps(of_kind(rendered(), "Deployment")[0]))
    deployment["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, VERSIONS[0], strict=True)


CONTRADICTIONS = {
    "config.IN_DOUBT_AFTER_SECONDS=3": "IN_DOUBT_AFTER_SECONDS must be longer",
    "config.CLIENT_DEADLINE_SECONDS=2": "CLIENT_DEADLINE_SECONDS must not be shorter",
    "autoscaling.enabled=true,autoscaling.minReplicas=7": "minReplicas must not be above",
    "httpRoute.enabled=true": "needs httpRoute.parentRefs",
    "postgresql.image.tag=17": "set postgresql.mountPath=/var/lib/postgresql/data",
    "postgresql.mountPath=/var/lib/postgresql/data": "leave postgresql.mountPath at /var/lib/postgresql",
    "services.order.replicas=40": "may open",
    "postgresql.settings.fsync=off": "fsync must stay on",
    "postgresql.settings.full_page_writes=false": "full_page_writes must stay on",
    "autoscaling.enabled=true,services.order.replicas=3": "would take away pods that are there now",
    "config.SYNCHRONOUS_STANDBY_REQUIRED=true": "has no standby",
    "database.sslmode=verify-ca": "needs database.ca.secret or database.ca.configMap",
    "database.sslmode=require": "speaks no TLS",
    "database.ca.secret=ca,database.sslmode=require": "nothing else looks at certificates",
    "database.ca.secret=a,database.ca.configMap=b,database.sslmode=verify-ca": "are both set",
}


@pytest.mark.parametrize("setting", CONTRADICTIONS)
def test_contradiction_ends_the_rendering_with_a_sentence(setting: str) -> None:
    """What cannot work is said before anything is changed in the cluster."""
    done = templated(f"--set={setting}")

    assert done.returncode
    assert CONTRADICTIONS[setting] in done.stderr


@pytest.mark.parametrize(
    "setting",
    [
        "replicas=3",
        "services.orders.replicas=3",
        "services.order.replica=3",
        "services.order.replicas=two",
        "services.order.digest=sha256:abc",
        "config.LOGLEVEL=DEBUG",
        "config.LOG_LEVEL=debug",
        "config.BATCH_LIMIT=0",
        "image.tag=latest",
        "ingress.host=arch homework",
        "postgresql.storage.size=big",
        "shutdown.finishSeconds=5",
        "networkPolicy.publicFrom[0].podselector.a=b",
    ],
)
def test_typing_error_is_refused_by_the_schema(setting: str) -> None:
    """A value that nothing reads is a setting that somebody believes in."""
    done = templated(f"--set={setting}")

    assert done.returncode
    assert "don't meet the specifications of the schema" in done.stderr


def test_every_value_is_in_the_schema() -> None:
    """Schema and values are two lists of the same things."""
    schema = json.loads((CHART / "values.schema.json").read_text())

    assert set(values()) <= set(schema["properties"])
    parts = {name: part for name, part in values().items() if isinstance(part, dict)}
    assert not [
        name
        for name, part in parts.items()
        if set(part) - _known(schema, schema["properties"][name])
        and "propertyNames" not in schema["properties"][name]
    ]


def test_services_of_the_values_are_those_of_the_topology() -> None:
    """A service has a table in the chart and a word in shop/topology.py, or neither."""
    assert sorted(values()["services"]) == sorted(SERVICES)


def test_service_whose_name_has_a_typing_error_is_refused() -> None:
    """It would be one more service otherwise."""
    done = templated("--set=services.paymnet.replicas=3")

    assert done.returncode
    assert "paymnet" in done.stderr


def _known(schema: dict[str, Any], part: dict[str, Any]) -> set[str]:
    if "$ref" in part:
        part = schema["$defs"][part["$ref"].rsplit("/", 1)[1]]
    return set(part.get("properties", {}))


def test_configuration_is_what_the_services_read_with_their_own_defaults() -> None:
    """Without config/ the services do the same as with it, and no name in it is unknown to them."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    fields = {**OrderSettings.model_fields, **ParticipantSettings.model_fields}

    config = values()["config"]

    assert {name.lower() for name in schema["properties"]["config"]["properties"]} <= set(fields)
    assert {name: fields[name.lower()].default for name in config} == config


def test_versions_of_chart_and_code_are_one() -> None:
    """The images that the chart asks for are those that were built from this tree."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert chart["version"] == chart["appVersion"] == project["version"] == web.VERSION


def test_digest_goes_before_the_tag(rendered: Rendered) -> None:
    """A digest is what somebody has checked; a tag may have moved since."""
    digest = "sha256:" + "0123456789abcdef" * 4
    resources = rendered(
        f"--set=services.payment.digest={digest},postgresql.image.digest={digest},image.tag=2"
    )
    images = {
        workload.name: workload.containers[0]["image"]
        for workload in workloads(resources, "Deployment", "StatefulSet")
    }

    assert images["payment-service"] == f"localhost/shop/payment-service@{digest}"
    assert images["service-postgresql"] == f"postgres@{digest}"
    assert images["stock-service"] == "localhost/shop/stock-service:2"


def test_database_is_elsewhere_by_one_value(rendered: Rendered) -> None:
    """Whoever has a database gets no second one, and every service and migration finds it."""
    resources = rendered("--set=database.externalHost=db.example.org")
    urls = [_database_url(workload) for workload in workloads(resources, "Deployment", "Job")]

    assert not of_kind(resources, "StatefulSet")
    assert len(urls) == 8
    assert all(url.endswith("_service@db.example.org:5432/shop") for url in urls)


def test_each_service_may_have_a_database_of_its_own(rendered: Rendered) -> None:
    """The protocol needs no common database, and the chart does not either."""
    resources = rendered("--set=services.stock.databaseHost=stock.example.org")
    hosts = {
        each.name: re.split("[@:]", _database_url(each))[-2]
        for each in workloads(resources, "Deployment")
    }

    assert hosts == {f"{name}-service": "service-postgresql" for name in SERVICES} | {
        "stock-service": "stock.example.org"
    }


def _database_url(workload: Any) -> str:
    return next(
        each["value"] for each in workload.containers[0]["env"] if each["name"] == "DATABASE_URL"
    )


def test_secrets_are_made_at_random_and_outlive_the_release(rendered: Rendered) -> None:
    """No two installations share a password, and the volume can be opened after a removal."""
    (made,) = of_kind(rendered(), "Secret")
    (other,) = of_kind(rendered("--set=config.LOG_LEVEL=INFO"), "Secret")

    assert len(set(made["data"].values())) == len(made["data"]) == 8
    assert not set(made["data"].values()) & set(other["data"].values())
    assert made["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_existing_secret_is_taken_by_everybody_and_none_is_made(rendered: Rendered) -> None:
    """`existingSecret` comes first."""
    resources = rendered("--set=secrets.existingSecret=mine")
    asked = {
        variable["valueFrom"]["secretKeyRef"]["name"]
        for workload in workloads(resources)
        for container in workload.containers
        for variable in container.get("env", [])
        if "valueFrom" in variable
    }

    assert not of_kind(resources, "Secret")
    assert asked == {"mine"}


def test_migration_that_changes_is_another_job(rendered: Rendered) -> None:
    """A Job cannot be changed in a cluster, so one name must never stand for two contents."""
    names = [
        {job["metadata"]["name"] for job in of_kind(rendered(*options), "Job")}
        for options in ((), ("--set=image.tag=2",))
    ]
    again = {
        job["metadata"]["name"] for job in of_kind(rendered("--set=ingress.className=other"), "Job")
    }

    assert len(names[0]) == 4
    assert not names[0] & names[1]
    assert names[0] == again


def test_changed_setting_starts_new_pods(rendered: Rendered) -> None:
    """A service reads its settings once, when it starts."""
    plain, changed = (
        _annotations(rendered(*options)) for options in ((), ("--set=config.BATCH_LIMIT=64",))
    )

    assert not {name for name in plain if plain[name] == changed[name]}


def _annotations(resources: tuple[Resource, ...]) -> dict[str, Any]:
    return {
        each["metadata"]["name"]: each["spec"]["template"]["metadata"]["annotations"]
        for each in of_kind(resources, "Deployment")
    }


def test_nothing_but_the_test_is_a_hook(resources: tuple[Resource, ...]) -> None:
    """`helm install --wait` runs hooks when all is ready, and nothing gets ready before the migrations have run."""
    hooks = {
        each["metadata"]["name"]
        for each in resources
        if "helm.sh/hook" in each["metadata"].get("annotations", {})
    }

    assert hooks == {"shop-test"}


def test_what_helm_test_runs_needs_no_package() -> None:
    """It runs in the image of order_service, which has what that service needs, and no more."""
    script = ast.parse((CHART / "files" / "place_orders.py").read_text())
    imported = {
        alias.name
        for node in ast.walk(script)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    imported |= {str(node.module) for node in ast.walk(script) if isinstance(node, ast.ImportFrom)}

    assert imported
    assert {name.split(".")[0] for name in imported} <= sys.stdlib_module_names
