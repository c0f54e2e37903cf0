"""Lists a page at a time: ``limit``, and an opaque ``cursor`` that says where the next page begins."""

import base64
import binascii
import json
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from two_phase.hosting.fields import plain_digits
from two_phase.hosting.problems import Invalid
from two_phase.protocol import MAX_INTEGER

T = TypeVar("T")


class Page(BaseModel):
    """Which part of a list is wanted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: Annotated[int, BeforeValidator(plain_digits)] = Field(default=20, ge=1, le=100)
    cursor: str | None = Field(default=None, max_length=200)


def encode_cursor(position: int | str) -> str:
    """Return ``position``, the last one on the page, as an opaque cursor."""
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode().rstrip("=")


def decode_cursor(cursor: str | None, kind: type[T]) -> T | None:
    """Return the position of a cursor that ``encode_cursor`` made; raises Invalid for any other text."""
    if cursor is None:
        return None
    try:
        position: Any = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError):
        position = None
    if type(position) is not kind or (isinstance(position, int) and not 0 <= position <= MAX_INTEGER):
        raise Invalid("cursor", "is not a cursor of this list")
    return position


def next_cursor(items: list[dict[str, Any]], limit: int, key: str) -> str | None:
    """Return the cursor behind a page of ``items``, of which one more than ``limit`` was read if there is a next page."""
    return encode_cursor(items[limit - 1][key]) if len(items) > limit else None
