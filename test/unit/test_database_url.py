"""A database's address: whatever the password, it arrives or is refused, and is never shown."""

import pytest
from pydantic import ValidationError
from sqlalchemy import URL

from service_chassis.database_url import database_url
from service_chassis.settings import ParticipantSettings
from shop.local.database import admin_url
from shop.project import CannotRun

PASSWORDS = [
    "@",
    "a@b:c/d%e",
    "p#q?r&s[t]u",
    "blank and \"'\\$(HOME)`",
    "%40%2F",
    "пароль-ж",
    "a+b=c;d,e",
]
PLAIN = "postgresql+psycopg2://payment_service@db:5432/shop"
PEERS = {"order_urls": "http://o", "order_key": "k" * 40}


@pytest.mark.parametrize("password", PASSWORDS)
def test_password_beside_the_url_needs_no_escaping(password: str) -> None:
    """What the services make of both is one URL, from which the driver reads the same password."""
    settings = ParticipantSettings(database_url=PLAIN, database_password=password, **PEERS)

    url = database_url(settings.database_url.get_secret_value())

    assert (url.password, url.host, url.port, url.database) == (password, "db", 5432, "shop")
    assert password not in repr(settings)


@pytest.mark.parametrize("password", PASSWORDS)
def test_password_that_is_escaped_in_the_url_is_taken(password: str) -> None:
    """As before."""
    url = URL.create("postgresql+psycopg2", "role", password, "db", 5432, "shop")

    assert database_url(url.render_as_string(hide_password=False), "another").password == password


#: Each with a separator in its midst.
BROKEN = [
    "xyzzy@plugh",
    "xyzzy@plugh:plover",
    "xyzzy@plugh/plover",
    "xyzzy@plugh?plover",
    "xyzzy@plugh#plover",
    "xyzzy@plugh:5432/plover",
    "xyzzy/plugh@plover",
    "xyzzy:plugh@plover",
]
NO_URLS = [
    "",
    "xyzzy",
    "postgresql+psycopg2://role:xyz/zy",
    "postgresql+psycopg2://role:xyzzy/db",
    "postgresql+psycopg2://role@db:xyzzy/x",
]


def _shows_a_part(sentence: str) -> bool:
    return any(part in sentence for part in ("xyz", "plugh", "plover"))


@pytest.mark.parametrize("password", BROKEN)
def test_password_that_breaks_the_url_is_refused_and_not_shown(password: str) -> None:
    """Half of it would be taken for the host, and be logged as one that is not known."""
    given = f"postgresql+psycopg2://payment_service:{password}@db:5432/shop"

    with pytest.raises(ValidationError) as refused:
        ParticipantSettings(database_url=given, **PEERS)
    with pytest.raises(CannotRun) as told:
        admin_url(given)

    for sentence in (str(refused.value), str(told.value)):
        assert "DATABASE_PASSWORD" in sentence or "is not a database URL" in sentence
        assert not _shows_a_part(sentence)


@pytest.mark.parametrize("given", NO_URLS)
def test_what_is_no_url_is_refused_and_not_shown(given: str) -> None:
    """A port that is no number is the end of a password, more often than not."""
    with pytest.raises(ValidationError) as refused:
        ParticipantSettings(database_url=given, **PEERS)

    assert "is not a database URL" in str(refused.value)
    assert not _shows_a_part(str(refused.value))


def test_password_of_the_url_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that was left over changes nothing for an address that is complete."""
    monkeypatch.setenv("DATABASE_PASSWORD", "left-over")

    passwords = [admin_url(f"postgresql://{who}@db/x").password for who in ("role:own", "role")]

    assert passwords == ["own", "left-over"]
