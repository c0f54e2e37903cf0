"""Members, their points, and the branches of the protocol."""

from alembic import op

from two_phase.participant.sql_branches import BRANCHES_DDL_1, BRANCHES_DDL_2

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create everything."""
    op.execute(BRANCHES_DDL_1)
    op.execute(BRANCHES_DDL_2)
    op.execute(
        "CREATE TABLE members"
        " (user_id bigint PRIMARY KEY, given bigint NOT NULL, points bigint NOT NULL CHECK (points >= 0))"
    )


def downgrade() -> None:
    """Remove everything."""
    op.execute("DROP TABLE members, branches, round_counters")
