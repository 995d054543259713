-- The journal: one table that only ever grows.
-- hash is sha256 over the previous row's hash and everything else in this row (daemon/journal_format.py), so that an
-- altered byte, a lost row or a changed order is found. No index besides seq: each one would cost every commit a page.
PRAGMA application_id = 1935762276; -- "sacd" in ASCII
CREATE TABLE events (
    seq INTEGER PRIMARY KEY, -- 1, 2, 3 ... without holes
    at_ms INTEGER NOT NULL, -- wall clock when written, milliseconds UTC
    kind TEXT NOT NULL,
    payload TEXT NOT NULL, -- canonical JSON, ASCII only
    hash BLOB NOT NULL
) STRICT;
