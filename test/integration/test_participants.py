"""Rounds at the three participants on real PostgreSQL.

Greedy votes, conservation, repeated and reordered messages.
"""

import json

import pytest
from sqlalchemy import Engine, text

from delivery_service import book, slots
from delivery_service.schemas import NewSlot
from integration.trades import TOMORROW, balance_of, opened, payment, prepares, yes
from stock_service import products, reserve
from stock_service.schemas import NewProduct
from two_phase.messages import Prepare, Round, new_transaction_id
from two_phase.participant.participant import Participant
from two_phase.participant.sql_branches import SqlBranchStore


def test_an_order_that_does_not_fit_does_not_block_a_smaller_one_behind_it(
    payment_engine: Engine,
) -> None:
    """R9: 110 available, asked for 100, 20 and 5: yes, no, yes."""
    user_id = opened(payment_engine, 110)

    ballot = payment(payment_engine).round(
        Round(
            generation=1,
            prepares=prepares(*({"user_id": user_id, "amount": amount} for amount in (100, 20, 5))),
        )
    )

    assert yes(ballot) == [True, False, True]
    assert balance_of(payment_engine, user_id)["available"] == 5


def test_a_refusal_due_to_undecided_orders_alone_is_contended(payment_engine: Engine) -> None:
    """R9: what an undecided order holds may come back; what is not there at all does not."""
    user_id = opened(payment_engine, 100)
    participant = payment(payment_engine)
    participant.round(Round(generation=1, prepares=prepares({"user_id": user_id, "amount": 60})))

    held, absent = participant.round(
        Round(
            generation=1,
            prepares=prepares(
                {"user_id": user_id, "amount": 50}, {"user_id": user_id, "amount": 101}
            ),
        )
    ).votes

    assert (held.reason, held.contended) == ("insufficient_funds", True)
    assert (absent.reason, absent.contended) == ("insufficient_funds", False)


def test_every_message_sent_twice_changes_nothing(payment_engine: Engine) -> None:
    """R5: a prepare repeats its vote, a commit and an abort are applied once."""
    user_id = opened(payment_engine, 100)
    participant = payment(payment_engine)
    first, second = prepares({"user_id": user_id, "amount": 30}, {"user_id": user_id, "amount": 20})
    rounds = [
        Round(generation=1, prepares=[first, second]),
        Round(generation=1, commits=[first.transaction_id], aborts=[second.transaction_id]),
    ]

    answers = [participant.round(each) for each in rounds for _ in range(2)]

    assert answers[0] == answers[1]
    assert answers[2] == answers[3]
    assert balance_of(payment_engine, user_id) == {
        "user_id": user_id,
        "name": "Ivan",
        "balance": 70,
        "held": 0,
        "available": 70,
    }


def test_abort_that_overtakes_prepare_makes_it_refuse(payment_engine: Engine) -> None:
    """R5: an abort of an unknown transaction leaves a row, so that a late prepare takes nothing."""
    user_id = opened(payment_engine, 100)
    participant = payment(payment_engine)
    (late,) = prepares({"user_id": user_id, "amount": 30})

    acknowledged = participant.round(Round(generation=1, aborts=[late.transaction_id])).acknowledged
    ballot = participant.round(Round(generation=1, prepares=[late]))

    assert acknowledged == [late.transaction_id]
    assert yes(ballot) == [False]
    assert balance_of(payment_engine, user_id)["available"] == 100


@pytest.mark.parametrize("known", [False, True], ids=["unknown", "aborted"])
def test_commit_of_an_unknown_or_aborted_branch_is_a_violation(
    payment_engine: Engine, *, known: bool
) -> None:
    """F7, R5: never "not found, so done"."""
    participant = payment(payment_engine)
    transaction_id = new_transaction_id()
    if known:
        participant.round(Round(generation=1, aborts=[transaction_id]))

    ballot = participant.round(Round(generation=1, commits=[transaction_id]))

    assert ballot.acknowledged == []
    assert [violation.transaction_id for violation in ballot.violations] == [transaction_id]


def test_abort_of_a_committed_branch_is_a_violation(payment_engine: Engine) -> None:
    """L2: a decision never changes, so a committed branch is not given back."""
    user_id = opened(payment_engine, 100)
    participant = payment(payment_engine)
    (prepare,) = prepares({"user_id": user_id, "amount": 30})
    participant.round(Round(generation=1, prepares=[prepare]))
    participant.round(Round(generation=1, commits=[prepare.transaction_id]))

    ballot = participant.round(Round(generation=1, aborts=[prepare.transaction_id]))

    assert [violation.transaction_id for violation in ballot.violations] == [prepare.transaction_id]
    assert balance_of(payment_engine, user_id)["available"] == 70


def test_prepare_of_a_known_transaction_with_another_body_is_a_violation(
    payment_engine: Engine,
) -> None:
    """R5: a vote belongs to what was asked."""
    user_id = opened(payment_engine, 100)
    participant = payment(payment_engine)
    (prepare,) = prepares({"user_id": user_id, "amount": 30})
    participant.round(Round(generation=1, prepares=[prepare]))
    other = prepare.model_copy(update={"payload": {"user_id": user_id, "amount": 31}})

    ballot = participant.round(Round(generation=1, prepares=[other]))

    assert ballot.votes == []
    assert [violation.transaction_id for violation in ballot.violations] == [prepare.transaction_id]


def test_the_second_attempt_does_not_compete_with_the_first(payment_engine: Engine) -> None:
    """R11: the participant aborts ``instead_of`` before it takes anything."""
    user_id = opened(payment_engine, 100)
    participant = payment(payment_engine)
    (first,) = prepares({"user_id": user_id, "amount": 80})
    participant.round(Round(generation=1, prepares=[first]))
    second = Prepare(
        transaction_id=new_transaction_id(),
        payload={"user_id": user_id, "amount": 80},
        instead_of=[first.transaction_id],
    )

    ballot = participant.round(Round(generation=1, prepares=[second]))

    assert yes(ballot) == [True]
    assert balance_of(payment_engine, user_id)["held"] == 80


def test_a_poisonous_branch_is_refused_alone(payment_engine: Engine) -> None:
    """R8: what the database cannot store spoils its own order only."""
    user_id = opened(payment_engine, 100)
    good, poison, also_good = prepares(
        {"user_id": user_id, "amount": 10},
        {"user_id": 10**30, "amount": 1},
        {"user_id": user_id, "amount": 20},
    )

    ballot = payment(payment_engine).round(Round(generation=1, prepares=[good, poison, also_good]))
    votes = {vote.transaction_id: vote for vote in ballot.votes}

    assert votes[good.transaction_id].prepared
    assert votes[also_good.transaction_id].prepared
    assert votes[poison.transaction_id].reason == "not_accepted"
    assert balance_of(payment_engine, user_id)["held"] == 30


def test_an_amount_beyond_every_balance_is_refused_as_any_other(payment_engine: Engine) -> None:
    """L5: a total may overflow a BIGINT; the answer is a vote."""
    user_id = opened(payment_engine, 2**53 - 1)

    ballot = payment(payment_engine).round(
        Round(generation=1, prepares=prepares({"user_id": user_id, "amount": 10**40}))
    )

    assert [vote.reason for vote in ballot.votes] == ["insufficient_funds"]


def test_stock_refuses_a_stale_price_and_tells_the_new_one(stock_engine: Engine) -> None:
    """The price is the shop's: an order at another price is refused, with the price that holds."""
    with stock_engine.begin() as connection:
        apple = products.add_products(connection, [NewProduct(name="apple", price=10, quantity=5)])[
            0
        ]["product_id"]
    participant = Participant(
        SqlBranchStore(stock_engine), reserve.Reservation, reserve.take, reserve.give_back
    )
    payloads = [
        {"items": [{"product_id": apple, "quantity": 1, "price": price}]} for price in (None, 9, 10)
    ]

    unknown, stale, right = participant.round(
        Round(generation=1, prepares=prepares(*payloads))
    ).votes

    assert (unknown.reason, unknown.facts) == ("price_changed", {"prices": {str(apple): 10}})
    assert stale.reason == "price_changed"
    assert right.prepared


def test_a_courier_brings_one_order(delivery_engine: Engine) -> None:
    """L5: couriers are booked in their order, and nobody twice."""
    with delivery_engine.begin() as connection:
        slot_id = slots.open_slots(
            connection, [NewSlot(starts_at=TOMORROW.isoformat(), couriers=["Olga", "Petr"])]
        )[0]["slot_id"]
    participant = Participant(
        SqlBranchStore(delivery_engine), book.Booking, book.take, book.give_back
    )
    asked = prepares(*({"slot_id": slot_id} for _ in range(3)))

    votes = participant.round(Round(generation=1, prepares=asked)).votes
    participant.round(
        Round(generation=1, aborts=[asked[0].transaction_id], commits=[asked[1].transaction_id])
    )
    again = participant.round(Round(generation=1, prepares=prepares({"slot_id": slot_id}))).votes

    assert [vote.facts.get("courier") for vote in votes] == ["Olga", "Petr", None]
    assert (votes[2].reason, votes[2].contended) == ("no_courier", True)
    assert again[0].facts["courier"] == "Olga"


def test_a_slot_that_has_started_takes_no_order(delivery_engine: Engine) -> None:
    """What starts by now is too late to be brought."""
    with delivery_engine.begin() as connection:
        slot_id = slots.open_slots(
            connection, [NewSlot(starts_at=TOMORROW.isoformat(), couriers=["Olga"])]
        )[0]["slot_id"]
        connection.execute(text("UPDATE slots SET starts_at = clock_timestamp()"))
    participant = Participant(
        SqlBranchStore(delivery_engine), book.Booking, book.take, book.give_back
    )

    votes = participant.round(Round(generation=1, prepares=prepares({"slot_id": slot_id}))).votes

    assert [vote.reason for vote in votes] == ["slot_started"]


def test_facts_and_payload_survive_the_way_to_the_table_and_back(payment_engine: Engine) -> None:
    """A vote repeated years later is the vote that was given."""
    user_id = opened(payment_engine, 100)
    (prepare,) = prepares({"user_id": user_id, "amount": 1})
    participant = payment(payment_engine)
    participant.round(Round(generation=7, prepares=[prepare]))

    with payment_engine.begin() as connection:
        stored = participant.store.find(connection, [prepare.transaction_id])[
            prepare.transaction_id
        ]

    assert stored.generation == 7
    assert json.loads(stored.payload or "") == prepare.payload
