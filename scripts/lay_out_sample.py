"""Copies the sample cohort to the folder of a study; a file that is there already stays."""

import os
import shutil
import sys
from pathlib import Path


def lay_out(source: Path, target: Path) -> int:
    """Number of files copied from source to target; files that exist in target are left alone.

    Each file appears whole or not at all, so an interrupted copy is completed by the next.

    Raises:
        FileNotFoundError: if source is not a folder.
    """
    if not source.is_dir():
        raise FileNotFoundError(f"{source}: no such folder; the sample cohort belongs there")
    copied = 0
    for path in sorted(p for p in source.rglob("*") if p.is_file()):
        destination = target / path.relative_to(source)
        if destination.exists():
            continue
        destination.parent.mkdir(parents=True, exist_ok=True)
        part = destination.with_name(f".{destination.name}.part")
        shutil.copyfile(path, part)
        os.replace(part, destination)
        copied += 1
    return copied


def main() -> int:
    """Exit status: 0, or 1 where the sample cohort is missing."""
    source, target = (Path(argument) for argument in sys.argv[1:3])
    try:
        copied = lay_out(source, target)
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 1
    if copied:
        print(f"Sample cohort: {copied} files laid out in {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
