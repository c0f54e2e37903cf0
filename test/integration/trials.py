"""Trials of a participant in memory, and what a report says of them."""

from collections.abc import Callable

import httpx

from conformance.in_memory import KEY, UNITS, MemoryParticipant
from shop.conformance.runner import Finding, Outcome, Report, run
from shop.conformance.trial import Offer, Trial
from shop.conformance.wire import Wire
from two_phase.messages import State

UNIT_OFFER = Offer({"units": 1}, {"units": UNITS + 1}, '{"units": {amount}}', UNITS)
#: The rules that need payloads of any size: nobody can book half a courier.
SIZED = {"greedy_votes", "one_hold", "given_back_once", "committed_stays_taken"}


def tried(
    participant: MemoryParticipant,
    offer: Offer = UNIT_OFFER,
    watch: Callable[[Finding], None] = lambda _: None,
) -> Report:
    """Try all rules at a participant in memory, without a socket."""
    transport = httpx.MockTransport(participant.answer)
    with httpx.Client(transport=transport, base_url="http://participant") as client:
        return run(Trial(Wire(client, KEY), offer, participant.restart), watch)


def names(report: Report, outcome: Outcome) -> set[str]:
    """Return the rules with this outcome."""
    return {finding.name for finding in report.findings if finding.outcome is outcome}


def prepared(participant: MemoryParticipant) -> list[str]:
    """Return what is in doubt at a participant in memory."""
    return [each for each, branch in participant.branches.items() if branch.state is State.PREPARED]
