"""How much a coordinator bears, and how long it waits (R13)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """A limit on everything the coordinator does."""

    batch: int = 128
    queue: int = 512
    #: Decisions sent to the log whose fate is not known yet; past it new work is refused.
    unsure: int = 1024
    prepare_seconds: float = 2.0
    decision_seconds: float = 1.0
    #: How long a batch waits for what is expected: some forced writes of a claim, not its
    #: time-outs.
    arrival_seconds: float = 0.1
    #: How long a transaction may wait in the queue and still be worth starting.
    queue_timeout_seconds: float = 2.0
    #: How long, after the start, a silent participant may keep questions about unknown transactions
    #: without an answer.
    startup_grace_seconds: float = 10.0
