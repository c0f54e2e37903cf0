"""Beds by the night: what a trip takes of them, and how it is given back."""

from pydantic import BaseModel, PositiveInt
from sqlalchemy import text

from two_phase.errors import Refused
from two_phase.messages import Taken

_LESS = text("UPDATE nights SET beds = beds - :beds WHERE day = :day AND beds >= :beds")
_MORE = text("UPDATE nights SET beds = beds + :beds WHERE day = :day")


class Payload(BaseModel, strict=True, extra="forbid"):
    day: str
    beds: PositiveInt


def take(connection, asked):
    fits = [connection.execute(_LESS, dict(beds)).rowcount for _, beds in asked]
    return [Taken() if each else Refused("no_beds", "the hotel is full") for each in fits]


def give_back(connection, taken):
    for _, beds in taken:
        connection.execute(_MORE, dict(beds))
