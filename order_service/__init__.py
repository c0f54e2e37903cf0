"""The coordinator of the shop: takes orders, asks the participants, owns the decision log."""
