"""What a participant more asks of the tree outside of its own package.

Each file is changed as a person would change it: what stands there for the last participant is
written once more, under the new name.
"""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
NEW, LAST = "loyalty", "delivery"
_NOT_COPIED = shutil.ignore_patterns(
    ".git", ".venv", ".data", "node_modules", "__pycache__", ".*_cache", "results"
)


def copied(folder: Path) -> Path:
    """Return a copy of the tree, without what was installed or left by runs."""
    return Path(shutil.copytree(ROOT, folder, ignore=_NOT_COPIED, symlinks=True))


def add(tree: Path) -> dict[str, int]:
    """Add the participant to ``tree``; return how many lines that took in each file outside of its package."""
    shutil.copytree(Path(__file__).parent / f"{NEW}_service", tree / f"{NEW}_service")
    return {name: _edited(tree / name, edit) for name, edit in EDITS.items()}


def _edited(file: Path, edit: Callable[[str], str]) -> int:
    before = file.read_text()
    after = edit(before)
    file.write_text(after)
    old = before.splitlines()
    changed = sum(line not in old for line in after.splitlines())
    return max(changed, len(after.splitlines()) - len(old))


def _renamed(text: str) -> str:
    return text.replace(LAST, NEW).replace(LAST.upper(), NEW.upper())


def _again(*patterns: str) -> Callable[[str], str]:
    """Return an edit that writes what matches each pattern once more behind itself."""

    def edit(text: str) -> str:
        for pattern in patterns:
            text, count = re.subn(pattern, lambda found: found[0] + _renamed(found[0]), text)
            assert count, pattern
        return text

    return edit


def _replaced(old: str, new: str) -> Callable[[str], str]:
    def edit(text: str) -> str:
        assert text.count(old) == 1, old
        return text.replace(old, new)

    return edit


def _composed(text: str) -> str:
    text = re.sub(
        rf'( +"{LAST}": \{{.*\}})\n', lambda each: f"{each[1]},\n{_renamed(each[0])}", text
    )
    return _again(
        # The password for the database, the services, the gateway's dependency and its route.
        rf"(?m)^      {LAST.upper()}_SERVICE_PASSWORD: .*\n",
        rf"(?m)^  {LAST}-migration:\n(?:    .*\n)+\n",
        rf"(?m)^  {LAST}-service:\n(?:    .*\n)+\n",
        rf"(?m)^      {LAST}-service: \{{condition: service_healthy\}}\n",
        rf"(?m)^        @{LAST} path_regexp .*\n",
        rf"(?m)^        handle @{LAST} \{{\n.*\n        \}}\n",
    )(text)


EDITS: dict[str, Callable[[str], str]] = {
    "shop/topology.py": _replaced(f'"{LAST}")', f'"{LAST}", "{NEW}")'),
    "order_service/order.py": _replaced(
        '        "delivery": {"slot_id": record.slot_id},\n',
        '        "delivery": {"slot_id": record.slot_id},\n        "loyalty": {"user_id": record.user_id},\n',
    ),
    "config/alembic.ini": lambda text: (
        text + f"\n[{NEW}_service]\nscript_location = {NEW}_service:migrations\n"
    ),
    "helm/shop/values.yaml": _again(rf"(?m)^  {LAST}:\n(?:    .*\n)+"),
    "helm/values.yaml": _again(rf"(?m)^    - name: {LAST.upper()}_SERVICE_PASSWORD\n.*\n"),
    "secrets/shop.yaml.example": _again(
        rf"(?m)^  {LAST}-service-password: .*\n", rf"(?m)^  {LAST}-key: .*(?:\n|\Z)"
    ),
    "compose.yaml": _composed,
}
