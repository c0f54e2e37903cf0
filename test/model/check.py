#!/usr/bin/env python3
"""Check the protocol's model.

It must hold in every configuration, and every mutant must be rejected by the law it breaks.

    check.py                    everything, two at a time, the longest first
    check.py NAME...            only these configurations and mutants
    check.py --trace NAME       the shortest run that breaks a law, step by step
    check.py --json             the table as JSON

Exits with 1 if any verdict is wrong, a mutant is rejected for another reason than its own, or a
step was never taken.
"""

import argparse
import concurrent.futures
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from configurations import HOLD, MUTANTS, Configuration
from counterexample import told
from spin_tools import install_tools

MODEL = Path(__file__).with_name("two_phase.pml")


#: Two run at a time, and both together must fit into 10 GB.
MEMORY_LIMIT_MB = 4900


DEPTH_MAX = 1_000_000


SECONDS_MAX = 600


#: Fewer would be a model that has lost something.
STATES_MIN = 10_000_000


#: How pan is compiled and run for each kind of search. All are exact: no hashing away of states, no
#: partial order reduction.
SEARCHES = {
    "safety": (["-DSAFETY", "-DNOFAIR"], ["-E"]),
    # A run that never ends goes round in a circle; nothing is marked as progress, so any circle is
    # reported.
    "every run ends": (["-DNP", "-DNOFAIR"], ["-l", "-E"]),
    "fair liveness": (["-DNFAIR=4"], ["-a", "-f", "-E"]),
}


@dataclass
class Outcome:
    """What a search came to."""

    configuration: Configuration
    states: int = 0
    depth: int = 0
    seconds: float = 0.0
    broken: str = ""
    trouble: str = ""
    #: Lines of the model that are compiled into this configuration, and those of them that some run
    #: came through.
    lines: set[int] = field(default_factory=set)
    reached: set[int] = field(default_factory=set)

    @property
    def right(self) -> bool:
        """Return whether this is the verdict that is wanted."""
        expected = self.configuration.broken_laws
        return not self.trouble and (self.broken in expected if expected else not self.broken)


def build(configuration: Configuration, folder: Path, *, extra: Sequence[str] = ()) -> None:
    """Make pan, the checker of one configuration, in ``folder``.

    Mutants are quick to find, so quick to compile is better.
    """
    shutil.copy(MODEL, folder)
    flags, _ = SEARCHES[configuration.search]
    _run(["spin", "-a", *configuration.switches.split(), MODEL.name], folder)
    level = "-O2" if configuration.long else "-O0" if configuration.broken_laws else "-O1"
    options = ["-DNOREDUCE", "-DVECTORSZ=1024", f"-DMEMLIM={MEMORY_LIMIT_MB}", *flags, *extra]
    _run(["gcc", level, "-w", *options, "-o", "pan", "pan.c"], folder)


def _run(command: Sequence[str], folder: Path) -> str:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=SECONDS_MAX, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]}: {(done.stdout + done.stderr).strip()[-500:]}")
    return done.stdout


def check(configuration: Configuration) -> Outcome:
    """Search all states of one configuration, or as many as it takes to break a law."""
    started = time.monotonic()
    outcome = Outcome(configuration)
    with tempfile.TemporaryDirectory(prefix="model-") as name:
        try:
            build(configuration, Path(name))
            _, options = SEARCHES[configuration.search]
            printed = _run(["./pan", f"-m{DEPTH_MAX}", *options], Path(name))
            _understand(printed, outcome)
            _reached(printed, Path(name), outcome)
        except (RuntimeError, subprocess.TimeoutExpired) as failure:
            outcome.trouble = str(failure)
    outcome.seconds = time.monotonic() - started
    return outcome


def _understand(report: str, outcome: Outcome) -> None:
    outcome.states = int(float(_first(r"([\d.e+]+) states, stored", report) or 0))
    outcome.depth = int(_first(r"depth reached (\d+)", report) or 0)
    broken = _first(r"pan:\d+: (.*) \(at depth \d+\)", report) or ""
    outcome.broken = broken.removeprefix("assertion violated ").strip(" ()")
    errors = _first(r"errors: (\d+)", report)
    if errors is None or (errors != "0") != bool(broken):
        outcome.trouble = f"pan did not finish: {report.strip()[-300:]}"
    elif (
        "max search depth too small" in report
        or "out of memory" in report
        or ("Search not completed" in report and not broken)
    ):
        outcome.trouble = "the search was cut short"


def _reached(report: str, folder: Path, outcome: Outcome) -> None:
    """Find the lines that are there, from the sources of pan, and those that were reached, from its report."""
    tables = dict(
        re.findall(
            r"short src_ln(\d+) \[\] = \{([^}]*)\}",
            "".join(map(Path.read_text, folder.glob("pan.[hbmcp]"))),
        )
    )
    line_of = {
        process: [int(number) for number in re.findall(r"\d+", table)]
        for process, table in tables.items()
    }
    sections = report.split("unreached in ")[1:]
    missed = {
        (str(process), state)
        for process, section in enumerate(sections)
        for state in re.findall(rf"{re.escape(MODEL.name)}:\d+, state (\d+),", section)
    }
    statement = r'trans\[\s*(\d+)\]\[(\d+)\]\s*= settr\([^"]*"(?!\.\(goto\)|goto |break|-end-|DO|IF|ATOMIC|else)'
    for process, state in re.findall(statement, (folder / "pan.t").read_text()):
        line = line_of[process][int(state)]
        outcome.lines.add(line)
        if (process, state) not in missed:
            outcome.reached.add(line)


def _first(pattern: str, text: str) -> str | None:
    found = re.search(pattern, text)
    return found.group(1) if found else None


def trace(configuration: Configuration) -> int:
    """Print the shortest run that breaks a law."""
    with tempfile.TemporaryDirectory(prefix="model-") as name:
        folder = Path(name)
        shortest = configuration.search == "safety"
        build(configuration, folder, extra=["-DREACH"] if shortest else [])
        _, options = SEARCHES[configuration.search]
        outcome = Outcome(configuration)
        _understand(
            _run(["./pan", f"-m{DEPTH_MAX}", *options, *(["-i"] if shortest else [])], folder),
            outcome,
        )
        if not list(folder.glob("*.trail")):
            print(f"{configuration.name}: every law holds, there is no run to show")
            return 1
        replay = _run(
            ["spin", "-t", "-p", "-g", *configuration.switches.split(), MODEL.name], folder
        )
    participants, transactions, units = (
        int(_first(rf"-D{each}=(\d)", configuration.switches) or 1) for each in ("N", "T", "UNITS")
    )
    for line in told(replay, MODEL.read_text(), participants, transactions, units):
        print(line)
    print(f"then: {outcome.broken}")
    return 0


def never_taken(outcomes: Iterable[Outcome]) -> list[str]:
    """Return the steps that no configuration took.

    A law that holds because nothing happens proves nothing.
    """
    searched = [
        each for each in outcomes if not each.configuration.broken_laws and not each.trouble
    ]
    nowhere = (
        set[int]()
        .union(*(each.lines for each in searched))
        .difference(*(each.reached for each in searched))
    )
    text = MODEL.read_text().splitlines()
    missed = {
        number: text[number - 1].strip()
        for number in sorted(nowhere)
        if "NEVER(" not in text[number - 1]
    }
    return [f"line {number}: {line[:90]}" for number, line in missed.items()]


def show(outcome: Outcome) -> str:
    """Return one line of the table."""
    verdict = "ok   " if outcome.right else "WRONG"
    found = outcome.trouble or outcome.broken or "holds"
    return (
        f"{verdict}  {outcome.configuration.name:<36} {outcome.states:>10,} states  depth {outcome.depth:>4}  "
        f"{outcome.seconds:>5.1f} s  {found}"
    )


def run_all(wanted: Sequence[Configuration], workers: int, *, quiet: bool) -> list[Outcome]:
    """Check everything, the longest first, and print each verdict as it comes."""
    queue = sorted(wanted, key=lambda each: not each.long)
    outcomes = []
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for future in concurrent.futures.as_completed([pool.submit(check, each) for each in queue]):
            outcomes.append(future.result())
            if not quiet:
                print(show(outcomes[-1]), flush=True)
    return sorted(outcomes, key=lambda each: wanted.index(each.configuration))


def main() -> int:
    """Check what the command line names, or everything."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--trace", metavar="NAME")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    known = {each.name: each for each in [*HOLD, *MUTANTS]}
    if unknown := {*options.names, *([options.trace] if options.trace else [])} - known.keys():
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    install_tools()
    if options.trace:
        return trace(known[options.trace])
    wanted = [known[name] for name in options.names] or list(known.values())
    started = time.monotonic()
    outcomes = run_all(wanted, options.workers, quiet=options.json)
    return report(
        outcomes, time.monotonic() - started, everything=not options.names, as_json=options.json
    )


def report(outcomes: Sequence[Outcome], seconds: float, *, everything: bool, as_json: bool) -> int:
    """Print the summary; return the exit code."""
    holding = [each for each in outcomes if not each.configuration.broken_laws]
    states = sum(each.states for each in holding)
    wrong = [each.configuration.name for each in outcomes if not each.right]
    untaken = never_taken(outcomes) if everything else []
    too_few = everything and states < STATES_MIN
    summary = {
        "configurations": len(holding),
        "mutants": len(outcomes) - len(holding),
        "states": states,
        "depth": max((each.depth for each in holding), default=0),
        "seconds": round(seconds, 1),
        "wrong": wrong,
        "never_taken": untaken,
    }
    if as_json:
        rows = [
            {**asdict(each), "right": each.right, "lines": None, "reached": None}
            for each in outcomes
        ]
        print(json.dumps({**summary, "outcomes": rows}, indent=1))
    else:
        for text in untaken:
            print(f"never taken in any configuration: {text}")
        print(
            f"{summary['configurations']} configurations hold in {states:,} states, depth {summary['depth']}; "
            f"{summary['mutants']} mutants; {seconds:.0f} s; "
            + (f"WRONG: {', '.join(wrong)}" if wrong else "every verdict is right")
            + (f"; fewer than {STATES_MIN:,} states" if too_few else "")
        )
    return 1 if wrong or untaken or too_few else 0


if __name__ == "__main__":
    sys.exit(main())
