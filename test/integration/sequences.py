"""Ids of transactions, one sequence of messages or calls apart from the other."""

from two_phase.messages import TransactionId


def identity(sequence: int, name: str) -> TransactionId:
    """Return the id of a transaction of one sequence."""
    return f"{sequence:08x}-0000-7000-8000-{ord(name):012x}"
