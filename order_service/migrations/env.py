"""Alembic's entry into the migrations of order_service."""

from two_phase.hosting.migrations import run

run("order_service")
