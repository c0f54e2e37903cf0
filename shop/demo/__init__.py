"""The homework scenario, played against a shop."""
