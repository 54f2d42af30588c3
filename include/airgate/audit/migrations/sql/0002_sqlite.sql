-- SQLite cannot let a column be NULL that was not: the table is made anew. Its triggers and indexes go with it.
CREATE TABLE airgate_events_new (
  seq INTEGER NOT NULL PRIMARY KEY,
  event_id VARCHAR(36) NOT NULL UNIQUE,
  kind VARCHAR(40) NOT NULL,
  model VARCHAR(250), version VARCHAR(250),
  dag_id VARCHAR(250), run_id VARCHAR(250), task_id VARCHAR(250),
  map_index INTEGER, try_number INTEGER,
  occurred_at VARCHAR(27) NOT NULL,
  stored_at VARCHAR(27) NOT NULL,
  leaf_hash BLOB NOT NULL,
  entry BLOB
);
INSERT INTO airgate_events_new SELECT seq, event_id, kind, model, version, dag_id, run_id, task_id, map_index, try_number,
  occurred_at, stored_at, leaf_hash, entry FROM airgate_events ORDER BY seq;
DROP TABLE airgate_events;
ALTER TABLE airgate_events_new RENAME TO airgate_events;
CREATE INDEX airgate_events_by_model ON airgate_events (model, seq);
CREATE INDEX airgate_events_by_kind ON airgate_events (kind, seq);
CREATE INDEX airgate_events_by_run ON airgate_events (dag_id, run_id, task_id, seq);

CREATE TABLE airgate_tree (
  level INTEGER NOT NULL, "index" INTEGER NOT NULL, hash BLOB NOT NULL, PRIMARY KEY (level, "index")
);
CREATE TABLE airgate_checkpoints (
  size INTEGER NOT NULL PRIMARY KEY, note BLOB NOT NULL, made_at VARCHAR(27) NOT NULL
);
CREATE TABLE airgate_receipts (
  size INTEGER NOT NULL, anchor VARCHAR(200) NOT NULL, receipt BLOB NOT NULL, taken_at VARCHAR(27) NOT NULL,
  PRIMARY KEY (size, anchor)
);
CREATE TABLE airgate_subjects (
  id VARCHAR(36) NOT NULL PRIMARY KEY, name VARCHAR(250) UNIQUE, key BLOB, hold VARCHAR(250), erased_at VARCHAR(27)
);

-- An event's contents may go when their time is over; nothing else about it changes, ever.
CREATE TRIGGER airgate_events_no_update BEFORE UPDATE ON airgate_events
  WHEN NOT (NEW.entry IS NULL AND NEW.seq IS OLD.seq AND NEW.event_id IS OLD.event_id AND NEW.kind IS OLD.kind
    AND NEW.occurred_at IS OLD.occurred_at AND NEW.stored_at IS OLD.stored_at AND NEW.leaf_hash IS OLD.leaf_hash)
  BEGIN SELECT RAISE(ABORT, 'UPDATE on airgate_events is refused: the audit log is append-only'); END;
CREATE TRIGGER airgate_events_no_delete BEFORE DELETE ON airgate_events
  BEGIN SELECT RAISE(ABORT, 'DELETE on airgate_events is refused: the audit log is append-only'); END;
-- REPLACE deletes rows in SQLite without firing a delete trigger, hence the triggers on insert.
CREATE TRIGGER airgate_events_no_replace BEFORE INSERT ON airgate_events
  WHEN EXISTS (SELECT 1 FROM airgate_events WHERE seq = NEW.seq OR event_id = NEW.event_id)
  BEGIN SELECT RAISE(ABORT, 'REPLACE on airgate_events is refused: the audit log is append-only'); END;

DROP TRIGGER IF EXISTS airgate_head_no_delete;
DROP TRIGGER IF EXISTS airgate_head_no_replace;
DROP TRIGGER IF EXISTS airgate_head_grows;
CREATE TRIGGER airgate_head_no_delete BEFORE DELETE ON airgate_head
  BEGIN SELECT RAISE(ABORT, 'DELETE on airgate_head is refused: the audit log is append-only'); END;
CREATE TRIGGER airgate_head_no_replace BEFORE INSERT ON airgate_head WHEN EXISTS (SELECT 1 FROM airgate_head)
  BEGIN SELECT RAISE(ABORT, 'REPLACE on airgate_head is refused: the audit log is append-only'); END;
CREATE TRIGGER airgate_head_grows BEFORE UPDATE ON airgate_head WHEN NEW.size < OLD.size
  BEGIN SELECT RAISE(ABORT, 'UPDATE on airgate_head is refused: the audit log is append-only'); END;

CREATE TRIGGER airgate_tree_no_update BEFORE UPDATE ON airgate_tree
  BEGIN SELECT RAISE(ABORT, 'UPDATE on airgate_tree is refused: the audit log is append-only'); END;
CREATE TRIGGER airgate_tree_no_delete BEFORE DELETE ON airgate_tree
  BEGIN SELECT RAISE(ABORT, 'DELETE on airgate_tree is refused: the audit log is append-only'); END;
CREATE TRIGGER airgate_tree_no_replace BEFORE INSERT ON airgate_tree
  WHEN EXISTS (SELECT 1 FROM airgate_tree WHERE level = NEW.level AND "index" = NEW."index")
  BEGIN SELECT RAISE(ABORT, 'REPLACE on airgate_tree is refused: the audit log is append-only'); END;

CREATE TRIGGER airgate_checkpoints_no_update BEFORE UPDATE ON airgate_checkpoints
  BEGIN SELECT RAISE(ABORT, 'UPDATE on airgate_checkpoints is refused: the audit log is append-only'); END;
CREATE TRIGGER airgate_checkpoints_no_delete BEFORE DELETE ON airgate_checkpoints
  BEGIN SELECT RAISE(ABORT, 'DELETE on airgate_checkpoints is refused: the audit log is append-only'); END;
CREATE TRIGGER airgate_checkpoints_no_replace BEFORE INSERT ON airgate_checkpoints
  WHEN EXISTS (SELECT 1 FROM airgate_checkpoints WHERE size = NEW.size)
  BEGIN SELECT RAISE(ABORT, 'REPLACE on airgate_checkpoints is refused: the audit log is append-only'); END;

CREATE TRIGGER airgate_receipts_no_update BEFORE UPDATE ON airgate_receipts
  BEGIN SELECT RAISE(ABORT, 'UPDATE on airgate_receipts is refused: the audit log is append-only'); END;
CREATE TRIGGER airgate_receipts_no_delete BEFORE DELETE ON airgate_receipts
  BEGIN SELECT RAISE(ABORT, 'DELETE on airgate_receipts is refused: the audit log is append-only'); END;
CREATE TRIGGER airgate_receipts_no_replace BEFORE INSERT ON airgate_receipts
  WHEN EXISTS (SELECT 1 FROM airgate_receipts WHERE size = NEW.size AND anchor = NEW.anchor)
  BEGIN SELECT RAISE(ABORT, 'REPLACE on airgate_receipts is refused: the audit log is append-only'); END;
CREATE TRIGGER airgate_subjects_whole BEFORE INSERT ON airgate_subjects
  WHEN NEW.name IS NULL OR NEW.key IS NULL OR length(NEW.key) <> 32 OR NEW.hold IS NOT NULL OR NEW.erased_at IS NOT NULL
    OR EXISTS (SELECT 1 FROM airgate_subjects WHERE id = NEW.id)
  BEGIN SELECT RAISE(ABORT, 'INSERT on airgate_subjects is refused: a new subject has a name and a key of 32 bytes'); END;

-- A subject's key may be destroyed and its hold set or lifted; a key is never exchanged, nor does it come back.
CREATE TRIGGER airgate_subjects_no_exchange BEFORE UPDATE ON airgate_subjects
  WHEN NOT (NEW.id IS OLD.id AND (NEW.key IS OLD.key OR NEW.key IS NULL) AND (NEW.name IS OLD.name OR NEW.name IS NULL))
  BEGIN SELECT RAISE(ABORT, 'UPDATE on airgate_subjects is refused: a key is kept or destroyed, never exchanged'); END;
CREATE TRIGGER airgate_subjects_no_delete BEFORE DELETE ON airgate_subjects
  BEGIN SELECT RAISE(ABORT, 'DELETE on airgate_subjects is refused: an erased subject keeps its row'); END;

DROP TABLE airgate_schema;
