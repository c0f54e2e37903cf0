"""Reading a JSON body strictly: its type, its size, its syntax, and no key twice.

What it means is checked afterwards.
"""

import asyncio
import json
from codecs import BOM_UTF8
from collections.abc import AsyncGenerator, Callable, MutableMapping
from decimal import Decimal, InvalidOperation
from typing import Any

from fastapi import Request
from starlette.requests import ClientDisconnect

from service_chassis.problems import Invalid, Problem
from two_phase.messages import MAX_INTEGER

BODY_BYTES_MAX = 65_536
#: A body that may hold many items has so much; an ingress commonly lets no more than this through.
LIST_BYTES_MAX = 1024 * 1024
_BODY_SECONDS = 10
#: So many digits of an integer are enough to know that it is too large.
_DIGITS_KEPT = 100


class WholeRequest(Request):
    """A request that has arrived to its end."""

    def __init__(self, scope: MutableMapping[str, Any], body: bytes) -> None:
        super().__init__(scope)
        self.whole = body

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """Yield the body."""
        yield self.whole


class _DuplicateKey(ValueError):
    pass


def check_identity(request: Request) -> None:
    """Raise Problem 415 if the body is compressed, or encoded in another way."""
    codings = request.headers.getlist("content-encoding")
    if codings and any(
        coding.strip().lower() not in ("", "identity") for coding in ",".join(codings).split(",")
    ):
        headers = {"Accept-Encoding": "identity"}
        raise Problem(415, "the body must not be compressed or encoded", headers=headers)


async def read_json(request: Request, limit: int = BODY_BYTES_MAX) -> Any:
    """Return the parsed body of at most ``limit`` bytes.

    Raises Problem: 400 malformed, 413 too large, 415 not JSON, 422 for a key that stands twice.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Problem(415, "the body must be application/json")
    body = await read_body(request, limit)
    try:
        return _parsed(body.removeprefix(BOM_UTF8).decode())
    except _DuplicateKey as error:
        raise Invalid(str(error), "stands twice in the same object") from None
    except (ValueError, RecursionError):
        raise Problem(400, "the body is not valid JSON") from None


def _parsed(text: str) -> Any:
    try:
        return _DECODER.decode(text)
    except (json.JSONDecodeError, _DuplicateKey):
        raise
    except ValueError:
        # Python reads no integer of more than 4,300 digits. It is JSON all the same, and too large
        # for every field.
        return _DECODER_OF_LONG_INTEGERS.decode(text)


async def read_body(request: Request, limit: int) -> bytes:
    """Return the body if it has at most ``limit`` bytes.

    Raises Problem 413, 408, or 415 for one that is encoded.
    """
    check_identity(request)
    if isinstance(request, WholeRequest):
        parts, size = [request.whole], len(request.whole)
    else:
        parts, size = await _arrived(request, limit)
    if size > limit:
        raise Problem(413, f"the body must not be larger than {limit} bytes")
    return b"".join(parts)


async def _arrived(request: Request, limit: int) -> tuple[list[bytes], int]:
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    break
                parts.append(part)
    except TimeoutError:
        raise Problem(408, f"the body did not arrive within {_BODY_SECONDS} seconds") from None
    except ClientDisconnect:
        raise Problem(400, "the caller hung up before the body was whole") from None
    return parts, size


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise _DuplicateKey(next(key for key in keys if keys.count(key) > 1))
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _number(text: str) -> int | float:
    """Return an integer if that is what the text stands for, as JSON Schema reads 1.0 and 1e2."""
    value = float(text)
    if not value.is_integer() or abs(value) > MAX_INTEGER:
        return value
    try:
        return int(value) if Decimal(text) == int(value) else value
    except InvalidOperation:
        return value


def _decoder(parse_int: Callable[[str], int]) -> json.JSONDecoder:
    return json.JSONDecoder(
        object_pairs_hook=_without_duplicates,
        parse_constant=_no_constant,
        parse_int=parse_int,
        parse_float=_number,
    )


#: UTF-8 alone, with or without a byte order mark (RFC 8259, section 8.1).
_DECODER = _decoder(int)
_DECODER_OF_LONG_INTEGERS = _decoder(lambda digits: int(digits[:_DIGITS_KEPT]))
