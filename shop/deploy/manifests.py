"""Renders the chart into k8s/ and config/.

Numbered in the order in which one applies them, a file per part of the shop.

The chart is the only source. `python -m shop.deploy.manifests` writes the files that are kept in
the repository; with `--into FOLDER` and `--set KEY=VALUE` somebody else gets them for a cluster of
his own.
"""

import argparse
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from shop.deploy.kubernetes_tools import found
from shop.project import ROOT, CannotRun
from shop.topology import SERVICES

CHART = ROOT / "helm" / "shop"
VALUES = ROOT / "helm" / "manifests.yaml"
NAMESPACE = "hw10"

#: What each file is, in the order in which they are applied.
FILES = {
    "k8s/00-namespace.yaml": "The namespace that everything is in.",
    "k8s/10-accounts.yaml": "An account for each kind of pod, none of them with a token for the cluster's API.",
    "k8s/11-network-policies.yaml": "Who may talk to whom.",
    "k8s/20-postgresql.yaml": "The database; not for those who bring their own.",
    "k8s/30-migrations.yaml": "Brings each service's schema to the version that the service needs.",
    **{
        f"k8s/4{number}-{service.host}.yaml": f"{service.package}: its pods, and how they are reached."
        for number, service in enumerate(SERVICES)
    },
    "k8s/60-ingress.yaml": "The way in.",
    "config/shop.yaml": "The services' settings.",
    "config/postgresql.yaml": "Roles and schemas, made by the database when it starts for the first time.",
    "config/roles.sql": "The same script alone, for compose.yaml and for a database of your own.",
}
_MARKS = {".yaml": "#", ".sql": "--"}
_HEAD = (
    "{mark} {about} Rendered from helm/shop by `make manifests`: change the chart, not this file.\n"
)


def render(values: Sequence[Path] = (VALUES,), settings: Sequence[str] = ()) -> dict[str, str]:
    """Return the text of each file. Raises CannotRun if helm refuses, with its reason."""
    parts: dict[str, list[str]] = {name: [] for name in FILES}
    for text in _templated(values, settings):
        resource = yaml.safe_load(text)
        for name in _files_of(resource):
            parts[name].append(text)
        if "roles.sql" in resource.get("data", {}):
            parts["config/roles.sql"].append(resource["data"]["roles.sql"])
    return {
        name: _HEAD.format(about=FILES[name], mark=_MARKS[Path(name).suffix]) + "---\n".join(texts)
        for name, texts in parts.items()
        if texts
    }


def _templated(values: Sequence[Path], settings: Sequence[str]) -> list[str]:
    options = [
        *(f"--values={path}" for path in values),
        *(f"--set={setting}" for setting in settings),
    ]
    command = [
        found("helm"),
        "template",
        "shop",
        str(CHART),
        f"--namespace={NAMESPACE}",
        "--skip-tests",
        *options,
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 - helm, found above
    if done.returncode:
        raise CannotRun(done.stderr.strip())
    texts = (_without_source(text) for text in ("\n" + done.stdout).split("\n---\n"))
    return [text for text in texts if yaml.safe_load(text)]


def _without_source(text: str) -> str:
    lines = text.strip("\n").splitlines()
    return "\n".join(line for line in lines if not line.startswith("# Source: ")) + "\n"


def _files_of(resource: Mapping[str, Any]) -> list[str]:
    kind, component = (
        resource["kind"],
        resource["metadata"].get("labels", {}).get("app.kubernetes.io/component"),
    )
    by_kind = {
        "Namespace": ["k8s/00-namespace.yaml"],
        "ServiceAccount": ["k8s/10-accounts.yaml"],
        "NetworkPolicy": ["k8s/11-network-policies.yaml"],
        "Job": ["k8s/30-migrations.yaml"],
        "Ingress": ["k8s/60-ingress.yaml"],
    }
    if kind in by_kind:
        return by_kind[kind]
    if component == "config":
        return ["config/shop.yaml"]
    if component == "database":
        # Those who take Bitnami's chart need the script alone.
        return [
            "k8s/20-postgresql.yaml",
            *(["config/postgresql.yaml"] if kind == "ConfigMap" else []),
        ]
    host = resource["metadata"]["labels"]["app.kubernetes.io/name"]
    return [next(name for name in FILES if name.endswith(f"-{host}.yaml"))]


def write(files: Mapping[str, str], folder: Path) -> None:
    """Write the files under ``folder``.

    What an earlier version had there and this one has not is removed.
    """
    for old in (*folder.glob("k8s/[0-9]*.yaml"), *(folder / name for name in FILES)):
        old.unlink(missing_ok=True)
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path, default=ROOT, metavar="FOLDER")
    parser.add_argument("--values", type=Path, action="append", default=[VALUES], metavar="FILE")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    wishes = parser.parse_args()
    try:
        write(render(wishes.values, wishes.set), wishes.into)
    except CannotRun as reason:
        raise SystemExit(str(reason)) from None


if __name__ == "__main__":
    _main()
