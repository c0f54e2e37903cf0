"""Alembic's entry into the migrations of payment_service."""

from service_chassis.migrations import run

run("payment_service")
