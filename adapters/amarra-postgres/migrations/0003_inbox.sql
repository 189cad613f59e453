-- What a group remembers of the messages it applied, where it does not keep a row of each. Whoever
-- admits a message holds the row of its window or offset until the transaction ends.

-- Which of the latest positions of a source shard were admitted in a partition: window.rs of the
-- messaging crate has the encoding. Empty when nothing was.
CREATE TABLE inbox_window (
    grp text COLLATE "C" NOT NULL,
    topic text COLLATE "C" NOT NULL,
    partition bigint NOT NULL,
    source text COLLATE "C" NOT NULL,
    shard bigint NOT NULL,
    bits bytea NOT NULL DEFAULT '',
    PRIMARY KEY (grp, topic, partition, source, shard)
) WITH (fillfactor = 50);
-- Bits that are nearly all set or nearly all clear are written at every commit: packing them would
-- cost more than it saves.
ALTER TABLE inbox_window ALTER COLUMN bits SET STORAGE EXTERNAL;

-- The offset after the highest one admitted, none when nothing was; and the one before the last
-- admission, by which a gap is seen.
CREATE TABLE inbox_offset (
    grp text COLLATE "C" NOT NULL,
    topic text COLLATE "C" NOT NULL,
    partition bigint NOT NULL,
    next bigint,
    before bigint,
    PRIMARY KEY (grp, topic, partition)
) WITH (fillfactor = 10);
