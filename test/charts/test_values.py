"""A values file and --set give the same manifests, and a number lands exactly as written."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from charts.conftest import templated
from charts.workloads import of_kind, workloads
from shop.deploy.manifests import CHART
from shop.topology import SERVICES

DIGEST = "sha256:" + "0123456789abcdef" * 4
_SMALL = {"cpu": 0.5, "memory": 134217728, "ephemeral-storage": 1000000}
_LARGE = {
    "requests": _SMALL,
    "limits": {"cpu": 2, "memory": 268435456, "ephemeral-storage": 2000000},
}
_CA = {"secret": "ca", "configMap": "", "key": "root.pem"}
_SERVICE = {"replicas": 3, "digest": "", "databaseHost": "db.example.org", "resources": _LARGE}

#: A value for every scalar of the schema, large where a number may be; OTHERS has what excludes it.
VALUES: dict[str, Any] = {
    "namespace": {"create": True},
    "image": {
        "repository": "registry:5000/shop",
        "tag": 20261127,
        "pullPolicy": "Always",
        "pullSecrets": ["one"],
    },
    "services": dict.fromkeys((service.name for service in SERVICES), _SERVICE),
    "migrations": {"resources": _LARGE},
    "test": {"resources": _LARGE},
    "config": {
        "HOST": "::",
        "LOG_LEVEL": "DEBUG",
        "LOG_FORMAT": "console",
        "PREPARE_TIMEOUT_SECONDS": 2.5,
        "DECISION_TIMEOUT_SECONDS": 1.25,
        "CLIENT_DEADLINE_SECONDS": 86400,
        "IN_DOUBT_AFTER_SECONDS": 80000.5,
        "SWEEP_INTERVAL_SECONDS": 0.0625,
        "QUESTION_TIMEOUT_SECONDS": 70000,
        "FAST_PATH": False,
        "KEEP_ALIVE_SECONDS": 100,
        "BATCH_LIMIT": 1024,
        "QUEUE_LIMIT": 1000000,
        "DATABASE_POOL_SIZE": 100,
        "SYNCHRONOUS_STANDBY_REQUIRED": False,
    },
    "secrets": {"existingSecret": "mine"},
    "database": {
        "externalHost": "",
        "port": 65432,
        "name": "shop_2",
        "sslmode": "verify-ca",
        "ca": _CA,
    },
    "postgresql": {
        "image": {"repository": "postgres", "tag": 18, "digest": "", "pullPolicy": "Never"},
        "mountPath": "/var/lib/data",
        "dataDirectory": "/var/lib/data/pg",
        "user": 1000680000,
        "storage": {"size": 1073741824, "className": "fast"},
        "settings": {
            "max_connections": 2000000,
            "work_mem": 1048576,
            "jit": False,
            "random_page_cost": 1.1,
        },
        "resources": _LARGE,
    },
    "ingress": {
        "enabled": True,
        "className": "nginx",
        "host": "shop.example.org",
        "tlsSecret": "tls",
    },
    "httpRoute": {"enabled": True, "parentRefs": [{"name": "public", "port": 1000000}]},
    "shutdown": {"drainSeconds": 1000000, "finishSeconds": 2000000},
    "podDisruptionBudget": {"enabled": False},
    "autoscaling": {
        "enabled": True,
        "minReplicas": 3,
        "maxReplicas": 1000,
        "targetCPUUtilizationPercentage": 99,
    },
    "networkPolicy": {
        "enabled": True,
        "dnsPorts": [53, 5353],
        "publicFrom": [{"namespaceSelector": {"matchLabels": {"name": "ingress"}}}],
        "metricsFrom": [{"podSelector": {"matchLabels": {"app": "prometheus"}}}],
        "extraEgress": [{"ports": [{"port": 1000000}]}],
    },
    "monitoring": {
        "serviceMonitor": True,
        "prometheusRule": True,
        "dashboard": False,
        "labels": {"release": "prometheus"},
    },
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"operator": "Exists", "tolerationSeconds": 1000000}],
    "priorityClassName": "high",
    "ipFamilyPolicy": "PreferDualStack",
    "user": 1000680000,
}
#: What VALUES leaves no room for.
OTHERS: dict[str, Any] = {
    "database": {
        "externalHost": "fd00::5",
        "sslmode": "verify-full",
        "ca": {"configMap": "ca"},
    },
    "config": {"SYNCHRONOUS_STANDBY_REQUIRED": True, "LOG_FORMAT": "json"},
    "services": {name: {"digest": DIGEST} for name in ("order", "payment")},
    "secrets": {"existingSecret": "another"},
    "podDisruptionBudget": {"enabled": True},
    "user": "",
    "postgresql": {"image": {"digest": DIGEST}},
    "monitoring": {"dashboard": True},
}


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _leaves(part, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from _leaves(part, f"{path}[{number}]")
    else:
        yield path, value


def _as_written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _by_file(values: dict[str, Any], folder: Path) -> list[Any]:
    path = folder / "values.yaml"
    path.write_text(yaml.safe_dump(values))
    return _documents(f"--values={path}")


def _by_set(values: dict[str, Any]) -> list[Any]:
    return _documents(*(f"--set={path}={_as_written(value)}" for path, value in _leaves(values)))


def _documents(*options: str) -> list[Any]:
    done = templated(*options)
    assert not done.returncode, done.stderr
    assert not re.search(r"\d[eE]\+\d", done.stdout)
    return [each for each in yaml.safe_load_all(done.stdout) if each]


@pytest.mark.parametrize("values", [VALUES, OTHERS], ids=["everything", "what excludes it"])
def test_values_file_and_set_give_the_same_manifests(
    values: dict[str, Any], tmp_path: Path
) -> None:
    """To helm, a number is a float in a file, and an integer or text from --set."""
    by_file, by_set = _by_file(values, tmp_path), _by_set(values)

    assert [each["metadata"]["name"] for each in by_file] == [
        each["metadata"]["name"] for each in by_set
    ]
    for one, other in zip(by_file, by_set, strict=True):
        assert one == other


def test_numbers_land_as_they_were_written(tmp_path: Path) -> None:
    """Whatever the number goes into: an image, a setting, a port, a quantity, a user."""
    resources = _by_file(VALUES, tmp_path)
    (config,) = [
        each
        for each in of_kind(resources, "ConfigMap")
        if each["metadata"]["name"] == "shop-config"
    ]
    (database,) = workloads(resources, "StatefulSet")
    services = list(workloads(resources, "Deployment"))

    assert {name: config["data"][name] for name in VALUES["config"]} == {
        name: _as_written(value) for name, value in VALUES["config"].items()
    }
    assert {each.containers[0]["image"].rsplit(":", 1)[1] for each in services} == {"20261127"}
    assert {each.containers[0]["resources"]["requests"]["memory"] for each in services} == {
        "134217728"
    }
    assert {each.spec["securityContext"]["runAsUser"] for each in (*services, database)} == {
        1000680000
    }
    assert {"max_connections=2000000", "work_mem=1048576", "jit=off"} <= set(
        database.containers[0]["args"]
    )


def test_every_scalar_of_the_schema_is_tried() -> None:
    """A value that is added to the chart is added here too."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    tried = {re.sub(r"\[\d+\]", "", path) for path, _ in _leaves(VALUES)}

    # Of what the schema leaves open, something is tried.
    inside = {path.rsplit(".", number)[0] for path in tried for number in range(4)}

    assert _scalars(schema, schema) - inside == {"global"}


def _scalars(schema: dict[str, Any], part: dict[str, Any], path: str = "") -> set[str]:
    if "$ref" in part:
        part = schema["$defs"][part["$ref"].rsplit("/", 1)[1]]
    found = {
        leaf
        for name, inner in part.get("properties", {}).items()
        for leaf in _scalars(schema, inner, f"{path}.{name}" if path else name)
    }
    return found or {path}


def test_number_that_a_file_cannot_hold_is_refused(tmp_path: Path) -> None:
    """Helm has rounded it before the chart sees it."""
    path = tmp_path / "values.yaml"
    path.write_text("image: {tag: 20261127001122334}")

    done = templated(f"--values={path}")

    assert done.returncode
    assert "in quotes" in done.stderr


@pytest.mark.parametrize(
    "setting", ["config.SWEEP_INTERVAL_SECONDS=0.0", "config.SWEEP_INTERVAL_SECONDS=-1.5", "user=0"]
)
def test_what_a_number_may_not_be_is_refused_as_text_too(setting: str) -> None:
    """--set hands a fraction over as text."""
    assert templated(f"--set={setting}").returncode


def test_user_is_left_to_the_cluster_where_none_is_named() -> None:
    """OpenShift gives each namespace users of its own, and refuses others."""
    resources = _documents("--set=user=,postgresql.user=")
    contexts = [each.spec["securityContext"] for each in workloads(resources)]

    assert contexts
    assert not [each for each in contexts if {"runAsUser", "runAsGroup", "fsGroup"} & set(each)]
