"""An upgrade that cannot do what it is asked to says so, and one that can takes nothing away."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from charts.conftest import Resource, helm
from charts.fake_cluster import Objects, templated_beside
from charts.workloads import of_kind
from shop.deploy.kubernetes_tools import found
from shop.deploy.manifests import CHART, NAMESPACE

Rendered = Callable[..., tuple[Resource, ...]]
SECRET = ("secrets", "shop-secrets")
CLAIM = ("persistentvolumeclaims", "data-service-postgresql-0")
SET = ("statefulsets", "service-postgresql")
PATCH = '{"spec":{"resources":{"requests":{"storage":"2Gi"}}}}'


def _object(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    version = {"StatefulSet": "apps/v1", "Deployment": "apps/v1"}.get(kind, "v1")
    ours = {"meta.helm.sh/release-name": "shop", "meta.helm.sh/release-namespace": NAMESPACE}
    metadata = {
        "name": name,
        "namespace": NAMESPACE,
        "labels": {"app.kubernetes.io/managed-by": "Helm"},
        "annotations": ours,
    }
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **spec}


def _claimed(size: str, storage_class: str | None = None) -> dict[str, Any]:
    named = {"storageClassName": storage_class} if storage_class else {}
    return {"resources": {"requests": {"storage": size}}, **named}


def _database(volume: str, template: str, storage_class: str | None = None) -> Objects:
    """Return an installed database.

    What its volume was asked for, and what its StatefulSet says.
    """
    templates = [{"metadata": {"name": "data"}, "spec": _claimed(template, storage_class)}]
    return {
        SECRET: _object("Secret", SECRET[1], data={}),
        CLAIM: _object(
            "PersistentVolumeClaim", CLAIM[1], spec=_claimed(volume, storage_class or "default")
        ),
        SET: _object("StatefulSet", SET[1], spec={"volumeClaimTemplates": templates}),
    }


@pytest.mark.parametrize("size", ["1Gi", "1024Mi", "1073741824"])
def test_volume_of_the_same_size_is_left_alone(tmp_path: Path, size: str) -> None:
    """However the size is written."""
    done = templated_beside(
        _database("1Gi", "1Gi"), tmp_path, f"--set=postgresql.storage.size={size}"
    )

    assert not done.returncode, done.stderr


@pytest.mark.parametrize(
    "objects",
    [_database("1Gi", "1Gi"), {**_database("1Gi", "1Gi"), SET: None}],
    ids=["runs", "gone"],
)
def test_changed_volume_size_is_answered_with_what_to_do(tmp_path: Path, objects: Objects) -> None:
    """The API server only calls the field forbidden; a volume that was kept would stay small."""
    done = templated_beside(objects, tmp_path, "--set=postgresql.storage.size=2Gi")

    assert done.returncode
    assert "postgresql.storage.size is 2Gi" in done.stderr
    assert (
        'patch pvc data-service-postgresql-0 --patch \'{"spec":{"resources":{"requests":{"storage":"2Gi"}}}}\''
        in done.stderr
    )
    assert "delete statefulset service-postgresql --cascade=orphan" in done.stderr


def test_volume_that_has_grown_asks_for_the_stateful_set_alone(tmp_path: Path) -> None:
    """The second half of what there is to do."""
    done = templated_beside(_database("2Gi", "1Gi"), tmp_path, "--set=postgresql.storage.size=2Gi")

    assert done.returncode
    assert "the StatefulSet service-postgresql was made with 1Gi" in done.stderr
    assert "patch pvc" not in done.stderr


def test_upgrade_goes_on_when_both_halves_are_done(tmp_path: Path) -> None:
    """The StatefulSet is made again, around the pod that runs."""
    done = templated_beside(
        {**_database("2Gi", "1Gi"), SET: None}, tmp_path, "--set=postgresql.storage.size=2Gi"
    )

    assert not done.returncode, done.stderr


@pytest.mark.parametrize(("had", "asked"), [(None, "fast"), ("fast", ""), ("fast", "slow")])
def test_changed_storage_class_is_refused_in_a_sentence(
    tmp_path: Path, had: str | None, asked: str
) -> None:
    """No upgrade moves data from one class to another."""
    done = templated_beside(
        _database("1Gi", "1Gi", had), tmp_path, f"--set=postgresql.storage.className={asked}"
    )

    assert done.returncode
    assert "postgresql.storage.className" in done.stderr


def test_database_elsewhere_is_not_asked_about_a_volume(tmp_path: Path) -> None:
    """The chart's own database may have been there before."""
    done = templated_beside(
        _database("5Gi", "5Gi"), tmp_path, "--set=database.externalHost=db.example.org"
    )

    assert not done.returncode, done.stderr


def test_volume_without_its_secret_is_not_installed_over(tmp_path: Path) -> None:
    """New passwords do not open an old volume."""
    done = templated_beside({CLAIM: _database("1Gi", "1Gi")[CLAIM]}, tmp_path)

    assert done.returncode
    assert "the Secret shop-secrets that opens it is gone" in done.stderr


def test_secret_that_is_there_is_kept_and_one_without_a_key_is_refused(tmp_path: Path) -> None:
    """What a lookup finds goes before what is made at random."""
    objects = {SECRET: _object("Secret", SECRET[1], data={"payment-key": "a2VwdA=="})}
    kept = templated_beside(objects, tmp_path, "--show-only=templates/secrets.yaml")
    refused = templated_beside(objects, tmp_path, "--set=secrets.existingSecret=shop-secrets")

    assert yaml.safe_load(kept.stdout)["data"]["payment-key"] == "a2VwdA=="
    assert "lacks the key postgres-password" in refused.stderr


def test_migration_is_never_out_of_attempts(rendered: Rendered) -> None:
    """A Job that has failed stays failed whatever is applied; one that goes on ends well."""
    jobs = of_kind(rendered(), "Job")

    assert {job["spec"]["backoffLimit"] for job in jobs} == {2**31 - 1}
    assert not [job for job in jobs if "activeDeadlineSeconds" in job["spec"]]
    assert {job["spec"]["template"]["spec"]["restartPolicy"] for job in jobs} == {"OnFailure"}


def test_every_upgrade_migrates_again(tmp_path: Path) -> None:
    """A Job of the revision before, done or waiting long between its attempts, is another one."""
    names = [_jobs_of_revision(number, tmp_path / str(number)) for number in (1, 1, 2)]

    assert len(names[0]) == 4
    assert names[0] == names[1]
    assert not names[0] & names[2]


def _jobs_of_revision(number: int, folder: Path) -> set[str]:
    """Render as for the release's revision ``number``: `helm template` knows the first one only."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(CHART, folder)
    template = folder / "templates" / "migrations.yaml"
    text = template.read_text()
    assert ".Release.Revision" in text
    template.write_text(text.replace("$.Release.Revision", str(number)))
    done = helm(
        "template",
        "shop",
        str(folder),
        f"--namespace={NAMESPACE}",
        "--show-only=templates/migrations.yaml",
    )
    return {job["metadata"]["name"] for job in yaml.safe_load_all(done.stdout) if job}


def test_kubectl_takes_the_documented_patch() -> None:
    """What the sentence says is a command."""
    claim = yaml.safe_dump(_object("PersistentVolumeClaim", CLAIM[1], spec=_claimed("1Gi")))
    command = [
        found("kubectl"),
        "patch",
        "--local",
        "--filename=-",
        f"--patch={PATCH}",
        "--output=yaml",
    ]
    done = subprocess.run(command, input=claim, capture_output=True, text=True, check=True)

    assert yaml.safe_load(done.stdout)["spec"]["resources"]["requests"]["storage"] == "2Gi"


@pytest.mark.parametrize(("running", "asked"), [(2, 2), (5, 5), (1, 2), (0, 2), (None, 2)])
def test_autoscaler_keeps_the_pods_that_there_are(
    tmp_path: Path, running: int | None, asked: int
) -> None:
    """Left out, the number is one for Kubernetes; and what the autoscaler made of it stays."""
    there = _object("Deployment", "order-service", spec={"replicas": running})
    objects = {} if running is None else {("deployments", "order-service"): there}
    done = templated_beside(objects, tmp_path, "--set=autoscaling.enabled=true")
    resources = [each for each in yaml.safe_load_all(done.stdout) if each]
    (scaler,) = of_kind(resources, "HorizontalPodAutoscaler")
    found = {
        each["metadata"]["name"]: each["spec"]["replicas"]
        for each in of_kind(resources, "Deployment")
    }

    assert scaler["spec"]["scaleTargetRef"]["name"] == "order-service"
    assert scaler["spec"]["minReplicas"] == 2
    assert found["order-service"] == asked
    assert {found[name] for name in found if name != "order-service"} == {2}
