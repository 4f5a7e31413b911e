"""Study settings in versions, and single values by key."""

import time

from fair_strategy.store.database import Store


def settings_version(store: Store, json_text: str) -> int:
    """The version of these settings: the newest one's if they are equal to it, else a new one.

    Args:
        store: the study's store.
        json_text: the settings as text; equality is equality of text.
    """
    with store.transaction() as connection:
        newest = connection.execute(
            "SELECT version, json FROM settings ORDER BY version DESC LIMIT 1"
        ).fetchone()
        if newest is not None and newest["json"] == json_text:
            return int(newest["version"])
        row = connection.execute(
            "INSERT INTO settings (json, created_at) VALUES (?, ?) RETURNING version",
            (json_text, time.time()),
        ).fetchone()
        return int(row["version"])


def current_settings(store: Store) -> tuple[int, str] | None:
    """Version and JSON text of the newest settings; None before the first."""
    row = (
        store.read()
        .execute("SELECT version, json FROM settings ORDER BY version DESC LIMIT 1")
        .fetchone()
    )
    return None if row is None else (row["version"], row["json"])


def set_value(store: Store, key: str, value: str) -> None:
    """Remember one text under a key."""
    with store.transaction() as connection:
        connection.execute(
            "INSERT INTO key_values (key, value) VALUES (?, ?) "
            "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (key, value),
        )


def get_value(store: Store, key: str) -> str | None:
    """The text remembered under a key; None if there is none."""
    row = store.read().execute("SELECT value FROM key_values WHERE key = ?", (key,)).fetchone()
    return None if row is None else row["value"]
