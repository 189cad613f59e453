CREATE TABLE topics (topic TEXT PRIMARY KEY, partitions INTEGER NOT NULL) WITHOUT ROWID;
-- start: the first offset kept. tail: the next offset to be given, kept here so that pruning a whole
-- partition does not restart its offsets.
CREATE TABLE partitions (
    id INTEGER PRIMARY KEY,
    topic TEXT NOT NULL REFERENCES topics (topic),
    number INTEGER NOT NULL,
    start INTEGER NOT NULL,
    tail INTEGER NOT NULL,
    UNIQUE (topic, number)
);
-- place: the partition's id times 2^40, plus the offset.
CREATE TABLE log (
    place INTEGER PRIMARY KEY,
    key BLOB NOT NULL,
    headers BLOB NOT NULL,
    value BLOB NOT NULL
);
CREATE TABLE producers (
    source TEXT NOT NULL,
    shard INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    PRIMARY KEY (source, shard)
) WITHOUT ROWID;
CREATE TABLE offsets (
    grp TEXT NOT NULL,
    partition INTEGER NOT NULL REFERENCES partitions (id),
    next INTEGER NOT NULL,
    PRIMARY KEY (grp, partition)
) WITHOUT ROWID;
CREATE TABLE subscriptions (
    grp TEXT NOT NULL,
    topic TEXT NOT NULL,
    PRIMARY KEY (grp, topic)
) WITHOUT ROWID;
