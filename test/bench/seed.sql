-- Fills an empty shop with rows such as the services themselves write: {users} users, {products} products, {slots} slots with {couriers}
-- couriers each, and {orders} orders that were confirmed and settled before, in slots of their own behind the others. Who is
-- in braces is put in by whoever runs it; ids are 1 to the number. The auditor finds nothing wrong with the result.
SET session_replication_role = replica; -- no checks of keys that are right by construction

INSERT INTO payment_service.accounts (name, opening, available)
SELECT 'user ' || number, {plenty} + {price} * ({orders} / {users} + CASE WHEN number <= {orders} % {users} THEN 1 ELSE 0 END), {plenty}
FROM generate_series(1, {users}) AS number;

INSERT INTO stock_service.products (name, price, opening, available)
SELECT 'product ' || number, {price}, {plenty} + {orders} / {products} + CASE WHEN number <= {orders} % {products} THEN 1 ELSE 0 END, {plenty}
FROM generate_series(1, {products}) AS number;

INSERT INTO delivery_service.slots (starts_at)
SELECT now() + interval '30 days' + number * interval '1 minute' FROM generate_series(1, {slots}) AS number;
INSERT INTO delivery_service.couriers (slot_id, position, name)
SELECT slot_id, position, 'courier ' || position
FROM delivery_service.slots, generate_series(1, {couriers}) AS position ORDER BY slot_id, position;

-- The stored orders: their ids are UUIDv7 of the past, one millisecond after the other.
CREATE TEMPORARY TABLE stored AS
SELECT number,
       CAST(lpad(to_hex(1700000000000 + number), 12, '0') || '70008000' || lpad(to_hex(number), 12, '0') AS uuid) AS id,
       1 + (number - 1) % {users} AS user_id,
       1 + (number - 1) % {products} AS product_id,
       {slots} + 1 + (number - 1) / {couriers} AS slot_id,
       1 + (number - 1) % {couriers} AS position,
       CASE WHEN number % 10 = 0 THEN 'stored-' || number END AS key,
       now() - interval '30 days' + number * interval '1 millisecond' AS at
FROM generate_series(1, {orders}) AS number;

INSERT INTO delivery_service.slots (starts_at)
SELECT now() - interval '30 days' + slot_id * interval '1 minute' FROM (SELECT DISTINCT slot_id FROM stored) AS past ORDER BY slot_id;
INSERT INTO delivery_service.couriers (slot_id, position, name, transaction_id)
SELECT slot_id, position, 'courier ' || position, id FROM stored ORDER BY number;

INSERT INTO order_service.orders
    (transaction_id, status, generation, user_id, slot_id, items, total, courier, idempotency_key, request_digest, decided_at)
SELECT id, 'confirmed', 1, user_id, slot_id,
       jsonb_build_array(jsonb_build_object('product_id', product_id, 'quantity', 1, 'price', {price})), {price},
       'courier ' || position, key, CASE WHEN key IS NOT NULL THEN md5(key) END, at
FROM stored ORDER BY number;
INSERT INTO order_service.claims (user_id, idempotency_key, transaction_id, request_digest, expires_at)
SELECT user_id, key, id, md5(key), at FROM stored WHERE key IS NOT NULL ORDER BY number;

INSERT INTO payment_service.branches (transaction_id, state, generation, payload, recorded_at, settled_at)
SELECT id, 'committed', 1, jsonb_build_object('user_id', user_id, 'amount', {price}), at, at FROM stored ORDER BY number;
INSERT INTO stock_service.branches (transaction_id, state, generation, payload, recorded_at, settled_at)
SELECT id, 'committed', 1,
       jsonb_build_object('items', jsonb_build_array(jsonb_build_object('product_id', product_id, 'quantity', 1, 'price', {price}))), at, at
FROM stored ORDER BY number;
INSERT INTO delivery_service.branches (transaction_id, state, generation, payload, facts, recorded_at, settled_at)
SELECT id, 'committed', 1, jsonb_build_object('slot_id', slot_id), jsonb_build_object('courier', 'courier ' || position), at, at
FROM stored ORDER BY number;

DROP TABLE stored;
RESET session_replication_role;
