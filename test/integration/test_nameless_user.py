"""PostgreSQL for a user who is a number without a name, as containers often run."""

import os
from pathlib import Path

import pytest
from sqlalchemy import text

from shop.local import postgres, postgres_binaries
from shop.local.database import connected
from shop.local.ports import Ports
from shop.local.postgres import Postgres
from shop.local.program import Account
from shop.project import CannotRun

NAMELESS = Account(12345, 12345)
PASSWORD = "the-superuser's"  # noqa: S105 - of a server that lives as long as a test


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for another user")
def test_user_without_an_entry_in_passwd_gets_a_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Initdb wants a name for its user, and gets one; the data belong to the user all the same."""
    monkeypatch.setattr(postgres, "account_for", lambda _: NAMELESS)
    folder = tmp_path / "postgres"
    with Ports() as ports:
        server = Postgres(postgres_binaries.find(NAMELESS), folder, ports.reserve(), PASSWORD)

        server.create()
        server.start()

        with connected(server.url()) as connection:
            assert connection.execute(text("SELECT 1")).scalar_one() == 1
        server.stop()
    assert folder.stat().st_uid == NAMELESS.uid


def test_where_no_name_can_be_had_the_user_hears_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Some machines allow no user namespaces."""
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(CannotRun, match="needs a name for the user 12345"):
        postgres._named(NAMELESS.uid)
