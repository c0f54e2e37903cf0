"""The types of the fields that requests have in common, each with its rule."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Depends, Header, Request
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from service_chassis.problems import MANY, ONE, Invalid
from two_phase.messages import MAX_INTEGER

#: The idempotency key: printable ASCII; HTTP takes blanks around a header's value away.
KEY_LENGTH_MAX = 255
KEY_PATTERN = r"^[!-~]([ -~]*[!-~])?$"
NAME_LENGTH_MAX = 200
#: What is on no paper: white space, format signs, and what Unicode calls default-ignorable, with
#: fillers and braille's blank.
_INVISIBLE = (
    r"\s\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890-\u0891\u08e2\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    r"\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
)
#: The same past the first 65,536 characters, where documents cannot follow: not every reader of
#: theirs takes such ranges.
_INVISIBLE_BEYOND = (
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_CONTROLS = r"\u0000-\u001f\u007f-\u009f"
#: No control characters, and one character at least that can be seen. A regular expression of JSON
#: Schema as well.
NAME_PATTERN = f"^[^{_CONTROLS}]*[^{_CONTROLS}{_INVISIBLE}][^{_CONTROLS}]*$"
_RFC3339 = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})", re.ASCII
)
_CONTROL, _VISIBLE = (
    re.compile(f"[{_CONTROLS}]"),
    re.compile(f"[^{_CONTROLS}{_INVISIBLE}{_INVISIBLE_BEYOND}]"),
)
_KEY = re.compile(KEY_PATTERN)
_DIGITS = re.compile(r"-?[0-9]+")


#: So many things may be created at once.
LIST_MAX = 1000


class StrictModel(BaseModel):
    """A request's body: no conversions ("1" is no integer), no unknown fields."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


M = TypeVar("M", bound=StrictModel)


class Many(StrictModel, Generic[M]):
    """Many things to create at once: all or none."""

    items: list[M] = Field(min_length=1, max_length=LIST_MAX)


def one_or_many(body: object) -> str:
    """Return which of the two bodies of a creation this is, for ``Discriminator``."""
    return MANY if isinstance(body, Many) or (isinstance(body, dict) and "items" in body) else ONE


def _uncontrolled(name: str) -> str:
    if _CONTROL.search(name):
        raise ValueError("must not contain control characters")
    return name


def _legible(name: str) -> str:
    if not _VISIBLE.search(name):
        raise ValueError("must have a character that can be seen")
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
    """Refuse a number of a path or query that is one for Python alone: " 1", "+1", "1_0"."""
    if isinstance(value, str) and not _DIGITS.fullmatch(value):
        raise ValueError("must be an integer, in digits alone")
    return value


#: A moment in time as RFC 3339 writes it, with an offset; kept in UTC.
Moment = Annotated[
    AwareDatetime, Field(strict=False), BeforeValidator(_moment), AfterValidator(_in_utc)
]

#: The id of a user, a product or a slot.
Identifier = Annotated[int, Field(ge=1, le=MAX_INTEGER), BeforeValidator(plain_digits)]
#: An amount of money in the smallest unit, or a number of goods: more than nothing.
Quantity = Annotated[int, Field(ge=1, le=MAX_INTEGER)]
#: The same, or nothing.
QuantityOrZero = Annotated[int, Field(ge=0, le=MAX_INTEGER)]
Name = Annotated[
    str,
    Field(min_length=1, max_length=NAME_LENGTH_MAX, json_schema_extra={"pattern": NAME_PATTERN}),
    AfterValidator(_uncontrolled),
    AfterValidator(_legible),
]
#: How a name begins.
NamePrefix = Annotated[
    str,
    Field(
        min_length=1,
        max_length=NAME_LENGTH_MAX,
        json_schema_extra={"pattern": f"^[^{_CONTROLS}]*$"},
    ),
    AfterValidator(_uncontrolled),
]
#: An order's id as it is written in answers; the case of its letters does not matter.
OrderId = Annotated[
    str,
    Field(pattern=r"^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$"),
    AfterValidator(str.lower),
]


def idempotency_key(request: Request) -> str | None:
    """Return the request's Idempotency-Key, if it has one; raises Invalid."""
    values = request.headers.getlist("idempotency-key")
    if not values:
        return None
    if len(values) > 1:
        raise Invalid("Idempotency-Key", "must not be given twice")
    if len(values[0]) > KEY_LENGTH_MAX or not _KEY.fullmatch(values[0]):
        raise Invalid(
            "Idempotency-Key", f"must have 1 to {KEY_LENGTH_MAX} printable ASCII characters"
        )
    return values[0]


#: The rule of keys as the documents say it.
KEY_SCHEMA: dict[str, Any] = {
    "type": "string",
    "minLength": 1,
    "maxLength": KEY_LENGTH_MAX,
    "pattern": KEY_PATTERN,
}


def _documented_key(
    request: Request,
    _key: Annotated[
        str | None, Header(alias="Idempotency-Key", json_schema_extra=KEY_SCHEMA)
    ] = None,
) -> str | None:
    return idempotency_key(request)


IdempotencyKey = Annotated[str | None, Depends(_documented_key)]
