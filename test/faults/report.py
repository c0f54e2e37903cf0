"""One line of the table of faults."""

from dataclasses import dataclass

COLUMNS = (
    "fault",
    "offered",
    "confirmed",
    "refused",
    "unknown",
    "seconds to resolve",
    "violations",
)


@dataclass(frozen=True)
class Row:
    """What became of the orders that a fault has met; ``unknown`` had no final answer."""

    fault: str
    offered: int
    confirmed: int
    refused: int
    unknown: int
    resolved_seconds: float
    violations: int

    def cells(self) -> tuple[str, ...]:
        """Return the line's cells, in the order of COLUMNS."""
        numbers = (self.offered, self.confirmed, self.refused, self.unknown)
        return (
            self.fault,
            *map(str, numbers),
            f"{self.resolved_seconds:.1f}",
            str(self.violations),
        )
