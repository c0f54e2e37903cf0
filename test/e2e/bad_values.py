"""Values of every kind that a field must not have, and the fields of every call."""

import json
from datetime import UTC, datetime, timedelta

import pytest

TOMORROW = (datetime.now(UTC) + timedelta(days=1)).isoformat()


#: What is no integer, by name: JSON as it is written.
NOT_INTEGERS = {
    "fractional": "1.5",
    "nearly whole": "1.0000000000000001",
    "rounded to whole": "9007199254740990.5",
    "negative exponent": "1e-1",
    "underflow": "1e-400",
    "huge negative exponent": "1e-99999999999999999999",
    "infinite exponent": "1e999",
    "digits in a string": '"1"',
    "word": '"ten"',
    "empty string": '""',
    "true": "true",
    "null": "null",
    "array": "[1]",
    "object": "{}",
}


TOO_LARGE = {"2^53": str(2**53), "past BIGINT": str(2**63), "huge": "1" + "0" * 30}


BELOW_ZERO = {"negative": "-1", "hugely negative": str(-(2**63) - 1)}


BAD_OR_ZERO = NOT_INTEGERS | TOO_LARGE | BELOW_ZERO


BAD = BAD_OR_ZERO | {"zero": "0"}


BAD_NAMES = {
    "empty": '""',
    "too long": json.dumps("n" * 201),
    "NUL": r'"a\u0000b"',
    "line feed": r'"a\nb"',
    "C1 control": r'"a\u0085b"',
    "lone surrogate": r'"a\ud800b"',
    "number": "1",
    "null": "null",
    "array": '["a"]',
}


BAD_TIMES = {
    "past": '"2020-01-15T10:00:00Z"',
    "naive": '"2099-01-15T10:00:00"',
    "date alone": '"2099-01-15"',
    "no such day": '"2099-02-30T10:00:00Z"',
    "no such hour": '"2099-01-15T25:00:00Z"',
    "no such offset": '"2099-01-15T10:00:00+99:00"',
    "beyond the calendar": '"9999-12-31T23:59:59-12:00"',
    "before the calendar": '"0001-01-01T00:00:00+12:00"',
    "year zero": '"0000-01-01T00:00:00Z"',
    "seconds since 1970": "4102444800",
    "word": '"tomorrow"',
    "empty": '""',
    "NUL": r'"2099-01-15T10:00:00Z\u0000"',
    "null": "null",
}


CALLS = ["users", "deposits", "products", "price", "restocks", "slots", "orders"]


#: call, field, bad values.
FIELDS: list[tuple[str, str, dict[str, str]]] = [
    ("users", "name", BAD_NAMES),
    ("users", "balance", BAD_OR_ZERO),
    ("deposits", "amount", BAD),
    ("products", "name", BAD_NAMES),
    ("products", "price", BAD),
    ("products", "quantity", BAD_OR_ZERO),
    ("price", "price", BAD),
    ("restocks", "quantity", BAD),
    ("slots", "starts_at", BAD_TIMES),
    ("slots", "couriers", {"null": "null", "word": '"Olga"', "1001": json.dumps(["Olga"] * 1001)}),
    ("slots", "couriers.0", BAD_NAMES),
    ("orders", "user_id", BAD),
    ("orders", "slot_id", BAD),
    ("orders", "items", {"empty": "[]", "null": "null", "object": "{}", "word": '"apple"'}),
    ("orders", "items.0", {"null": "null", "number": "1"}),
    ("orders", "items.0.product_id", BAD),
    ("orders", "items.0.quantity", BAD),
]


REQUIRED = [
    (call, field)
    for call, field, _ in FIELDS
    if (call, field) != ("users", "balance") and not field.endswith("0")
]


CASES = [
    pytest.param(call, field, bad, id=f"{call}-{field}-{name}")
    for call, field, values in FIELDS
    for name, bad in values.items()
]
