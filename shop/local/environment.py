"""What reaches our processes of the caller's environment: the machine's needs, our settings.

An address says all of a database. What libpq would take from its own variables or from files in the
home folder belongs to other programs: it would change whom a service talks to, or how, and a wrong
part of it looks like a server that does not answer.
"""

import difflib
import os
import re
from collections.abc import Collection, Iterator
from typing import Any

from pydantic import SecretStr, ValidationError

from order_service.settings import OrderSettings
from service_chassis.settings import KEY_LENGTH_MIN, ParticipantSettings, told
from shop.project import CannotRun
from shop.topology import PARTICIPANTS

#: Where programs, libraries, authorities and temporary files are, how text is written, and what
#: time it is here.
_MACHINE = (
    *("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "LD_PRELOAD", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("TZ", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE"),
)
_SETTINGS_OF_SERVICES = (OrderSettings, ParticipantSettings)
#: An address that the run hands out has its own password.
_SETTINGS = {
    name.upper() for settings in _SETTINGS_OF_SERVICES for name in settings.model_fields
} - {"DATABASE_PASSWORD"}
#: What the tests set.
_CRASH_POINTS = "CRASH_POINTS_DIR"
_LIBPQ = re.compile(r"PG[A-Z]+")
#: Below a file there can be no other: libpq passes over what it does not find there.
_NOWHERE = f"{os.devnull}/none"
_NO_FILES = dict.fromkeys(
    (
        "PGPASSFILE",
        "PGSERVICEFILE",
        "PGSSLCERT",
        "PGSSLKEY",
        "PGSSLROOTCERT",
        "PGSSLCRL",
        "PGSSLCRLDIR",
        "PGSYSCONFDIR",
    ),
    _NOWHERE,
)


def forget_libpq() -> None:
    """Take out of this process's environment all that libpq would read there, and keep it from files in the home folder."""
    for name in [name for name in os.environ if _LIBPQ.fullmatch(name)]:
        del os.environ[name]
    os.environ.update(_NO_FILES)


def of_a_service() -> dict[str, str]:
    """Return what a service or a migration finds beside what the run decides."""
    wanted = {*_MACHINE, *_SETTINGS, _CRASH_POINTS}
    return {**{name: value for name, value in os.environ.items() if name in wanted}, **_NO_FILES}


def check_settings() -> None:
    """Raise CannotRun if a service would refuse what it finds, before any is started."""
    peer = {"urls": ("http://127.0.0.1",), "key": SecretStr("k" * KEY_LENGTH_MIN)}
    decided: dict[str, Any] = {
        "database_url": SecretStr("postgresql+psycopg2://role@127.0.0.1/shop"),
        "database_password": SecretStr(""),
        "host": "127.0.0.1",
        "public_port": 0,
        "internal_port": 0,
        "order_urls": peer["urls"],
        "order_key": peer["key"],
        "participants": {participant.name: peer for participant in PARTICIPANTS},
    }
    for settings in _SETTINGS_OF_SERVICES:
        try:
            settings(**decided)
        except ValidationError as error:
            raise CannotRun(told(error)) from None


def of_a_postgresql_tool() -> dict[str, str]:
    """Return PostgreSQL's environment, without a locale that the machine may not have."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return {**kept, **_NO_FILES, "LC_ALL": "C"}


def unknown_settings(known: Collection[str]) -> Iterator[str]:
    """Yield a sentence for each variable that looks like a setting of the shop and is none."""
    for name in sorted(os.environ):
        if name.startswith("SHOP_") and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            yield f"{name} is not a setting of the shop" + (
                f": did you mean {near[0]}?" if near else ""
            )
