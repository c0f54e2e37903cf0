"""What is set wrongly is refused in a sentence that names the setting, before anything is started."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from shop.__main__ import app


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Let the command change its environment as in a process of its own."""
    before = dict(os.environ)
    monkeypatch.setenv("SHOP_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("SHOP_PORT", "0")
    yield
    os.environ.clear()
    os.environ.update(before)


def _said(*arguments: str, code: int = 1, **settings: str) -> str:
    """Run the command, and return what it says as one line, without the frame that errors of options have."""
    result = CliRunner().invoke(app, list(arguments), env={**settings, "COLUMNS": "300"})
    assert result.exit_code == code, result.output
    return " ".join(result.output.replace("│", " ").split())


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("SHOP_PORT", "abc", "valid integer"),
        ("SHOP_PORT", "-1", "greater than or equal to 0"),
        ("SHOP_PORT", "70000", "less than or equal to 65535"),
        ("SHOP_REPLICAS", "0", "greater than or equal to 1"),
        ("SHOP_REPLICAS", "-1", "greater than or equal to 1"),
        ("SHOP_REPLICAS", "x", "valid integer"),
    ],
)
def test_option_that_is_wrong_is_named(name: str, value: str, told: str) -> None:
    """The variable is named, and what it may be."""
    said = _said("up", code=2, **{name: value})

    assert name in said
    assert told in said


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("LOG_FORMAT", "pretty", "LOG_FORMAT: Input should be 'json' or 'console'"),
        ("LOG_LEVEL", "loud", "LOG_LEVEL: Input should be 'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
        ("DATABASE_POOL_SIZE", "many", "DATABASE_POOL_SIZE: Input should be a valid integer"),
        ("QUEUE_LIMIT", "0", "QUEUE_LIMIT: Input should be greater than or equal to 1"),
        ("PREPARE_TIMEOUT_SECONDS", "nan", "PREPARE_TIMEOUT_SECONDS: Input should be"),
        ("SWEEP_INTERVAL_SECONDS", "inf", "SWEEP_INTERVAL_SECONDS: Input should be"),
        ("CLIENT_DEADLINE_SECONDS", "1", "CLIENT_DEADLINE_SECONDS must not be shorter"),
        ("DATABASE_URL", "nonsense", "DATABASE_URL is not a database URL, such as postgresql"),
        (
            "DATABASE_URL",
            "postgresql://u:p@h:port/x",
            "DATABASE_URL is not a database URL, such as postgresql",
        ),
        ("DATABASE_URL", "postgresql://u:p@h:70000/x", "DATABASE_URL has a port that is none"),
        (
            "DATABASE_URL",
            "postgresql://u:p@h/x?fast=1",
            "DATABASE_URL has a parameter that PostgreSQL's client does not know",
        ),
        ("DATABASE_URL", "mysql://u:p@h/x", "DATABASE_URL must name a PostgreSQL server"),
        (
            "DATABASE_URL",
            "postgresql+asyncpg://u:p@h/x",
            "DATABASE_URL must name a PostgreSQL server",
        ),
        ("DATABASE_URL", "postgresql://u:p@127.0.0.1:9/x", "does not let us in"),
        ("SHOP_DATA", "/dev/null", "SHOP_DATA is /dev/null, and that cannot be used"),
        ("SHOP_DATA", "/proc/shop", "SHOP_DATA is /proc/shop, and that cannot be used"),
        ("SHOP_DATA", "/proc", "SHOP_DATA is /proc, and that cannot be used"),
        ("SHOP_DATA", "~nobody-is-called-so/x", "there is no such home folder"),
        ("PG_BIN_DIR", "/usr", "/usr: no postgres and initdb that run"),
        ("PG_BIN_DIR", "nowhere", "nowhere: no postgres and initdb that run"),
    ],
)
def test_setting_that_is_wrong_ends_the_start(name: str, value: str, told: str) -> None:
    """Also one of a service: the run does not find out from children that die."""
    said = _said("up", **{name: value})

    assert told in said
    assert "u:p" not in said


@pytest.mark.parametrize("server", ["closes", "says something else", "says nothing"])
def test_database_url_of_something_that_is_no_postgresql_is_refused(server: str) -> None:
    """The port of another program.

    It closes the connection, answers in its own way, or not at all.
    """
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        accepted = []

        def serve() -> None:
            while True:
                try:
                    connection = listener.accept()[0]
                except OSError:
                    return
                accepted.append(connection)
                if server != "says nothing":
                    if server == "says something else":
                        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                    connection.close()

        threading.Thread(target=serve, daemon=True).start()
        url = f"postgresql://u:p@127.0.0.1:{listener.getsockname()[1]}/x"

        assert "does not let us in" in _said("up", DATABASE_URL=url)
    for connection in accepted:
        connection.close()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("SHOP_PRT", "SHOP_PRT is not a setting of the shop: did you mean SHOP_PORT?"),
        ("SHOP_REPLICA", "did you mean SHOP_REPLICAS?"),
        ("SHOP_COLOUR", "SHOP_COLOUR is not a setting of the shop"),
    ],
)
def test_typing_error_in_the_name_of_a_setting_is_told(name: str, told: str) -> None:
    """It would be ignored otherwise; settings that are right are not spoken of."""
    said = _said("up", **{name: "1", "PG_BIN_DIR": "/usr"})

    assert told in said
    assert said.count("warning:") == 1


@pytest.mark.parametrize(
    ("command", "value", "told"),
    [
        ("audit", "http://127.0.0.1:abc", "ORDER_URL is no URL"),
        ("reconcile", "foo", "ORDER_URL must be a base URL"),
        ("reconcile", "http://127.0.0.1:abc", "ORDER_URL is no URL"),
    ],
)
def test_address_of_a_service_that_is_wrong_is_named(command: str, value: str, told: str) -> None:
    """The operator's commands name the variable too."""
    assert told in _said(command, code=2, ORDER_URL=value)


def test_secrets_that_are_damaged_are_told_of(tmp_path: Path) -> None:
    """A file that was cut off is not replaced by new secrets, with which the data could not be opened."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "secrets.json").write_text('{"postgres": ')

    assert "secrets.json is damaged" in _said("up")
    assert (data / "secrets.json").read_text() == '{"postgres": '
