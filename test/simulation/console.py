"""How the simulation looks on a terminal.

A progress bar, what was seen, and the history of the first broken run.
"""

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from functools import partial

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from simulation import pairs
from simulation.runs import Outcome, history_of, run_seeds, world_of

_CHUNK = 25
_SHOWN_MAX = 5

console = Console(soft_wrap=True, highlight=False)


def told(seed: int) -> int:
    """Print the history of one seed."""
    world = world_of(seed, recording=True)
    console.print(history_of(world), markup=False)
    return 1 if world.laws.broken else 0


def searched(first: int, seeds: int) -> int:
    """Run seeds until a law is broken, and say in one line when it was."""
    outcome = run_seeds(range(first, first + seeds), until_broken=True)
    for _, law in outcome.broken:
        console.print(f"{outcome.runs} {law}", markup=False)
    return 1 if outcome.broken else 0


def run(first: int, seeds: int, processes: int) -> int:
    """Run seeds on several processes."""
    chunks = [
        range(start, min(start + _CHUNK, first + seeds))
        for start in range(first, first + seeds, _CHUNK)
    ]
    outcome = _side_by_side(
        [partial(run_seeds, chunk) for chunk in chunks],
        processes,
        "seeds",
        [len(each) for each in chunks],
    )
    if outcome.broken:
        seed = min(int(name.split()[1]) for name, _ in outcome.broken)
        told(seed)
    return _summary(outcome)


def paired(processes: int, *, keyed: bool) -> int:
    """Run every single fault and every pair of faults of an order with a key, or of any order."""
    paths = pairs.KEYED_PATHS if keyed else pairs.PATHS
    work = [
        partial(pairs.run_with, path, first, pairs=True)
        for path in paths
        for first in pairs.singles(path)
    ]
    return _summary(_side_by_side(work, processes, "first faults", [1] * len(work)))


def _side_by_side(
    work: Sequence[Callable[[], Outcome]], processes: int, unit: str, sizes: Sequence[int]
) -> Outcome:
    outcome, began = Outcome(), time.monotonic()
    context = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(processes, context, _leave_interrupts_to_the_parent) as pool,
        _progress(unit, sum(sizes)) as advance,
    ):
        futures: dict[Future[Outcome], int] = {
            pool.submit(each): size for each, size in zip(work, sizes, strict=True)
        }
        try:
            for future in as_completed(futures):
                outcome.merge(future.result())
                advance(futures[future])
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    seconds = time.monotonic() - began
    console.print(
        f"{outcome.runs} runs in {seconds:.0f} s, {outcome.runs / seconds / processes:.0f} a second and process"
    )
    return outcome


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _progress(unit: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on a terminal, and a line now and then elsewhere."""
    if console.is_terminal:
        with Progress(
            TextColumn(unit),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
        ) as bar:
            task = bar.add_task(unit, total=total)
            yield lambda size: bar.advance(task, size)
        return
    done = 0

    def advance(size: int) -> None:
        nonlocal done
        if (done + size) * 10 // total > done * 10 // total:
            console.print(f"{done + size} of {total} {unit}")
        done += size

    yield advance


def _summary(outcome: Outcome) -> int:
    for what, count in sorted(outcome.seen.items()):
        console.print(f"{count:>10}  {what}", markup=False)
    answers = ", ".join(f"{count} x {status}" for status, count in sorted(outcome.told.items()))
    console.print(f"{outcome.orders} orders; customers were told {answers}")
    for name, law in sorted(outcome.broken)[:_SHOWN_MAX]:
        console.print(f"{name}: {law}", markup=False)
    console.print(f"{len(outcome.broken)} violations in {outcome.runs} runs")
    return 1 if outcome.broken else 0
