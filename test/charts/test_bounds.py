"""A setting beyond what a service takes ends the rendering, before pods that cannot start are made."""

import json
from typing import Any

import pytest

from charts.conftest import templated
from order_service.settings import OrderSettings
from service_chassis.settings import ParticipantSettings
from shop.deploy.manifests import CHART

FIELDS: dict[str, Any] = {**ParticipantSettings.model_fields, **OrderSettings.model_fields}


def _settings() -> set[str]:
    schema = json.loads((CHART / "values.schema.json").read_text())
    return set(schema["properties"]["config"]["properties"])


#: The largest value of each setting of the chart that a service bounds.
LARGEST = {
    name: int(bound.le)
    for name in sorted(_settings())
    for bound in FIELDS[name.lower()].metadata
    if hasattr(bound, "le")
}


def test_settings_with_a_bound_are_found() -> None:
    """Otherwise the test below would try nothing."""
    assert {"KEEP_ALIVE_SECONDS", "PREPARE_TIMEOUT_SECONDS", "BATCH_LIMIT"} <= set(LARGEST)


@pytest.mark.parametrize("name", LARGEST)
def test_value_above_the_services_bound_is_refused(name: str) -> None:
    """The refusal names the setting and the bound."""
    largest = LARGEST[name]

    done = templated(f"--set=config.{name}={largest + 1}")

    assert done.returncode
    assert name in done.stderr
    assert str(largest) in done.stderr.replace(",", "")
