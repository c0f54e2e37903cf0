"""The decision log, claims on idempotency keys, and the generation of the log."""

from alembic import op

revision = "0001"
down_revision = None

_SCHEMA = """
CREATE TABLE log_state (
    only_row boolean PRIMARY KEY DEFAULT true,
    generation bigint NOT NULL DEFAULT 1,
    CONSTRAINT log_has_one_state CHECK (only_row)
);
INSERT INTO log_state DEFAULT VALUES;

CREATE TABLE orders (
    transaction_id uuid PRIMARY KEY,
    status text NOT NULL,
    generation bigint NOT NULL,
    user_id bigint,
    slot_id bigint,
    items jsonb,
    total numeric,
    courier text,
    refusals jsonb NOT NULL DEFAULT '[]',
    idempotency_key text,
    request_digest text,
    decided_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT decision_is_known CHECK (status IN ('confirmed', 'cancelled')),
    CONSTRAINT confirmed_order_is_complete CHECK (
        status = 'cancelled' OR (num_nulls(user_id, slot_id, items, total, courier) = 0 AND refusals = '[]')
    ),
    CONSTRAINT only_final_answers_hold_a_key CHECK (
        idempotency_key IS NULL OR status = 'confirmed' OR refusals <> '[]'
    ),
    CONSTRAINT key_knows_its_request CHECK ((idempotency_key IS NULL) = (request_digest IS NULL))
);
CREATE UNIQUE INDEX one_final_answer_per_key ON orders (user_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX orders_by_user ON orders (user_id, transaction_id DESC) WHERE user_id IS NOT NULL;
CREATE INDEX orders_cancelled ON orders (transaction_id DESC) WHERE status = 'cancelled' AND user_id IS NOT NULL;

CREATE FUNCTION decision_never_changes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a decision never changes: % of order %', TG_OP, OLD.transaction_id
        USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER decision_never_changes BEFORE UPDATE OR DELETE ON orders
    FOR EACH ROW EXECUTE FUNCTION decision_never_changes();

CREATE TABLE claims (
    user_id bigint NOT NULL,
    idempotency_key text NOT NULL,
    transaction_id uuid NOT NULL,
    request_digest text NOT NULL,
    attempts text[] NOT NULL DEFAULT '{}',
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, idempotency_key)
);
"""


def upgrade() -> None:
    """Create everything."""
    op.execute(_SCHEMA)


def downgrade() -> None:
    """Remove everything."""
    op.execute("DROP TABLE claims, orders, log_state; DROP FUNCTION decision_never_changes")
