-- The tables of the comparisons: an order row for each, and for the two-phase ones three participants with the same 1,000
-- accounts, products and slots that the shop is measured with, so well filled that no run can empty them.
DROP SCHEMA IF EXISTS bare, naive, prepared CASCADE;

CREATE SCHEMA bare;
CREATE TABLE bare.orders (
    order_id uuid PRIMARY KEY, user_id bigint NOT NULL, slot_id bigint NOT NULL, items jsonb NOT NULL, total bigint NOT NULL
);
CREATE TABLE bare.accounts (user_id bigint PRIMARY KEY, name text NOT NULL, balance bigint NOT NULL);
INSERT INTO bare.accounts SELECT id, 'user ' || id, 1000000000 FROM generate_series(1, 1000) AS id;

DO $$
DECLARE
    system text;
    participant text;
BEGIN
    FOREACH system IN ARRAY ARRAY['naive', 'prepared'] LOOP
        EXECUTE format('CREATE SCHEMA %I', system);
        EXECUTE format('CREATE TABLE %I.orders (LIKE bare.orders INCLUDING ALL, status text NOT NULL)', system);
        FOREACH participant IN ARRAY ARRAY['payment', 'stock', 'delivery'] LOOP
            EXECUTE format('CREATE TABLE %I.%I (id bigint PRIMARY KEY, available bigint NOT NULL CHECK (available >= 0))',
                           system, participant || '_resources');
            EXECUTE format('INSERT INTO %I.%I SELECT id, 1000000000 FROM generate_series(1, 1000) AS id',
                           system, participant || '_resources');
            EXECUTE format('CREATE TABLE %I.%I (order_id uuid PRIMARY KEY, resource_id bigint NOT NULL, amount bigint NOT NULL, state text NOT NULL)',
                           system, participant || '_branches');
        END LOOP;
    END LOOP;
END
$$;
