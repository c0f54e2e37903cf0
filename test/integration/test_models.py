"""models.py of each service says what exists: it is held equal to what the migrations have made."""

from importlib import import_module

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import CheckConstraint, Engine, inspect

from shop.topology import PACKAGES

#: Added to every participant by two_phase, with SQL of its own.
_NOT_MODELLED = {"branches", "round_counters", "alembic_version"}


def _is_modelled(_thing: object, name: str | None, kind: str, *_: object) -> bool:
    return kind != "table" or name not in _NOT_MODELLED


@pytest.mark.parametrize("service", PACKAGES)
def test_models_and_migrations_say_the_same(engines: dict[str, Engine], service: str) -> None:
    """Tables, columns, types, defaults' presence and indexes.

    Who reads models.py knows the schema.
    """
    metadata = import_module(f"{service}.models").Base.metadata
    with engines[service].connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"include_object": _is_modelled, "compare_type": True}
        )

        assert compare_metadata(context, metadata) == []


@pytest.mark.parametrize("service", PACKAGES)
def test_every_law_in_the_models_is_a_check_in_the_schema_and_no_other(
    engines: dict[str, Engine], service: str
) -> None:
    """Constraints are named as the law that they state, and each law stands in both places."""
    metadata = import_module(f"{service}.models").Base.metadata
    schema = inspect(engines[service])
    for table in metadata.tables.values():
        modelled = {check.name for check in table.constraints if isinstance(check, CheckConstraint)}

        assert {check["name"] for check in schema.get_check_constraints(table.name)} == modelled
