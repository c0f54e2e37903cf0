"""The laws of the protocol, looked up in the four schemas by one snapshot.

The oracle of every test on a real database.
"""

from sqlalchemy import Connection, Engine, text

from shop import topology

PARTICIPANTS = tuple(participant.package for participant in topology.PARTICIPANTS)

#: Each query returns what breaks a law. These hold at any moment, whatever is under way.
_ALWAYS = {
    "an order is confirmed only where all three voted prepared": """
        SELECT orders.transaction_id, participant.name FROM order_service.orders
        CROSS JOIN (VALUES {names}) AS participant (name)
        LEFT JOIN ({branches}) AS branch USING (transaction_id, name)
        WHERE status = 'confirmed' AND (branch.state IS NULL OR branch.state = 'aborted')""",
    "no branch is committed without a confirmed order": """
        SELECT branch.transaction_id, branch.name FROM ({branches}) AS branch
        LEFT JOIN order_service.orders USING (transaction_id)
        WHERE branch.state = 'committed' AND status IS DISTINCT FROM 'confirmed'""",
    "money is conserved": """
        SELECT user_id FROM payment_service.accounts AS account
        WHERE opening + deposited <> available + coalesce((
                SELECT sum((payload->>'amount')::bigint) FROM payment_service.branches
                WHERE state <> 'aborted' AND (payload->>'user_id')::bigint = account.user_id), 0)
           OR deposited <> coalesce((
                SELECT sum(amount) FROM payment_service.deposits WHERE deposits.user_id = account.user_id), 0)""",
    "goods are conserved": """
        SELECT product_id FROM stock_service.products AS product
        WHERE opening + restocked <> available + coalesce((
                SELECT sum((item->>'quantity')::bigint)
                FROM stock_service.branches, jsonb_array_elements(payload->'items') AS item
                WHERE state <> 'aborted' AND (item->>'product_id')::bigint = product.product_id), 0)
           OR restocked <> coalesce((
                SELECT sum(quantity) FROM stock_service.restocks WHERE restocks.product_id = product.product_id), 0)""",
    "every courier taken is taken by a live branch of his slot": """
        SELECT courier.slot_id, courier.position FROM delivery_service.couriers AS courier
        LEFT JOIN delivery_service.branches AS branch USING (transaction_id)
        WHERE courier.transaction_id IS NOT NULL AND (branch.state IS NULL OR branch.state = 'aborted'
              OR (branch.payload->>'slot_id')::bigint <> courier.slot_id)""",
    "every live booking has its courier": """
        SELECT branch.transaction_id FROM delivery_service.branches AS branch
        LEFT JOIN delivery_service.couriers AS courier USING (transaction_id)
        WHERE branch.state <> 'aborted' AND courier.transaction_id IS NULL""",
    "nothing is overdrawn or oversold": """
        SELECT 'user', user_id FROM payment_service.accounts WHERE available < 0
        UNION ALL SELECT 'product', product_id FROM stock_service.products WHERE available < 0""",
    "the branches of a confirmed order are what was ordered": """
        SELECT orders.transaction_id FROM order_service.orders
        JOIN payment_service.branches AS payment USING (transaction_id)
        JOIN stock_service.branches AS stock USING (transaction_id)
        JOIN delivery_service.branches AS delivery USING (transaction_id)
        WHERE orders.status = 'confirmed' AND (
              (payment.payload->>'user_id')::bigint <> orders.user_id
           OR (payment.payload->>'amount')::numeric <> orders.total
           OR stock.payload->'items' <> orders.items
           OR (delivery.payload->>'slot_id')::bigint <> orders.slot_id)""",
    "a key has one final answer": """
        SELECT user_id, idempotency_key FROM order_service.orders WHERE idempotency_key IS NOT NULL
        GROUP BY 1, 2 HAVING count(*) > 1""",
}
#: These hold once nothing is under way and everybody has been reachable for long enough.
_AT_REST = {
    "nothing is in doubt": """
        SELECT name, transaction_id FROM ({branches}) AS branch WHERE state = 'prepared'""",
    "a confirmed order is committed everywhere": """
        SELECT orders.transaction_id, participant.name FROM order_service.orders
        CROSS JOIN (VALUES {names}) AS participant (name)
        LEFT JOIN ({branches}) AS branch USING (transaction_id, name)
        WHERE status = 'confirmed' AND branch.state IS DISTINCT FROM 'committed'""",
}
# The names are constants of this module.
_BRANCHES = " UNION ALL ".join(
    f"SELECT '{name}' AS name, transaction_id, state FROM {name}.branches" for name in PARTICIPANTS
)
_NAMES = ", ".join(f"('{name}')" for name in PARTICIPANTS)


def broken_laws(admin: Engine, *, at_rest: bool) -> list[str]:
    """Return a line for each law that is broken in the database of ``admin``, who may read all four schemas."""
    laws = _ALWAYS | _AT_REST if at_rest else _ALWAYS
    with admin.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        return [line for law, query in laws.items() for line in _broken(connection, law, query)]


def _broken(connection: Connection, law: str, query: str) -> list[str]:
    rows = connection.execute(text(query.format(branches=_BRANCHES, names=_NAMES))).all()
    return (
        [
            f"{law}: {', '.join(map(str, rows[:3]))}{f' and {len(rows) - 3} more' if len(rows) > 3 else ''}"
        ]
        if rows
        else []
    )
