"""Which participants a transaction has, so that adding one does not make older orders look broken.

A row from before has none: its participants are the first three.
"""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column; code of 0002 works as before."""
    op.execute("ALTER TABLE orders ADD COLUMN participants text[]")


def downgrade() -> None:
    """Remove it."""
    op.execute("ALTER TABLE orders DROP COLUMN participants")
