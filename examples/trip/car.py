"""Cars: a trip takes one, hears its plate, and gives it back."""

from pydantic import BaseModel
from sqlalchemy import text

from two_phase.errors import Refused
from two_phase.messages import Taken

_TAKE = text("""UPDATE vehicles SET taken_by = :id WHERE plate = (SELECT plate FROM vehicles
    WHERE taken_by IS NULL ORDER BY plate LIMIT 1 FOR UPDATE) RETURNING plate""")
_RETURN = text("UPDATE vehicles SET taken_by = NULL WHERE taken_by = :id")


class Payload(BaseModel, strict=True, extra="forbid"):
    pass


def take(connection, asked):
    plates = [connection.execute(_TAKE, {"id": branch}).scalar() for branch, _ in asked]
    return [
        Taken({"plate": each}) if each else Refused("no_car", "no car is left") for each in plates
    ]


def give_back(connection, taken):
    for branch, _ in taken:
        connection.execute(_RETURN, {"id": branch})
