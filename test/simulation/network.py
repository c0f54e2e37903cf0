"""The network between processes.

Requests and answers that are lost, repeated, late, cut off, or on time.

A peer here behaves as the one over HTTP: it tries another replica only when a connection could not
be made, takes no answer within its time for no answer, and never learns why.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextvars import Context
from functools import partial
from typing import Any

from simulation.clock import Life, VirtualLoop
from simulation.fate import Fate
from two_phase.errors import Unavailable
from two_phase.http.client import question_about
from two_phase.messages import Ballot, InDoubt, Outcomes, Round


class NotConnectedError(Unavailable):
    """Nothing listens at the other end; nothing was asked."""


class Address:
    """Where a process can be reached, whether it lives or not."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.life: Life | None = None
        #: What was sent earlier does not arrive any more.
        self.deaf_before = 0.0


Answer = Callable[[Any], None]

_ON_TIME = ("", "repeated", "retried")


def _nobody(_value: Any) -> None:
    """Hear an answer that nobody waits for."""


class Network:
    """Carries messages."""

    def __init__(
        self,
        loop: VirtualLoop,
        fate: Fate,
        context: Context,
        note: Callable[..., None],
        *,
        remembering: bool,
    ) -> None:
        #: Pairs of names between which nothing gets through, in this direction.
        self.cut: set[tuple[str, str]] = set()
        #: Messages that will still arrive somewhere.
        self.under_way = 0
        #: All messages there ever were.
        self.sent = 0
        #: Every round that arrived, by service, if the run is to be probed.
        self.rounds: defaultdict[str, list[str]] = defaultdict(list)
        self._remembering = remembering
        self._requests = 0
        self._loop = loop
        self._fate = fate
        self._context = context
        self._note = note

    async def ask(
        self, source: str, target: Address, verb: str, message: Any, timeout_seconds: float
    ) -> Any:
        """Return the answer of the process at ``target``; raises Unavailable."""
        answer = self._loop.create_future()

        def answered(value: Any) -> None:
            if answer.done():
                return
            if isinstance(value, Exception):
                answer.set_exception(value)
            else:
                answer.set_result(value)

        def expired() -> None:
            answered(Unavailable("no answer in time"))

        patience = self._loop.call_later(timeout_seconds, expired, context=self._context)
        self._send(source, target, verb, message, answered)
        try:
            return await answer
        finally:
            patience.cancel()

    def _send(
        self, source: str, target: Address, verb: str, message: Any, answered: Answer
    ) -> None:
        what = f"{verb} {source} -> {target.name}"
        fault = "lost" if (source, target.name) in self.cut else self._fate.at("request", what)
        self._note("%s: %s %s", what, message, fault)
        if fault == "lost":
            return
        first, second = (_nobody, answered) if fault == "retried" else (answered, _nobody)
        arrive = partial(self._arrive, self._loop.now, source, target, verb, message)
        self._travel("message" if fault in _ON_TIME else fault, arrive, first)
        if fault in ("repeated", "retried"):
            self._travel("late" if fault == "repeated" else "retry", arrive, second)

    def _travel(self, duration: str, callback: Callable[..., None], *args: Any) -> None:
        self.under_way += 1
        self.sent += 1
        self._loop.call_later(
            self._fate.seconds(duration), self._landed, callback, *args, context=self._context
        )

    def _landed(self, callback: Callable[..., None], *args: Any) -> None:
        self.under_way -= 1
        callback(*args)

    def _arrive(
        self,
        sent_at: float,
        source: str,
        target: Address,
        verb: str,
        message: Any,
        answered: Answer,
    ) -> None:
        life = target.life
        if life is None or not life.alive or verb not in life.verbs or sent_at < target.deaf_before:
            self._travel("message", answered, NotConnectedError("nothing listens"))
            return

        if self._remembering and verb == "round":
            self.rounds[life.service].append(message)
        self._requests += 1
        number = self._requests
        life.callers[number] = answered

        def reply(value: Any) -> None:
            # In a step of its own, so that a process which is paused or dies here does not answer.
            self._loop.call_soon(self._reply, source, target, verb, value, life.callers.pop(number))

        self._loop.call_soon(life.verbs[verb], message, reply, context=life.context)

    def reset(self, life: Life) -> None:
        """Tell who waits for an answer of ``life`` that none will come."""
        for answered in life.callers.values():
            self._travel("message", answered, Unavailable("connection reset"))
        life.callers.clear()

    def _reply(self, source: str, target: Address, verb: str, value: Any, answered: Answer) -> None:
        what = f"answer to {verb} {target.name} -> {source}"
        fault = "lost" if (target.name, source) in self.cut else self._fate.at("answer", what)
        self._note("%s: %s %s", what, value, fault)
        if fault != "lost":
            self._travel(fault or "message", answered, value)


class Peer:
    """One service at the other end, whatever its number of replicas."""

    def __init__(
        self, network: Network, source: str, targets: Sequence[Address], timeout_seconds: float
    ) -> None:
        self._network = network
        self._source = source
        self._targets = list(targets)
        self._timeout_seconds = timeout_seconds

    async def call(self, verb: str, message: Any) -> Any:
        """Return the answer; raises Unavailable."""
        for _ in self._targets:
            try:
                return await self._network.ask(
                    self._source, self._targets[0], verb, message, self._timeout_seconds
                )
            except NotConnectedError:
                self._try_another_next()
            except Unavailable:
                self._try_another_next()
                raise
        raise Unavailable("no connection")

    def _try_another_next(self) -> None:
        self._targets.append(self._targets.pop(0))


class SimulatedTransport:
    """Carries rounds, as JSON."""

    def __init__(self, peer: Peer, watch: Callable[[Round], None]) -> None:
        self._peer = peer
        self._watch = watch

    async def send(self, message: Round) -> Ballot:
        """Return the participant's ballot; raises Unavailable."""
        self._watch(message)
        return Ballot.model_validate_json(
            await self._peer.call("round", message.model_dump_json(exclude_unset=True))
        )


class SimulatedCoordinator:
    """Carries questions, as JSON."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    async def outcomes(self, transactions: Sequence[InDoubt], log_seen: int) -> Outcomes:
        """Return decisions, after deciding what was undecided; raises Unavailable."""
        return await self._ask("outcomes", transactions, log_seen)

    async def peek(self, transactions: Sequence[InDoubt], log_seen: int) -> Outcomes:
        """Return the decisions that are recorded by now; raises Unavailable."""
        return await self._ask("peek", transactions, log_seen)

    async def _ask(self, verb: str, transactions: Sequence[InDoubt], log_seen: int) -> Outcomes:
        question = question_about(transactions, log_seen)
        return Outcomes.model_validate_json(
            await self._peer.call(verb, question.model_dump_json(exclude_unset=True))
        )
