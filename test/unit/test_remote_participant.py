"""A remote: decisions ride on the next round, stay on the list until they are acknowledged, and leave nobody awake."""

import asyncio

import pytest

from two_phase.coordinator import remote_participant as remote_module
from two_phase.coordinator.remote_participant import RemoteParticipant
from two_phase.errors import Unavailable
from two_phase.messages import (
    Ballot,
    Decision,
    Round,
    Violation,
    Vote,
)
from unit.remote import FIRST, POSITION, PREPARE, SECOND, Participant, delivering, identity, until


async def test_decisions_ride_on_the_next_round_in_their_order() -> None:
    """One request carries aborts, commits and prepares.

    The answers are matched to what was asked.
    """
    participant = Participant()
    remote = RemoteParticipant("payment", participant)
    remote.announce([(FIRST, Decision.CANCELLED), (identity(3), Decision.CONFIRMED)])

    votes = await remote.ask([PREPARE], POSITION)

    message = Round(generation=7, aborts=[FIRST], commits=[identity(3)], prepares=[PREPARE])
    assert participant.rounds == [message]
    assert votes == {SECOND: Vote(transaction_id=SECOND, prepared=True)}
    assert remote.unacknowledged == 0


async def test_a_decision_without_a_round_leaves_on_one_of_its_own() -> None:
    """An idle remote still tells, after lingering for a moment."""
    participant = Participant()
    remote = RemoteParticipant("payment", participant, linger_seconds=0.001)

    async with delivering(remote):
        remote.announce([(FIRST, Decision.CONFIRMED)])
        await until(lambda: remote.unacknowledged == 0)
        remote.announce([(SECOND, Decision.CANCELLED)])
        await until(lambda: remote.unacknowledged == 0)

    assert [(each.commits, each.aborts, each.prepares) for each in participant.rounds] == [
        ([FIRST], [], []),
        ([], [SECOND], []),
    ]


async def test_a_decision_stays_on_the_list_until_it_is_acknowledged() -> None:
    """R8: a lost round, and one whose answer leaves it out, cost a repetition and never the decision."""
    participant = Participant()
    participant.answers = [None, None, Ballot()]
    remote = RemoteParticipant("payment", participant, linger_seconds=0.001)
    remote.announce([(FIRST, Decision.CONFIRMED)])

    with pytest.raises(Unavailable):
        await remote.ask([PREPARE], POSITION)
    assert remote.unacknowledged == 1
    async with delivering(remote):
        await until(lambda: remote.unacknowledged == 0)

    assert [each.commits for each in participant.rounds] == [[FIRST]] * 4


async def test_a_decision_is_not_sent_again_while_it_is_on_its_way() -> None:
    """A participant that is slow hears each decision once, and what is new besides."""
    participant = Participant()
    participant.free.clear()
    remote = RemoteParticipant("payment", participant, linger_seconds=0.001)
    remote.announce([(FIRST, Decision.CONFIRMED)])

    asking = [asyncio.create_task(remote.ask([PREPARE], POSITION))]
    await asyncio.sleep(0)
    remote.announce([(SECOND, Decision.CONFIRMED)])
    asking.append(asyncio.create_task(remote.ask([PREPARE], POSITION)))
    await asyncio.sleep(0)
    participant.free.set()
    await asyncio.gather(*asking)

    assert [each.commits for each in participant.rounds] == [[FIRST], [SECOND]]
    assert remote.unacknowledged == 0


async def test_a_silent_participant_keeps_nobody_awake(monkeypatch: pytest.MonkeyPatch) -> None:
    """While all that is unacknowledged is on its way, the remote sleeps until the answer comes."""
    wakes = 0
    sleep = asyncio.sleep

    async def counted(seconds: float) -> None:
        nonlocal wakes
        wakes += 1
        await sleep(seconds)

    participant = Participant()
    participant.free.clear()
    remote = RemoteParticipant("payment", participant, linger_seconds=0.0)
    remote.announce([(FIRST, Decision.CONFIRMED)])
    monkeypatch.setattr(remote_module.asyncio, "sleep", counted)
    async with delivering(remote):
        for _ in range(50):
            await sleep(0)
        assert len(participant.rounds) == 1
        assert wakes <= 2
        participant.free.set()
        await sleep(0.01)

    assert remote.unacknowledged == 0


async def test_a_violation_is_not_repeated() -> None:
    """What contradicts a participant's record stays contradictory.

    Both sides have logged and counted it.
    """
    participant = Participant()
    participant.answers = [
        Ballot(violations=[Violation(transaction_id=FIRST, detail="commit of an aborted branch")])
    ]
    remote = RemoteParticipant("payment", participant)
    remote.announce([(FIRST, Decision.CONFIRMED)])

    await remote.ask([PREPARE], POSITION)

    assert remote.unacknowledged == 0


async def test_a_vote_on_what_was_not_asked_is_not_heard() -> None:
    """R6: an answer about another transaction is no answer."""
    participant = Participant()
    participant.answers = [Ballot(votes=[Vote(transaction_id=FIRST, prepared=True)])]

    assert await RemoteParticipant("payment", participant).ask([PREPARE], POSITION) == {}


async def test_the_list_has_an_end_and_the_oldest_fall_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """R13: a participant that is away for long learns the oldest decisions by its own recovery."""
    monkeypatch.setattr(remote_module, "UNACKNOWLEDGED_MAX", 2)
    participant = Participant()
    remote = RemoteParticipant("payment", participant)

    remote.announce([(identity(number), Decision.CONFIRMED) for number in range(4)])
    await remote.ask([], POSITION)

    assert participant.rounds[0].commits == [identity(2), identity(3)]


async def test_a_round_has_a_limit_and_the_rest_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    """R13: what does not fit into one round leaves with the next one, without waiting for anything."""
    monkeypatch.setattr(remote_module, "ROUND_DECISIONS_MAX", 2)
    participant = Participant()
    remote = RemoteParticipant("payment", participant, linger_seconds=0.001)
    remote.announce([(identity(number), Decision.CANCELLED) for number in range(3)])

    async with delivering(remote):
        await until(lambda: remote.unacknowledged == 0)

    assert [each.aborts for each in participant.rounds] == [
        [identity(0), identity(1)],
        [identity(2)],
    ]


async def test_nothing_to_say_is_not_said() -> None:
    """A round without contents does not travel."""
    participant = Participant()

    assert await RemoteParticipant("payment", participant).ask([], POSITION) == {}
    assert participant.rounds == []


async def test_a_counter_that_has_not_risen_is_a_restored_participant() -> None:
    """R12: what a database from an older backup votes is no answer, and what it acknowledges still is."""
    participant = Participant()
    vote = Vote(transaction_id=SECOND, prepared=True)
    participant.answers = [
        Ballot(counter=5),
        Ballot(counter=6, votes=[vote]),
        Ballot(counter=6, acknowledged=[FIRST]),
    ]
    remote = RemoteParticipant("payment", participant)

    await remote.handshake(POSITION)
    assert await remote.ask([PREPARE], POSITION) == {SECOND: vote}
    remote.announce([(FIRST, Decision.CONFIRMED)])
    with pytest.raises(Unavailable, match="restored"):
        await remote.ask([PREPARE], POSITION)

    assert (remote.history.restored, remote.history.round_count_seen, remote.unacknowledged) == (
        True,
        6,
        0,
    )


async def test_rounds_that_overlap_may_have_equal_counters() -> None:
    """A round is held against what had been heard when it was sent, not against what has been heard since."""
    participant = Participant()
    participant.answers = [Ballot(counter=5), Ballot(counter=6), Ballot(counter=6)]
    remote = RemoteParticipant("payment", participant)
    await remote.handshake(POSITION)
    participant.free.clear()

    asking = [asyncio.create_task(remote.ask([PREPARE], POSITION)) for _ in range(2)]
    await asyncio.sleep(0)
    participant.free.set()
    await asyncio.gather(*asking)

    assert (remote.history.restored, remote.history.round_count_seen) == (False, 6)


async def test_what_was_under_way_during_a_reconciliation_accuses_nobody() -> None:
    """A ballot from before the reconciliation counts for nothing, and does not stop the orders again."""
    participant = Participant()
    participant.answers = [Ballot(counter=5), Ballot(counter=2)]
    remote = RemoteParticipant("payment", participant)
    remote.history.round_count_seen = 5
    await remote.handshake(POSITION)
    participant.free.clear()

    asking = asyncio.create_task(remote.ask([PREPARE], POSITION))
    await asyncio.sleep(0)
    remote.history.is_reconciled(9)
    participant.free.set()
    with pytest.raises(Unavailable, match="restored"):
        await asking

    assert (remote.history.restored, remote.history.round_count_seen) == (False, 9)


async def test_only_who_counts_is_told_of_the_log() -> None:
    """A participant of an older version takes no member that it does not know."""
    participant = Participant()
    participant.answers = [
        Ballot(),
        Ballot(),
        Ballot(counter=5, log_seen=30),
        Ballot(counter=6, log_seen=40),
    ]
    remote = RemoteParticipant("payment", participant)

    for _ in range(2):
        await remote.handshake(POSITION)
        await remote.ask([PREPARE], POSITION)

    assert [(each.log_counter, each.counter_heard) for each in participant.rounds] == [
        (None, 0)
    ] * 3 + [(40, 0)]
    assert [remote.history.counts, remote.history.log_position_seen] == [True, 40]
