"""The words of the field, and none of those that the code once had of its own."""

import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: Words that were replaced, in any form; two_phase/README.md has those of the field.
OLD = r"lanes?|gathering|heed\w*|greet\w*|unheard|sweep\w*|swept|express_way|desk|obstacle"
#: A setting keeps its name, because operators have set it; the model has names of its own.
KEPT = {"sweep_interval_seconds", "SWEEP_INTERVAL_SECONDS"}
SKIPPED = {"migrations", "model", "node_modules", "build", "adr", "results"}
FILES = sorted(
    path
    for path in ROOT.rglob("*.*")
    if path.suffix in {".py", ".md"}
    and not any(part[0] == "." or part in SKIPPED for part in path.relative_to(ROOT).parts)
    and path.name not in {"CHANGELOG.md", "test_old_words.py"}
)


def _names(path: Path) -> set[str]:
    """Return the identifiers of a module, or the words of a page."""
    text = path.read_text()
    if path.suffix == ".md":
        return set(re.findall(r"\w+", text))
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return {token.string for token in tokens if token.type == tokenize.NAME}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_word_is_private(path: Path) -> None:
    """The code is read without a dictionary of its own."""
    snakes = {name: re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name) for name in _names(path) - KEPT}
    old = re.compile(rf"(?:^|_)(?:{OLD})(?:_|$)", re.IGNORECASE)

    assert {name for name, snake in snakes.items() if old.search(snake)} == set()
