"""The counters by which a restored database is noticed.

The log's own, and what it has heard of its participants.
"""

from alembic import op

revision = "0002"
down_revision = "0001"

_SCHEMA = """
CREATE TABLE log_counters (
    slot smallint PRIMARY KEY,
    written bigint NOT NULL DEFAULT 0,
    heard jsonb NOT NULL DEFAULT '{}',
    CONSTRAINT counter_has_sixteen_slots CHECK (slot BETWEEN 0 AND 15)
);
INSERT INTO log_counters (slot) SELECT generate_series(0, 15);

CREATE TABLE restored_participants (
    participant text PRIMARY KEY,
    noticed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
"""


def upgrade() -> None:
    """Add them; code of 0001 works as before, and does not count."""
    op.execute(_SCHEMA)


def downgrade() -> None:
    """Remove them."""
    op.execute("DROP TABLE restored_participants, log_counters")
