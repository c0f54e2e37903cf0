"""Alembic's entry into the migrations of stock_service."""

from two_phase.hosting.migrations import run

run("stock_service")
