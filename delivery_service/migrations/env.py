"""Alembic's entry into the migrations of delivery_service."""

from service_chassis.migrations import run

run("delivery_service")
