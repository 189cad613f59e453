CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE shards (
    shard INTEGER PRIMARY KEY,
    epoch INTEGER NOT NULL,
    owner TEXT,
    expires INTEGER NOT NULL,
    cursor TEXT NOT NULL,
    passed INTEGER NOT NULL
);
CREATE TABLE parked (
    seq INTEGER PRIMARY KEY,
    pos INTEGER NOT NULL,
    shard INTEGER NOT NULL,
    topic TEXT NOT NULL,
    key TEXT NOT NULL,
    record_key BLOB NOT NULL,
    headers BLOB NOT NULL,
    value BLOB NOT NULL,
    reason TEXT NOT NULL,
    released INTEGER NOT NULL
);
CREATE INDEX parked_by_shard ON parked (shard, released, seq);
CREATE INDEX parked_by_key ON parked (topic, key);
