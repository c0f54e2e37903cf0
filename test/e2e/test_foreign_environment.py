"""A shop in an environment that is full of other programs' settings.

Libpq's, Python's and proxies'.
"""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from running_shop import ROOT, Shop, launch

PROXIES = dict.fromkeys(
    ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9"
)
#: Each of these alone once kept services, the command or PostgreSQL's tools from the server, or led
#: them to another one.
LIBPQ = {
    "PGHOST": "127.0.0.2",
    "PGHOSTADDR": "127.0.0.2",
    "PGPORT": "9",
    "PGUSER": "nobody",
    "PGDATABASE": "nowhere",
    "PGSSLMODE": "require",
    "PGGSSENCMODE": "require",
    "PGCHANNELBINDING": "require",
    "PGTARGETSESSIONATTRS": "standby",
    "PGSERVICE": "nowhere",
    "PGSERVICEFILE": "/nonexistent",
    "PGSYSCONFDIR": "/nonexistent",
    "PGREQUIREPEER": "nobody",
    "PGOPTIONS": "-c default_transaction_read_only=on",
    "PGCLIENTENCODING": "LATIN1",
    "PGDATESTYLE": "German",
    "PGPASSWORD": "wrong",
    "PGPASSFILE": "/nonexistent",
    "PGREQUIREAUTH": "none",
    "PGDATA": "/nonexistent",
    "PGTZ": "Asia/Tokyo",
    "PGSSLROOTCERT": "/etc/passwd",
    "PGSSLCERT": "/etc/passwd",
    "PGSSLKEY": "/etc/passwd",
    "PGMINPROTOCOLVERSION": "latest",
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a home folder whose files for libpq are all wrong."""
    home = tmp_path / "home"
    (home / ".postgresql").mkdir(parents=True)
    for name in ("root.crt", "root.crl", "postgresql.crt", "postgresql.key"):
        (home / ".postgresql" / name).write_text("no certificate")
    (home / ".pgpass").write_text("*:*:*:*:wrong\n")
    (home / ".pgpass").chmod(0o600)
    (home / ".pg_service.conf").write_text("[nowhere]\nhost=127.0.0.2\n")
    (home / ".psqlrc").write_text("\\echo wrong\n")
    return home


def test_settings_of_other_programs_do_not_reach_the_shop(tmp_path: Path, home: Path) -> None:
    """It starts, takes a customer, and is backed up.

    No service has any of it in its environment.
    """
    settings = {
        **LIBPQ,
        **PROXIES,
        "HOME": str(home),
        "PYTHONOPTIMIZE": "2",
        "SECRETS_DIR": "/nonexistent",
        "UNRELATED": "1",
    }
    # The command itself is started as by `make up`, which has taken Python's variables away.
    shop = launch(tmp_path, **settings)
    try:
        shop.wait_until_ready()
        created = httpx.post(
            f"http://{shop.address}/payment/users",
            json={"name": "Ivan", "balance": 7},
            trust_env=False,
        )
        assert created.status_code == 201
        for name in ("payment", "order", "postgres", "gateway"):
            assert not _environment(shop, name) & {
                "UNRELATED",
                "PYTHONOPTIMIZE",
                *PROXIES,
                "PGHOST",
                "PGSSLMODE",
                "PGOPTIONS",
            }
        _backed_up(shop, tmp_path / "backup", settings)
    finally:
        shop.stop()


def _environment(shop: Shop, process: str) -> set[str]:
    content = Path(f"/proc/{shop.pid(process)}/environ").read_bytes().decode()
    return {entry.partition("=")[0] for entry in content.split("\0") if entry}


def _backed_up(shop: Shop, file: Path, settings: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "shop", "backup", str(file)],
        cwd=ROOT,
        env={**os.environ, **settings, "SHOP_DATA": str(shop.data)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert file.stat().st_size > 0


def test_newman_reaches_the_local_gateway_past_a_proxy(shop: Shop) -> None:
    """`make newman` speaks to this machine itself, whatever proxy the environment has for the world."""
    settings = {
        **PROXIES,
        "NO_PROXY": "shop.example",
        "NODE_ENV": "production",
        "NODE_OPTIONS": "--nothing",
        "CDPATH": str(ROOT.parent),
    }
    done = subprocess.run(
        ["make", "newman", "-o", "test/node_modules/installed"],
        cwd=ROOT,
        env={**os.environ, **settings, "SHOP_PORT": str(shop.port)},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
