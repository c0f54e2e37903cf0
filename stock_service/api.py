"""The public endpoints of stock_service: products, their prices, restocks."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from service_chassis.creations import create
from service_chassis.documents import answer, creation, problem
from service_chassis.fields import IdempotencyKey, Identifier
from service_chassis.participant_service import Database
from service_chassis.problems import answered, created
from service_chassis.web import StrictRoute, takes_lists
from stock_service import products
from stock_service.schemas import (
    PRODUCTS,
    Adding,
    NewPrice,
    NewRestock,
    Product,
    ProductPage,
    ProductQuery,
    Products,
    Restock,
)

_FULL = problem(409, says="The quantity would pass what a product has.", kind="limit_exceeded")


def routes(database: Database) -> APIRouter:
    """Return the endpoints, which work at ``database``."""
    router = APIRouter(prefix="/stock/products", route_class=StrictRoute, tags=["products"])

    @router.post("", status_code=201, responses=creation(Product, Products))
    @takes_lists
    async def add_product(body: Adding, key: IdempotencyKey) -> Response:
        """Add a product, or up to 1,000 at once; the same Idempotency-Key adds them once."""
        made = await database.write(
            lambda connection: create(
                connection, key, body, lambda new: products.add_products(connection, new)
            ),
            key,
        )
        return created(made, "/stock/products", "product_id")

    @router.get("", responses={200: answer(ProductPage, "A page of products.")})
    async def list_products(query: Annotated[ProductQuery, Query()]) -> Response:
        """List the products in the order in which they were added."""
        after = int(query.cursor or 0)
        found = await database.read(
            lambda connection: products.page(connection, after, query.limit + 1), several=True
        )
        return answered(
            {
                "items": found[: query.limit],
                "next_cursor": PRODUCTS.behind(found, query.limit, "product_id"),
            }
        )

    @router.get(
        "/{product_id}", responses={200: answer(Product, "The product."), 404: problem(404)}
    )
    async def show_product(product_id: Identifier) -> Response:
        """Show a product, and what of it undecided orders hold."""
        return answered(
            await database.read(
                lambda connection: products.shown(connection, product_id), product_id
            )
        )

    @router.patch(
        "/{product_id}",
        responses={200: answer(Product, "The product at its new price."), 404: problem(404)},
    )
    async def change_price(product_id: Identifier, body: NewPrice) -> Response:
        """Change the price."""
        return answered(
            await database.write(
                lambda connection: products.set_price(connection, product_id, body.price),
                product_id,
            )
        )

    @router.post(
        "/{product_id}/restocks",
        status_code=201,
        responses={201: answer(Restock, "They are there."), 404: problem(404), 409: _FULL},
    )
    async def restock(product_id: Identifier, body: NewRestock, key: IdempotencyKey) -> Response:
        """Add goods; the same Idempotency-Key adds them once."""
        return created(
            await database.write(
                lambda connection: products.restock(connection, product_id, body.quantity, key),
                product_id,
            )
        )

    return router
