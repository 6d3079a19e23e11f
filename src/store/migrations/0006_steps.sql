-- The steps of a task: one row for each resource that it works on, written before and after.
CREATE TABLE steps (
    task     INTEGER NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    number   INTEGER NOT NULL,
    title    TEXT    NOT NULL,
    member   TEXT,
    state    TEXT    NOT NULL CHECK (state IN ('waiting', 'running', 'done', 'failed', 'skipped', 'undone', 'stuck')),
    started  INTEGER,
    ended    INTEGER,
    message  TEXT    NOT NULL DEFAULT '',
    -- What the resource's undo needs to know; holds no secret.
    undo     TEXT,
    PRIMARY KEY (task, number)
) STRICT;

-- Which servers hold configuration of which sites, so that a server that left is not forgotten.
CREATE TABLE served (
    server  TEXT    NOT NULL,
    site    TEXT    NOT NULL,
    since   INTEGER NOT NULL,
    PRIMARY KEY (server, site)
) STRICT;
