"""The answers to creations with a key."""

from alembic import op

from service_chassis.creations import CREATIONS_DDL_1

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add them; code of 0002 works as before, and creates each time."""
    op.execute(CREATIONS_DDL_1)


def downgrade() -> None:
    """Remove them."""
    op.execute("DROP TABLE creations")
