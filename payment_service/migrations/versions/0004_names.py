"""Names by which accounts are found."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add them; no code needs them to work."""
    with op.get_context().autocommit_block():
        # What an attempt that was broken off has left is not valid.
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS accounts_by_name")
        op.execute("CREATE INDEX CONCURRENTLY accounts_by_name ON accounts (name text_pattern_ops)")


def downgrade() -> None:
    """Remove them."""
    op.execute("DROP INDEX accounts_by_name")
