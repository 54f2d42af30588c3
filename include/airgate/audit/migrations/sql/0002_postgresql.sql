DROP TRIGGER IF EXISTS airgate_events_fixed ON airgate_events;
DROP TRIGGER IF EXISTS airgate_events_kept ON airgate_events;
DROP TRIGGER IF EXISTS airgate_head_kept ON airgate_head;
DROP TRIGGER IF EXISTS airgate_head_not_emptied ON airgate_head;
DROP TRIGGER IF EXISTS airgate_head_grows ON airgate_head;
DROP INDEX airgate_events_by_model, airgate_events_by_kind, airgate_events_by_run;
DROP TABLE airgate_schema;

-- Collation "C" and the type uuid compare bytes: an append costs half as much.
ALTER TABLE airgate_events
  ALTER COLUMN event_id TYPE uuid USING event_id::uuid,
  ALTER COLUMN kind TYPE varchar(40) COLLATE "C",
  ALTER COLUMN model TYPE varchar(250) COLLATE "C",
  ALTER COLUMN version TYPE varchar(250) COLLATE "C",
  ALTER COLUMN dag_id TYPE varchar(250) COLLATE "C",
  ALTER COLUMN run_id TYPE varchar(250) COLLATE "C",
  ALTER COLUMN task_id TYPE varchar(250) COLLATE "C",
  ALTER COLUMN occurred_at TYPE varchar(27) COLLATE "C",
  ALTER COLUMN stored_at TYPE varchar(27) COLLATE "C",
  ALTER COLUMN entry DROP NOT NULL;
CREATE INDEX airgate_events_by_run ON airgate_events (dag_id, run_id, seq);
-- Decisions are few and much asked for; of the ordinary life of tasks one asks by run.
CREATE INDEX airgate_events_by_kind ON airgate_events (kind, seq)
  WHERE kind NOT IN ('task.started', 'task.succeeded', 'task.skipped');
-- What registered a version is the first success that names it.
CREATE INDEX airgate_events_by_version ON airgate_events (model, version, seq)
  WHERE kind = 'task.succeeded' AND version IS NOT NULL;
ALTER TABLE airgate_head SET (fillfactor = 50);

CREATE TABLE airgate_tree (
  level integer NOT NULL, index bigint NOT NULL, hash bytea NOT NULL, PRIMARY KEY (level, index)
);
CREATE TABLE airgate_checkpoints (
  size bigint PRIMARY KEY, note bytea NOT NULL, made_at varchar(27) NOT NULL
);
CREATE TABLE airgate_receipts (
  size bigint NOT NULL, anchor varchar(200) NOT NULL, receipt bytea NOT NULL, taken_at varchar(27) NOT NULL,
  PRIMARY KEY (size, anchor)
);
CREATE TABLE airgate_subjects (
  id uuid PRIMARY KEY, name varchar(250) UNIQUE, key bytea, hold varchar(250), erased_at varchar(27)
);

-- Where some of those offered are known: the seq of each, those of new ones counted from p_size on.
CREATE FUNCTION airgate_recorded(p_events text[], p_ids uuid[], p_size bigint, p_keep_first boolean) RETURNS bigint[]
LANGUAGE plpgsql AS $$
DECLARE
  seqs bigint[];
  next_seq bigint := p_size;
  known record;
BEGIN
  FOR place IN 1..cardinality(p_ids) LOOP
    SELECT e.seq, e.entry INTO known FROM @schema@.airgate_events e WHERE e.event_id = p_ids[place];
    IF known.seq IS NULL THEN
      seqs[place] := next_seq;
      next_seq := next_seq + 1;
      CONTINUE;
    END IF;
    seqs[place] := known.seq;
    IF NOT p_keep_first AND known.entry IS NOT NULL AND
       substr(known.entry, 1, octet_length(known.entry) - 43 - length(known.seq::text))
       <> convert_to('{"event":' || p_events[place] || ',"seq":', 'UTF8') THEN
      RAISE EXCEPTION USING ERRCODE = 'AG001', MESSAGE = 'recorded with other content', DETAIL = place::text || ' ' || known.seq::text;
    END IF;
  END LOOP;
  RETURN seqs;
END $$;
REVOKE ALL ON FUNCTION airgate_recorded FROM PUBLIC;

-- Appending: the only way in for the application's role, which may execute this and not write the tables.
-- RFC 9162, 2.1. The lock on the head row makes writers take turns, hence no gap and no double. An event comes in two parts:
-- its canonical bytes up to "event_id" (one a line: canonical JSON holds no line break), and the short fields after it, of
-- which the rest of its bytes is made here, so that the columns it is searched by never differ from what is recorded.
-- Gives the seq of each. An id that is recorded with other bytes ends the transaction with SQLSTATE AG001 and the detail
-- "POSITION SEQ", unless p_keep_first says that the first word stands.
CREATE FUNCTION airgate_append(
  p_heads text, p_ids uuid[], p_kinds text[], p_models text[], p_versions text[], p_dags text[], p_runs text[],
  p_tasks text[], p_map_indexes integer[], p_tries integer[], p_occurred text[], p_recovered boolean[], p_schemas smallint[],
  p_sources text[], p_keep_first boolean
) RETURNS bigint[] LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
  events text[];
  wrong bigint;
  head record;
  now_text text;
  seqs bigint[];
  leaves bytea[];
  leaf_count bigint;
  rest bigint;
  peaks bytea[] := '{}';
  depth integer;
  level integer;
  node bytea;
  levels integer[];
  indexes bigint[];
  hashes bytea[];
  new_frontier bytea := '';
BEGIN
  IF p_kinds && ARRAY['audit.erased', 'audit.hold', 'audit.expired'] AND NOT pg_has_role(session_user,
     (SELECT c.relowner FROM pg_class c WHERE c.oid = '@schema@.airgate_events'::regclass), 'USAGE') THEN
    RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = 'audit.erased, audit.hold and audit.expired are for the log''s owner to record';
  END IF;
  -- RFC 8785 orders keys, and to_json escapes a text as it asks for. A field that is missing makes the whole NULL.
  SELECT array_agg(e.data ORDER BY o.place), min(o.place) FILTER (WHERE (starts_with(o.head, '{"actor":{"kind":"')
    AND json_typeof(e.data::json) = 'object' AND octet_length(e.data) <= 65536
    AND o.occurred ~ '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$') IS NOT TRUE)
  INTO events, wrong
  FROM unnest(string_to_array(p_heads, E'\n'), p_ids, p_kinds, p_models, p_versions, p_dags, p_runs, p_tasks, p_map_indexes,
      p_tries, p_occurred, p_recovered, p_schemas, p_sources) WITH ORDINALITY
    AS o(head, id, kind, model, version, dag, run, task, map_index, try, occurred, recovered, schema, source, place),
    LATERAL (SELECT o.head || ',"event_id":"' || o.id || '","kind":' || to_json(o.kind) || ',"model":'
      || coalesce(to_json(o.model)::text, 'null') || ',"occurred_at":"' || o.occurred || '","recovered":' || o.recovered
      || ',"schema_version":' || o.schema || ',"source":' || to_json(o.source) || ',"task":'
      || CASE WHEN o.dag IS NULL THEN 'null' ELSE '{"dag_id":' || to_json(o.dag) || ',"map_index":' || o.map_index
        || ',"run_id":' || to_json(o.run) || ',"task_id":' || to_json(o.task) || ',"try_number":' || o.try || '}' END
      || ',"version":' || coalesce(to_json(o.version)::text, 'null') || '}' AS data OFFSET 0) AS e;
  IF wrong IS NOT NULL THEN
    RAISE EXCEPTION USING MESSAGE = 'what is offered at position ' || wrong || ' is no event';
  END IF;
  IF p_kinds <@ ARRAY['task.started', 'task.succeeded', 'task.failed', 'task.retrying', 'task.skipped', 'task.upstream_failed'] THEN
    -- The ordinary life of tasks: the next writer need not wait for the disk. Whoever appends does, before he says that it is
    -- recorded (airgate.audit.database). Decisions are on disk before anybody can read them.
    PERFORM set_config('synchronous_commit', 'off', true);
  END IF;

  SELECT h.size, h.frontier INTO head FROM @schema@.airgate_head h WHERE h.id = 1 FOR UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION USING MESSAGE = 'the audit log''s head row is gone: somebody with the owner''s rights removed it';
  END IF;
  leaf_count := head.size;
  now_text := to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
  seqs := ARRAY(SELECT generate_series(leaf_count, leaf_count + cardinality(p_ids) - 1));
  -- Nearly always all are new, and then one look is enough.
  IF EXISTS (SELECT 1 FROM @schema@.airgate_events e WHERE e.event_id = ANY (p_ids)) THEN
    seqs := @schema@.airgate_recorded(events, p_ids, leaf_count, p_keep_first);
  END IF;

  WITH added AS (
    INSERT INTO @schema@.airgate_events (seq, event_id, kind, model, version, dag_id, run_id, task_id, map_index, try_number,
      occurred_at, stored_at, leaf_hash, entry)
    SELECT o.seq, o.id, o.kind, o.model, o.version, o.dag, o.run, o.task, o.map_index, o.try, o.occurred, now_text,
      sha256('\x00'::bytea || x.entry), x.entry
    FROM unnest(seqs, events, p_ids, p_kinds, p_models, p_versions, p_dags, p_runs, p_tasks, p_map_indexes, p_tries, p_occurred)
        AS o(seq, data, id, kind, model, version, dag, run, task, map_index, try, occurred),
      LATERAL (SELECT convert_to('{"event":' || o.data || ',"seq":' || o.seq || ',"stored_at":"' || now_text || '"}', 'UTF8')
        AS entry OFFSET 0) AS x
    WHERE o.seq >= leaf_count
    RETURNING seq, leaf_hash)
  SELECT array_agg(a.leaf_hash ORDER BY a.seq) INTO leaves FROM added a;
  IF leaves IS NULL THEN
    RETURN seqs;
  END IF;

  depth := octet_length(head.frontier) / 32;
  FOR i IN 1..depth LOOP
    peaks[i] := substr(head.frontier, 32 * (i - 1) + 1, 32);
  END LOOP;
  FOREACH node IN ARRAY leaves LOOP
    rest := leaf_count;
    level := 0;
    WHILE rest & 1 = 1 LOOP
      node := sha256('\x01'::bytea || peaks[depth] || node);
      depth := depth - 1;
      rest := rest >> 1;
      level := level + 1;
      IF level & 7 = 0 THEN
        levels := levels || level;
        indexes := indexes || rest;
        hashes := hashes || node;
      END IF;
    END LOOP;
    depth := depth + 1;
    peaks[depth] := node;
    leaf_count := leaf_count + 1;
  END LOOP;
  IF levels IS NOT NULL THEN
    INSERT INTO @schema@.airgate_tree SELECT * FROM unnest(levels, indexes, hashes);
  END IF;
  FOR i IN 1..depth LOOP
    new_frontier := new_frontier || peaks[i];
  END LOOP;
  node := peaks[depth];
  FOR i IN REVERSE depth - 1..1 LOOP
    node := sha256('\x01'::bytea || peaks[i] || node);
  END LOOP;
  UPDATE @schema@.airgate_head h SET size = leaf_count, root = node, frontier = new_frontier WHERE h.id = 1;
  RETURN seqs;
END $$;
REVOKE ALL ON FUNCTION airgate_append FROM PUBLIC;
-- A session keeps its plans: one made while the log was empty would read the whole table for each event ever after.
ALTER FUNCTION airgate_append SET enable_seqscan = off;
-- It runs with the owner's rights: no table, function or operator of somebody else's may come in between. Its own tables are named
-- with their schema.
ALTER FUNCTION airgate_append SET search_path = pg_catalog, pg_temp;

CREATE OR REPLACE FUNCTION airgate_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  RAISE EXCEPTION USING MESSAGE = TG_OP || ' on ' || TG_TABLE_NAME || ' is refused: ' ||
    CASE TG_TABLE_NAME WHEN 'airgate_subjects' THEN 'a key is kept or destroyed, never exchanged'
      ELSE 'the audit log is append-only' END;
END $$;

-- An event's contents may go when their time is over; nothing else about it changes, ever.
CREATE TRIGGER airgate_events_fixed BEFORE UPDATE ON airgate_events FOR EACH ROW
  WHEN (NOT (NEW.entry IS NULL AND NEW.seq = OLD.seq AND NEW.event_id = OLD.event_id AND NEW.kind = OLD.kind
    AND NEW.occurred_at = OLD.occurred_at AND NEW.stored_at = OLD.stored_at AND NEW.leaf_hash = OLD.leaf_hash))
  EXECUTE FUNCTION airgate_refuse();
CREATE TRIGGER airgate_head_grows BEFORE UPDATE ON airgate_head FOR EACH ROW WHEN (NEW.size < OLD.size)
  EXECUTE FUNCTION airgate_refuse();
CREATE TRIGGER airgate_tree_fixed BEFORE UPDATE ON airgate_tree FOR EACH ROW EXECUTE FUNCTION airgate_refuse();
CREATE TRIGGER airgate_checkpoints_fixed BEFORE UPDATE ON airgate_checkpoints FOR EACH ROW EXECUTE FUNCTION airgate_refuse();
CREATE TRIGGER airgate_receipts_fixed BEFORE UPDATE ON airgate_receipts FOR EACH ROW EXECUTE FUNCTION airgate_refuse();
-- A subject's key may be destroyed and its hold set or lifted; a key is never exchanged, nor does it come back.
CREATE TRIGGER airgate_subjects_fixed BEFORE UPDATE ON airgate_subjects FOR EACH ROW
  WHEN (NOT (NEW.id = OLD.id AND (NEW.key IS NOT DISTINCT FROM OLD.key OR NEW.key IS NULL)
    AND (NEW.name IS NOT DISTINCT FROM OLD.name OR NEW.name IS NULL)))
  EXECUTE FUNCTION airgate_refuse();

CREATE FUNCTION airgate_refuse_subject() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  RAISE EXCEPTION USING MESSAGE = 'INSERT on airgate_subjects is refused: a new subject has a name and a key of 32 bytes';
END $$;
CREATE TRIGGER airgate_subjects_whole BEFORE INSERT ON airgate_subjects FOR EACH ROW
  WHEN (NEW.name IS NULL OR NEW.key IS NULL OR octet_length(NEW.key) <> 32 OR NEW.hold IS NOT NULL OR NEW.erased_at IS NOT NULL)
  EXECUTE FUNCTION airgate_refuse_subject();

-- ENABLE ALWAYS: a session in replica mode skips ordinary triggers.
DO $$
DECLARE
  log_table text;
  own record;
BEGIN
  FOREACH log_table IN ARRAY ARRAY['events', 'head', 'tree', 'checkpoints', 'receipts', 'subjects'] LOOP
    log_table := 'airgate_' || log_table;
    EXECUTE 'CREATE TRIGGER ' || log_table || '_kept BEFORE DELETE ON ' || log_table
      || ' FOR EACH ROW EXECUTE FUNCTION airgate_refuse()';
    EXECUTE 'CREATE TRIGGER ' || log_table || '_not_emptied BEFORE TRUNCATE ON ' || log_table
      || ' EXECUTE FUNCTION airgate_refuse()';
    FOR own IN SELECT tgname FROM pg_trigger WHERE tgrelid = log_table::regclass AND NOT tgisinternal LOOP
      EXECUTE 'ALTER TABLE ' || log_table || ' ENABLE ALWAYS TRIGGER ' || quote_ident(own.tgname);
    END LOOP;
  END LOOP;
END $$;
