"""What a person calls: the shop on one machine (`up`), the homework scenario (`demo`), and later the operator's tools."""
