"""Seats on planes: what a trip takes of them, and how it is given back."""

from pydantic import BaseModel, PositiveInt
from sqlalchemy import text

from two_phase.errors import Refused
from two_phase.messages import Taken

_LESS = text("UPDATE planes SET seats = seats - :seats WHERE number = :number AND seats >= :seats")
_MORE = text("UPDATE planes SET seats = seats + :seats WHERE number = :number")


class Payload(BaseModel, strict=True, extra="forbid"):
    number: str
    seats: PositiveInt


def take(connection, asked):
    fits = [connection.execute(_LESS, dict(seats)).rowcount for _, seats in asked]
    return [Taken() if each else Refused("no_seats", "the plane is full") for each in fits]


def give_back(connection, taken):
    for _, seats in taken:
        connection.execute(_MORE, dict(seats))
