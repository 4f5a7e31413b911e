"""Subgroup tags of a DICOM header (in JSON), de-identified or odd values as missing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Any

SEX, BIRTH_DATE, AGE = "00100040", "00100030", "00101010"
ETHNIC_GROUP, STUDY_DATE = "00102160", "00080020"
TAGS = (SEX, BIRTH_DATE, AGE, ETHNIC_GROUP, STUDY_DATE)

OLDEST = 130.0
_AGE = re.compile(r"(\d{1,3})([DWMY])")
_YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}
_UNTOLD = frozenset({"", "n/a", "na", "none", "unknown", "anonymous", "anonymized", "removed"})

Header = Mapping[str, Any]
"""A header in the DICOM JSON model: tag -> {"vr": .., "Value": [..]}."""


def text_of(header: Header, tag: str) -> str:
    """The first value of a tag as text; empty where it has none."""
    values = (header.get(tag) or {}).get("Value") or [""]
    first = values[0]
    return "" if first is None or isinstance(first, dict) else str(first).strip()


def subgroup_columns(header: Header) -> dict[str, str]:
    """Values for `sex`, `age` (years) and `ethnic_group` of participants.tsv; no key where untold.

    The age is PatientAge, or else the one on StudyDate by PatientBirthDate. What is empty,
    malformed or no age that a person can have is missing, never guessed.
    """
    sex = text_of(header, SEX).upper()
    ethnic_group = " ".join(text_of(header, ETHNIC_GROUP).split()).lower()
    found = {
        "sex": sex if sex in {"F", "M", "O"} else "",
        "age": _age(header),
        "ethnic_group": "" if ethnic_group in _UNTOLD else ethnic_group,
    }
    return {name: value for name, value in found.items() if value}


def _age(header: Header) -> str:
    told = _AGE.fullmatch(text_of(header, AGE).upper())
    if told:
        years = int(told[1]) * _YEARS[told[2]]
        return f"{years:.3g}" if years <= OLDEST else ""
    born, scanned = _date(text_of(header, BIRTH_DATE)), _date(text_of(header, STUDY_DATE))
    if born is None or scanned is None:
        return ""
    had_birthday = (scanned.month, scanned.day) >= (born.month, born.day)
    completed = scanned.year - born.year - (not had_birthday)
    return str(completed) if 0 <= completed <= OLDEST else ""


def _date(text: str) -> date | None:
    if not re.fullmatch(r"\d{8}", text):
        return None
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return None
