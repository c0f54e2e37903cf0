"""The index of branches in doubt that stays small without vacuum, in place of the one that does not."""

from alembic import op

from two_phase.participant.sql_branches import BRANCHES_DDL_3

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Exchange them; code of 0003 names neither, and finds what is in doubt by either."""
    with op.get_context().autocommit_block():
        for statement in BRANCHES_DDL_3:
            op.execute(statement)


def downgrade() -> None:
    """Exchange them again."""
    op.execute("""
        DROP INDEX branches_undecided;
        CREATE INDEX branches_in_doubt ON branches (transaction_id) WHERE state = 'prepared';
    """)
