-- What visitors of a site see, where it isn't the site itself.
CREATE TABLE site_modes (
    site   TEXT    NOT NULL PRIMARY KEY,
    mode   TEXT    NOT NULL CHECK (mode IN ('disabled', 'maintenance')),
    since  INTEGER NOT NULL,
    set_by TEXT    NOT NULL
) STRICT;

-- A site's periodic work: who runs it, until when nobody else may, and how it went.
CREATE TABLE cron_runs (
    site        TEXT    NOT NULL PRIMARY KEY,
    runner      TEXT,
    lease       BLOB    CHECK (lease IS NULL OR length(lease) = 16),
    lease_until INTEGER,
    started     INTEGER,
    ended_well  INTEGER,
    message     TEXT    NOT NULL DEFAULT '',
    CHECK ((lease IS NULL) = (lease_until IS NULL))
) STRICT;

-- Uploads that fanout brought to a member: nothing else may be removed there.
CREATE TABLE delivered_uploads (
    site   TEXT NOT NULL,
    member TEXT NOT NULL,
    place  BLOB NOT NULL,
    path   BLOB NOT NULL,
    digest BLOB NOT NULL CHECK (length(digest) = 32),
    PRIMARY KEY (site, member, place, path)
) STRICT, WITHOUT ROWID;
