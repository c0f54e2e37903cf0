"""`make bench OVERLOAD=1`: three times the load that the shop can serve, and what becomes of those whom it serves and of the rest.

    wrk with more and more clients -> the load that it can serve -> rounds of that load, each followed by three times as much

Full load is what wrk finds: clients who wait for their answer, as many as bring the most orders per
second. Overload is an open loop (open_loop.py), because clients who wait are no overload: they ask
a slow service less, and queue with themselves.
"""

import argparse
import os
import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import mean

import load
import runs
from load import Counted, send
from open_loop import Heard, any_order, offer, percentile
from ratios import median
from rich.console import Console
from rich.table import Table
from seed import Size
from shop_system import Shop, slots_for

NAME = "overload"
CLIENTS = (64, 128, 256, 512)
TIMES = 3
P99_GROWTH_MAX, THROUGHPUT_SHARE_MIN = 3.0, 0.8
ORDERS_PER_SECOND_MAX = 6000
WARM_SECONDS = 2
#: What may be set for order_service from outside, and decides here.
SETTINGS = (
    "QUEUE_LIMIT",
    "BATCH_LIMIT",
    "PREPARE_TIMEOUT_SECONDS",
    "DECISION_TIMEOUT_SECONDS",
    "CLIENT_DEADLINE_SECONDS",
)


@dataclass(frozen=True)
class Round:
    """Full load, overload, and full load again.

    The machine may have become slower or faster meanwhile.
    """

    full_per_second: tuple[float, float]
    full_p99_ms: tuple[float, float]
    offered_per_second: float
    confirmed_per_second: float
    confirmed_p50_ms: float
    confirmed_p99_ms: float
    busy_share: float
    busy_p99_ms: float
    #: 503s without Retry-After, and whatever was neither a 201 nor a 503.
    without_retry_after: int
    other: int
    others: Mapping[int, int]
    #: Connections that were open in the end.
    connections: int
    #: Of one core, by the generator of the overload, which the service does not have.
    generator_cpu_percent: float

    @property
    def p99_growth(self) -> float:
        """Return how many times slower the slowest of those served were than at full load."""
        return self.confirmed_p99_ms / mean(self.full_p99_ms)

    @property
    def throughput_share(self) -> float:
        """Return the throughput as a share of that at full load."""
        return self.confirmed_per_second / mean(self.full_per_second)


def main() -> None:
    """Overload, and tell what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--seconds",
        type=int,
        default=10,
        help="for a trial: another length, and nothing is written",
    )
    asked = parser.parse_args()
    console = runs.provide_console()
    generator = load.provide()
    _allow_many_connections()
    seconds = (len(CLIENTS) + 3 * asked.rounds) * (WARM_SECONDS + asked.seconds)
    size = Size(1000, 1000, slots_for(seconds * ORDERS_PER_SECOND_MAX))
    with runs.folder() as folder:
        shop = Shop(folder, size, 0, clients=CLIENTS)
        with shop.running():
            clients, rounds = _measured(shop, size, asked, console)
    given = {name: os.environ[name] for name in SETTINGS if name in os.environ}
    settings = {
        "generator": f"{generator}, and an open loop on uvloop",
        "clients": clients,
        "seconds": asked.seconds,
        **given,
    }
    verdicts = judged(rounds)
    result = runs.described(
        {"settings": settings, "verdicts": verdicts, "rounds": [asdict(each) for each in rounds]}
    )
    _tell(console, clients, rounds, verdicts, given)
    if (before := runs.earlier(NAME)) and not runs.comparable(before, result):
        console.print(runs.ANOTHER_MACHINE)
    elif before:
        console.print(f"the run before: {sentence(before['verdicts'])}")
    if asked.seconds == parser.get_default("seconds") and not given:
        console.print(f"written: {runs.write(NAME, result).relative_to(runs.ROOT)}")


def _allow_many_connections() -> None:
    """Lift the limit of open files as far as that is allowed; the services inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _measured(
    shop: Shop, size: Size, asked: argparse.Namespace, console: Console
) -> tuple[int, list[Round]]:
    with runs.progress(console) as progress:
        bar = progress.add_task(
            "looking for the load that it can serve", total=len(CLIENTS) + asked.rounds
        )
        found = {}
        for clients in CLIENTS:
            found[clients] = _full(shop, clients, asked.seconds).per_second
            progress.advance(bar)
        best = max(found, key=lambda clients: found[clients])
        rounds = []
        for number in range(asked.rounds):
            progress.update(
                bar, description=f"{TIMES} times {found[best]:,.0f} orders/s, round {number + 1}"
            )
            rounds.append(_round(shop, size, best, asked.seconds))
            progress.advance(bar)
    return best, rounds


def _full(shop: Shop, clients: int, seconds: int) -> Counted:
    send(shop.url, shop.variants["spread"](), clients=clients, seconds=WARM_SECONDS)
    return send(shop.url, shop.variants["spread"](), clients=clients, seconds=seconds)


def _round(shop: Shop, size: Size, clients: int, seconds: int) -> Round:
    before = _full(shop, clients, seconds)
    rate = TIMES * before.per_second
    used, began = time.process_time(), time.perf_counter()
    orders = any_order(size.users, size.products, size.slots)
    heard = offer(shop.url, orders, rate=rate, warm_seconds=WARM_SECONDS, seconds=seconds)
    if not heard.confirmed_ms:
        raise runs.Miscounted(f"not one of {heard.offered} orders was confirmed under overload")
    used_share = (time.process_time() - used) / (time.perf_counter() - began)
    return _told(before, _full(shop, clients, seconds), heard, used_share)


def _told(before: Counted, after: Counted, heard: Heard, used_share: float) -> Round:
    return Round(
        full_per_second=(before.per_second, after.per_second),
        full_p99_ms=(before.p99_ms, after.p99_ms),
        offered_per_second=heard.offered / heard.seconds,
        confirmed_per_second=heard.per_second,
        confirmed_p50_ms=percentile(heard.confirmed_ms, 50),
        confirmed_p99_ms=percentile(heard.confirmed_ms, 99),
        busy_share=heard.busy_share,
        busy_p99_ms=percentile(heard.busy_ms, 99),
        without_retry_after=heard.without_retry_after,
        other=heard.others.total(),
        others=dict(heard.others),
        connections=heard.connections,
        generator_cpu_percent=used_share * 100,
    )


def judged(rounds: Sequence[Round]) -> dict[str, float]:
    """Return the medians that are judged."""
    return {
        "p99_growth": median([each.p99_growth for each in rounds]),
        "throughput_share": median([each.throughput_share for each in rounds]),
        "busy_share": median([each.busy_share for each in rounds]),
        "unclean": sum(each.without_retry_after + each.other for each in rounds),
    }


def _tell(
    console: Console,
    clients: int,
    rounds: Sequence[Round],
    verdicts: dict[str, float],
    given: dict[str, str],
) -> None:
    table = Table(
        title=f"full load: wrk, c={clients}; overload: {TIMES} times its orders/s, without waiting {given or ''}"
    )
    for heading in ("", *(f"round {number}" for number in range(1, len(rounds) + 1))):
        table.add_column(heading, justify="right" if heading else "left")
    for label, cells in _lines(rounds):
        table.add_row(label, *cells)
    console.print(table)
    console.print(sentence(verdicts))


def _lines(rounds: Sequence[Round]) -> Iterator[tuple[str, list[str]]]:
    yield "full load before, after: orders/s", [_pair(each.full_per_second) for each in rounds]
    yield "full load before, after: p99 ms", [_pair(each.full_p99_ms) for each in rounds]
    yield "offered orders/s", [f"{each.offered_per_second:,.0f}" for each in rounds]
    yield "confirmed orders/s", [f"{each.confirmed_per_second:,.0f}" for each in rounds]
    yield (
        "confirmed: p50 / p99 ms",
        [f"{each.confirmed_p50_ms:,.0f} / {each.confirmed_p99_ms:,.0f}" for each in rounds],
    )
    yield "503: share", [f"{each.busy_share:.0%}" for each in rounds]
    yield "503: p99 ms", [f"{each.busy_p99_ms:,.0f}" for each in rounds]
    yield "503 without Retry-After", [str(each.without_retry_after) for each in rounds]
    yield (
        "neither 201 nor 503, by status",
        [str({s: n for s, n in each.others.items() if n} or 0) for each in rounds],
    )
    yield "connections", [f"{each.connections:,}" for each in rounds]
    yield "generator's % of a core", [f"{each.generator_cpu_percent:.0f}" for each in rounds]


def _pair(values: tuple[float, float]) -> str:
    return ", ".join(f"{value:,.0f}" for value in values)


def sentence(verdicts: dict[str, float]) -> str:
    """Return what is kept and what is missed."""

    def judged_as(is_so: bool) -> str:  # noqa: FBT001 - there is nothing else to say
        return "kept" if is_so else "MISSED"

    p99, throughput, unclean = (
        verdicts["p99_growth"],
        verdicts["throughput_share"],
        verdicts["unclean"],
    )
    return (
        f"p99 of the confirmed / at full load {p99:.2f} (under {P99_GROWTH_MAX:g}: {judged_as(p99 < P99_GROWTH_MAX)}); throughput"
        f" / at full load {throughput:.2f} (at least {THROUGHPUT_SHARE_MIN:g}: {judged_as(throughput >= THROUGHPUT_SHARE_MIN)});"
        f" told to come back: {verdicts['busy_share']:.0%};"
        f" anything but 201 and 503 with Retry-After: {unclean:.0f} ({judged_as(not unclean)})"
    )


if __name__ == "__main__":
    runs.run(main)
