-- What was shown and said of a machine on its way back to service, numbered in the order in which it was
-- written down. Nothing of it is changed or removed.
CREATE TABLE statements (
    organisation TEXT NOT NULL,
    machine      TEXT NOT NULL,
    number       BIGINT NOT NULL,
    document     BYTEA NOT NULL,
    PRIMARY KEY (organisation, machine, number),
    FOREIGN KEY (organisation, machine) REFERENCES machines (organisation, machine)
);
