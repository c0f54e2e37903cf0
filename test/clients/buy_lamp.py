"""Buys a lamp through clients that openapi-python-client has generated.

Shop_payment, shop_stock, shop_delivery, shop_order.
"""

import sys
from datetime import UTC, datetime, timedelta

import shop_delivery
import shop_order
import shop_payment
import shop_stock
from shop_delivery.api.slots import open_slot
from shop_delivery.models import NewSlot, Slot
from shop_order.api.orders import place_order, show_order
from shop_order.models import Item, NewOrder, Order, RefusedOrder
from shop_payment.api.users import open_account, show_account, show_statement
from shop_payment.models import Account, NewUser, PaymentEntry, Statement
from shop_stock.api.products import add_product, list_products
from shop_stock.models import NewProduct, Product, ProductPage


def buy(url: str) -> None:
    """Buy one lamp, fail to buy a second, and look at what is left."""
    orders, payment = shop_order.Client(base_url=url), shop_payment.Client(base_url=url)
    stock, delivery = shop_stock.Client(base_url=url), shop_delivery.Client(base_url=url)
    account = open_account.sync(
        client=payment,
        body=NewUser(name="Anna", balance=15),
        idempotency_key=f"{datetime.now(UTC)}",
    )
    assert isinstance(account, Account)
    lamp = add_product.sync(client=stock, body=NewProduct(name="lamp", price=10, quantity=3))
    assert isinstance(lamp, Product)
    starts_at = datetime.now(UTC) + timedelta(days=1)
    slot = open_slot.sync(
        client=delivery, body=NewSlot(starts_at=starts_at, couriers=["Mila", "Oleg"])
    )
    assert isinstance(slot, Slot)

    wanted = NewOrder(
        user_id=account.user_id,
        items=[Item(product_id=lamp.product_id, quantity=1)],
        slot_id=slot.slot_id,
    )
    order = place_order.sync(client=orders, body=wanted)
    assert isinstance(order, Order)
    assert (order.status, order.total, order.courier) == ("confirmed", 10, "Mila")
    assert show_order.sync(client=orders, order_id=str(order.order_id)) == order

    refused = place_order.sync(client=orders, body=wanted)
    assert isinstance(refused, RefusedOrder)
    assert [refusal.reason for refusal in refused.refusals] == ["insufficient_funds"]
    _look(payment, stock, account, lamp, order)


def _look(
    payment: shop_payment.Client,
    stock: shop_stock.Client,
    account: Account,
    lamp: Product,
    order: Order,
) -> None:
    left = show_account.sync(client=payment, user_id=account.user_id)
    assert isinstance(left, Account)
    assert left.balance == account.balance - 10
    statement = show_statement.sync(client=payment, user_id=account.user_id)
    assert isinstance(statement, Statement)
    (entry,) = statement.items
    assert isinstance(entry, PaymentEntry)
    assert entry.order_id == order.order_id
    page = list_products.sync(client=stock, limit=1000)
    assert isinstance(page, ProductPage)
    assert lamp.product_id in [product.product_id for product in page.items] or page.next_cursor


if __name__ == "__main__":
    buy(sys.argv[1])
    sys.stdout.write("a lamp was bought\n")
