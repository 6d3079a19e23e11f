-- Servers that fanout took out of rotation, and why. What is not here is meant to serve.
CREATE TABLE out_of_rotation (
    server TEXT    NOT NULL PRIMARY KEY,
    -- Who wants it out decides who may put it back.
    cause  TEXT    NOT NULL CHECK (cause IN ('person', 'push', 'stale')),
    reason TEXT    NOT NULL,
    author TEXT    NOT NULL,
    since  INTEGER NOT NULL
) STRICT;
