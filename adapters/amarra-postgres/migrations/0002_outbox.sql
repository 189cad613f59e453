-- The outbox: append-only rows, the leases and cursors of their relays, and what those set aside.
-- A row is never updated. Rows go when their whole partition was relayed: see partitions.rs.

CREATE TABLE outbox (
    seq bigint GENERATED ALWAYS AS IDENTITY (CACHE 1),
    -- What a relay reads by: the difference of two snapshots is a set of these.
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    -- murmur2 of the partition key modulo the number of shards.
    shard smallint NOT NULL,
    topic text COLLATE "C" NOT NULL,
    key bytea NOT NULL,
    ce_id uuid NOT NULL,
    headers bytea NOT NULL,
    payload bytea NOT NULL,
    at timestamptz NOT NULL DEFAULT statement_timestamp(),
    PRIMARY KEY (shard, seq)
) PARTITION BY RANGE (seq);
CREATE INDEX outbox_xid ON outbox (shard, xid);

-- Catches rows when nobody made partitions in time.
CREATE TABLE outbox_rest PARTITION OF outbox DEFAULT;
CREATE TABLE outbox_1 PARTITION OF outbox FOR VALUES FROM (1) TO (1000001);

-- What is known of each partition but the default one.
CREATE TABLE outbox_range (
    name text COLLATE "C" PRIMARY KEY,
    lower bigint NOT NULL,
    upper bigint NOT NULL,
    -- pg_snapshot_xmax once the sequence had passed upper: whoever drew a value below and has a
    -- transaction id has a lower one.
    closed bigint
);
INSERT INTO outbox_range (name, lower, upper) VALUES ('outbox_1', 1, 1000001);

-- The shards, made once: their number never changes.
CREATE TABLE outbox_shard (shard smallint PRIMARY KEY);

-- Which copy of the database this is: a restored or promoted one is another source.
CREATE TABLE outbox_origin (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    system text NOT NULL,
    timeline text NOT NULL,
    incarnation bigint NOT NULL
);

CREATE TABLE outbox_cursor (
    grp text COLLATE "C" NOT NULL,
    shard smallint NOT NULL REFERENCES outbox_shard,
    epoch bigint NOT NULL DEFAULT 0,
    owner text COLLATE "C",
    expires timestamptz NOT NULL DEFAULT '-infinity',
    -- Snapshots as Postgres writes them; a fresh prev is 0:0: and saw nothing.
    prev text COLLATE "C" NOT NULL DEFAULT '0:0:',
    cur text COLLATE "C",
    last_seq bigint NOT NULL DEFAULT 0,
    pos bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (grp, shard)
) WITH (fillfactor = 10);

CREATE TABLE outbox_parked (
    grp text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,
    shard smallint NOT NULL,
    pos bigint NOT NULL,
    topic text COLLATE "C" NOT NULL,
    key bytea NOT NULL,
    headers bytea NOT NULL,
    payload bytea NOT NULL,
    reason text NOT NULL,
    released boolean NOT NULL DEFAULT false,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (grp, seq)
);
CREATE INDEX outbox_parked_shard ON outbox_parked (grp, shard, seq);
