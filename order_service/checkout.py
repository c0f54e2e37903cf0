"""What an order does: name its three branches, have them decided, and say what became of it.

    place -> [claim the key] -> submit -> decided: confirmed | refused | cancelled
                                   ^          |
                                   +----------+ once more, if only a stale price or undecided orders stood in the way

The shop's prices are learnt from stock_service's refusals: an order for a product that this process
has not sold yet carries no price for it, is refused with the prices, and goes again. So there is
one way for a price that is unknown and one that is stale, and no cache to invalidate.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from order_service.claims import Answered, Busy, Claimed, Claims, KeyRequest, Reused, digest_of
from order_service.order import (
    OrderItem,
    OrderRecord,
    is_repeated,
    memo_of,
    payloads_of,
    refusals_of,
)
from two_phase.coordinator.coordinator import Coordinator, Outcome, Ticket
from two_phase.coordinator.verdict import Transaction
from two_phase.errors import Unavailable
from two_phase.messages import Decision, TransactionId, new_transaction_id

PRICES_MAX = 200_000
#: One for a price that was unknown, one for a price that has changed, one for undecided orders in
#: the way.
ATTEMPTS_MAX = 3
#: Earlier attempts that travel along; older ones have long been resolved.
INSTEAD_OF_MAX = 16
#: Pauses between two looks at a key that somebody else works on.
_POLL_SECONDS, _POLL_SECONDS_MAX = 0.05, 0.4


class KeyReused(Exception):
    """The Idempotency-Key was used before, for another request."""


class NotTaken(Unavailable):
    """The order was not decided in time and is cancelled, or will be.

    The same request may be sent again.
    """

    def __init__(self, detail: str, order_id: TransactionId | None = None) -> None:
        super().__init__(detail)
        self.order_id = order_id


@dataclass(frozen=True, slots=True)
class OrderRequest:
    """What a customer wants: ``items`` are quantities by product id."""

    user_id: int
    items: Mapping[int, int]
    slot_id: int
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The order stands."""

    order_id: TransactionId
    record: OrderRecord
    courier: str


@dataclass(frozen=True, slots=True)
class OrderRefused:
    """Somebody refused, and nothing was taken."""

    order_id: TransactionId
    refusals: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Repeated:
    """The key was answered before, by this order."""

    order_id: TransactionId


@dataclass(frozen=True, slots=True)
class Pending:
    """The decision is with the log, which does not answer; only the log can tell."""

    order_id: TransactionId


Answer = Confirmed | OrderRefused | Repeated | Pending


class Checkout:
    """Places orders; one per process, shared by all requests."""

    def __init__(
        self,
        coordinator: Coordinator,
        claims: Claims,
        *,
        deadline_seconds: float,
        new_id: Callable[[], TransactionId] = new_transaction_id,
    ) -> None:
        self._coordinator = coordinator
        self._claims = claims
        self._deadline_seconds = deadline_seconds
        self._new_id = new_id
        self._prices: dict[int, int] = {}
        self._under_way: dict[tuple[int, str], asyncio.Future[None]] = {}
        self._pending: set[TransactionId] = set()
        self._background: set[asyncio.Task[None]] = set()

    def is_pending(self, order_id: TransactionId) -> bool:
        """Return whether this process has told a customer that the order is pending, and does not know more yet."""
        return order_id in self._pending

    def check_capacity(self) -> None:
        """Raise Unavailable if no order can be taken now, whatever it is for."""
        self._coordinator.check_capacity()

    async def place(self, order_request: OrderRequest) -> Answer:
        """Return what became of the order. Raises NotTaken, Unavailable or KeyReused.

        Then nothing was bought by this call.
        """
        deadline = asyncio.get_running_loop().time() + self._deadline_seconds
        transaction_id = self._new_id()
        if order_request.key is None:
            answer = await self._attempts(order_request, None, transaction_id, (), deadline)
            assert answer is not None, "without a key there is nobody to lose to"
            return answer
        # Before a key is claimed for nothing.
        self.check_capacity()
        return await self._alone(
            order_request,
            KeyRequest(
                order_request.user_id, order_request.key, _digest(order_request), transaction_id
            ),
            deadline,
        )

    async def _alone(
        self, order_request: OrderRequest, key_request: KeyRequest, deadline: float
    ) -> Answer:
        """Let one request per key work at a time in this process.

        The others wait, and then find its answer.
        """
        key = (key_request.user_id, key_request.key)
        while earlier := self._under_way.get(key):
            await _until(deadline, asyncio.wait({earlier}))
        self._under_way[key] = asyncio.get_running_loop().create_future()
        try:
            return await self._with_key(order_request, key_request, deadline)
        finally:
            self._under_way.pop(key).set_result(None)

    async def _with_key(
        self, order_request: OrderRequest, key_request: KeyRequest, deadline: float
    ) -> Answer:
        pause_seconds = _POLL_SECONDS
        while True:
            with self._coordinator.arriving():
                claimed = await _until(deadline, self._claims.claim(key_request))
            match claimed:
                case Claimed(instead_of):
                    answer = await self._attempts(
                        order_request, key_request, key_request.transaction_id, instead_of, deadline
                    )
                    if answer is not None:
                        return answer
                    # Somebody took the key over, and the log decided for him: a transaction of ours
                    # cannot be used again.
                    key_request = replace(key_request, transaction_id=self._new_id())
                case Answered(order_id):
                    return Repeated(order_id)
                case Reused():
                    raise KeyReused
                case Busy():
                    await _until(deadline, asyncio.sleep(pause_seconds))
                    pause_seconds = min(_POLL_SECONDS_MAX, pause_seconds * 2)

    async def _attempts(
        self,
        order_request: OrderRequest,
        key_request: KeyRequest | None,
        transaction_id: TransactionId,
        instead_of: tuple[TransactionId, ...],
        deadline: float,
    ) -> Answer | None:
        """Return the answer, or None if the key went to somebody else and the log has to be asked again."""
        for attempt in range(1, ATTEMPTS_MAX + 1):
            record = self._record(
                order_request, key_request, may_be_repeated=attempt < ATTEMPTS_MAX
            )
            transaction = Transaction(
                transaction_id, payloads_of(record), instead_of, record, memo_of(record)
            )
            outcome = await self._decided(key_request, transaction, deadline)
            if isinstance(outcome, Pending):
                return outcome
            self._learn_prices(outcome)
            if (
                key_request is not None
                and outcome.existed
                and outcome.decision is Decision.CANCELLED
            ):
                return None
            if outcome.decision is Decision.CONFIRMED or not is_repeated(outcome.verdict):
                return _answer(outcome)
            instead_of, transaction_id = (
                (*instead_of, transaction_id)[-INSTEAD_OF_MAX:],
                self._new_id(),
            )
            if key_request is not None:
                if not await _until(deadline, self._claims.move(key_request, transaction_id)):
                    return None
                key_request = replace(key_request, transaction_id=transaction_id)
        raise AssertionError("unreachable")

    async def _decided(
        self, key_request: KeyRequest | None, transaction: Transaction, deadline: float
    ) -> Outcome | Pending:
        try:
            ticket = self._coordinator.submit(transaction)
            return await self._outcome(ticket, deadline) or self._left_pending(ticket)
        except Unavailable:
            if key_request is not None:
                self._spawn(self._claims.release(key_request))
            raise

    def _left_pending(self, ticket: Ticket) -> Pending:
        order_id = ticket.transaction.transaction_id
        self._pending.add(order_id)
        ticket.outcome.add_done_callback(lambda _outcome: self._pending.discard(order_id))
        return Pending(order_id)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        async def quietly() -> None:
            # It only spares somebody a wait; the claim runs out by itself.
            with contextlib.suppress(Exception):
                await work

        task = asyncio.create_task(quietly())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _outcome(self, ticket: Ticket, deadline: float) -> Outcome | None:
        """Return the durable decision, or None when the deadline has passed and only the log knows."""
        await asyncio.wait([ticket.outcome], timeout=deadline - asyncio.get_running_loop().time())
        if ticket.outcome.done():
            return ticket.outcome.result()
        if ticket.give_up():
            raise NotTaken("the order was not decided in time", ticket.transaction.transaction_id)
        return None

    def _record(
        self, order_request: OrderRequest, key_request: KeyRequest | None, *, may_be_repeated: bool
    ) -> OrderRecord:
        items = tuple(
            OrderItem(product_id=product_id, quantity=quantity, price=self._prices.get(product_id))
            for product_id, quantity in order_request.items.items()
        )
        return OrderRecord(
            order_request.user_id,
            order_request.slot_id,
            items,
            key=key_request.key if key_request else None,
            digest=key_request.digest if key_request else None,
            may_be_repeated=may_be_repeated,
        )

    def _learn_prices(self, outcome: Outcome) -> None:
        vote = outcome.verdict.votes.get("stock")
        if vote is None or vote.prepared:
            return
        self._prices.update(
            {int(product_id): price for product_id, price in vote.facts.get("prices", {}).items()}
        )
        while len(self._prices) > PRICES_MAX:
            self._prices.pop(next(iter(self._prices)))


def _answer(outcome: Outcome) -> Answer:
    verdict = outcome.verdict
    order_id = verdict.transaction.transaction_id
    if outcome.decision is Decision.CONFIRMED:
        courier = str(verdict.votes["delivery"].facts.get("courier", ""))
        return Confirmed(order_id, verdict.transaction.record, courier)
    refusals = refusals_of(verdict)
    if refusals:
        return OrderRefused(order_id, refusals)
    silent = ", ".join(verdict.silent)
    raise NotTaken(
        f"no answer from {silent}" if silent else "the order was cancelled before it was decided",
        order_id,
    )


def _digest(order_request: OrderRequest) -> str:
    return digest_of(
        {
            "user_id": order_request.user_id,
            "items": sorted(order_request.items.items()),
            "slot_id": order_request.slot_id,
        }
    )


async def _until(deadline: float, waiting: Any) -> Any:
    try:
        async with asyncio.timeout_at(deadline):
            return await waiting
    except TimeoutError:
        raise NotTaken("another request with the same Idempotency-Key is under way") from None
