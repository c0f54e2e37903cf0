"""The address of a database, from a URL and, where the URL has none, a password beside it."""

from psycopg2 import Error as DriverError
from psycopg2.extensions import make_dsn
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

_PORT_MAX = 65535


def database_url(given: str, password: str = "") -> URL:
    """Return the URL ``given``, with ``password`` if it has none of its own.

    Raises ValueError with a sentence that shows nothing of a password. More than one @ means that a
    password was put in as it is: what follows its first @ would be taken for the host, and end up
    in the logs.
    """
    try:
        url = make_url(given)
    except (ArgumentError, ValueError):
        raise ValueError(
            "is not a database URL, such as postgresql+psycopg2://role:password@host:5432/shop"
        ) from None
    if given.count("@") > 1 or "@" in f"{url.host}{url.database}":
        raise ValueError(
            "has more than one @: write %40 for an @ in a password"
            " (%3A for :, %2F for /, %25 for %),"
            " or leave the password out and set DATABASE_PASSWORD to it as it is"
        )
    if url.port is not None and not 0 < url.port <= _PORT_MAX:
        raise ValueError(f"has a port that is none: ports go from 1 to {_PORT_MAX}")
    try:
        make_dsn(**dict.fromkeys(url.query, ""))
    except DriverError:
        raise ValueError("has a parameter that PostgreSQL's client does not know") from None
    return url if url.password or not password else url.set(password=password)
