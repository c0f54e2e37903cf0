"""Migrations of loyalty_service."""
