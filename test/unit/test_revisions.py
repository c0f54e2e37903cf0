"""Migrations are numbered without gaps.

Services compare numbers to know whether a schema is old enough or past what they know.
"""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from shop.topology import PACKAGES

ROOT = Path(__file__).parents[2]


def _loaded(path: Path) -> ModuleType:
    spec = spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("service", PACKAGES)
def test_each_revision_has_the_next_number_in_its_name_and_follows_the_one_before(
    service: str,
) -> None:
    """The newest number is the newest revision, and there is one line of them."""
    paths = sorted((ROOT / service / "migrations" / "versions").glob("*.py"))
    numbers = [f"{number:04}" for number in range(1, len(paths) + 1)]

    revisions = [_loaded(path) for path in paths]

    assert paths
    assert [path.name.split("_")[0] for path in paths] == numbers
    assert [revision.revision for revision in revisions] == numbers
    assert [revision.down_revision for revision in revisions] == [None, *numbers[:-1]]
