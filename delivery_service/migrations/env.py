"""Alembic's entry into the migrations of delivery_service."""

from two_phase.hosting.migrations import run

run("delivery_service")
