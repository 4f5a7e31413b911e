"""Options from a YAML file: blocks whose names are checked, and errors that list the good ones."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from fair_strategy.config import SettingsError


class Block(BaseModel):
    """Options that belong together; a name that is not one of them is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _names_exist(cls, given: Any) -> Any:
        if isinstance(given, Mapping):
            known_or_error(given, cls.model_fields, "option")
        return given


B = TypeVar("B", bound=Block)


def known_or_error(given: Iterable[str], known: Iterable[str], what: str) -> None:
    """Raise a ValueError that lists the good names if one of the given is not among them."""
    names = sorted(known)
    unknown = [name for name in given if name not in names]
    if unknown:
        listed = ", ".join(map(repr, unknown))
        raise ValueError(f"unknown {what} {listed}; expected one of {', '.join(names)}")


def read_yaml(path: Path) -> dict[str, Any]:
    """The options in a YAML file.

    Raises:
        SettingsError: if it is no YAML or holds no options.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path.name}: expected YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise SettingsError(f"{path.name}: expected options and their values, found none")
    return content


def validated(kind: type[B], content: Mapping[str, Any], *, source: str = "") -> B:
    """The options as a block of a kind.

    Args:
        source: what the error names first, e.g. the file.
    Raises:
        SettingsError: for an unknown option (the good ones are listed) or a bad value.
    """
    try:
        return kind.model_validate(dict(content))
    except ValidationError as error:
        sentences = "; ".join(_sentence(e) for e in error.errors())
        raise SettingsError(f"{source}: {sentences}" if source else sentences) from None


def _sentence(error: Any) -> str:
    message = str(error["msg"]).removeprefix("Value error, ")
    reason = message if error["type"] == "value_error" else f"{message}, got {error['input']!r}"
    return ": ".join(filter(None, (".".join(map(str, error["loc"])), reason)))
