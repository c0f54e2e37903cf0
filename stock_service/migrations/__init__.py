"""The numbered steps that lead to today's schema of stock_service."""
