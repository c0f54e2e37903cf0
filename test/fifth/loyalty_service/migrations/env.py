"""Alembic's entry into the migrations of loyalty_service."""

from service_chassis.migrations import run

run("loyalty_service")
