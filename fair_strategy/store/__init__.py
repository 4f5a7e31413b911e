"""The study's one truth: an SQLite file (WAL) and one .npz a case and model.

`database` opens, migrates, locks and backs up; `cases` (with `labels` and `work`), `scores` (with
`models` and `comparisons`), `plans` (with `leases`, `handouts` and `reveals`) and `settings` read
and write rows; `predictions` are files. Functions take the `Store` first and return frozen records.
A transaction holds SQL only: compute before or after, never inside.
"""

from fair_strategy.store.database import Store as Store
from fair_strategy.store.errors import (  # noqa: F401 - the door
    ServerRunning,
    StoreError,
    UnknownCaseError,
)
