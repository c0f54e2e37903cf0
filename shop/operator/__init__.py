"""What an operator asks of a running shop: audits, backups, reconciliation."""
