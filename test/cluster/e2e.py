"""Tries the shop on whatever cluster kubectl points to.

Manifests, chart, the collection, and a bad week under load.

The namespace hw10 is made and removed; if it is there already, nothing is done. Images must be
there before: README tells how they get into minikube and kind.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from cluster import cluster, oracles
from cluster.backups import dumped_and_restored
from cluster.customers import Customers, Tally
from cluster.disturbances import Disturbance, disturbances
from shop.deploy import manifests, secrets_files
from shop.project import ROOT, CannotRun

COLLECTION = ROOT / "test" / "hw10.postman_collection.json"
NEWMAN = ROOT / "test" / "node_modules" / ".bin" / "newman"
#: Nothing of these may be reached from outside: the internal protocol, and the metrics.
INTERNAL_PATHS = tuple(
    prefix + path
    for prefix in ("", "/orders", "/transactions", "/payment", "/stock", "/delivery")
    for path in (
        "/metrics",
        "/two-phase/v1/round",
        "/two-phase/v1/outcomes",
        "/two-phase/v1/branches",
    )
)


@dataclass
class Step:
    """One line of the table."""

    name: str
    seconds: float = 0
    tally: Tally | None = None
    complaints: list[str] = field(default_factory=list)


@dataclass
class Programme:
    """All steps, each of which is told as soon as it is done."""

    base_url: str
    release: cluster.Release
    console: Console
    steps: list[Step] = field(default_factory=list)

    def step(self, name: str, do: Callable[[], None]) -> bool:
        """Do something that must not fail; return whether it did not."""
        step, begun = Step(name), time.monotonic()
        try:
            do()
        except (cluster.CommandFailed, CannotRun, httpx.HTTPError) as failure:
            step.complaints.append(str(failure))
        return self._done(step, begun)

    def under_load(self, disturbance: Disturbance) -> None:
        """Let something happen while customers order, and ask everybody afterwards whether the shop kept its promise."""
        step, begun = Step(disturbance.name), time.monotonic()
        with Customers(self.base_url) as customers:
            time.sleep(2)
            try:
                disturbance.happen()
                time.sleep(2)
            except cluster.CommandFailed as failure:
                step.complaints.append(str(failure))
        step.tally = customers.tally
        step.complaints += [*customers.tally.complaints, *oracles.complaints()]
        broken = customers.tally.broken
        if broken["500"] or (broken and not disturbance.may_break):
            step.complaints.append(f"not clean: {dict(broken)}")
        self._done(step, begun)

    def _done(self, step: Step, begun: float) -> bool:
        step.seconds = time.monotonic() - begun
        self.steps.append(step)
        said = f" {step.tally.orders} orders, {dict(step.tally.first)}" if step.tally else ""
        self.console.print(
            f"{'FAILED' if step.complaints else 'ok':6} {step.seconds:5.0f} s  {step.name}{said}",
            highlight=False,
        )
        for reason, times in step.tally.reasons.most_common(8) if step.tally else ():
            self.console.print(f"{times:9} x {reason}", highlight=False, markup=False)
        for complaint in step.complaints[:5]:
            self.console.print(f"        {complaint}", style="red", highlight=False, markup=False)
        return not step.complaints

    # -- the steps

    def apply_manifests(self) -> None:
        """Apply k8s/, config/ and secrets/ in one go.

        Rendered anew where this cluster needs other values.
        """
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            changed = bool(self.release.values or self.release.settings)
            if changed:
                values = [manifests.VALUES, *self.release.values]
                manifests.write(manifests.render(values, self.release.settings), folder)
            (folder / "secrets").mkdir()
            shutil.copy(ROOT / "secrets" / "shop.yaml.example", folder / "secrets")
            secrets_files.make(folder / "secrets")
            source = folder if changed else ROOT
            files = [
                f"--filename={path}"
                for path in (source / "k8s", source / "config", folder / "secrets")
            ]
            cluster.kubectl("apply", *files)
        cluster.wait_until_ready()

    def newman(self) -> None:
        """Run the unchanged collection."""
        address = self.base_url.removeprefix("http://")
        cluster.run(
            str(NEWMAN), "run", str(COLLECTION), f"--env-var=baseUrl={address}", "--color=off"
        )

    def nothing_internal_is_reachable(self) -> None:
        """Look for the internal paths from outside."""
        cluster.eventually(
            lambda: httpx.get(f"{self.base_url}/health/ready").is_success, "the ingress answers", 60
        )
        for path in INTERNAL_PATHS:
            for method in ("GET", "POST"):
                response = httpx.request(method, self.base_url + path)
                # /orders/NAME is a path of the API: what is not an id is 422, never what the
                # internal port would say.
                if response.status_code not in (404, 405, 422) or "two_phase" in response.text:
                    raise cluster.CommandFailed(
                        f"{method} {path} from outside is answered {response.status_code}"
                    )

    def table(self) -> Table:
        """Return everything that was seen."""
        table = Table(title="what was done to the shop, and what customers were told")
        for name in (
            "step",
            "s",
            "orders",
            "201",
            "409",
            "503",
            "202",
            "broken",
            "asked again",
            "slowest s",
            "wrong",
        ):
            table.add_column(name, justify="left" if name == "step" else "right")
        for step in self.steps:
            tally = step.tally
            counts = (
                [str(tally.first[status]) for status in ("201", "409", "503", "202")]
                if tally
                else [""] * 4
            )
            more = (
                [str(tally.broken.total()), str(tally.repeats), f"{tally.slowest_seconds:.1f}"]
                if tally
                else [""] * 3
            )
            orders = str(tally.orders) if tally else ""
            table.add_row(
                step.name, f"{step.seconds:.0f}", orders, *counts, *more, str(len(step.complaints))
            )
        return table


def play(programme: Programme, *, kill_seconds: float, only: str) -> None:
    """Do everything; what cannot work without an earlier step is left out when that failed."""
    if not only:
        _play_manifests(programme)
    _play_chart(
        programme,
        [
            each
            for each in disturbances(programme.release, kill_seconds=kill_seconds)
            if only in each.name
        ],
    )


def _play_manifests(programme: Programme) -> None:
    from_manifests = [
        ("kubectl apply -f k8s/ -f config/ -f secrets/", programme.apply_manifests),
        ("nothing internal is reachable from outside", programme.nothing_internal_is_reachable),
        ("newman, from manifests", programme.newman),
        ("nothing had to be restarted", _nothing_was_restarted),
    ]
    if all(programme.step(name, do) for name, do in from_manifests):
        programme.step("namespace removed", cluster.remove_namespace)
    else:
        cluster.remove_namespace()


def _play_chart(programme: Programme, happening: list[Disturbance]) -> None:
    from_chart = [
        ("helm install", programme.release.upgrade),
        ("newman, from the chart", programme.newman),
        ("newman once more", programme.newman),
        ("helm test", programme.release.test),
    ]
    if all(programme.step(name, do) for name, do in from_chart):
        for disturbance in happening:
            programme.under_load(disturbance)
        programme.step("newman, after all that", programme.newman)
        programme.step("dumped and restored", lambda: dumped_and_restored(programme.newman))
        programme.step(
            "removed and installed again, the data is there",
            lambda: _reinstalled(programme.release),
        )


def _nothing_was_restarted() -> None:
    if any(
        status["restartCount"]
        for pod in cluster.pods()
        for status in pod["status"]["containerStatuses"]
    ):
        raise cluster.CommandFailed("a service ended instead of waiting for its database")


def _reinstalled(release: cluster.Release) -> None:
    before = cluster.secret()
    release.uninstall()
    release.upgrade()
    if cluster.secret() != before:
        raise cluster.CommandFailed("the passwords changed, and the volume did not")
    wrong = oracles.complaints()
    if wrong:
        raise cluster.CommandFailed("; ".join(wrong))


def _main() -> int:
    parser = argparse.ArgumentParser(prog="make e2e", description=__doc__)
    parser.add_argument(
        "--values",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="values for this cluster",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="one more value"
    )
    parser.add_argument(
        "--base-url", default="http://arch.homework", help="how the ingress is reached"
    )
    parser.add_argument(
        "--kill-seconds", type=float, default=120, help="for how long pods are killed"
    )
    parser.add_argument(
        "--only",
        default="",
        metavar="TEXT",
        help="of the disturbances only those whose names contain TEXT",
    )
    parser.add_argument("--keep", action="store_true", help="leave the shop there in the end")
    wishes = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 160)
    if cluster.namespace_exists():
        console.print(
            f"the namespace {manifests.NAMESPACE} is there already; what is in it would be lost: remove it first"
        )
        return 2
    release = cluster.Release(wishes.values, wishes.set)
    programme = Programme(wishes.base_url, release, console)
    play(programme, kill_seconds=wishes.kill_seconds, only=wishes.only)
    console.print(programme.table())
    if not wishes.keep:
        cluster.remove_namespace()
    return 1 if any(step.complaints for step in programme.steps) else 0


if __name__ == "__main__":
    sys.exit(_main())
