-- What a group remembers of the messages it applied, where it does not keep a row of each: which of
-- the latest positions of a source shard it admitted in a partition, or its next offset there.
CREATE TABLE inbox_windows (
    grp TEXT NOT NULL,
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    source TEXT NOT NULL,
    shard INTEGER NOT NULL,
    bits BLOB NOT NULL,
    PRIMARY KEY (grp, topic, partition, source, shard)
) WITHOUT ROWID;
CREATE TABLE inbox_offsets (
    grp TEXT NOT NULL,
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    next INTEGER NOT NULL,
    PRIMARY KEY (grp, topic, partition)
) WITHOUT ROWID;
