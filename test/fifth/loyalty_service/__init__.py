"""The participant that a test adds to a copy of the shop: an order costs a point."""
