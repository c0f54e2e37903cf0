"""Lists a page at a time: ``limit``, and an opaque ``cursor`` where the next page begins."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
)
from pydantic_core import CoreSchema, core_schema

from service_chassis.fields import plain_digits

LIMIT_MAX = 1000


class Page(BaseModel):
    """Which part of a list is wanted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: Annotated[int, BeforeValidator(plain_digits)] = Field(
        default=20, ge=1, le=LIMIT_MAX, description="How many items the page has at most."
    )


@dataclass(frozen=True)
class Cursor:
    """The cursors of one list: its ``name``, and a last item's position, as ``position`` allows.

    Documents say the pattern, so that every text is a cursor of this list or announced to be none.
    """

    name: str
    position: str = r"[0-9]{1,15}"

    @property
    def pattern(self) -> str:
        """Return the regular expression of all cursors of this list."""
        return f"{self.name}-{self.position}"

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Make ``Annotated[str, cursor]`` the type of a field whose value becomes the position."""
        return core_schema.no_info_after_validator_function(self.read, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Say the rule of these cursors."""
        return {
            **handler(schema),
            "pattern": f"^{self.pattern}$",
            "description": "The `next_cursor` of the page before.",
        }

    def write(self, position: int | str) -> str:
        """Return the cursor behind ``position``."""
        return f"{self.name}-{position}"

    def read(self, text: str) -> str:
        """Return the position that a cursor stands for.

        Raises ValueError for a text that is none.
        """
        if not re.fullmatch(self.pattern, text):
            raise ValueError("is not a cursor of this list")
        return text.removeprefix(f"{self.name}-")

    def behind(self, items: Sequence[dict[str, Any]], limit: int, key: str) -> str | None:
        """Return the cursor behind a page; one of ``items`` past ``limit`` tells of a next page."""
        return self.write(items[limit - 1][key]) if len(items) > limit else None
