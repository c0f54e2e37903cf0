"""The conformance kit: it passes on our three participants and on one in JavaScript, and names the one rule that is broken."""

import pytest

from conformance.broken import BROKEN
from conformance.broken_counters import Counts
from conformance.in_memory import UNITS, MemoryParticipant
from integration.trials import SIZED, names, prepared, tried
from shop.conformance.runner import RULES, Finding, Outcome
from shop.conformance.trial import Offer
from two_phase.messages import Ballot


@pytest.mark.parametrize("kind", [MemoryParticipant, Counts])
def test_a_correct_participant_holds_every_rule(kind: type[MemoryParticipant]) -> None:
    """The kit invents nothing: what the wire protocol allows is not called broken, whether it counts or not."""
    participant = kind()

    report = tried(participant)

    assert names(report, Outcome.HELD) == {rule.__name__ for rule in RULES}
    assert report.is_clean()
    assert not prepared(participant)


@pytest.mark.parametrize("kind", BROKEN, ids=lambda kind: kind.__name__)
def test_a_broken_participant_is_named_by_the_rule_that_it_breaks(
    kind: type[MemoryParticipant],
) -> None:
    """One fault, one rule: who reads the table knows where to look, and sees the exchange."""
    participant = kind()

    report = tried(participant)

    (finding,) = [each for each in report.findings if each.outcome is Outcome.BROKEN]
    assert finding.name == BROKEN[kind]
    assert finding.exchange
    assert not report.is_clean()
    assert not prepared(participant)


def test_every_rule_can_be_broken() -> None:
    """A rule that no participant of ours breaks may be one that cannot fail."""
    assert set(BROKEN.values()) == {rule.__name__ for rule in RULES}


def test_a_rule_that_could_not_be_tried_is_never_called_held() -> None:
    """Without payloads little can be tried, and the report says what is missing."""
    report = tried(MemoryParticipant(), Offer())

    assert names(report, Outcome.HELD) == {"commit_of_unknown"}
    assert all(finding.why for finding in report.findings if finding.outcome is Outcome.NOT_TRIED)
    assert report.count(Outcome.NOT_TRIED) == len(RULES) - 1


def test_a_wrong_capacity_is_a_rule_not_tried() -> None:
    """What the user got wrong is not the participant's fault."""
    for capacity in (UNITS - 1, UNITS + 1, 2):
        offer = Offer({"units": 1}, {"units": UNITS + 1}, '{"units": {amount}}', capacity)

        report = tried(MemoryParticipant(), offer)

        assert names(report, Outcome.NOT_TRIED) >= SIZED
        assert report.count(Outcome.BROKEN) == 0


@pytest.mark.parametrize("rule", ["one_hold", "instead_of", "too_large_rounds", "list_of_branches"])
def test_an_interrupted_trial_leaves_nothing_prepared(rule: str) -> None:
    """L4: the kit is the only coordinator that these branches have."""
    participant = MemoryParticipant()

    def interrupt(finding: Finding) -> None:
        if finding.name == rule:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tried(participant, watch=interrupt)

    assert participant.branches
    assert not prepared(participant)


class NeverAborts(MemoryParticipant):
    """It acknowledges every abort, and applies none."""

    def abort(self, transaction_id: str, generation: int, ballot: Ballot) -> None:
        """Say yes, and do nothing."""
        assert generation
        ballot.acknowledged.append(transaction_id)


def test_what_cannot_be_given_back_is_told() -> None:
    """A report is not clean while something of the trial's own is prepared."""
    participant = NeverAborts()

    report = tried(participant)

    assert not report.is_clean()
    assert set(report.left_behind) == set(prepared(participant)) != set()
