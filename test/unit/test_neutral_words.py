"""two_phase speaks of transactions, clients and applications: it knows no trade."""

import re
from collections.abc import Callable
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "two_phase"
WORDS = {
    *("user", "customer", "courier", "account"),
    *("payment", "stock", "delivery", "warehouse", "shop", "cart", "order"),
    *("product", "goods", "item", "slot"),
    *("money", "price", "amount", "deposit", "restock", "buy", "bought"),
}
#: The same letters with another meaning: a sequence, SQL, dataclasses, the rows of a counter, JSON.
ELSEWHERE = re.compile(
    r"\border by\b|\b(?:in|of) (?:the|this|one|that|its|their|same|the same|key) order\b|\border of\b|slots=True"
    r"|\bresume_orders\b|\bSLOTS\b|\bslot\b|sixteen_slots|\.items\(\)|\"items\"|\bitems?\b",
    re.IGNORECASE,
)
TRADE = re.compile(rf"(?<![a-z])(?:{'|'.join(WORDS)})s?(?![a-z])", re.IGNORECASE)


def _found(source: str) -> list[str]:
    return TRADE.findall(ELSEWHERE.sub("", source))


def test_no_word_of_a_trade_is_in_two_phase(figure: Callable[[str], None]) -> None:
    """Code, messages, comments and docstrings are those of any application."""
    sources = {path.relative_to(FOLDER): path.read_text() for path in FOLDER.rglob("*.py")}
    found = {
        f"{path}:{number}: {words}"
        for path, source in sources.items()
        for number, line in enumerate(source.splitlines(), 1)
        if (words := _found(line))
    }
    figure(f"words of a trade in two_phase: {len(found)} in {len(sources)} modules")

    assert found == set()


def test_a_word_of_the_trade_would_be_found() -> None:
    """The list above is looked for in names and in prose."""
    assert _found("order_id, the customers, max_price") == ["order", "customers", "price"]
    assert _found("in their order, ORDER BY slot") == []
