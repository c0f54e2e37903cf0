-- What DTM's participants keep: the same 1,000 accounts, products and slots as all comparisons, with what is held, and a barrier table of
-- DTM's own form (made by DTM's own script before) for each of them.
DO $$
DECLARE
    participant text;
BEGIN
    FOREACH participant IN ARRAY ARRAY['payment', 'stock', 'delivery'] LOOP
        EXECUTE format('CREATE TABLE dtm.%I (LIKE dtm_barrier.barrier INCLUDING ALL)', participant || '_barrier');
        EXECUTE format('CREATE TABLE dtm.%I (id bigint PRIMARY KEY, available bigint NOT NULL CHECK (available >= 0),
                                             held bigint NOT NULL DEFAULT 0 CHECK (held >= 0)) WITH (fillfactor = 70)',
                       participant || '_resources');
        EXECUTE format('INSERT INTO dtm.%I SELECT id, 1000000000 FROM generate_series(1, 1000) AS id', participant || '_resources');
    END LOOP;
END
$$;
