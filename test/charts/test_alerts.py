"""Alerts that can fire, and a runbook for each."""

import json
import re

import pytest
import yaml
from prometheus_client import REGISTRY

import two_phase.metrics  # noqa: F401 - its import registers the counters
from charts.conftest import templated
from shop.project import ROOT

RUNBOOKS = ROOT / "helm" / "runbooks"
#: Known only to a running participant, which asks its database.
BY_DATABASE = {"two_phase_in_doubt", "two_phase_in_doubt_oldest_seconds"}


def _alerts() -> list[dict[str, object]]:
    done = templated(
        "--set=monitoring.prometheusRule=true", "--show-only=templates/monitoring.yaml"
    )
    return [dict(rule) for rule in yaml.safe_load(done.stdout)["spec"]["groups"][0]["rules"]]


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    """Whoever is woken is told what it means."""
    runbooks = {f"helm/runbooks/{path.name}" for path in RUNBOOKS.iterdir()}

    assert {alert["annotations"]["runbook"] for alert in _alerts()} == runbooks  # type: ignore[index]
    assert {f"helm/runbooks/{alert['alert']}.md" for alert in _alerts()} == runbooks


@pytest.mark.parametrize("path", sorted(RUNBOOKS.iterdir()), ids=lambda path: path.stem)
def test_runbook_says_meaning_impact_diagnosis_and_mitigation(path: object) -> None:
    """Four headings, in this order."""
    headings = re.findall(r"(?m)^## (.*)$", path.read_text())  # type: ignore[attr-defined]

    assert headings == ["Meaning", "Impact", "Diagnosis", "Mitigation"]


def _exported() -> set[str]:
    return {
        sample for metric in REGISTRY.collect() for sample in _samples(metric.name, metric.type)
    } | BY_DATABASE


def _samples(name: str, kind: str) -> set[str]:
    return {"counter": {f"{name}_total"}, "histogram": {f"{name}_bucket"}}.get(kind, {name})


def _metrics(expression: object) -> set[str]:
    return set(re.findall(r"two_phase_\w+", str(expression)))


def test_alerts_name_only_metrics_that_there_are() -> None:
    """An alert on a metric that nobody exports never fires."""
    used = {name for alert in _alerts() for name in _metrics(alert["expr"])}

    assert used
    assert used <= _exported()


def test_dashboard_shows_what_the_alerts_are_about_and_nothing_that_there_is_not() -> None:
    """A panel on a metric that nobody exports stays empty, and what calls somebody at night can be looked at."""
    done = templated("--set=monitoring.dashboard=true", "--show-only=templates/monitoring.yaml")
    (dashboard,) = [json.loads(text) for text in yaml.safe_load(done.stdout)["data"].values()]
    used = {
        name
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in _metrics(target["expr"])
    }

    assert {name for alert in _alerts() for name in _metrics(alert["expr"])} <= used <= _exported()
