"""The tables, as migrations: `MIGRATIONS[n]` takes a database of version n to version n + 1.

A released migration never changes; a new table or column is a new migration.
"""

_FIRST = (
    """CREATE TABLE settings (
        version INTEGER PRIMARY KEY AUTOINCREMENT,
        json TEXT NOT NULL,
        created_at REAL NOT NULL)""",
    "CREATE TABLE key_values (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    """CREATE TABLE cases (
        case_id TEXT PRIMARY KEY,
        subject_id TEXT NOT NULL,
        path TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        present INTEGER NOT NULL DEFAULT 1,
        unreadable TEXT,
        excluded TEXT,
        info TEXT NOT NULL DEFAULT '{}')""",
    "CREATE INDEX cases_by_path ON cases (path)",
    """CREATE TABLE labels (
        case_id TEXT NOT NULL REFERENCES cases,
        tag TEXT NOT NULL,
        path TEXT NOT NULL,
        info TEXT NOT NULL,
        client_id TEXT NOT NULL,
        created_at REAL NOT NULL,
        digest TEXT NOT NULL,
        seen_model TEXT,
        PRIMARY KEY (case_id, tag))""",
    """CREATE TABLE splits (
        subject_id TEXT PRIMARY KEY,
        split TEXT NOT NULL CHECK (split IN ('select', 'audit')))""",
    """CREATE TABLE models (
        checksum TEXT PRIMARY KEY,
        path TEXT NOT NULL,
        origin TEXT NOT NULL,
        created_at REAL NOT NULL,
        statistics TEXT NOT NULL,
        current INTEGER NOT NULL DEFAULT 0)""",
    "CREATE UNIQUE INDEX one_current_model ON models (current) WHERE current = 1",
    """CREATE TABLE scores (
        model TEXT NOT NULL,
        settings_hash TEXT NOT NULL,
        case_id TEXT NOT NULL REFERENCES cases,
        fingerprint TEXT NOT NULL,
        entropies TEXT NOT NULL,
        volume_mm3 REAL,
        flags TEXT NOT NULL,
        created_at REAL NOT NULL,
        PRIMARY KEY (model, settings_hash, case_id, fingerprint))""",
    "CREATE INDEX scores_by_case ON scores (case_id, model, fingerprint)",
    """CREATE TABLE comparisons (
        case_id TEXT NOT NULL REFERENCES cases,
        model TEXT NOT NULL,
        label_digest TEXT NOT NULL,
        dice REAL,
        surface_distance_mm REAL,
        seen INTEGER NOT NULL,
        unchanged INTEGER NOT NULL,
        selection_probability REAL,
        created_at REAL NOT NULL,
        PRIMARY KEY (case_id, model, label_digest, seen))""",
    """CREATE TABLE plans (
        plan_id INTEGER PRIMARY KEY AUTOINCREMENT,
        strategy TEXT NOT NULL,
        model TEXT,
        settings_version INTEGER NOT NULL,
        seed INTEGER NOT NULL,
        weights TEXT NOT NULL,
        performance TEXT NOT NULL,
        inputs TEXT NOT NULL,
        created_at REAL NOT NULL,
        note TEXT NOT NULL)""",
    "CREATE INDEX plans_by_strategy ON plans (strategy, plan_id)",
    """CREATE TABLE plan_rows (
        plan_id INTEGER NOT NULL REFERENCES plans ON DELETE CASCADE,
        position INTEGER NOT NULL,
        case_id TEXT NOT NULL REFERENCES cases,
        subgroup TEXT NOT NULL,
        score REAL,
        utility REAL,
        percentile REAL,
        reason TEXT NOT NULL,
        open INTEGER NOT NULL DEFAULT 1,
        PRIMARY KEY (plan_id, position)) WITHOUT ROWID""",
    "CREATE INDEX plan_rows_open ON plan_rows (plan_id, position) WHERE open = 1",
    "CREATE INDEX plan_rows_by_case ON plan_rows (case_id)",
    """CREATE TABLE decisions (
        decision_id INTEGER PRIMARY KEY AUTOINCREMENT,
        plan_id INTEGER NOT NULL REFERENCES plans,
        position INTEGER NOT NULL,
        case_id TEXT NOT NULL REFERENCES cases,
        client_id TEXT NOT NULL,
        created_at REAL NOT NULL)""",
    "CREATE INDEX decisions_by_plan ON decisions (plan_id)",
    """CREATE TABLE leases (
        case_id TEXT PRIMARY KEY REFERENCES cases,
        client_id TEXT NOT NULL,
        expires_at REAL NOT NULL,
        decision_id INTEGER NOT NULL REFERENCES decisions)""",
    "CREATE INDEX leases_by_client ON leases (client_id)",
    """CREATE TABLE skips (
        client_id TEXT NOT NULL,
        case_id TEXT NOT NULL REFERENCES cases,
        until REAL NOT NULL,
        PRIMARY KEY (client_id, case_id))""",
    """CREATE TABLE seen_models (
        case_id TEXT NOT NULL REFERENCES cases,
        client_id TEXT NOT NULL,
        model TEXT NOT NULL,
        PRIMARY KEY (case_id, client_id))""",
    # What a reader may still be asked for. `plan_rows.open` is this view, kept by the writers of
    # cases and labels so that Next Sample need not evaluate it for every labelled case.
    """CREATE VIEW open_cases AS
        SELECT case_id FROM cases
        WHERE present = 1 AND unreadable IS NULL AND excluded IS NULL
        AND NOT EXISTS (SELECT 1 FROM labels
            WHERE labels.case_id = cases.case_id AND labels.tag = 'final')""",
)

# Float16, little-endian; null where the model gave none, and for scores of before.
_FEATURES = ("ALTER TABLE scores ADD COLUMN features BLOB",)

# What a label cost its reader, which hidden pre-segmentations were asked for, why scans were given
# back. `revealed` is null unless the pre-segmentation was hidden (audit slot).
_READERS = (
    """CREATE TABLE label_work (
        case_id TEXT NOT NULL REFERENCES cases,
        label_digest TEXT NOT NULL,
        client_id TEXT NOT NULL,
        seconds REAL,
        edited_mm3 REAL,
        created_at REAL NOT NULL,
        revealed INTEGER,
        PRIMARY KEY (case_id, label_digest))""",
    """CREATE TABLE reveals (
        case_id TEXT NOT NULL REFERENCES cases,
        client_id TEXT NOT NULL,
        created_at REAL NOT NULL,
        PRIMARY KEY (case_id, client_id))""",
    """CREATE TABLE skip_reasons (
        case_id TEXT NOT NULL REFERENCES cases,
        client_id TEXT NOT NULL,
        reason TEXT NOT NULL,
        created_at REAL NOT NULL)""",
    "ALTER TABLE cases ADD COLUMN excluded_by TEXT",
    "CREATE INDEX decisions_by_case ON decisions (case_id, client_id)",
)

# Scans from a PACS: what stands behind a case, what was looked at, what was sent.
_ARCHIVE = (
    """CREATE TABLE archive_series (
        case_id TEXT PRIMARY KEY,
        study_uid TEXT NOT NULL,
        series_uid TEXT NOT NULL UNIQUE,
        instances INTEGER)""",
    "CREATE TABLE archive_segmentations (series_uid TEXT PRIMARY KEY, outcome TEXT NOT NULL)",
    """CREATE TABLE sent_labels (
        case_id TEXT NOT NULL,
        created_at REAL NOT NULL,
        series_uid TEXT NOT NULL,
        sent_at REAL NOT NULL,
        PRIMARY KEY (case_id, created_at))""",
)

# Several readers a case: which label is whose, and how far they agree. A reading is settled once
# the final label was made of it. Two readers may send the same mask: work is kept by reader, too.
_SEVERAL = (
    """CREATE TABLE readings (
        case_id TEXT NOT NULL REFERENCES cases,
        client_id TEXT NOT NULL,
        tag TEXT NOT NULL,
        settled INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (case_id, client_id))""",
    "CREATE INDEX readings_unsettled ON readings (case_id) WHERE settled = 0",
    """CREATE TABLE agreements (
        case_id TEXT NOT NULL REFERENCES cases,
        first_client TEXT NOT NULL,
        second_client TEXT NOT NULL,
        dice REAL,
        surface_distance_mm REAL,
        created_at REAL NOT NULL,
        PRIMARY KEY (case_id, first_client, second_client))""",
    """CREATE TABLE label_work_by_reader (
        case_id TEXT NOT NULL REFERENCES cases,
        label_digest TEXT NOT NULL,
        client_id TEXT NOT NULL,
        seconds REAL,
        edited_mm3 REAL,
        created_at REAL NOT NULL,
        revealed INTEGER,
        PRIMARY KEY (case_id, label_digest, client_id))""",
    """INSERT INTO label_work_by_reader
        SELECT case_id, label_digest, client_id, seconds, edited_mm3, created_at, revealed
        FROM label_work""",
    "DROP TABLE label_work",
    "ALTER TABLE label_work_by_reader RENAME TO label_work",
    "DROP VIEW open_cases",
    # Once so many have read a case, it waits for its final label, which is made of theirs.
    """CREATE VIEW open_cases AS
        SELECT case_id FROM cases
        WHERE present = 1 AND unreadable IS NULL AND excluded IS NULL
        AND NOT EXISTS (SELECT 1 FROM labels
            WHERE labels.case_id = cases.case_id AND labels.tag = 'final')
        AND (SELECT count(*) FROM readings WHERE readings.case_id = cases.case_id) < coalesce(
            (SELECT json_extract(json, '$.readers_per_case') FROM settings
            ORDER BY version DESC LIMIT 1), 1)""",
)

# A snapshot of the pool takes megabytes. In the row of its plan, whatever stood behind it was read
# through all of it, at every click; and seven plans made at once each had their own.
_SNAPSHOTS = (
    "CREATE TABLE plan_inputs (digest TEXT PRIMARY KEY, inputs TEXT NOT NULL)",
    "ALTER TABLE plans ADD COLUMN inputs_digest TEXT REFERENCES plan_inputs",
    "INSERT INTO plan_inputs SELECT 'plan ' || plan_id, inputs FROM plans",
    "UPDATE plans SET inputs_digest = 'plan ' || plan_id",
    "ALTER TABLE plans DROP COLUMN inputs",
    "CREATE INDEX plans_by_inputs ON plans (inputs_digest)",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    _FIRST,
    _FEATURES,
    _READERS,
    _ARCHIVE,
    _SEVERAL,
    _SNAPSHOTS,
)
