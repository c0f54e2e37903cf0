"""The products themselves: added, priced, restocked, looked at."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, insert, text

from service_chassis.problems import Invalid, NotFound, Problem
from stock_service.models import Product
from stock_service.reserve import reserved
from stock_service.schemas import NewProduct
from two_phase.messages import MAX_INTEGER
from two_phase.participant.reads import DOUBTS, Seen, in_doubt_among, undecided
from two_phase.sql import Planned

_ADD = insert(Product).returning(
    Product.product_id, Product.name, Product.price, Product.available, sort_by_parameter_order=True
)
# Asked for by every customer who looks at a product: it and the branches in doubt that touch it in
# one statement, so that a snapshot and a connection serve for both.
_SHOW = Planned(f"""
    SELECT product_id, name, price, available, reserved, doubts FROM products, (
        SELECT coalesce(CAST(sum((
            SELECT sum(CAST(item->>'quantity' AS bigint)) FROM jsonb_array_elements(payload->'items') AS item
            WHERE CAST(item->>'product_id' AS bigint) = CAST(:product_id AS bigint)
        )) AS bigint), 0) AS reserved, {DOUBTS} AS doubts
        FROM branches WHERE state = 'prepared' AND payload @> CAST(:touching AS jsonb)
    ) AS undecided
    WHERE product_id = CAST(:product_id AS bigint)
""")  # noqa: S608 - a constant
_PAGE = text("""
    SELECT product_id, name, price, available FROM products WHERE product_id > :after ORDER BY product_id LIMIT :limit
""")
_PRICE = text("UPDATE products SET price = :price WHERE product_id = :product_id")
_LOCK = text(
    "SELECT product_id, name, price, available FROM products WHERE product_id = :product_id FOR UPDATE"
)
_EARLIER = text(
    "SELECT quantity, answer FROM restocks WHERE product_id = :product_id AND idempotency_key = :key"
)
_MORE = text("""
    UPDATE products SET available = available + :quantity, restocked = restocked + :quantity WHERE product_id = :product_id
    RETURNING product_id, name, price, available
""")
_RESTOCK = text("""
    INSERT INTO restocks (restock_id, product_id, quantity, idempotency_key, answer)
    SELECT next.id, :product_id, :quantity, :key, jsonb_build_object('restock_id', next.id) || CAST(:product AS jsonb)
    FROM (SELECT nextval(pg_get_serial_sequence('restocks', 'restock_id')) AS id) AS next
    RETURNING answer
""")

_UNBALANCED = text("""
    SELECT product_id AS id, opening + restocked AS put_in, available, coalesce(taken, 0) AS taken FROM products
    LEFT JOIN (
        SELECT CAST(item->>'product_id' AS bigint) AS product_id, CAST(sum(CAST(item->>'quantity' AS bigint)) AS bigint) AS taken
        FROM branches, jsonb_array_elements(payload->'items') AS item WHERE state <> 'aborted' GROUP BY 1
    ) AS takings USING (product_id)
    WHERE opening + restocked <> available + coalesce(taken, 0)
       OR restocked <> (SELECT coalesce(sum(quantity), 0) FROM restocks WHERE restocks.product_id = products.product_id)
""")
_COUNT = text("SELECT count(*) FROM products")

Body = dict[str, Any]


class _Shown(NamedTuple):
    product_id: int
    name: str
    price: int
    available: int


def add_products(connection: Connection, new: Sequence[NewProduct]) -> list[Body]:
    """Add each product and return them, in this order."""
    rows = [
        {
            "name": each.name,
            "price": each.price,
            "opening": each.quantity,
            "available": each.quantity,
        }
        for each in new
    ]
    return [_body(row, 0) for row in connection.execute(_ADD, rows)]


def shown(connection: Connection, product_id: int) -> Seen[Body]:
    """Return the product; raises NotFound."""
    touching = f'{{"items": [{{"product_id": {product_id}}}]}}'
    rows = _SHOW.rows(connection, {"product_id": product_id, "touching": touching})
    if not rows:
        raise NotFound(f"there is no product {product_id}")
    *product, on_hold, doubts = rows[0]
    return _body(_Shown(*product), on_hold), in_doubt_among(doubts)


def page(connection: Connection, after: int, limit: int) -> Seen[list[Body]]:
    """Return up to ``limit`` products behind the id ``after``."""
    rows = connection.execute(_PAGE, {"after": after, "limit": limit}).all()
    on_hold = reserved(connection, {row.product_id for row in rows})
    return [_body(row, on_hold.get(row.product_id, 0)) for row in rows], undecided(connection)


def set_price(connection: Connection, product_id: int, price: int) -> Body:
    """Change the price and return the product; raises NotFound.

    Orders at the old price are refused from now on.
    """
    connection.execute(_PRICE, {"product_id": product_id, "price": price})
    return shown(connection, product_id)[0]


def restock(connection: Connection, product_id: int, quantity: int, key: str | None) -> Body:
    """Add goods and return the product, or what the same key was told before.

    Raises NotFound or Invalid.
    """
    row = connection.execute(_LOCK, {"product_id": product_id}).one_or_none()
    if row is None:
        raise NotFound(f"there is no product {product_id}")
    earlier = connection.execute(_EARLIER, {"product_id": product_id, "key": key}).one_or_none()
    if earlier is not None:
        if earlier.quantity != quantity:
            raise Invalid("Idempotency-Key", "was used before with another body")
        return dict(earlier.answer)
    on_hold = reserved(connection, {product_id}).get(product_id, 0)
    if row.available + on_hold + quantity > MAX_INTEGER:
        raise Problem(409, f"would lift the stock above {MAX_INTEGER}", kind="limit_exceeded")
    more = connection.execute(_MORE, {"product_id": product_id, "quantity": quantity}).one()
    product = json.dumps(_body(more, on_hold))
    parameters = {"product_id": product_id, "quantity": quantity, "key": key, "product": product}
    return dict(connection.execute(_RESTOCK, parameters).scalar_one())


def unbalanced(connection: Connection) -> tuple[int, list[Body]]:
    """Return the number of products, and those where opening + restocks differ from available + taken."""
    broken = [dict(row) for row in connection.execute(_UNBALANCED).mappings()]
    return connection.execute(_COUNT).scalar_one(), broken


def _body(row: Any, on_hold: int) -> Body:
    return {
        "product_id": row.product_id,
        "name": row.name,
        "price": row.price,
        "quantity": row.available + on_hold,
        "reserved": on_hold,
        "available": row.available,
    }
