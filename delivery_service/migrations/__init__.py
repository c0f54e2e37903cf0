"""The numbered steps that lead to today's schema of delivery_service."""
