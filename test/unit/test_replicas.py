"""What the processes of a local run are given."""

import os

import pytest

from shop.local.replicas import migration
from shop.topology import PARTICIPANTS


@pytest.mark.parametrize(
    ("query", "given"),
    [("", os.devnull), ("?sslmode=verify-full&sslrootcert=system", "/authorities.pem")],
)
def test_certificate_authorities_are_loaded_only_for_a_database_that_needs_them(
    monkeypatch: pytest.MonkeyPatch, query: str, given: str
) -> None:
    """They take memory in every process, and the services themselves speak plain HTTP."""
    monkeypatch.setenv("SSL_CERT_FILE", "/authorities.pem")

    program = migration(PARTICIPANTS[0], f"postgresql+psycopg2://payment@database/shop{query}")

    assert program.environment["SSL_CERT_FILE"] == given
