"""What a log line looks like, for machines and for people."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime

import pytest

from service_chassis.logs import configure_logging

log = logging.getLogger("somebody")


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """Leave the logging of the tests as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for name, number in logging.getLevelNamesMapping().items():
        if name.isupper():
            logging.addLevelName(number, name)
    root.handlers[:] = handlers
    root.setLevel(level)


def _break() -> None:
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        log.exception("it broke", extra={"transactions": [1, 2]})


def test_a_line_is_an_object_with_the_sentence_its_fields_and_who_said_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whoever collects logs finds the same names in all services."""
    configure_logging("payment", "INFO", "json")
    log.warning("no vote from %s", "stock", extra={"why": {"status": 503}})
    log.debug("not asked for")
    logging.getLogger("httpx").info("HTTP Request: POST http://stock/round 200 OK")
    _break()

    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert datetime.fromisoformat(first.pop("timestamp")).tzinfo is not None
    assert first == {
        "service": "payment",
        "level": "warning",
        "event": "no vote from stock",
        "why": {"status": 503},
    }
    assert (second["level"], second["transactions"]) == ("error", [1, 2])
    assert "ZeroDivisionError" in second["exception"]


@pytest.mark.parametrize("layout", ["json", "console"])
def test_a_line_says_its_sentence_once(capsys: pytest.CaptureFixture[str], layout: str) -> None:
    """The server adds its sentences in colours; of its two listeners only the service tells."""
    configure_logging("payment", "INFO", layout)
    log.info("[%d]", 7, extra={"color_message": "in colours"})
    logging.getLogger("uvicorn.error").info("Started server process [%d]", 7)

    (line,) = capsys.readouterr().out.splitlines()
    assert "[7]" in line
    assert "colo" not in line


def test_a_line_for_people_begins_with_its_time_and_says_all_the_same(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A traceback follows on lines of its own, where it can be read."""
    configure_logging("payment", "INFO", "console")
    log.warning("no vote from %s", "stock", extra={"why": {"status": 503}})
    _break()

    first, second, *traceback = capsys.readouterr().out.splitlines()
    when, rest = first.split(" ", 1)
    assert datetime.fromisoformat(when).tzinfo is not None
    assert rest == "[warning ] no vote from stock service=payment why={'status': 503}"
    assert second.endswith("[error   ] it broke service=payment transactions=[1, 2]")
    assert traceback[-1] == "ZeroDivisionError"


def test_a_service_does_not_load_what_only_commands_need() -> None:
    """Each would take some megabytes of every service process."""
    # Where it finds it, as on a machine of ours, httpx loads pygments for a command line of its
    # own, and rich with it.
    program = "import sys; sys.modules['pygments'] = None; import payment_service.main, order_service.main; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert not {"alembic", "rich", "structlog", "typer"}.intersection(loaded.stdout.split())
    assert "two_phase" in loaded.stdout.split()
