"""Says at start, in one sentence, which installed package leaves the tested range."""

import logging
import sys
from collections.abc import Callable
from importlib import metadata

from packaging.requirements import Requirement

log = logging.getLogger(__name__)

DISTRIBUTION = "fair-strategy"
CHECKED = frozenset({"monailabel", "monai", "mlflow", "pydicom", "numpy"})
"""Packages of which a version outside of its range is known to break the server."""


class VersionsError(RuntimeError):
    """An installed package is outside of the range that this project was tested with."""


def check_versions(
    requirements: list[str] | None = None, *, installed: Callable[[str], str] = metadata.version
) -> None:
    """Compare what is installed with what the package asks for.

    Args:
        requirements: such as ``monai>=1.5.2,<1.6``; default: those of the installed package.
        installed: name -> version.
    Raises:
        VersionsError: naming every package that does not fit, and the command that repairs it.
    """
    relevant = _relevant(_requirements() if requirements is None else requirements)
    wrong = [problem for r in relevant if (problem := _problem(r, installed))]
    if wrong:
        raise VersionsError(
            f"not what the application was tested with: {'; '.join(sorted(wrong))}. "
            "Install the tested versions: pip install -c constraints.txt -e ."
        )


def _problem(wanted: Requirement, installed: Callable[[str], str]) -> str:
    try:
        found = installed(wanted.name)
    except metadata.PackageNotFoundError:
        return f"{wanted.name} is missing (tested: {wanted.specifier})"
    if wanted.specifier.contains(found, prereleases=True):
        return ""
    return f"{wanted.name} {found} (tested: {wanted.specifier})"


def _requirements() -> list[str]:
    try:
        return metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        log.warning("%s is not installed: its versions are not checked", DISTRIBUTION)
        return []


def _relevant(requirements: list[str]) -> list[Requirement]:
    parsed = [Requirement(text) for text in requirements]
    return [r for r in parsed if r.name in CHECKED and (r.marker is None or r.marker.evaluate())]


if __name__ == "__main__":
    try:
        check_versions()
    except VersionsError as error:
        sys.exit(str(error))
