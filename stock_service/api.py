"""The public endpoints of stock_service: products with a price and a quantity, restocks."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from stock_service import products
from two_phase.hosting.fields import IdempotencyKey, Identifier, Name, Quantity, QuantityOrZero, StrictModel
from two_phase.hosting.paging import Page, decode_cursor, next_cursor
from two_phase.hosting.participant import Desk
from two_phase.hosting.web import StrictRoute

_TOUCHES_PRODUCT = "payload @> jsonb_build_object('items', jsonb_build_array(jsonb_build_object('product_id', :product_id)))"
_ANY = "true"


class NewProduct(StrictModel):
    """A product to sell."""

    name: Name
    price: Quantity
    quantity: QuantityOrZero


class NewPrice(StrictModel):
    """What a product costs from now on."""

    price: Quantity


class NewRestock(StrictModel):
    """Goods to add."""

    quantity: Quantity


def routes(desk: Desk) -> APIRouter:
    """Return the endpoints, which work at ``desk``."""
    router = APIRouter(prefix="/stock/products", route_class=StrictRoute, tags=["products"])

    @router.post("", status_code=201)
    async def add_product(product: NewProduct, response: Response) -> dict[str, Any]:
        """Add a product."""
        body = await desk.write(lambda connection: products.added(connection, product.name, product.price, product.quantity))
        response.headers["Location"] = f"/stock/products/{body['product_id']}"
        return body

    @router.get("")
    async def list_products(page: Annotated[Page, Query()]) -> dict[str, Any]:
        """List the products in the order in which they were added."""
        after = decode_cursor(page.cursor, int) or 0
        found = list(await desk.read(lambda connection: products.page(connection, after, page.limit + 1), _ANY, {}))
        return {"items": found[: page.limit], "next_cursor": next_cursor(found, page.limit, "product_id")}

    @router.get("/{product_id}")
    async def show_product(product_id: Identifier) -> dict[str, Any]:
        """Show a product, and what of it undecided orders hold."""
        touched = {"product_id": product_id}
        return await desk.read(lambda connection: products.found(connection, product_id), _TOUCHES_PRODUCT, touched)

    @router.patch("/{product_id}")
    async def change_price(product_id: Identifier, body: NewPrice) -> dict[str, Any]:
        """Change the price."""
        return await desk.write(lambda connection: products.repriced(connection, product_id, body.price), product_id)

    @router.post("/{product_id}/restocks", status_code=201)
    async def restock(product_id: Identifier, body: NewRestock, key: IdempotencyKey) -> dict[str, Any]:
        """Add goods; the same Idempotency-Key adds them once."""
        return await desk.write(
            lambda connection: products.restocked(connection, product_id, body.quantity, key), product_id
        )

    return router
