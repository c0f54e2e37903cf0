"""The types of the fields that requests have in common, each with its rule."""

import re
import unicodedata
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Header
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from two_phase.hosting.problems import Invalid
from two_phase.protocol import MAX_INTEGER

KEY_LENGTH_MAX = 255
NAME_LENGTH_MAX = 200
_RFC3339 = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})", re.ASCII)
_DIGITS = re.compile(r"-?[0-9]+")


class StrictModel(BaseModel):
    """A request's body: no conversions ("1" is no integer), no unknown fields."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


def _printable(name: str) -> str:
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        raise ValueError("must not contain control characters")
    return name


def _moment(value: object) -> object:
    if not isinstance(value, str) or not _RFC3339.fullmatch(value):
        raise ValueError("must be a time with an offset, such as 2027-01-15T10:00:00Z")
    return value


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("is beyond the calendar") from None


def plain_digits(value: object) -> object:
    """Refuse text of a path or a query that is a number for Python alone, such as " 1", "+1" and "1_0"."""
    if isinstance(value, str) and not _DIGITS.fullmatch(value):
        raise ValueError("must be an integer, in digits alone")
    return value


#: A moment in time as RFC 3339 writes it, with an offset; kept in UTC.
Moment = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_moment), AfterValidator(_in_utc)]

#: The id of a user, a product or a slot.
Identifier = Annotated[int, Field(ge=1, le=MAX_INTEGER), BeforeValidator(plain_digits)]
#: An amount of money in the smallest unit, or a number of goods: more than nothing.
Quantity = Annotated[int, Field(ge=1, le=MAX_INTEGER)]
#: The same, or nothing.
QuantityOrZero = Annotated[int, Field(ge=0, le=MAX_INTEGER)]
Name = Annotated[str, Field(min_length=1, max_length=NAME_LENGTH_MAX), AfterValidator(_printable)]


def idempotency_key(value: Annotated[str | None, Header(alias="Idempotency-Key")] = None) -> str | None:
    """Return the request's Idempotency-Key, if it has one; raises Invalid."""
    if value is not None and not (1 <= len(value) <= KEY_LENGTH_MAX and value.isprintable()):
        raise Invalid("Idempotency-Key", f"must have 1 to {KEY_LENGTH_MAX} printable characters")
    return value


IdempotencyKey = Annotated[str | None, Depends(idempotency_key)]
