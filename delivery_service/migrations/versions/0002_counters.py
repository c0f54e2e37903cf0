"""The counters by which a restored database is noticed, and what a branch remembers for the log."""

from alembic import op

from two_phase.participant.sql_branches import BRANCHES_DDL_2

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add them; code of 0001 works as before, and does not count."""
    op.execute(BRANCHES_DDL_2)


def downgrade() -> None:
    """Remove them."""
    op.execute("DROP TABLE round_counters; ALTER TABLE branches DROP COLUMN memo")
