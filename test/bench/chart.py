"""Draws a line chart as SVG, without a library.

A handful of lines on two logarithmic axes need none.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 760, 440
LEFT, RIGHT, TOP, BOTTOM = 70, 190, 40, 50
COLOURS = ("#1f6feb", "#8250df", "#bf3989", "#2da44e", "#bc4c00", "#57606a", "#9a6700", "#0a7ea4")


@dataclass(frozen=True)
class Value:
    """A median with its range."""

    median: float
    least: float
    most: float


Lines = Mapping[str, Mapping[int, Value]]


@dataclass(frozen=True)
class _Scale:
    """Maps values to pixels, logarithmically."""

    least: float
    most: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = math.log(value / self.least) / math.log(self.most / self.least)
        return self.start + share * (self.end - self.start)


def drawn(title: str, unit: str, lines: Lines) -> str:
    """Return the chart of ``lines`` against the number of clients."""
    clients = sorted({each for line in lines.values() for each in line})
    values = [
        bound
        for line in lines.values()
        for value in line.values()
        for bound in (value.least, value.most)
    ]
    x = _Scale(clients[0], clients[-1] if len(clients) > 1 else clients[0] * 2, LEFT, WIDTH - RIGHT)
    y = _Scale(
        10 ** math.floor(math.log10(min(values))),
        10 ** math.ceil(math.log10(max(values) * 1.01)),
        HEIGHT - BOTTOM,
        TOP,
    )
    parts = [*_frame(title, unit, x, y, clients), *_drawn_lines(lines, x, y), *_legend(lines, y)]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">'
    return "\n".join(
        [head, f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>', *parts, "</svg>", ""]
    )


def _frame(title: str, unit: str, x: _Scale, y: _Scale, clients: Sequence[int]) -> list[str]:
    parts = [
        f'<text x="{LEFT}" y="22" font-size="15" font-weight="bold">{escape(title)}</text>',
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 12}" text-anchor="middle">concurrent clients</text>',
        f'<text transform="translate(16 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">{escape(unit)}</text>',
    ]
    below = HEIGHT - BOTTOM + 18
    parts.extend(
        f'<text x="{x(each):.1f}" y="{below}" text-anchor="middle">{each}</text>'
        for each in clients
    )
    for tick in _ticks(y):
        parts.append(f'<path d="M{LEFT} {y(tick):.1f}H{WIDTH - RIGHT}" stroke="#d0d7de"/>')
        parts.append(
            f'<text x="{LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:,g}</text>'
        )
    return parts


def _ticks(y: _Scale) -> list[float]:
    powers = range(round(math.log10(y.least)), round(math.log10(y.most)) + 1)
    return [tick for power in powers for step in (1, 2, 5) if (tick := step * 10**power) <= y.most]


def _drawn_lines(lines: Lines, x: _Scale, y: _Scale) -> list[str]:
    parts = []
    for (name, line), colour in zip(lines.items(), COLOURS, strict=False):
        dash = "" if name.startswith("shop") else ' stroke-dasharray="5 3"'
        path = " ".join(
            f"{x(clients):.1f},{y(value.median):.1f}" for clients, value in sorted(line.items())
        )
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>'
        )
        for clients, value in line.items():
            span = f"M{x(clients):.1f} {y(value.least):.1f}V{y(value.most):.1f}"
            parts.append(f'<path d="{span}" stroke="{colour}" stroke-width="1"/>')
            parts.append(
                f'<circle cx="{x(clients):.1f}" cy="{y(value.median):.1f}" r="3" fill="{colour}"/>'
            )
    return parts


def _legend(lines: Lines, y: _Scale) -> list[str]:
    """Name each line at its right end; names that would overlap are moved apart."""
    wanted = sorted(
        (y(line[max(line)].median), name, colour)
        for (name, line), colour in zip(lines.items(), COLOURS, strict=False)
    )
    parts, lowest = [], 0.0
    for position, name, colour in wanted:
        lowest = max(position, lowest + 15)
        parts.append(
            f'<text x="{WIDTH - RIGHT + 12}" y="{lowest + 4:.1f}" fill="{colour}">{escape(name)}</text>'
        )
    return parts
