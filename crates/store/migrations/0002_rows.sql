-- What a state machine keeps of itself, to go on from after a restart: opaque here, read by its owner.
CREATE TABLE rows (
    organisation TEXT NOT NULL REFERENCES organisations (organisation),
    kind         TEXT NOT NULL,
    id           TEXT NOT NULL,
    document     BYTEA NOT NULL,
    PRIMARY KEY (organisation, kind, id)
);
