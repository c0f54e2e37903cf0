"""Alembic's entry into the migrations of payment_service."""

from two_phase.hosting.migrations import run

run("payment_service")
