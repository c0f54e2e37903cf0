"""How loyalty_service is wired."""

from typing import Any

from fastapi import APIRouter
from sqlalchemy import Connection, text

from loyalty_service import spend
from service_chassis.participant_service import Database, participant_service
from service_chassis.server import Service
from service_chassis.settings import ParticipantSettings

_JOIN = text("INSERT INTO members (user_id, given, points) VALUES (:user_id, :points, :points)")
_POINTS = text("SELECT points FROM members WHERE user_id = :user_id")


def create_service(settings: ParticipantSettings) -> Service:
    """Return the service, ready to be served."""
    return participant_service(
        settings,
        name="loyalty_service",
        prefix="/loyalty",
        description="Takes a point for each order.",
        payload=spend.Spending,
        take=spend.take,
        give_back=spend.give_back,
        conservation=spend.unbalanced,
        routes=routes,
        tags={"members": "Members and their points."},
    )


def routes(database: Database) -> APIRouter:
    """Return the public endpoints."""
    router = APIRouter()

    @router.put("/loyalty/members/{user_id}", tags=["members"])
    async def join(user_id: int, points: int) -> dict[str, Any]:
        def work(connection: Connection) -> None:
            connection.execute(_JOIN, {"user_id": user_id, "points": points})

        await database.write(work)
        return {"user_id": user_id, "points": points}

    @router.get("/loyalty/members/{user_id}", tags=["members"])
    async def show(user_id: int) -> dict[str, Any]:
        def work(connection: Connection) -> int | None:
            return connection.execute(_POINTS, {"user_id": user_id}).scalar_one_or_none()

        return {"user_id": user_id, "points": await database.write(work)}

    return router
