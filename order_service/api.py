"""The public endpoints of order_service: place an order, and look at orders."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import Field, field_validator
from pydantic_core import to_json

from order_service import orders
from order_service.checkout import (
    Answer,
    Checkout,
    Confirmed,
    KeyReused,
    NotTaken,
    OrderRefused,
    Pending,
    Repeated,
    Wish,
)
from order_service.decision_log import SqlDecisionLog
from two_phase.hosting.fast_path import Endpoint
from two_phase.hosting.fields import KEY_SCHEMA, Identifier, Quantity, StrictModel, idempotency_key
from two_phase.hosting.json_body import read_json
from two_phase.hosting.paging import Page, decode_cursor, next_cursor
from two_phase.hosting.problems import MEDIA_TYPE, Invalid, NotFound, problem, unavailable_problem
from two_phase.hosting.web import StrictRoute
from two_phase.protocol import MAX_INTEGER, Unavailable

ITEMS_MAX = 100

FRONT_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Two-phase-commit shop</title>
<h1>Two-phase-commit shop</h1>
<p>An order takes the customer's money, the products and a courier for a time slot: all three or none.</p>
<ul><li><a href="/docs">orders</a><li><a href="/payment/docs">payment</a><li><a href="/stock/docs">stock</a>
<li><a href="/delivery/docs">delivery</a></ul></html>"""


class Item(StrictModel):
    """So many of one product."""

    product_id: Identifier
    quantity: Quantity


class NewOrder(StrictModel):
    """What a customer asks for; the same product twice is summed."""

    user_id: Identifier
    items: list[Item] = Field(min_length=1, max_length=ITEMS_MAX)
    slot_id: Identifier

    @field_validator("items")
    @classmethod
    def _sums_stay_exact(cls, items: list[Item]) -> list[Item]:
        if max(_summed(items).values()) > MAX_INTEGER:
            message = f"the quantity of one product must not be above {MAX_INTEGER}"
            raise ValueError(message)
        return items

    def quantities(self) -> dict[int, int]:
        """Return the quantity of each product, in the order in which they were named first."""
        return _summed(self.items)


def _summed(items: Sequence[Item]) -> dict[int, int]:
    sums: dict[int, int] = {}
    for item in items:
        sums[item.product_id] = sums.get(item.product_id, 0) + item.quantity
    return sums


# Where the schema below stands in the document: a reference inside it is read from the document's root.
_DEFINITIONS = "#/paths/~1orders/post/requestBody/content/application~1json/schema/$defs/{model}"
_ORDER_SCHEMA = NewOrder.model_json_schema(ref_template=_DEFINITIONS)
_ORDER_BODY = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": _ORDER_SCHEMA}}},
    "parameters": [{"name": "Idempotency-Key", "in": "header", "required": False, "schema": KEY_SCHEMA}],
}
_PLACED: dict[int | str, dict[str, Any]] = {
    202: {"description": "The decision is not known yet; Location tells where it will be"},
    409: {"description": "A participant refused", "content": {MEDIA_TYPE: {"schema": {"type": "object"}}}},
}


class OrderQuery(Page):
    """Which orders to list."""

    user_id: Identifier | None = None
    status: Literal["confirmed", "cancelled"] | None = None


@dataclass(frozen=True)
class Counter:
    """What the endpoints work with: the checkout for orders to place, the log for orders to look at."""

    checkout: Checkout
    decision_log: SqlDecisionLog


def placing(counter: Counter) -> Endpoint:
    """Return the endpoint that places orders."""

    async def place_order(request: Request) -> Response:
        """Place an order: money, goods and a courier, or nothing. The same Idempotency-Key places it once."""
        # Before the body is read: whoever must be sent away costs the others as little as possible.
        counter.checkout.check_room()
        order = NewOrder.model_validate(await read_json(request))
        key = idempotency_key(request)
        wish = Wish(order.user_id, order.quantities(), order.slot_id, key)
        try:
            answer = await counter.checkout.place(wish)
        except NotTaken as failure:
            members = {"order_id": failure.order_id} if failure.order_id else {}
            return unavailable_problem(failure, order_status="cancelled", **members)
        except KeyReused:
            raise Invalid("Idempotency-Key", "was used before with another body") from None
        return await _told(counter, answer)

    return place_order


def routes(counter: Counter) -> APIRouter:
    """Return the endpoints, which work at ``counter``."""
    router = APIRouter(route_class=StrictRoute, tags=["orders"])
    router.post("/orders", status_code=201, responses=_PLACED, openapi_extra=_ORDER_BODY)(placing(counter))

    @router.get("/orders")
    async def list_orders(query: Annotated[OrderQuery, Query()]) -> Response:
        """List orders, the newest first."""
        before = _position(query.cursor)
        found = await counter.decision_log.run(
            lambda connection: orders.newest_first(
                connection, user_id=query.user_id, status=query.status, before=before, limit=query.limit + 1
            )
        )
        items = list(found)
        return _answered({"items": items[: query.limit], "next_cursor": next_cursor(items, query.limit, "order_id")})

    @router.get("/orders/{order_id}")
    async def show_order(order_id: UUID) -> Response:
        """Show an order as it was decided."""
        body = await _found(counter, str(order_id))
        if body is None and counter.checkout.is_pending(str(order_id)):
            body = {"order_id": str(order_id), "status": "pending"}
        if body is None:
            raise NotFound(f"there is no order {order_id}")
        return _answered(body)

    @router.get("/", include_in_schema=False)
    async def front_page() -> Response:
        """Say where everything is."""
        return HTMLResponse(FRONT_PAGE)

    return router


async def _found(counter: Counter, order_id: str) -> dict[str, Any] | None:
    return await counter.decision_log.run(lambda connection: orders.find(connection, order_id))


async def _told(counter: Counter, answer: Answer) -> Response:
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
            return _answered({"order_id": order_id, "status": "pending"}, 202, {"Location": f"/orders/{order_id}"})
        case Repeated(order_id):
            body = await _found(counter, order_id)
            if body is None:
                # An answer that holds a key is never deleted: between two looks at it the log came back from an older backup.
                raise Unavailable("the decision log was restored")
            return _placed(body) if body["status"] == "confirmed" else _refused(order_id, body["refusals"])


def _answered(body: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(to_json(body), status, headers, media_type="application/json")


def _placed(body: dict[str, Any]) -> Response:
    return _answered(body, 201, {"Location": f"/orders/{body['order_id']}"})


def _refused(order_id: str, refusals: Sequence[Mapping[str, Any]]) -> Response:
    detail = "; ".join(str(refusal["detail"]) for refusal in refusals)
    kind = str(refusals[0]["reason"])
    return problem(409, kind, detail, order_id=order_id, order_status="cancelled", refusals=refusals)


def _position(cursor: str | None) -> UUID | None:
    position = decode_cursor(cursor, str)
    try:
        return None if position is None else UUID(position)
    except ValueError:
        raise Invalid("cursor", "is not a cursor of this list") from None
