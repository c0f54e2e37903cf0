"""What the chart tells services and migrations of the database, on a PostgreSQL that takes TLS only."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import text

from charts.conftest import templated
from charts.workloads import Workload, workloads
from order_service.settings import OrderSettings
from service_chassis.database import connect, is_reachable
from shop.local import postgres_binaries
from shop.local.database import connected
from shop.local.ports import Ports
from shop.local.postgres import Postgres, account_for
from shop.project import ROOT
from shop.topology import PARTICIPANTS

#: Every character that means something in an address, a shell or YAML, and some that are not ASCII.
PASSWORD = "a@b/c:d%e#f?g&h[i]j \"k'l\\\\m$(HOME) %40 пароль-ж"  # noqa: S105 - of a server that lives as long as a test
SUBJECT = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
CA_FOLDER = "/etc/shop/database"
KEYS_FOLDER = "/etc/shop/keys"
KEY = "k" * 40


def _openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)


def _certificate(folder: Path, name: str) -> Path:
    """Make a certificate for localhost that vouches for itself, and its key beside it."""
    made = folder / f"{name}.crt"
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    _openssl(
        "req", "-x509", *key, *SUBJECT, "-keyout", str(made.with_suffix(".key")), "-out", str(made)
    )
    return made


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """Return a server that takes nothing but TLS, with the role and the schema of order_service."""
    folder = tmp_path_factory.mktemp("tls") / "data"
    with Ports() as ports:
        server = Postgres(
            postgres_binaries.find(account_for(folder)), folder, ports.reserve(), PASSWORD
        )
        server.create()
        certificate = _certificate(folder, "server")
        for path in (certificate, certificate.with_suffix(".key")):
            path.chmod(0o600)
            os.chown(path, folder.stat().st_uid, folder.stat().st_gid)
        with (folder / "postgresql.conf").open("a") as settings:
            settings.write("ssl = on\n")
        (folder / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
        server.start()
        with connected(server.url()) as connection:
            connection.execute(text("CREATE DATABASE shop"))
            connection.execute(text("CREATE ROLE order_service LOGIN"))
            connection.execute(
                text("ALTER ROLE order_service PASSWORD :password"), {"password": PASSWORD}
            )
        with connected(server.url("shop")) as connection:
            connection.execute(text("CREATE SCHEMA order_service AUTHORIZATION order_service"))
        yield server
        server.stop("immediate")


def _told(
    kind: str, server: Postgres, authority: Path, *, host: str, sslmode: str
) -> dict[str, str]:
    """Return the environment of a workload of order_service, with what is mounted in its place."""
    database = f"externalHost={host},database.port={server.port},database.sslmode={sslmode},database.ca.configMap=ca"
    done = templated(f"--set=database.{database}")
    assert not done.returncode, done.stderr
    resources = [each for each in yaml.safe_load_all(done.stdout) if each]
    workload = next(each for each in workloads(resources, kind) if each.name.startswith("order-"))
    assert CA_FOLDER in {each["mountPath"] for each in workload.containers[0]["volumeMounts"]}
    told = _environment(workload)
    keys = server.folder.parent / "keys"
    keys.mkdir(exist_ok=True)
    for participant in PARTICIPANTS:
        (keys / f"{participant.name}-key").write_text(KEY)
    if "PARTICIPANTS" in told:
        assert KEYS_FOLDER in told["PARTICIPANTS"]
        told["PARTICIPANTS"] = told["PARTICIPANTS"].replace(KEYS_FOLDER, str(keys))
    return {
        **told,
        "DATABASE_URL": told["DATABASE_URL"].replace(f"{CA_FOLDER}/ca.crt", str(authority)),
    }


def _environment(workload: Workload) -> dict[str, str]:
    secret = {"order-service-password": PASSWORD}
    return {each["name"]: _value(each, secret) for each in workload.containers[0]["env"]}


def _value(variable: Mapping[str, Any], secret: Mapping[str, str]) -> str:
    if "value" in variable:
        return str(variable["value"])
    return secret.get(variable["valueFrom"]["secretKeyRef"]["key"], KEY)


@pytest.mark.parametrize(
    ("host", "sslmode"), [("localhost", "verify-full"), ("127.0.0.1", "verify-ca")]
)
def test_service_and_migration_reach_a_database_that_they_can_verify(
    server: Postgres, host: str, sslmode: str
) -> None:
    """With a password of all characters there are, and the certificate that the chart mounts."""
    authority = server.folder / "server.crt"
    migrated = _migrated(_told("Job", server, authority, host=host, sslmode=sslmode))
    told = _told("Deployment", server, authority, host=host, sslmode=sslmode)
    settings = OrderSettings(**{name.lower(): value for name, value in told.items()})
    engine = connect(settings.database_url, "order_service", pool_size=1)
    with engine.connect() as connection:
        encrypted = connection.execute(
            text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        ).scalar_one()
        connection.execute(text("SELECT count(*) FROM orders"))
    engine.dispose()

    assert encrypted
    assert migrated.returncode == 0, migrated.stdout


@pytest.mark.parametrize(
    ("host", "signed_by"), [("127.0.0.1", "server"), ("localhost", "stranger")]
)
def test_database_that_cannot_be_verified_is_told_no_password(
    server: Postgres, tmp_path: Path, host: str, signed_by: str
) -> None:
    """Another name than the certificate's, or a certificate that another authority has signed."""
    strangers = _certificate(tmp_path, "stranger")
    authority = {"server": server.folder / "server.crt", "stranger": strangers}[signed_by]
    told = _told("Deployment", server, authority, host=host, sslmode="verify-full")
    settings = OrderSettings(**{name.lower(): value for name, value in told.items()})
    engine = connect(settings.database_url, "order_service", pool_size=1)
    migrated = _migrated(told)

    assert not is_reachable(engine)
    assert migrated.returncode
    assert "certificate" in migrated.stdout
    assert "пароль" not in migrated.stdout
    engine.dispose()


def test_migration_refuses_an_address_that_it_cannot_read() -> None:
    """In a sentence, without the password."""
    migrated = _migrated({"DATABASE_URL": "postgresql+psycopg2://role:xyzzy@plugh@db:5432/shop"})

    assert migrated.returncode
    assert migrated.stdout.startswith("DATABASE_URL: has more than one @")
    assert "plugh" not in migrated.stdout


def _migrated(told: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "alembic",
            "-c",
            "config/alembic.ini",
            "-n",
            "order_service",
            "upgrade",
            "head",
        ],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **told},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
