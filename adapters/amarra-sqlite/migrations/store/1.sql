CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE aggregates (
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    version INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (kind, id)
) WITHOUT ROWID;
-- Appended under the one writer: seq grows in commit order. Never updated; pruned once every shard's
-- relay has passed a row.
CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    shard INTEGER NOT NULL,
    topic TEXT NOT NULL,
    key BLOB NOT NULL,
    headers BLOB NOT NULL,
    value BLOB NOT NULL,
    at INTEGER NOT NULL
);
CREATE INDEX outbox_by_shard ON outbox (shard, seq);
CREATE TABLE inbox (
    grp TEXT NOT NULL,
    event BLOB NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (grp, event)
) WITHOUT ROWID;
CREATE TABLE parked (
    ticket INTEGER PRIMARY KEY AUTOINCREMENT,
    grp TEXT NOT NULL,
    topic TEXT NOT NULL,
    key TEXT NOT NULL,
    partition INTEGER NOT NULL,
    pos INTEGER NOT NULL,
    record_key BLOB NOT NULL,
    headers BLOB NOT NULL,
    value BLOB NOT NULL,
    reason TEXT NOT NULL,
    at INTEGER NOT NULL
);
CREATE INDEX parked_by_key ON parked (grp, topic, key, ticket);
CREATE TABLE idempotency (
    principal TEXT NOT NULL,
    route TEXT NOT NULL,
    key TEXT NOT NULL,
    request_hash BLOB NOT NULL,
    status INTEGER NOT NULL,
    body BLOB NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (principal, route, key)
) WITHOUT ROWID;
-- A row stays when its timer is removed (due is null): an epoch never comes back.
CREATE TABLE timers (
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    due INTEGER,
    claimable INTEGER,
    epoch INTEGER NOT NULL,
    PRIMARY KEY (kind, id)
) WITHOUT ROWID;
CREATE INDEX timers_claimable ON timers (kind, claimable) WHERE claimable IS NOT NULL;
CREATE TABLE audit (
    number INTEGER PRIMARY KEY,
    previous BLOB NOT NULL,
    hash BLOB NOT NULL,
    entry TEXT NOT NULL
);
CREATE TABLE views (
    view TEXT NOT NULL,
    key TEXT NOT NULL,
    position INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (view, key)
) WITHOUT ROWID;
