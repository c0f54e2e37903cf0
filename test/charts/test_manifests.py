"""k8s/, config/ and secrets/.

Rendered from the chart, in the order of their numbers, and safe by default.
"""

import base64
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from charts.conftest import helm, read
from charts.workloads import of_kind, workloads
from order_service.settings import OrderSettings
from service_chassis.settings import ParticipantSettings
from shop.deploy import manifests, secrets_files
from shop.project import ROOT, CannotRun
from shop.topology import PACKAGES, PARTICIPANTS

EXAMPLE = ROOT / "secrets" / "shop.yaml.example"


def _secrets(path: Path) -> dict[str, str]:
    return dict(yaml.safe_load(path.read_text())["stringData"])


def _order_settings(secrets: dict[str, str]) -> OrderSettings:
    address = f"postgresql+psycopg2://order_service:{secrets['order-service-password']}@service-postgresql:5432/shop"
    participants = {
        each.name: {"urls": f"http://{each.name}", "key": secrets[f"{each.name}-key"]}
        for each in PARTICIPANTS
    }
    return OrderSettings(database_url=address, participants=participants)


def test_manifests_are_what_the_chart_renders() -> None:
    """The chart is the only source: run `make manifests` after a change."""
    rendered = manifests.render()
    kept = {
        str(path.relative_to(ROOT))
        for folder in ("k8s", "config")
        for path in (ROOT / folder).iterdir()
        if path.suffix in (".yaml", ".yml", ".json", ".sql")
    }

    assert kept == set(rendered)
    assert not [name for name, text in rendered.items() if (ROOT / name).read_text() != text]


def test_what_somebody_needs_has_a_lower_number() -> None:
    """Kubectl applies files by name.

    Namespace, accounts, policies, database, migrations, services, the way in.
    """
    kinds = [
        (path.name, {each["kind"] for each in read(path)})
        for path in sorted((ROOT / "k8s").glob("*.yaml"))
    ]
    names = [name for name, _ in kinds]

    assert kinds[0][1] == {"Namespace"}
    assert kinds[1][1] == {"ServiceAccount"}
    assert kinds[-1][1] == {"Ingress"}
    assert all(re.fullmatch(r"\d\d-[a-z-]+\.yaml", name) for name in names)


def test_everything_is_in_the_namespace_that_the_homework_names() -> None:
    """Nobody has to add -n."""
    files = [*(ROOT / "k8s").glob("*.yaml"), *(ROOT / "config").glob("*.yaml"), EXAMPLE]
    resources = [each for path in files for each in read(path)]

    assert {each["metadata"].get("namespace", each["metadata"]["name"]) for each in resources} == {
        "hw10"
    }


def test_all_but_the_database_can_be_chosen_by_a_label() -> None:
    """Whoever brings a database applies k8s/ with -l app.kubernetes.io/component!=database."""
    resources = [each for path in (ROOT / "k8s").glob("*.yaml") for each in read(path)]
    ours = [each for each in resources if "service-postgresql" in each["metadata"]["name"]]

    assert {each["kind"] for each in ours} == {
        "ConfigMap",
        "NetworkPolicy",
        "Service",
        "ServiceAccount",
        "StatefulSet",
    }
    assert {each["metadata"]["labels"]["app.kubernetes.io/component"] for each in ours} == {
        "database"
    }


def test_manifests_render_for_a_cluster_of_ones_own(tmp_path: Path) -> None:
    """`python -m shop.deploy.manifests --into FOLDER --set ...` leaves what was there before behind."""
    stale = tmp_path / "k8s" / "50-gone.yaml"
    stale.parent.mkdir()
    stale.write_text("kind: Pod")

    manifests.write(manifests.render(settings=["ingress.host=shop.example.org"]), tmp_path)

    assert not stale.exists()
    assert 'host: "shop.example.org"' in (tmp_path / "k8s" / "60-ingress.yaml").read_text()


def test_refused_values_are_refused_here_too() -> None:
    """The reason is the chart's own."""
    with pytest.raises(CannotRun, match="needs httpRoute"):
        manifests.render(settings=["httpRoute.enabled=true"])


def test_repository_holds_examples_of_secrets_and_nothing_else() -> None:
    """What is in secrets/ and is no example is ignored by git."""
    tracked = [
        path for path in (ROOT / "secrets").iterdir() if not path.name.endswith(".yaml.example")
    ]
    ignored = subprocess.run(
        ["git", "check-ignore", "--quiet", "secrets/shop.yaml"], cwd=ROOT, check=False
    ).returncode

    assert {path.suffix for path in tracked} <= {".yaml"}
    assert ignored == 0


def test_example_has_the_keys_that_the_chart_asks_for() -> None:
    """One list, wherever the Secret comes from."""
    resources = [each for path in (ROOT / "k8s").glob("*.yaml") for each in read(path)]
    asked = {
        variable["valueFrom"]["secretKeyRef"]["key"]
        for workload in workloads(resources)
        for variable in workload.containers[0].get("env", [])
        if "valueFrom" in variable
    }

    assert set(_secrets(EXAMPLE)) == asked


@pytest.mark.parametrize(
    "name", ["order-service-password", *(f"{each.name}-key" for each in PARTICIPANTS)]
)
def test_service_refuses_each_example_value(tmp_path: Path, name: str) -> None:
    """Nobody runs a shop on a key that everybody knows, not even by one forgotten line."""
    good = _made(tmp_path)

    with pytest.raises(ValidationError, match="example"):
        _order_settings({**good, name: _secrets(EXAMPLE)[name]})


@pytest.mark.parametrize("name", [each.name for each in PARTICIPANTS])
def test_participant_refuses_the_password_of_the_example(name: str) -> None:
    """Each role has a password of its own."""
    address = f"postgresql+psycopg2://{name}_service:{_secrets(EXAMPLE)[f'{name}-service-password']}@db/shop"

    with pytest.raises(ValidationError, match="example"):
        ParticipantSettings(database_url=address, order_urls="http://o", order_key="k" * 40)


def _made(folder: Path) -> dict[str, str]:
    (folder / EXAMPLE.name).write_text(EXAMPLE.read_text())
    (path,) = secrets_files.make(folder)
    return _secrets(path)


def test_made_secrets_are_random_private_and_taken_by_the_services(tmp_path: Path) -> None:
    """`make secrets` and nothing else has to be done."""
    secrets = _made(tmp_path)

    assert set(secrets) == set(_secrets(EXAMPLE))
    assert len(set(secrets.values())) == len(secrets)
    assert stat.S_IMODE((tmp_path / "shop.yaml").stat().st_mode) == 0o600
    assert _order_settings(secrets)


def test_secrets_that_are_there_are_left_alone(tmp_path: Path) -> None:
    """A running database knows its passwords, not new ones."""
    before = _made(tmp_path)

    assert secrets_files.make(tmp_path) == []
    assert _secrets(tmp_path / "shop.yaml") == before


def _bitnami() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "helm" / "values.yaml").read_text()))


def test_values_for_bitnami_fit_to_secrets_roles_and_policies() -> None:
    """`helm install service bitnami/postgresql -n hw10 -f ./helm/values.yaml` finds what it refers to."""
    values, keys = _bitnami(), _secrets(EXAMPLE)
    (roles,) = read(ROOT / "config" / "postgresql.yaml")
    variables = {
        each["name"]: each["valueFrom"]["secretKeyRef"]
        for each in values["primary"]["extraEnvVars"]
    }

    assert values["image"] == {"repository": "bitnami/postgresql", "tag": "latest"}
    assert values["auth"]["secretKeys"]["adminPasswordKey"] in keys
    assert values["primary"]["initdb"]["scriptsConfigMap"] == roles["metadata"]["name"]
    assert set(re.findall(r"\\getenv \w+ (\w+)", roles["data"]["roles.sql"])) == set(variables)
    assert {reference["key"] for reference in variables.values()} <= set(keys)
    assert (
        {reference["name"] for reference in variables.values()}
        == {values["auth"]["existingSecret"]}
        == {"shop-secrets"}
    )
    assert values["primary"]["networkPolicy"]["allowExternal"] is False


def test_clients_of_the_database_have_the_label_that_bitnamis_policy_asks_for() -> None:
    """Its policy lets in pods with RELEASE-postgresql-client=true, and the release is called service."""
    resources = [each for path in (ROOT / "k8s").glob("*.yaml") for each in read(path)]

    for workload in workloads(resources, "Deployment", "Job"):
        assert workload.labels["service-postgresql-client"] == "true"


def test_roles_and_schemas_are_made_for_all_services() -> None:
    """The script that the database runs once is part of k8s/ and of config/, and is the same."""
    (alone,) = read(ROOT / "config" / "postgresql.yaml")
    (with_database,) = of_kind(read(ROOT / "k8s" / "20-postgresql.yaml"), "ConfigMap")

    assert alone == with_database
    for name in PACKAGES:
        assert f"CREATE SCHEMA {name} AUTHORIZATION {name};" in alone["data"]["roles.sql"]


def test_chart_can_be_packaged(tmp_path: Path) -> None:
    """A registry gets an archive, not a folder."""
    done = helm("package", str(manifests.CHART), f"--destination={tmp_path}")

    assert not done.returncode, done.stderr
    assert len(list(tmp_path.glob("shop-*.tgz"))) == 1


def test_rendered_secret_is_as_long_as_the_services_ask() -> None:
    """A key has at least 32 characters, also the one that the chart makes."""
    done = helm("template", "shop", str(manifests.CHART), "--show-only=templates/secrets.yaml")
    secret = {
        name: base64.b64decode(value).decode()
        for name, value in yaml.safe_load(done.stdout)["data"].items()
    }

    assert _order_settings(secret)
