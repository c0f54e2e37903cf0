"""The chart as helm renders it, for tests that look at what would be applied.

No cluster is needed, and none is asked.
"""

import functools
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from shop.deploy.kubernetes_tools import found
from shop.deploy.manifests import CHART, NAMESPACE, VALUES

Resource = Mapping[str, Any]

#: What people set, together: every optional part of the chart is in one of these.
VALUE_SETS: dict[str, tuple[str, ...]] = {
    "as it is": (),
    "as for k8s": (f"--values={VALUES}",),
    "everything optional": (
        "--set=autoscaling.enabled=true,httpRoute.enabled=true,httpRoute.parentRefs[0].name=public,image.pullSecrets[0]=registry",
        "--set=monitoring.serviceMonitor=true,monitoring.prometheusRule=true,monitoring.dashboard=true,monitoring.labels.release=prometheus",
        "--set=networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.name=monitoring,ingress.tlsSecret=arch-homework",
        "--set=networkPolicy.publicFrom[0].namespaceSelector.matchLabels.name=ingress,ingress.className=nginx",
        "--set=nodeSelector.disk=ssd,tolerations[0].operator=Exists,priorityClassName=high,postgresql.storage.className=fast",
    ),
    "a database elsewhere": (
        "--set=database.externalHost=db.example.org,database.sslmode=verify-full,database.ca.secret=ca",
    ),
    "a database at an IPv6 address": (
        "--set=database.externalHost=fd00::5,database.sslmode=verify-ca,database.ca.configMap=ca",
    ),
    "a database for each service": (
        "--set=database.externalHost=a.example.org,services.payment.databaseHost=b.example.org",
    ),
    "an older PostgreSQL": (
        "--set=postgresql.image.tag=17,postgresql.mountPath=/var/lib/postgresql/data",
        "--set=postgresql.dataDirectory=/var/lib/postgresql/data/pgdata",
    ),
    "as little as possible": (
        "--set=podDisruptionBudget.enabled=false,networkPolicy.enabled=false,ingress.enabled=false",
    ),
}


def helm(*words: str) -> subprocess.CompletedProcess[str]:
    """Run helm; a machine without it fails the tests, which skip nothing."""
    return subprocess.run([found("helm"), *words], check=False, capture_output=True, text=True)


def templated(*options: str) -> subprocess.CompletedProcess[str]:
    """Render the chart."""
    return helm("template", "shop", str(CHART), f"--namespace={NAMESPACE}", *options)


@functools.cache
def _rendered(options: tuple[str, ...]) -> tuple[Resource, ...]:
    done = templated(*options)
    assert not done.returncode, done.stderr
    return tuple(
        resource for resource in yaml.load_all(done.stdout, Loader=yaml.CSafeLoader) if resource
    )


@pytest.fixture(scope="session")
def rendered() -> Callable[..., tuple[Resource, ...]]:
    """Return a function that gives the chart's resources, rendered with options of helm.

    Nobody may change them.
    """
    return lambda *options: _rendered(options)


@pytest.fixture(params=VALUE_SETS, scope="session")
def resources(
    request: pytest.FixtureRequest, rendered: Callable[..., tuple[Resource, ...]]
) -> tuple[Resource, ...]:
    """Return the chart's resources, for each set of values in turn."""
    return rendered(*VALUE_SETS[request.param])


def values() -> dict[str, Any]:
    """Return the chart's own values."""
    return dict(yaml.safe_load((CHART / "values.yaml").read_text()))


def read(path: Path) -> list[Resource]:
    """Return the resources of a file."""
    return [resource for resource in yaml.safe_load_all(path.read_text()) if resource]
