CREATE TABLE topics (topic TEXT PRIMARY KEY, partitions INTEGER NOT NULL) WITHOUT ROWID;
-- start: the first offset that is kept, here so that deleting all records of a partition does not
-- begin its offsets again.
CREATE TABLE partitions (
    id INTEGER PRIMARY KEY,
    topic TEXT NOT NULL REFERENCES topics (topic),
    number INTEGER NOT NULL,
    start INTEGER NOT NULL,
    UNIQUE (topic, number)
);
-- place: the partition's id times 2^40, plus the offset: a partition's records are neighbours.
CREATE TABLE log (
    place INTEGER PRIMARY KEY,
    key BLOB NOT NULL,
    headers BLOB NOT NULL,
    value BLOB NOT NULL,
    at INTEGER NOT NULL
);
CREATE TABLE fences (
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
-- The topics that members of a group ever subscribed to: their records are kept until it read them.
CREATE TABLE subscriptions (
    grp TEXT NOT NULL,
    topic TEXT NOT NULL,
    PRIMARY KEY (grp, topic)
) WITHOUT ROWID;
