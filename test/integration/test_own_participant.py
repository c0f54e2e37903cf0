"""The participant that two_phase/README.md shows.

Its code is taken out of the page and driven with the messages of the page.
"""

import re
import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, text

from two_phase.messages import Ballot, InDoubt, Outcomes, Question, Round
from two_phase.participant.recovery import Recovery
from two_phase.participant.sql_branches import BRANCHES_DDL_1, BRANCHES_DDL_2

README = Path(__file__).parents[2] / "two_phase" / "README.md"
KEY = SecretStr("a key of this test, shared by both sides")
LINES_MAX = 20
SHEETS = 10


def _blocks(kind: str) -> list[str]:
    found = re.findall(rf"^```{kind}\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    assert found, f"the page has no {kind} any more"
    return found


class Log:
    """A coordinator that says what the page says, and remembers what it was asked."""

    def __init__(self, answer: Outcomes) -> None:
        self._answer = answer
        self.asked: list[InDoubt] = []

    async def outcomes(self, transactions: Sequence[InDoubt], log_seen: int) -> Outcomes:
        """Answer like a log that has decided everything."""
        assert log_seen == 0, "nobody has told the participant of the page how far the log has come"
        self.asked += transactions
        return self._answer

    async def peek(self, transactions: Sequence[InDoubt], log_seen: int) -> Outcomes:
        """Answer the same; a log with all decisions in it has nothing to write."""
        return await self.outcomes(transactions, log_seen)


class Wrapping:
    """The participant of the page, running over HTTP without a socket."""

    def __init__(self, engine: Engine, folder: Path, log: Log) -> None:
        script = folder / "wrapping.py"
        script.write_text("\n".join(_blocks("python")))
        with engine.begin() as connection:
            connection.execute(text(BRANCHES_DDL_1 + BRANCHES_DDL_2))
            connection.execute(text("".join(_blocks("sql"))))
        self.app, self.recovery = runpy.run_path(str(script))["wrapping"](engine, KEY, log)
        self._engine = engine

    async def post(self, body: str, key: str = KEY.get_secret_value()) -> httpx.Response:
        """Send a round."""
        headers = {"Authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app), base_url="http://wrapping"
        ) as client:
            return await client.post("/two-phase/v1/round", content=body, headers=headers)

    async def listed(self) -> Any:
        """Return the branches in doubt, as an auditor gets them."""
        headers = {"Authorization": f"Bearer {KEY.get_secret_value()}"}
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app), base_url="http://wrapping"
        ) as client:
            return (
                await client.get("/two-phase/v1/branches?state=prepared", headers=headers)
            ).json()["items"]

    def sheets(self) -> int:
        """Return how much paper is left."""
        with self._engine.connect() as connection:
            return int(connection.execute(text("SELECT sheets FROM paper")).scalar_one())

    def states(self) -> list[str]:
        """Return the states of all branches, by id."""
        with self._engine.connect() as connection:
            return list(
                connection.execute(
                    text("SELECT state FROM branches ORDER BY transaction_id")
                ).scalars()
            )

    def grow_old(self) -> None:
        """Let a minute pass for all branches."""
        with self._engine.begin() as connection:
            connection.execute(
                text("UPDATE branches SET recorded_at = recorded_at - interval '1 minute'")
            )


@pytest.fixture
def log() -> Log:
    """Return the coordinator of the page."""
    return Log(Outcomes.model_validate_json(_blocks("json outcomes")[0]))


@pytest.fixture
def wrapping(participant_engine: Engine, tmp_path: Path, log: Log) -> Wrapping:
    """Return the participant of the page."""
    return Wrapping(participant_engine, tmp_path, log)


def test_a_participant_takes_twenty_lines() -> None:
    """What the page promises: a payload and two functions, and no more than fits on a postcard."""
    lines = [line for line in _blocks("python")[0].splitlines() if line.strip()]

    assert len(lines) <= LINES_MAX


def test_the_messages_of_the_page_are_messages() -> None:
    """Who writes a participant from the page alone speaks the protocol that we speak."""
    for block, model in (
        ("round", Round),
        ("ballot", Ballot),
        ("question", Question),
        ("outcomes", Outcomes),
    ):
        for message in _blocks(f"json {block}"):
            assert model.model_validate_json(message)


async def test_the_participant_of_the_page_answers_as_the_page_says(wrapping: Wrapping) -> None:
    """L7: what is taken, given back and left adds up after every round.

    The ballots are those of the page.
    """
    rounds, ballots = _blocks("json round"), _blocks("json ballot")
    left = [0, 0, 0]
    states = [
        ["prepared", "aborted", "prepared"],
        ["committed", "aborted", "aborted", "prepared"],
        ["committed", "aborted", "aborted", "prepared"],
    ]

    assert len(rounds) == len(ballots) == len(left)
    for sent, expected, sheets, branches in zip(rounds, ballots, left, states, strict=True):
        answer = await wrapping.post(sent)

        assert Ballot.model_validate_json(answer.content) == Ballot.model_validate_json(expected)
        assert (answer.status_code, wrapping.sheets(), wrapping.states()) == (200, sheets, branches)


async def test_every_round_of_the_page_may_come_twice(wrapping: Wrapping) -> None:
    """L3: a repeated round finds the record; nothing is taken or given back again."""
    for sent in _blocks("json round"):
        first = await wrapping.post(sent)
        before = wrapping.sheets(), wrapping.states()

        again = await wrapping.post(sent)

        assert (again.json(), (wrapping.sheets(), wrapping.states())) == (first.json(), before)


async def test_the_participant_of_the_page_asks_about_what_is_in_doubt(
    wrapping: Wrapping, log: Log
) -> None:
    """L4: a branch whose decision got lost is asked about as the page says, and its paper comes back."""
    for sent in _blocks("json round"):
        await wrapping.post(sent)
    assert isinstance(wrapping.recovery, Recovery)
    question = Question.model_validate_json(_blocks("json question")[0])

    assert await wrapping.recovery.once() == 0
    wrapping.grow_old()
    listed = await wrapping.listed()
    assert await wrapping.recovery.once() == 1

    assert log.asked == question.transactions
    assert [each["transaction_id"] for each in listed] == [
        each.transaction_id for each in question.transactions
    ]
    assert (wrapping.sheets(), wrapping.states()) == (
        SHEETS - 8,
        ["committed", "aborted", "aborted", "aborted"],
    )


async def test_a_payload_that_is_not_understood_is_refused_alone(wrapping: Wrapping) -> None:
    """P10: negative paper is no paper, and the neighbour in the round goes ahead."""
    sent = Round.model_validate_json(_blocks("json round")[0])
    negative = sent.prepares[0].model_copy(update={"payload": {"sheets": -5}})

    answer = await wrapping.post(
        sent.model_copy(update={"prepares": [negative, sent.prepares[1]]}).model_dump_json()
    )

    votes = {
        vote["transaction_id"]: (vote["prepared"], vote["reason"])
        for vote in answer.json()["votes"]
    }
    assert votes == {
        negative.transaction_id: (False, "not_accepted"),
        sent.prepares[1].transaction_id: (True, None),
    }
    assert wrapping.sheets() == SHEETS - 5


@pytest.mark.parametrize(
    ("body", "key", "status"),
    [
        ("{}", KEY.get_secret_value(), 400),
        ('{"version": 2, "generation": 1}', KEY.get_secret_value(), 400),
        ('{"generation": 1, "colour": "red"}', KEY.get_secret_value(), 400),
        ('{"generation": 1}', "another key", 401),
    ],
)
async def test_what_is_not_a_round_of_ours_is_not_touched(
    wrapping: Wrapping, body: str, key: str, status: int
) -> None:
    """P25: only a well-formed message of a known version, from somebody with the key."""
    answer = await wrapping.post(body, key)

    assert (answer.status_code, wrapping.states()) == (status, [])
