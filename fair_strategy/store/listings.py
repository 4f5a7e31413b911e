"""What is asked of all cases at once: a column or two, where whole records would take seconds."""

import hashlib
from collections.abc import Sequence

from fair_strategy.store.database import Store

_USABLE = "present = 1 AND unreadable IS NULL AND excluded IS NULL"


def subjects(
    store: Store, *, present: bool = False, excluded: bool = True, labelled: bool = False
) -> dict[str, str]:
    """case_id -> subject_id, by id.

    Args:
        store: the study's store.
        present: only of the cases that are there now.
        excluded: also of those that were taken out of the study.
        labelled: only of those with a final label: few, in a large pool.
    """
    only = "AND case_id IN (SELECT case_id FROM labels WHERE tag = 'final')" if labelled else ""
    rows = store.read().execute(
        f"""SELECT case_id, subject_id FROM cases
        WHERE present >= ? AND (excluded IS NULL OR ?) {only} ORDER BY case_id""",
        (present, excluded),
    )
    return dict(map(tuple, rows))


def present_ids(store: Store) -> list[str]:
    """Ids of the cases that are there now, sorted."""
    rows = store.read().execute("SELECT case_id FROM cases WHERE present = 1 ORDER BY case_id")
    return [case_id for (case_id,) in rows]


def digest_of_files(store: Store) -> str:
    """Changes with the files (ids and fingerprints) of the cases present, readable, not excluded.

    Put together by SQLite: in Python each look at 20 000 cases would hold up whoever is answered.
    """
    return digest(store, f"SELECT case_id || ' ' || fingerprint AS told FROM cases WHERE {_USABLE}")


def digest(store: Store, query: str, names: Sequence[object] = ()) -> str:
    """A digest of the texts that a query calls `told`, in the order of their case ids."""
    whole = f"SELECT group_concat(told, char(10)) FROM ({query} ORDER BY case_id)"
    (text,) = store.read().execute(whole, names).fetchone()
    return hashlib.sha256((text or "").encode()).hexdigest()


def count_present(store: Store) -> int:
    """How many cases are there now."""
    row = store.read().execute("SELECT count(*) FROM cases WHERE present = 1").fetchone()
    return int(row[0])


def tags(store: Store, case_id: str) -> list[str]:
    """Tags under which a case has a label, sorted."""
    rows = store.read().execute("SELECT tag FROM labels WHERE case_id = ? ORDER BY tag", (case_id,))
    return [tag for (tag,) in rows]


def count_labels(store: Store) -> dict[str, int]:
    """Tag -> how many of the cases that are there have a label of it; no tag without any."""
    rows = store.read().execute(
        """SELECT tag, count(*) FROM labels JOIN cases USING (case_id)
        WHERE present = 1 GROUP BY tag ORDER BY tag"""
    )
    return dict(map(tuple, rows))
