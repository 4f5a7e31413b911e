"""Write the tables of docs/reference/settings.md from the settings themselves.

python scripts/make_settings_page.py
"""

from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from fair_strategy.config import HostSettings, StudySettings

PAGE = Path("docs/reference/settings.md")
START, END = "<!-- settings -->", "<!-- /settings -->"
HEADINGS: tuple[tuple[str, type[BaseModel]], ...] = (
    ("Of a study", StudySettings), ("Of a server", HostSettings),
)  # fmt: skip
_WORDS = {bool: "true, false", Path: "a path"}


def main() -> None:
    """Replace what stands between the page's two marks."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{START}\n\n{tables()}\n\n{END}{after}", encoding="utf-8")


def tables() -> str:
    """Markdown: a heading and a table for each kind of setting."""
    return "\n\n".join(f"## {heading}\n\n{_table(model)}" for heading, model in HEADINGS)


def _table(model: type[BaseModel]) -> str:
    rows = [_row(name, field) for name, field in model.model_fields.items()]
    return "\n".join(["| setting | default | values | what it is |", "|---|---|---|---|", *rows])


def _row(name: str, field: FieldInfo) -> str:
    cells = [f"`{name}`", _default(field.default), _values(field), field.description or ""]
    return "| " + " | ".join(cells) + " |"


def _default(value: Any) -> str:
    """As one would type it."""
    if value is None or value == ():
        return "none"
    return f"`{_typed(value)}`"


def _typed(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join("=".join(v) if isinstance(v, tuple) else _typed(v) for v in value)
    return f"{value:g}" if isinstance(value, float | int) else str(value)


def _values(field: FieldInfo) -> str:
    kinds = [kind for kind in get_args(field.annotation) or (field.annotation,) if kind]
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{value}`" for value in kinds)
    bounds = [_bound(limit) for limit in field.metadata]
    return ", ".join(filter(None, bounds)) or _WORDS.get(kinds[0], "")


def _bound(limit: Any) -> str:
    for kind, sign, name in ((Ge, "≥", "ge"), (Gt, ">", "gt"), (Le, "≤", "le")):
        if isinstance(limit, kind):
            return f"{sign} {getattr(limit, name):g}"
    return ""


if __name__ == "__main__":
    main()
