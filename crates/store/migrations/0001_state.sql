-- What a hub keeps. Portable SQL: the same text is for SQLite and PostgreSQL (SQLite takes any type
-- name: BYTEA holds bytes there too). Every key begins with the organisation: no row can be reached
-- without saying whose it is. Ids are hyphenated UUIDs or hexadecimal; times are nanoseconds since 1970,
-- UTC; `document` is CBOR of the type that the column's table is named after.

CREATE TABLE organisations (
    organisation TEXT PRIMARY KEY,
    name         TEXT NOT NULL,
    created_at   BIGINT NOT NULL
);

CREATE TABLE settings (
    organisation TEXT NOT NULL REFERENCES organisations (organisation),
    name         TEXT NOT NULL,
    value        BYTEA NOT NULL,
    PRIMARY KEY (organisation, name)
);

CREATE TABLE policies (
    organisation TEXT NOT NULL REFERENCES organisations (organisation),
    revision     BIGINT NOT NULL,
    envelope     BYTEA NOT NULL,
    PRIMARY KEY (organisation, revision)
);

-- Enrolment tokens and sign-in tokens: only the hash of the secret half.
CREATE TABLE enrolment_tokens (
    organisation TEXT NOT NULL REFERENCES organisations (organisation),
    hash         BYTEA NOT NULL,
    document     BYTEA NOT NULL,
    expires_at   BIGINT NOT NULL,
    used_by      TEXT,
    PRIMARY KEY (organisation, hash)
);

CREATE TABLE machines (
    organisation TEXT NOT NULL REFERENCES organisations (organisation),
    machine      TEXT NOT NULL,
    host         TEXT NOT NULL,
    certificate  BYTEA NOT NULL,
    serial       BYTEA NOT NULL,
    receipt_key  BYTEA NOT NULL,
    enrolled_at  BIGINT NOT NULL,
    seen_at      BIGINT,
    seen         BYTEA,
    assignment_revision BIGINT NOT NULL DEFAULT 0,
    assignment   BYTEA,
    -- Highest report number that is on disk: what the hub acknowledges.
    reported     BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (organisation, machine)
);
CREATE UNIQUE INDEX machines_by_certificate ON machines (organisation, certificate);
CREATE INDEX machines_by_seen ON machines (organisation, seen_at);

-- A finding's id is a hash that its machine computes, so one machine could take another's id: the
-- machine is part of the key.
CREATE TABLE findings (
    organisation TEXT NOT NULL,
    machine      TEXT NOT NULL,
    finding      TEXT NOT NULL,
    received_at  BIGINT NOT NULL,
    level        BIGINT NOT NULL,
    incident     TEXT,
    document     BYTEA NOT NULL,
    PRIMARY KEY (organisation, machine, finding),
    FOREIGN KEY (organisation, machine) REFERENCES machines (organisation, machine)
);
CREATE INDEX findings_by_time ON findings (organisation, received_at, machine, finding);
CREATE INDEX findings_by_incident ON findings (organisation, incident, received_at);
CREATE INDEX findings_by_id ON findings (organisation, finding);

CREATE TABLE incidents (
    organisation TEXT NOT NULL REFERENCES organisations (organisation),
    incident     TEXT NOT NULL,
    state        TEXT NOT NULL,
    owner        TEXT,
    level        BIGINT NOT NULL,
    document     BYTEA NOT NULL,
    PRIMARY KEY (organisation, incident)
);
CREATE INDEX incidents_by_state ON incidents (organisation, state, incident);

CREATE TABLE timeline (
    organisation TEXT NOT NULL,
    incident     TEXT NOT NULL,
    entry        BIGINT NOT NULL,
    document     BYTEA NOT NULL,
    PRIMARY KEY (organisation, incident, entry),
    FOREIGN KEY (organisation, incident) REFERENCES incidents (organisation, incident)
);

CREATE TABLE approvals (
    organisation TEXT NOT NULL REFERENCES organisations (organisation),
    approval     TEXT NOT NULL,
    is_open      BOOLEAN NOT NULL,
    expires_at   BIGINT NOT NULL,
    document     BYTEA NOT NULL,
    PRIMARY KEY (organisation, approval)
);
CREATE INDEX approvals_by_state ON approvals (organisation, is_open, approval);

CREATE TABLE orders (
    organisation TEXT NOT NULL,
    order_id     TEXT NOT NULL,
    machine      TEXT NOT NULL,
    sequence     BIGINT NOT NULL,
    incident     TEXT,
    is_waiting   BOOLEAN NOT NULL,
    state        BYTEA NOT NULL,
    envelope     BYTEA NOT NULL,
    PRIMARY KEY (organisation, order_id),
    FOREIGN KEY (organisation, machine) REFERENCES machines (organisation, machine)
);
CREATE UNIQUE INDEX orders_by_machine ON orders (organisation, machine, sequence);

CREATE TABLE permits (
    organisation TEXT NOT NULL,
    permit       TEXT NOT NULL,
    machine      TEXT NOT NULL,
    expires_at   BIGINT NOT NULL,
    envelope     BYTEA NOT NULL,
    PRIMARY KEY (organisation, permit),
    FOREIGN KEY (organisation, machine) REFERENCES machines (organisation, machine)
);
CREATE INDEX permits_by_machine ON permits (organisation, machine, expires_at);

CREATE TABLE measures (
    organisation TEXT NOT NULL,
    measure      TEXT NOT NULL,
    machine      TEXT NOT NULL,
    is_over      BOOLEAN NOT NULL,
    is_acting    BOOLEAN NOT NULL,
    document     BYTEA NOT NULL,
    PRIMARY KEY (organisation, machine, measure),
    FOREIGN KEY (organisation, machine) REFERENCES machines (organisation, machine)
);
CREATE INDEX measures_by_state ON measures (organisation, is_over, measure);

-- What machines signed, exactly as they signed it.
CREATE TABLE receipts (
    organisation TEXT NOT NULL,
    machine      TEXT NOT NULL,
    number       BIGINT NOT NULL,
    measure      TEXT NOT NULL,
    envelope     BYTEA NOT NULL,
    PRIMARY KEY (organisation, machine, number),
    FOREIGN KEY (organisation, machine) REFERENCES machines (organisation, machine)
);
CREATE INDEX receipts_by_measure ON receipts (organisation, machine, measure, number);

CREATE TABLE people (
    organisation TEXT NOT NULL REFERENCES organisations (organisation),
    name         TEXT NOT NULL,
    document     BYTEA NOT NULL,
    PRIMARY KEY (organisation, name)
);

CREATE TABLE sign_in_tokens (
    organisation TEXT NOT NULL,
    hash         BYTEA NOT NULL,
    name         TEXT NOT NULL,
    expires_at   BIGINT NOT NULL,
    is_used      BOOLEAN NOT NULL,
    PRIMARY KEY (organisation, hash),
    FOREIGN KEY (organisation, name) REFERENCES people (organisation, name)
);

CREATE TABLE sessions (
    organisation TEXT NOT NULL,
    hash         BYTEA NOT NULL,
    name         TEXT NOT NULL,
    begun_at     BIGINT NOT NULL,
    expires_at   BIGINT NOT NULL,
    PRIMARY KEY (organisation, hash),
    FOREIGN KEY (organisation, name) REFERENCES people (organisation, name)
);
