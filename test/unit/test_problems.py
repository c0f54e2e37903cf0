"""What a client hears when something fails."""

from pathlib import Path

import psycopg2
import pytest
from sqlalchemy.exc import OperationalError, PendingRollbackError

from service_chassis.problems import MEDIA_TYPE, Problem, answer
from two_phase.errors import ProtocolViolation, Unavailable


@pytest.mark.parametrize(
    "failure",
    [
        OperationalError("SELECT 1", {}, Exception("server closed the connection")),
        psycopg2.InterfaceError("connection already closed"),
        psycopg2.OperationalError("server closed the connection"),
        PendingRollbackError("cannot reconnect until the transaction is rolled back"),
        Unavailable("later"),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_a_database_that_goes_away_is_a_clean_503(failure: Exception) -> None:
    """F11: never a 500, and always a word on when to come again."""
    response = answer(failure)

    assert (response.status_code, response.headers["content-type"]) == (503, MEDIA_TYPE)
    assert response.headers["retry-after"] == "1"


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (ProtocolViolation("no"), 400),
        (Problem(413, "too large"), 413),
        (RuntimeError("a bug"), 500),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_other_failure_is_a_problem_too(failure: Exception, status: int) -> None:
    """Errors are application/problem+json, whatever they are."""
    response = answer(failure)

    assert (response.status_code, response.headers["content-type"]) == (status, MEDIA_TYPE)
    assert str(Path(__file__)) not in bytes(response.body).decode()
