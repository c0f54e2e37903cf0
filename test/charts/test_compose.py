"""compose.yaml says what the chart says, where both speak. No engine is asked."""

import importlib.util
import json
import re
import stat
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from sqlalchemy import make_url

from order_service.settings import OrderSettings
from service_chassis.settings import ParticipantSettings
from shop.deploy import secrets_files
from shop.local import gateway
from shop.project import ROOT
from shop.topology import SERVICES

COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
NAMES = tuple(service.name for service in SERVICES)
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
ROLES = ROOT / "config" / "roles.sql"

_VARIABLE = re.compile(r"\$\{([A-Z_]+):(\?|-)([^}]*)\}")
_SECRET = re.compile(r"PASSWORD|KEY|SECRET|TOKEN")


def _service(name: str) -> dict[str, Any]:
    return dict(COMPOSE["services"][f"{name}-service"])


def _filled(value: str, values: dict[str, str]) -> str:
    """Return what Compose makes of a value."""
    return _VARIABLE.sub(lambda found: values[found[1]], value)


@pytest.fixture
def values(tmp_path: Path) -> dict[str, str]:
    """Return the secrets that `make secrets` writes for Compose, one of them made by a person."""
    (path,) = secrets_files.make_environment(tmp_path / ".env")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    made = dict(line.split("=", 1) for line in path.read_text().splitlines())
    return {**made, "STOCK_SERVICE_PASSWORD": "a@b/c:d%e"}


def test_it_is_a_compose_file() -> None:
    """Every member is one that the specification knows, where it may stand."""
    package = importlib.util.find_spec("check_jsonschema")
    assert package is not None, "make .venv/kubernetes"
    assert package.submodule_search_locations
    folder = Path(package.submodule_search_locations[0]) / "builtin_schemas" / "vendor"

    jsonschema.validate(COMPOSE, json.loads((folder / "compose-spec.json").read_text()))


def test_it_runs_four_services_with_their_migrations_a_database_and_a_gateway() -> None:
    """What depends on what: database, migration, service, gateway."""
    services = COMPOSE["services"]

    assert set(services) == {
        "postgresql",
        "gateway",
        *(f"{name}-{kind}" for name in NAMES for kind in ("service", "migration")),
    }
    for name in NAMES:
        assert services[f"{name}-migration"]["depends_on"] == {
            "postgresql": {"condition": "service_healthy"}
        }
        assert _service(name)["depends_on"] == {
            f"{name}-migration": {"condition": "service_completed_successfully"}
        }
    assert services["gateway"]["depends_on"] == {
        f"{name}-service": {"condition": "service_healthy"} for name in NAMES
    }


def test_no_secret_has_a_default_and_none_stands_in_the_file() -> None:
    """Without an .env Compose ends with a sentence, and no shop has passwords that are known."""
    literal = [
        f"{name}: {key}"
        for name, service in COMPOSE["services"].items()
        for key, value in service.get("environment", {}).items()
        if _SECRET.search(f"{key} {value}") and not _VARIABLE.search(value)
    ]
    kinds = {name: kind for name, kind, _ in _VARIABLE.findall((ROOT / "compose.yaml").read_text())}
    words = {
        word
        for _, kind, word in _VARIABLE.findall((ROOT / "compose.yaml").read_text())
        if kind == "?"
    }

    assert literal == []
    assert {name for name, kind in kinds.items() if kind == "-"} == {"SHOP_PORT"}
    assert all("make secrets" in word for word in words)


def test_git_does_not_see_the_secrets() -> None:
    """`git add .` takes no password along."""
    ignored = subprocess.run(["git", "check-ignore", "-q", ".env"], cwd=ROOT, check=False)

    assert ignored.returncode == 0


def test_the_services_start_with_what_make_secrets_writes(
    values: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every setting is there, no value is refused, and the two sides of a key have the same."""
    assert len(set(values.values())) == len(values)
    keys: dict[str, str] = {}
    for name in NAMES:
        with monkeypatch.context() as patched:
            for key, value in _service(name)["environment"].items():
                patched.setenv(key, _filled(value, values))
            settings = (OrderSettings if name == "order" else ParticipantSettings).load()
        url = make_url(settings.database_url.get_secret_value())
        assert (url.username, url.host) == (f"{name}_service", "postgresql")
        assert url.password == values[f"{name.upper()}_SERVICE_PASSWORD"]
        if isinstance(settings, ParticipantSettings):
            keys[name] = settings.order_key.get_secret_value()
        else:
            ours = {
                each: participant.key.get_secret_value()
                for each, participant in settings.participants.items()
            }

    assert keys == ours


def test_secrets_that_are_there_are_left_alone(values: dict[str, str], tmp_path: Path) -> None:
    """A database that was made knows its passwords, not new ones."""
    assert values
    assert secrets_files.make_environment(tmp_path / ".env") == []


def test_the_database_makes_the_roles_with_the_passwords_of_the_services() -> None:
    """What roles.sql reads from its environment is what each service is given."""
    given = COMPOSE["services"]["postgresql"]["environment"]

    assert set(re.findall(r"\\getenv \w+ (\w+)", ROLES.read_text())) == set(given) - {
        "POSTGRES_DB",
        "POSTGRES_PASSWORD",
    }
    assert (
        f"./{ROLES.relative_to(ROOT)}:/docker-entrypoint-initdb.d/roles.sql:ro"
        in COMPOSE["services"]["postgresql"]["volumes"]
    )
    for name in NAMES:
        password = given[f"{name.upper()}_SERVICE_PASSWORD"]
        assert _service(name)["environment"]["DATABASE_PASSWORD"] == password


@pytest.mark.parametrize("name", NAMES)
def test_service_and_migration_are_those_of_the_manifests(name: str) -> None:
    """The same image of this version, and the same migration as in a cluster."""
    service, migration = _service(name), COMPOSE["services"][f"{name}-migration"]
    job = (ROOT / "k8s" / "30-migrations.yaml").read_text()

    assert service["image"] == migration["image"] == f"localhost/shop/{name}-service:{VERSION}"
    assert (
        service["build"]
        == migration["build"]
        == {"context": ".", "args": {"SERVICE": f"{name}_service"}}
    )
    assert f"exec {' '.join(migration['command'])}\n" in job
    assert migration["environment"].items() <= service["environment"].items()
    ready = next(
        iter(
            re.findall(
                r"path: (\S+/ready)", next(ROOT.glob(f"k8s/4?-{name}-service.yaml")).read_text()
            )
        )
    )
    assert f"http://127.0.0.1:8000{ready}'" in service["healthcheck"]["test"][-1]


def test_only_the_gateway_can_be_reached_and_only_from_this_machine() -> None:
    """There is no public authentication, and the internal ports are nobody's business."""
    ports = {
        name: service["ports"]
        for name, service in COMPOSE["services"].items()
        if "ports" in service
    }

    assert ports == {"gateway": ["127.0.0.1:${SHOP_PORT:-8080}:8080"]}
    assert COMPOSE["services"]["gateway"]["networks"] == ["front"]
    assert COMPOSE["services"]["postgresql"]["networks"] == ["back"]


def test_the_gateway_has_the_routes_of_the_ingress(tmp_path: Path) -> None:
    """Caddy itself reads the configuration, with the dollars as Compose leaves them."""
    file = tmp_path / "Caddyfile"
    file.write_text(COMPOSE["configs"]["routes"]["content"].replace("$$", "$"))
    command = [
        gateway.caddy(),
        "adapt",
        "--validate",
        "--adapter",
        "caddyfile",
        "--config",
        str(file),
    ]
    adapted = subprocess.run(command, capture_output=True, text=True, check=True)
    (server,) = json.loads(adapted.stdout)["apps"]["http"]["servers"].values()
    table = []
    for route in server["routes"]:
        (match,) = route.get("match", [{"path_regexp": {"pattern": ""}}])
        (proxy,) = route["handle"][0]["routes"][0]["handle"]
        (upstream,) = proxy["upstreams"]
        table.append((match["path_regexp"]["pattern"], upstream["dial"]))
    ingress = [(route.pattern, f"{route.service}:8000") for route in gateway.routes()]

    asked = [
        route.prefix + more for route in gateway.routes() for more in ("", "/", "/users/1", "x")
    ] + ["/PAYMENT"]
    assert {path: _first(table, path) for path in asked} == {
        path: _first(ingress, path) for path in asked
    }


def _first(table: list[tuple[str, str]], path: str) -> str:
    return next(service for pattern, service in table if re.search(pattern, path))
