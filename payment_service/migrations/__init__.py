"""The numbered steps that lead to today's schema of payment_service."""
