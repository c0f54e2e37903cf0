"""Runs all rules at one participant, one after the other, and sees to it that nothing stays prepared."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from shop.conformance import decisions, messages, votes
from shop.conformance.restart import restart_keeps_promises
from shop.conformance.trial import Trial
from shop.conformance.wire import Broken, Exchange, NotTried
from two_phase.messages import TransactionId

Rule = Callable[[Trial], None]

#: Those that count what is free come first: the others commit, and nobody knows whether that is
#: from the same source. Before all others comes that an abort gives back, since every rule ends
#: with it.
RULES: tuple[Rule, ...] = (
    votes.given_back_once,
    votes.greedy_votes,
    votes.one_hold,
    votes.committed_stays_taken,
    decisions.instead_of,
    votes.repeated_prepare,
    votes.prepares_at_once,
    votes.refusal_is_kept,
    votes.prepare_with_another_body,
    votes.counters,
    decisions.abort_before_prepare,
    decisions.commit_of_unknown,
    decisions.commit_of_aborted,
    decisions.abort_of_committed,
    decisions.repeated_commit,
    decisions.repeated_abort,
    decisions.order_inside_a_round,
    messages.poisonous_neighbour,
    messages.malformed_rounds,
    messages.unknown_versions,
    messages.unknown_members,
    messages.too_large_rounds,
    messages.no_key,
    messages.wrong_key,
    messages.list_of_branches,
    restart_keeps_promises,
    # The last one, because it has something to say about all answers before.
    votes.well_formed_ballot,
)


class Outcome(StrEnum):
    """What is known of a rule after the trial."""

    HELD = "held"
    BROKEN = "broken"
    NOT_TRIED = "not tried"


@dataclass(frozen=True)
class Finding:
    """What became of one rule: why it is not held, and where that was seen."""

    rule: Rule
    outcome: Outcome
    why: str = ""
    exchange: Exchange | None = None

    @property
    def name(self) -> str:
        """Return the rule's name."""
        return self.rule.__name__

    @property
    def law(self) -> str:
        """Return what the rule demands, as a sentence."""
        return self.rule.__doc__ or ""


@dataclass
class Report:
    """What became of all rules; ``left_behind`` are transactions that could not be given back."""

    findings: list[Finding] = field(default_factory=list)
    left_behind: list[TransactionId] = field(default_factory=list)

    def count(self, outcome: Outcome) -> int:
        """Return how many rules have this outcome."""
        return sum(finding.outcome is outcome for finding in self.findings)

    def is_clean(self) -> bool:
        """Return whether nothing is broken and nothing left behind."""
        return not self.count(Outcome.BROKEN) and not self.left_behind


def run(trial: Trial, watch: Callable[[Finding], None] = lambda _: None) -> Report:
    """Try every rule; ``watch`` hears of each at once.

    What is prepared is given back even if this is interrupted.
    """
    report = Report()
    try:
        for rule in RULES:
            finding = _tried(rule, trial)
            report.findings.append(finding)
            watch(finding)
            _give_back(trial)
    finally:
        if trial.left_behind():
            _give_back(trial)
        report.left_behind = trial.left_behind()
    return report


def _tried(rule: Rule, trial: Trial) -> Finding:
    try:
        rule(trial)
    except NotTried as reason:
        return Finding(rule, Outcome.NOT_TRIED, reason.why)
    except Broken as reason:
        return Finding(
            rule, Outcome.BROKEN, reason.why, reason.exchange or trial.wire.exchanges[-1]
        )
    return Finding(rule, Outcome.HELD)


def _give_back(trial: Trial) -> None:
    # A participant that does not take its aborts is named by a rule, and in the end by what it
    # leaves behind.
    with contextlib.suppress(Broken, NotTried):
        trial.give_back()
