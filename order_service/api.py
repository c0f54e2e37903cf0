"""The public endpoints of order_service: place an order, and look at orders."""

import json
from collections import Counter
from typing import Annotated, Any, Literal, Self, cast
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import BaseModel, Field, ValidationError, model_validator
from sqlalchemy import Engine

from order_service import orders
from order_service.checkout import Answer, Checkout, Confirmed, NotTaken, OrderRefused, Pending, Repeated, Wish
from two_phase.hosting.fields import Identifier, Quantity, StrictModel, idempotency_key
from two_phase.hosting.json_body import read_json
from two_phase.hosting.paging import Page, decode_cursor, encode_cursor
from two_phase.hosting.problems import NotFound, problem
from two_phase.hosting.web import StrictRoute
from two_phase.protocol import MAX_INTEGER

ITEMS_MAX = 100


class Item(StrictModel):
    """So many of one product."""

    product_id: Identifier
    quantity: Quantity


class NewOrder(StrictModel):
    """What a customer asks for; the same product twice is summed."""

    user_id: Identifier
    items: list[Item] = Field(min_length=1, max_length=ITEMS_MAX)
    slot_id: Identifier

    @model_validator(mode="after")
    def _sums_stay_exact(self) -> Self:
        if max(self.quantities().values()) > MAX_INTEGER:
            message = f"the quantity of one product must not be above {MAX_INTEGER}"
            raise ValueError(message)
        return self

    def quantities(self) -> dict[int, int]:
        """Return the quantity of each product, in the order in which they were named first."""
        sums: Counter[int] = Counter()
        for item in self.items:
            sums[item.product_id] += item.quantity
        return dict(sums)


class OrderQuery(Page):
    """Which orders to list."""

    user_id: Identifier | None = None
    status: Literal["confirmed", "cancelled"] | None = None


router = APIRouter(route_class=StrictRoute)


def _answered(body: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(json.dumps(body, ensure_ascii=False), status, headers, media_type="application/json")


def _confirmed(answer: Confirmed) -> Response:
    record = answer.record
    body = {
        "order_id": answer.order_id,
        "status": "confirmed",
        "user_id": record.user_id,
        "items": record.items,
        "total": record.total,
        "slot_id": record.slot_id,
        "courier": answer.courier,
    }
    return _answered(body, 201, {"Location": f"/orders/{answer.order_id}"})


def _refused(order_id: str, refusals: Any) -> Response:
    detail = "; ".join(str(refusal["detail"]) for refusal in refusals)
    kind = refusals[0]["reason"]
    return problem(409, kind, detail, order_id=order_id, order_status="cancelled", refusals=refusals)


def _told_again(body: dict[str, Any]) -> Response:
    if body["status"] == "confirmed":
        return _answered(body, 201, {"Location": f"/orders/{body['order_id']}"})
    return _refused(body["order_id"], body["refusals"])
