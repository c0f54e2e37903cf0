"""What stock_service takes and answers, as JSON."""

from typing import Annotated

from pydantic import BaseModel, Discriminator, Field, Tag

from service_chassis.fields import (
    Identifier,
    Many,
    Name,
    Quantity,
    QuantityOrZero,
    StrictModel,
    one_or_many,
)
from service_chassis.paging import Cursor, Page
from service_chassis.problems import MANY, ONE

PRODUCTS = Cursor("product")


class NewProduct(StrictModel):
    """A product to sell."""

    name: Name = Field(examples=["lamp"])
    price: Quantity = Field(examples=[10])
    quantity: QuantityOrZero = Field(examples=[3])


class NewProducts(Many[NewProduct]):
    """Many products to sell: all or none."""


Adding = Annotated[
    Annotated[NewProduct, Tag(ONE)] | Annotated[NewProducts, Tag(MANY)], Discriminator(one_or_many)
]


class NewPrice(StrictModel):
    """What a product costs from now on."""

    price: Quantity = Field(examples=[12])


class NewRestock(StrictModel):
    """Goods to add."""

    quantity: Quantity = Field(examples=[5])


class ProductQuery(Page):
    """Which part of the list of products to show."""

    cursor: Annotated[str, PRODUCTS] | None = None


class Product(BaseModel):
    """Something to buy: `quantity` is what is `available` and what undecided orders have `reserved`."""

    product_id: Identifier = Field(examples=[1])
    name: Name = Field(examples=["lamp"])
    price: Quantity = Field(examples=[10])
    quantity: QuantityOrZero = Field(examples=[3])
    reserved: QuantityOrZero = Field(examples=[1])
    available: QuantityOrZero = Field(examples=[2])


class Products(BaseModel):
    """Products that were added together."""

    items: list[Product]


class ProductPage(Products):
    """A page of products."""

    next_cursor: str | None = Field(examples=["product-1"])


class Restock(Product):
    """A restock, and the product with it."""

    restock_id: Identifier = Field(examples=[1])
