"""What a document cannot say to schemathesis, because it depends on the clock or on what is there already."""

import re
import uuid
from datetime import UTC, datetime
from typing import Any

import schemathesis
from hypothesis import strategies as st

_KEY = re.compile("[!-~]([ -~]*[!-~])?")
#: What would say of a log or a participant that it was restored from an older backup, and must not
#: be believed.
_POSITIONS = {"log_seen": 0, "log_counter": 0, "counter_heard": 0, "counter": 1, "generation": 1}

# Slots start in the future.
schemathesis.openapi.format(
    "date-time",
    st.datetimes(datetime(2031, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)).map(  # noqa: DTZ001 - given by timezones
        lambda moment: moment.isoformat()
    ),
)


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: dict[str, Any]) -> None:
    """Use a key once, because another body makes it a mistake.

    And leave alone what the log stands at.
    """
    key = (case.headers or {}).get("Idempotency-Key")
    if isinstance(key, str) and len(key) <= 255 and _KEY.fullmatch(key):
        case.headers["Idempotency-Key"] = str(uuid.uuid4())
    if "/two-phase/" in case.path and isinstance(case.body, dict):
        case.body = _placed(case.body)


def _placed(node: Any) -> Any:
    if isinstance(node, list):
        return [_placed(each) for each in node]
    if not isinstance(node, dict):
        return node
    changed = {name: _placed(value) for name, value in node.items()}
    # A number of the right kind stays one, and a wrong value stays wrong.
    small = {
        name: value
        for name, value in _POSITIONS.items()
        if isinstance(changed.get(name), int | float)
        and 0 < changed[name] <= 2**53 - 1
        and changed[name] % 1 == 0
    }
    return {**changed, **small}
