"""Alembic's entry into the migrations of stock_service."""

from service_chassis.migrations import run

run("stock_service")
