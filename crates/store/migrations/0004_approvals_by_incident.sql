-- Which incident a question belongs to: at its start a hub reads the questions of incidents that are open, and not all
-- that were ever asked; an incident's page reads its own. NULL: it belongs to none, or was kept before this column was
-- there and not read since.
ALTER TABLE approvals ADD COLUMN incident TEXT;
CREATE INDEX approvals_by_incident ON approvals (organisation, incident, approval);
