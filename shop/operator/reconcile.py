"""Mends what an older backup has torn.

What the log knows is brought back to a participant, what the participants know to the log.

    the log was restored       committed somewhere             -> it was confirmed: its row is written again
                               not promised by all its parts   -> it cannot have been confirmed: cancelled
                               promised by all, committed none -> only a human can say, by --confirm or --cancel
    a participant was restored confirmed, and its branch gone  -> prepared again, then committed; a refusal is for a human
                               confirmed, and only prepared    -> committed

The log comes first, because it says what the participants must hold. Every step may be repeated,
and stands for itself: a run that was interrupted is started again. Services run meanwhile, and take
new orders again when everything that can be decided is.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

from shop.operator.audit import NOBODY, TransactionView, views
from shop.operator.services import Services
from two_phase.coordinator.decision_log import LOG
from two_phase.messages import Prepare, Round

T = TypeVar("T")

#: Orders of one call.
BATCH = 100
#: Walks over everything: orders under way when the log was given a new generation are found by the
#: second one.
WALKS_MAX = 3
#: Replicas look once a second whether somebody was restored.
NOTICED_SECONDS = 1.5
ALL = "all"
_PROMISED = ("prepared", "committed")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """What the operator has asked for; ``confirm`` and ``cancel`` are order ids, or "all"."""

    dry_run: bool = False
    confirm: Collection[str] = ()
    cancel: Collection[str] = ()

    def word_on(self, order_id: str) -> str | None:
        """Return what he says of an order that only he can decide."""
        if order_id in self.confirm or (ALL in self.confirm and order_id not in self.cancel):
            return "confirmed"
        return "cancelled" if order_id in self.cancel or ALL in self.cancel else None


@dataclass
class Findings:
    """What was found and done, or would be done."""

    log_was_restored: bool = False
    restored: list[str] = field(default_factory=list)
    #: Orders written into the log again, by decision.
    rebuilt: dict[str, list[str]] = field(
        default_factory=lambda: {"confirmed": [], "cancelled": []}
    )
    #: Orders brought back to a participant.
    replayed: dict[str, list[str]] = field(default_factory=dict)
    #: What only a human can decide, or mend.
    undecided: list[str] = field(default_factory=list)
    for_a_human: list[str] = field(default_factory=list)

    @property
    def done(self) -> bool:
        """Whether nothing is left for a human."""
        return not self.undecided and not self.for_a_human


def reconcile(
    services: Services, options: Options, progress: Callable[[int], None] = lambda _seen: None
) -> Findings:
    """Reconcile as far as it goes, and return what was found.

    Raises httpx.HTTPError if a service does not answer.
    """
    work = _Work(services, options, progress)
    work.reconcile_log()
    if not work.findings.undecided:
        work.reconcile_participants()
    return work.findings


class _Work:
    def __init__(
        self, services: Services, options: Options, progress: Callable[[int], None]
    ) -> None:
        self.findings = Findings()
        self._services = services
        self._wishes = options
        self._progress = progress
        self._restored: list[str] | None = None
        #: The oldest order that each participant knows: none, or unknown ("").
        self._first: dict[str, str | None] = {}

    def reconcile_log(self) -> None:
        """Write the log's lost rows again and, if all are, let it go on in a new generation."""
        for _ in range(WALKS_MAX):
            stands = self._services.standing()
            seen = max(
                self._services.counters(name)["log_seen"] for name in self._services.participants
            )
            seen = max(seen, int(stands["heard"].get(LOG, 0)))
            behind = stands["written"] < seen or LOG in stands["restored"]
            self.findings.log_was_restored |= behind
            found = 0
            # What was confirmed comes first: a key that was answered by an order is not answered by
            # a refusal.
            for word in ("confirmed", "cancelled"):
                lost = (
                    each
                    for each in self._walk()
                    if _is_forgotten(each, stands["generation"], behind=behind)
                )
                found += sum(self._rebuild(batch, word) for batch in _batches(lost))
            if self.findings.undecided or self._wishes.dry_run:
                return
            if behind:
                self._services.resume(max(seen, int(stands["written"])) + 1, [LOG])
            elif not found:
                return

    def _walk(self) -> Iterator[TransactionView]:
        for seen, standing in enumerate(views(self._services)):
            self._progress(seen)
            yield standing

    def _rebuild(self, lost: list[TransactionView], word: str) -> int:
        """Write those again of which ``word`` is the decision."""
        rows = [
            {"transaction_id": each.transaction_id, "decision": word, "branches": each.branches}
            for each in lost
            if self._decision(each) == word
        ]
        ids = [str(row["transaction_id"]) for row in rows]
        said = dict.fromkeys(ids, word)
        if rows and not self._wishes.dry_run:
            outcomes = self._services.rebuild(rows)
            said = dict.fromkeys(outcomes.confirmed, "confirmed") | dict.fromkeys(
                outcomes.cancelled, "cancelled"
            )
        self.findings.rebuilt[word] += [each for each in ids if said.get(each) == word]
        for each in ids:
            if said.get(each) != word:
                self._leave(
                    f"order {each} should be {word}, and the log says {said.get(each, 'nothing')}"
                )
        return len(rows)

    def _decision(self, lost: TransactionView) -> str | None:
        """Return what must have become of a lost order, if its branches tell, or a human does."""
        states = {
            name: lost.branches[name]["state"] if name in lost.branches else "missing"
            for name in self._names
            if self._is_member(name, lost)
        }
        promised = all(state in _PROMISED for state in states.values())
        # What a participant has lost itself it cannot deny.
        denied = any(
            state == "aborted" or (state == "missing" and name not in self._fallen())
            for name, state in states.items()
        )
        if promised and "committed" in states.values():
            return "confirmed"
        if denied and "committed" not in states.values():
            return "cancelled"
        if not promised:
            said = ", ".join(f"{name}'s branch is {state}" for name, state in states.items())
            self._leave(
                f"order {lost.transaction_id} may have been confirmed and cannot be rebuilt: {said}"
            )
            return None
        word = self._wishes.word_on(lost.transaction_id)
        if word is None and lost.transaction_id not in self.findings.undecided:
            self.findings.undecided.append(lost.transaction_id)
        return word

    def _is_member(self, name: str, lost: TransactionView) -> bool:
        """Return whether a participant may have been asked about a lost order, and not only been added later.

        Taken for later is what has been asked about nothing yet, or about nothing as old. If it was
        asked all the same, a human decides where it would have said no.
        """
        if name in lost.branches or name in self._fallen():
            return True
        if name not in self._first:
            first = self._services.branches(name, NOBODY, 1)
            asked = bool(first) or self._services.counters(name)["counter"] > 0
            self._first[name] = str(first[0]["transaction_id"]) if first else "" if asked else None
        oldest = self._first[name]
        return oldest is not None and oldest < lost.transaction_id

    def reconcile_participants(self) -> None:
        """Bring back to each restored participant what the log says it must hold, and let it have orders again."""
        stands = self._services.standing()
        self.findings.restored = self._fallen()
        self._hold(set(self.findings.restored) - set(stands["restored"]))
        for name in self.findings.restored:
            self.findings.replayed[name] = []
            lost = (each for each in self._walk() if _is_to_be_replayed(each, name))
            for batch in _batches(lost):
                self._replay(name, batch, int(stands["generation"]))
            if not self._wishes.dry_run:
                self._services.raise_to(name, int(stands["heard"].get(name, 0)) + 1)
                self._services.resume(0, [name])

    def _hold(self, unnoticed: Collection[str]) -> None:
        """Stop orders before the restore is noticed: they must not take what comes back."""
        if unnoticed and not self._wishes.dry_run:
            self._services.hold(sorted(unnoticed))
            time.sleep(NOTICED_SECONDS)

    def _replay(self, name: str, lost: list[TransactionView], generation: int) -> None:
        ids = [each.transaction_id for each in lost]
        if self._wishes.dry_run:
            self.findings.replayed[name] += ids
            return
        missing = [each for each in lost if name not in each.branches]
        ballot = self._services.round(
            name, Round(generation=generation, prepares=[_prepare(name, each) for each in missing])
        )
        refused = {vote.transaction_id: vote.detail for vote in ballot.votes if not vote.prepared}
        for order_id, detail in refused.items():
            self._leave(f"order {order_id} is confirmed, and {name} refuses it now: {detail}")
        commits = [each for each in ids if each not in refused]
        acknowledged = self._services.round(
            name, Round(generation=generation, commits=commits)
        ).acknowledged
        self.findings.replayed[name] += acknowledged
        for order_id in set(commits) - set(acknowledged):
            self._leave(f"order {order_id} is confirmed, and {name} does not commit it")

    def _fallen(self) -> list[str]:
        """Return the participants that were restored, noticed or not.

        What they are brought back does not change it.
        """
        if self._restored is None:
            stands = self._services.standing()
            self._restored = [
                name
                for name in self._names
                if name in stands["restored"]
                or self._services.counters(name)["counter"] < int(stands["heard"].get(name, 0))
            ]
        return self._restored

    @property
    def _names(self) -> Iterable[str]:
        return self._services.participants

    def _leave(self, sentence: str) -> None:
        if sentence not in self.findings.for_a_human:
            self.findings.for_a_human.append(sentence)


def _is_forgotten(standing: TransactionView, generation: int, *, behind: bool) -> bool:
    """Return whether the log lacks a row that it must have had, or will not get any more."""
    if standing.decision is not None or not standing.branches:
        return False
    return behind or any(
        int(branch["generation"]) < generation for branch in standing.branches.values()
    )


def _is_to_be_replayed(standing: TransactionView, name: str) -> bool:
    decision = standing.decision or {}
    is_due = decision.get("decision") == "confirmed" and name in (decision["payloads"] or {})
    return is_due and (
        name not in standing.branches or standing.branches[name]["state"] == "prepared"
    )


def _prepare(name: str, standing: TransactionView) -> Prepare:
    decision: Mapping[str, Any] = standing.decision or {}
    return Prepare(
        transaction_id=standing.transaction_id,
        payload=decision["payloads"][name],
        instead_of=[],
        memo=decision["memo"],
    )


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, BATCH)):
        yield batch
