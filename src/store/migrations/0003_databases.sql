-- What fanout made in database servers: nothing that isn't here is ever removed.

CREATE TABLE site_databases (
    site     TEXT    NOT NULL PRIMARY KEY,
    server   TEXT    NOT NULL,
    database TEXT    NOT NULL,
    user     TEXT    NOT NULL,
    role     TEXT    NOT NULL,
    created  INTEGER NOT NULL,
    UNIQUE (server, database),
    UNIQUE (server, user)
) STRICT;

-- Written before an account is made and deleted after it is gone, so that a crash in between
-- leaves no account that nobody remembers.
CREATE TABLE database_accounts (
    site    TEXT    NOT NULL REFERENCES site_databases (site) ON DELETE CASCADE,
    host    TEXT    NOT NULL,
    created INTEGER NOT NULL,
    PRIMARY KEY (site, host)
) STRICT;

-- Who comes from there; several where a network has one account.
CREATE TABLE database_account_members (
    site   TEXT NOT NULL,
    host   TEXT NOT NULL,
    member TEXT NOT NULL,
    PRIMARY KEY (site, host, member),
    FOREIGN KEY (site, host) REFERENCES database_accounts (site, host) ON DELETE CASCADE
) STRICT;
