-- Whether something lies on a question that is over, to be asked about in another incident: at its start a hub reads it
-- back whatever became of its own incident. FALSE: nothing does, or it was kept before this column was there and not
-- read since.
ALTER TABLE approvals ADD COLUMN is_left BOOLEAN NOT NULL DEFAULT FALSE;
CREATE INDEX approvals_left ON approvals (organisation, is_left, approval);
