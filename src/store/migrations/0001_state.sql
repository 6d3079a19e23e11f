-- The hub's state. Times are milliseconds since 1970. Hashes and ids are raw bytes.

CREATE TABLE servers (
    name        TEXT    NOT NULL PRIMARY KEY,
    node_key    TEXT    NOT NULL UNIQUE,
    certificate BLOB    NOT NULL,
    added       INTEGER NOT NULL
) STRICT;

CREATE TABLE platforms (
    name             TEXT    NOT NULL PRIMARY KEY,
    tree_id          BLOB    NOT NULL UNIQUE CHECK (length(tree_id) = 16),
    desired          INTEGER CHECK (desired > 0),
    last_serial      INTEGER NOT NULL DEFAULT 0,
    last_fence       INTEGER NOT NULL DEFAULT 0,
    follow_suspended INTEGER NOT NULL DEFAULT 0 CHECK (follow_suspended IN (0, 1)),
    locked_by        TEXT,
    locked_reason    TEXT,
    locked_since     INTEGER
) STRICT;

CREATE TABLE generations (
    platform     TEXT    NOT NULL REFERENCES platforms (name) ON DELETE CASCADE,
    serial       INTEGER NOT NULL CHECK (serial > 0),
    content_root BLOB    NOT NULL CHECK (length(content_root) = 32),
    meta_root    BLOB    NOT NULL CHECK (length(meta_root) = 32),
    label        TEXT,
    author       TEXT    NOT NULL,
    created      INTEGER NOT NULL,
    source       TEXT,
    entries      INTEGER NOT NULL,
    bytes        INTEGER NOT NULL,
    -- NULL until the commit was decided.
    committed    INTEGER,
    pinned       INTEGER NOT NULL DEFAULT 0 CHECK (pinned IN (0, 1)),
    bad          INTEGER NOT NULL DEFAULT 0 CHECK (bad IN (0, 1)),
    PRIMARY KEY (platform, serial)
) STRICT;

CREATE TABLE members (
    platform       TEXT    NOT NULL REFERENCES platforms (name) ON DELETE CASCADE,
    server         TEXT    NOT NULL,
    serial         INTEGER,
    outcome        TEXT    NOT NULL,
    since          INTEGER NOT NULL,
    error_code     TEXT,
    error_message  TEXT,
    error_hint     TEXT,
    sent_bytes     INTEGER NOT NULL,
    received_bytes INTEGER NOT NULL,
    PRIMARY KEY (platform, server)
) STRICT;

-- Outlives its platform: a member in doubt may ask after the platform was removed.
CREATE TABLE transactions (
    txn      BLOB    NOT NULL PRIMARY KEY CHECK (length(txn) = 16),
    platform TEXT    NOT NULL,
    serial   INTEGER NOT NULL CHECK (serial > 0),
    fence    INTEGER NOT NULL,
    purpose  TEXT    NOT NULL CHECK (purpose IN ('publish', 'restore')),
    members  TEXT    NOT NULL,
    author   TEXT    NOT NULL,
    begun    INTEGER NOT NULL,
    decision TEXT    CHECK (decision IN ('commit', 'abort')),
    decided  INTEGER,
    CHECK ((decision IS NULL) = (decided IS NULL))
) STRICT;

CREATE INDEX transactions_by_platform ON transactions (platform, begun);

-- I3: what was decided stays decided, whatever the code above does.
CREATE TRIGGER a_decision_is_final
BEFORE UPDATE ON transactions
WHEN OLD.decision IS NOT NULL
BEGIN
    SELECT RAISE(ABORT, 'a decision is final');
END;

CREATE TABLE preserve_rules (
    platform    TEXT    NOT NULL REFERENCES platforms (name) ON DELETE CASCADE,
    rule        TEXT    NOT NULL,
    sent        INTEGER NOT NULL,
    released    INTEGER,
    released_by TEXT,
    PRIMARY KEY (platform, rule)
) STRICT;

CREATE TABLE tasks (
    id           INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    kind         TEXT    NOT NULL,
    target       TEXT    NOT NULL,
    who          TEXT    NOT NULL,
    command_line TEXT    NOT NULL,
    started      INTEGER NOT NULL,
    ended        INTEGER,
    exit         INTEGER,
    summary      TEXT
) STRICT;
