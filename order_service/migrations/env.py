"""Alembic's entry into the migrations of order_service."""

from service_chassis.migrations import run

run("order_service")
