"""What an order does: name its three branches, have them decided, and say what became of it.

place -> [claim the key] -> submit -> decided: confirmed | refused | cancelled
                               ^          |
                               +----------+ once more, if only a stale price or undecided orders stood in the way
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from order_service.order import (
    OrderItem,
    OrderRecord,
    is_repeated,
    memo_of,
    payloads_of,
    refusals_of,
)
from order_service.prices import Prices
from two_phase.coordinator.coordinator import Coordinator
from two_phase.coordinator.idempotency import (
    INSTEAD_OF_MAX,
    Answered,
    Claims,
    KeyRequest,
    Keys,
    digest_of,
)
from two_phase.coordinator.ticket import Outcome
from two_phase.coordinator.verdict import Transaction
from two_phase.coordinator.waiting import NotDecided, Pending, Waiting
from two_phase.coordinator.wording import Wording
from two_phase.errors import Unavailable
from two_phase.messages import Decision, TransactionId, new_transaction_id

WORDING = Wording("order", "orders")
#: One for a price that was unknown, one for a price that has changed, one for undecided orders in
#: the way.
ATTEMPTS_MAX = 3


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
        self._waiting = Waiting(coordinator, WORDING)
        self.check_capacity = coordinator.check_capacity
        self.is_pending = self._waiting.is_pending
        self._keys = Keys(claims, coordinator.arriving, new_id)
        self._deadline_seconds = deadline_seconds
        self._new_id = new_id
        self._prices = Prices()
        self._background: set[asyncio.Task[None]] = set()

    async def place(self, order_request: OrderRequest) -> Answer:
        """Return what became of the order. Raises NotDecided, Unavailable or KeyReused.

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
        key_request = KeyRequest(
            order_request.user_id, order_request.key, _digest(order_request), transaction_id
        )

        async def attempt(
            request: KeyRequest, instead_of: tuple[TransactionId, ...]
        ) -> Answer | None:
            return await self._attempts(
                order_request, request, request.transaction_id, instead_of, deadline
            )

        answered: Answer | Answered = await self._keys.answer(key_request, attempt, deadline)
        return Repeated(answered.transaction_id) if isinstance(answered, Answered) else answered

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
            self._prices.learn(outcome.verdict)
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
                key_request = await self._keys.move(key_request, transaction_id, deadline)
                if key_request is None:
                    return None
        raise AssertionError("unreachable")

    async def _decided(
        self, key_request: KeyRequest | None, transaction: Transaction, deadline: float
    ) -> Outcome | Pending:
        try:
            return await self._waiting.decided(transaction, deadline)
        except Unavailable:
            if key_request is not None:
                self._spawn(self._keys.release(key_request))
            raise

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        async def quietly() -> None:
            # It only spares somebody a wait; the claim runs out by itself.
            with contextlib.suppress(Exception):
                await work

        task = asyncio.create_task(quietly())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _record(
        self, order_request: OrderRequest, key_request: KeyRequest | None, *, may_be_repeated: bool
    ) -> OrderRecord:
        items = tuple(
            OrderItem(product_id=product_id, quantity=quantity, price=self._prices.of(product_id))
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
    raise NotDecided(
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
