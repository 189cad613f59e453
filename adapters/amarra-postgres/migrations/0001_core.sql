-- The store: aggregates, timers, idempotency records, audit chain, inbox, parking lot, views.
-- Names are compared and ordered byte for byte: collation "C" for every key.

CREATE TABLE aggregate (
    kind text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    version bigint NOT NULL CHECK (version > 0),
    body bytea NOT NULL,
    PRIMARY KEY (kind, id)
);

-- A row is there while its timer is set. Epochs come from a sequence, so that one that was given
-- out never comes back, whatever rows came and went.
CREATE SEQUENCE timer_epoch;
CREATE TABLE timer (
    kind text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    due timestamptz NOT NULL,
    -- From when it may be claimed: when it is due, or when the lease of its claim ends.
    claimable timestamptz NOT NULL,
    epoch bigint NOT NULL,
    owner text,
    PRIMARY KEY (kind, id)
) WITH (fillfactor = 70);
CREATE INDEX timer_claimable ON timer (kind, claimable);

CREATE TABLE idempotency (
    principal text COLLATE "C" NOT NULL,
    route text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    request_hash bytea NOT NULL,
    status integer NOT NULL,
    body bytea NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (principal, route, key)
);

CREATE TABLE audit (
    number bigint PRIMARY KEY,
    previous bytea NOT NULL,
    hash bytea NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    kind text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    correlation uuid NOT NULL,
    at_micros bigint NOT NULL,
    state_hash bytea NOT NULL
);
-- The last row of the chain: whoever commits next holds its lock.
CREATE TABLE audit_head (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    number bigint NOT NULL,
    hash bytea NOT NULL
) WITH (fillfactor = 10);
INSERT INTO audit_head (number, hash) VALUES (0, decode(repeat('00', 32), 'hex'));

CREATE TABLE inbox (
    grp text COLLATE "C" NOT NULL,
    message uuid NOT NULL,
    topic text COLLATE "C" NOT NULL,
    partition bigint NOT NULL,
    "offset" bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (grp, message)
);
CREATE INDEX inbox_at ON inbox USING brin (at);

CREATE TABLE parked (
    ticket bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    grp text COLLATE "C" NOT NULL,
    topic text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    partition bigint NOT NULL,
    "offset" bigint NOT NULL,
    record_key bytea NOT NULL,
    headers bytea NOT NULL,
    value bytea NOT NULL,
    reason text NOT NULL,
    at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX parked_key ON parked (grp, topic, key, ticket);

-- Every view without a table of its own.
CREATE TABLE view_rows (
    view text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (view, key)
);
