"""The address of a database, from a URL and, where the URL has none, a password beside it."""

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError


def database_url(given: str, password: str = "") -> URL:
    """Return the URL ``given``, with ``password`` if it has none of its own.

    Raises ValueError with a sentence that shows nothing of a password. More than one @ means that a password was put in as it
    is: what follows its first @ would be taken for the host, and end up in the logs.
    """
    try:
        url = make_url(given)
    except (ArgumentError, ValueError):
        raise ValueError("is not a database URL, such as postgresql+psycopg2://role:password@host:5432/shop") from None
    if given.count("@") > 1 or "@" in f"{url.host}{url.database}":
        raise ValueError(
            "has more than one @: write %40 for an @ in a password (%3A for :, %2F for /, %25 for %),"
            " or leave the password out and set DATABASE_PASSWORD to it as it is"
        )
    return url if url.password or not password else url.set(password=password)
