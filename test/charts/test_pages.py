"""What the pages tell people to type.

Files, values, images, resources and commands that there are.
"""

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from charts.conftest import VALUE_SETS, Resource, templated
from cluster.backups import commands
from shop.project import ROOT

Rendered = Callable[..., tuple[Resource, ...]]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "test" / "README.md",
    *sorted(ROOT.glob("k8s/*.md")),
    *sorted(ROOT.glob("helm/**/*.md")),
    *sorted(ROOT.glob("docs/*.md")),
]
#: Made on the user's machine by what the page says.
MADE = {"test/node_modules", "secrets/shop.yaml"}
#: Other people's charts have values of their own.
FOREIGN = re.compile(r"traefik/traefik|bitnami/")

_CODE = re.compile(r"^```\w*\n(.*?)^```$|`([^`\n]+)`", re.MULTILINE | re.DOTALL)
_CONTINUED = re.compile(r"\\\n\s*")
_PATH = re.compile(r"(?<![\w./-])(?:\./)?((?:k8s|helm|config|secrets|test|docs|shop)/[\w./-]*)")
_SET = re.compile(r"--set[ =]'?([^\s']+)")
_RESOURCE = re.compile(
    r"\b(deploy|deployment|service|statefulset)[ /]((?:service|order|payment|stock|delivery)-[\w-]+)"
)
_MODULE = re.compile(r"python -m (shop[\w.]*)(?: ([a-z]+))?")
_IMAGE = re.compile(r"localhost/shop/[\w$-]+:([\w.]+)")
_KINDS = {
    "deploy": "Deployment",
    "deployment": "Deployment",
    "service": "Service",
    "statefulset": "StatefulSet",
}


def _lines(page: Path) -> Iterator[str]:
    """Return what stands as code on a page, line by line."""
    for block, span in _CODE.findall(page.read_text()):
        yield from _CONTINUED.sub(" ", block or span).splitlines()


def _named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture(params=PAGES, ids=_named)
def lines(request: pytest.FixtureRequest) -> list[str]:
    """Return the code of each page in turn."""
    return list(_lines(request.param))


def test_files_that_a_page_names_are_there(lines: list[str]) -> None:
    """Who copies a command finds what it reads."""
    named = {path.rstrip("/.") for line in lines for path in _PATH.findall(line)}

    assert {path for path in named if not any((ROOT / path).parent.glob(Path(path).name))} <= MADE


def test_values_that_a_page_sets_are_the_charts(lines: list[str]) -> None:
    """The chart's schema knows each of them: a value that is misspelt ends with an error."""
    for setting in {
        each for line in lines if not FOREIGN.search(line) for each in _SET.findall(line)
    }:
        done = templated(f"--set={setting}")

        assert not done.returncode, done.stderr


def test_resources_that_a_page_names_are_rendered(lines: list[str], rendered: Rendered) -> None:
    """`kubectl logs deploy/...` and the like meet something."""
    everything = [each for options in VALUE_SETS.values() for each in rendered(*options)]
    there = {(each["kind"], each["metadata"]["name"]) for each in everything}
    named = {(_KINDS[kind], name) for line in lines for kind, name in _RESOURCE.findall(line)}

    assert named <= there


def test_programs_that_a_page_starts_exist(lines: list[str]) -> None:
    """`python -m shop ...` is a command, and `python -m shop.something` a module."""
    started = {(module, command) for line in lines for module, command in _MODULE.findall(line)}
    offered = subprocess.run(
        [sys.executable, "-m", "shop", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    for module, command in started:
        if module == "shop":
            assert re.search(rf"^\W*{command or 'up'}\b", offered.stdout, re.MULTILINE), command
        else:
            assert (ROOT / f"{module.replace('.', '/')}.py").exists(), module


def test_images_have_the_version_of_this_tree(lines: list[str]) -> None:
    """What is loaded into a cluster is what `make images` has built."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

    assert {tag for line in lines for tag in _IMAGE.findall(line)} <= {version}


def test_the_searches_find_what_there_is() -> None:
    """Without this, the tests above might look at nothing."""
    text = "\n".join(line for page in PAGES for line in _lines(page))

    assert {"k8s/", "helm/shop", "helm/values.yaml", "config/roles.sql"} <= set(_PATH.findall(text))
    assert "services.order.replicas=3" in _SET.findall(text)
    assert {("deploy", "payment-service"), ("service", "service-postgresql")} <= set(
        _RESOURCE.findall(text)
    )
    assert {("shop", "audit"), ("shop", "restore"), ("shop.deploy.manifests", "")} <= set(
        _MODULE.findall(text)
    )
    assert _IMAGE.findall(text)


def test_every_alert_is_on_the_production_page() -> None:
    """Who sets the alerts up reads what each of them means."""
    rules = yaml.safe_load(
        templated(
            "--set=monitoring.prometheusRule=true", "--show-only=templates/monitoring.yaml"
        ).stdout
    )
    page = (ROOT / "docs" / "production.md").read_text()

    assert [
        rule["alert"]
        for rule in rules["spec"]["groups"][0]["rules"]
        if f"| {rule['alert']} |" not in page
    ] == []


def test_resources_on_the_pages_are_yaml() -> None:
    """An indentation that is wrong is found here, and not by somebody with a broken database."""
    blocks = re.findall(
        r"^```yaml\n(.*?)^```$",
        (ROOT / "docs" / "production.md").read_text(),
        re.MULTILINE | re.DOTALL,
    )

    kinds = [yaml.safe_load(block)["kind"] for block in blocks]

    assert kinds == ["Cluster", "ScheduledBackup", "Cluster"]


def test_the_backup_that_is_tried_on_a_cluster_is_the_one_on_the_page() -> None:
    """`make e2e` takes its commands from there."""
    dump, restore = commands()

    assert dump.startswith("kubectl -n hw10 exec service-postgresql-0 -- pg_dump")
    assert restore.startswith("kubectl -n hw10 scale deployment --all --replicas=0")
    assert "pg_restore" in restore
