"""The public endpoints of order_service: place an order, and look at orders."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response

from order_service import orders
from order_service.checkout import (
    Answer,
    Checkout,
    Confirmed,
    OrderRefused,
    OrderRequest,
    Repeated,
)
from order_service.schemas import (
    ORDERS,
    NewOrder,
    Order,
    OrderPage,
    OrderQuery,
    PendingOrder,
    RefusedOrder,
    UndecidedOrder,
)
from service_chassis.documents import IDEMPOTENCY_KEY, LOCATION, answer
from service_chassis.documents import problem as documented
from service_chassis.fast_path import Endpoint
from service_chassis.fields import OrderId, idempotency_key
from service_chassis.json_body import read_json
from service_chassis.problems import (
    Invalid,
    NotFound,
    answered,
    created,
    problem,
    unavailable_problem,
)
from service_chassis.web import StrictRoute
from two_phase.coordinator.idempotency import KeyBusy, KeyReused
from two_phase.coordinator.sql_decision_log import SqlDecisionLog
from two_phase.coordinator.waiting import NotDecided, Pending
from two_phase.errors import Unavailable
from two_phase.http.records import takes

FRONT_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Two-phase-commit shop</title>
<h1>Two-phase-commit shop</h1>
<p>An order takes the customer's money, the products and a courier for a time slot: all three or none.</p>
<ul><li><a href="/docs">orders</a><li><a href="/payment/docs">payment</a><li><a href="/stock/docs">stock</a>
<li><a href="/delivery/docs">delivery</a></ul></html>"""


#: What the document refers to beside the answers.
MODELS = (NewOrder, RefusedOrder, UndecidedOrder)

_EXAMPLE = "01a21323-76c1-7835-8de8-84eccdf45daf"
_REFUSAL = {
    "participant": "payment",
    "reason": "insufficient_funds",
    "detail": "user 1 has less than 200",
}
_PLACED: dict[int | str, dict[str, Any]] = {
    201: answer(Order, "All have taken their part.", headers=LOCATION),
    202: answer(PendingOrder, "The decision is not known yet.", headers=LOCATION),
    409: documented(
        409,
        says="A participant refused, and nothing was taken.",
        kind="insufficient_funds",
        model=RefusedOrder,
        order_id=_EXAMPLE,
        order_status="cancelled",
        refusals=[_REFUSAL],
    ),
    503: documented(
        503,
        says="There was no answer in time: nothing was taken, or it will be given back.",
        model=UndecidedOrder,
        order_status="cancelled",
        order_id=_EXAMPLE,
    ),
}


@dataclass(frozen=True)
class OrderEndpoints:
    """What the endpoints work with.

    The checkout for orders to place, the log for orders to look at.
    """

    checkout: Checkout
    decision_log: SqlDecisionLog


def placing(endpoints: OrderEndpoints) -> Endpoint:
    """Return the endpoint that places orders."""

    async def place_order(request: Request) -> Response:
        """Place an order: money, goods and a courier, or nothing.

        The same Idempotency-Key places it once.
        """
        # Before the body is read: whoever must be sent away costs the others as little as possible.
        endpoints.checkout.check_capacity()
        order = NewOrder.model_validate(await read_json(request))
        key = idempotency_key(request)
        order_request = OrderRequest(order.user_id, order.quantities(), order.slot_id, key)
        try:
            answer = await endpoints.checkout.place(order_request)
        except NotDecided as failure:
            return unavailable_problem(
                failure, order_status="cancelled", order_id=failure.transaction_id
            )
        except KeyBusy as failure:
            return unavailable_problem(failure, order_status="cancelled")
        except KeyReused:
            raise Invalid("Idempotency-Key", "was used before with another body") from None
        return await _told(endpoints, answer)

    return place_order


def routes(endpoints: OrderEndpoints) -> APIRouter:
    """Return the endpoints, which work at ``endpoints``."""
    router = APIRouter(route_class=StrictRoute, tags=["orders"])
    extra = {**takes(NewOrder), "parameters": [IDEMPOTENCY_KEY]}
    router.post("/orders", status_code=201, responses=_PLACED, openapi_extra=extra)(
        placing(endpoints)
    )

    @router.get("/orders", responses={200: answer(OrderPage, "A page of orders.")})
    async def list_orders(query: Annotated[OrderQuery, Query()]) -> Response:
        """List orders, the newest first."""
        found = await endpoints.decision_log.run(
            lambda connection: orders.newest_first(
                connection,
                user_id=query.user_id,
                status=query.status,
                before=query.cursor,
                limit=query.limit + 1,
            )
        )
        items = list(found)
        return answered(
            {
                "items": items[: query.limit],
                "next_cursor": ORDERS.behind(items, query.limit, "order_id"),
            }
        )

    @router.get(
        "/orders/{order_id}",
        responses={200: answer(Order | PendingOrder, "The order."), 404: documented(404)},
    )
    async def show_order(order_id: OrderId) -> Response:
        """Show an order as it was decided."""
        body = await _found(endpoints, order_id)
        if body is None and endpoints.checkout.is_pending(order_id):
            body = {"order_id": order_id, "status": "pending"}
        if body is None:
            raise NotFound(f"there is no order {order_id}")
        return answered(body)

    @router.get("/", include_in_schema=False)
    async def front_page() -> Response:
        """Say where everything is."""
        return HTMLResponse(FRONT_PAGE)

    return router


async def _found(endpoints: OrderEndpoints, order_id: str) -> dict[str, Any] | None:
    return await endpoints.decision_log.run(lambda connection: orders.find(connection, order_id))


async def _told(endpoints: OrderEndpoints, answer: Answer) -> Response:
    match answer:
        case Confirmed(order_id, record, courier):
            return _placed(
                {
                    "order_id": order_id,
                    "status": "confirmed",
                    "user_id": record.user_id,
                    "items": record.items,
                    "total": record.total,
                    "slot_id": record.slot_id,
                    "courier": courier,
                }
            )
        case OrderRefused(order_id, refusals):
            return _refused(order_id, refusals)
        case Pending(order_id):
            return answered(
                {"order_id": order_id, "status": "pending"},
                202,
                {"Location": f"/orders/{order_id}"},
            )
        case Repeated(order_id):
            body = await _found(endpoints, order_id)
            if body is None:
                # An answer that holds a key is never deleted: between two looks at it the log came
                # back from an older backup.
                raise Unavailable("the decision log was restored")
            return (
                _placed(body)
                if body["status"] == "confirmed"
                else _refused(order_id, body["refusals"])
            )


def _placed(body: dict[str, Any]) -> Response:
    return created(body, "/orders", "order_id")


def _refused(order_id: str, refusals: Sequence[Mapping[str, Any]]) -> Response:
    detail = "; ".join(str(refusal["detail"]) for refusal in refusals)
    kind = str(refusals[0]["reason"])
    return problem(
        409, kind, detail, order_id=order_id, order_status="cancelled", refusals=refusals
    )
