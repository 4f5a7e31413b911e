"""What of a configuration would fail, or do nothing, only after the scans were made."""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import prod

from fair_strategy.config import StudySettings
from fair_strategy.config_file import known_or_error

GROUP = "group"
"""The sensitive feature of synthetic scans, and the one that the tables tell apart."""

Start = Mapping[str, int] | tuple[str, ...]


def pool_ids(pool: Mapping[str, int]) -> list[str]:
    """Case ids of a synthetic pool of so many scans of each group, sorted."""
    total = sum(pool.values())
    width = max(3, len(str(total)))
    return [f"sub-{number:0{width}d}_T1w" for number in range(1, total + 1)]


def check_network(
    channels: Sequence[int], strides: Sequence[int], window: tuple[int, int, int]
) -> None:
    """Whether a U-Net of these levels exists and takes a window of so many voxels.

    Raises:
        ValueError: if not.
    """
    if min([*channels, *strides, *window], default=0) < 1:
        raise ValueError("channels, strides, window: expected numbers of 1 or more")
    if len(channels) < 2 or len(strides) != len(channels) - 1:
        raise ValueError(
            f"strides: expected one fewer than channels, which are 2 or more; got {len(strides)} "
            f"strides and {len(channels)} channels"
        )
    multiple = prod(strides)
    if any(side % multiple for side in window):
        raise ValueError(
            f"window: expected multiples of {multiple}, the product of the strides; got "
            f"{', '.join(map(str, window))}"
        )
    if all(side == multiple for side in window):
        raise ValueError(
            f"window: expected a side above {multiple}: one voxel is left at the network's bottom, "
            "and nothing to normalise it by"
        )


def check_start(name: str, start: Start, pool: Mapping[str, int]) -> int:
    """Number of scans that a study starts with.

    Raises:
        ValueError: if there is none, one twice, or one that the pool does not have.
    """
    if isinstance(start, Mapping):
        _check_counts(name, start, pool)
    else:
        _check_ids(name, start, pool)
    labelled = sum(start.values()) if isinstance(start, Mapping) else len(start)
    if not labelled:
        raise ValueError(f"start {name!r}: expected at least one scan to train on, got none")
    return labelled


def check_study_settings(settings: StudySettings, pool: Mapping[str, int]) -> None:
    """Whether a study's settings mean something in a simulation on this pool.

    Raises:
        ValueError: for the first that does not.
    """
    if settings.sensitive_feature not in (None, (GROUP,)):
        raise ValueError(
            f"option 'sensitive_feature': a simulation tells its scans apart by {GROUP!r}; "
            "leave it out"
        )
    if settings.train_every:
        raise ValueError(
            "option 'train_every': a simulation trains once a round, after 'budget' labels; "
            "leave it out"
        )
    known_or_error([group for group, _ in settings.attainable], pool, "group of attainable")
    smallest = min(pool, key=lambda group: pool[group])
    most = pool[smallest] // 2  # a subgroup gives at most half of its subjects
    if settings.validation_per_group > most:
        raise ValueError(
            f"option 'validation_per_group': expected 0 to {most}, half of the pool's "
            f"{pool[smallest]} scans of group {smallest}, got {settings.validation_per_group}"
        )


def _check_counts(name: str, start: Mapping[str, int], pool: Mapping[str, int]) -> None:
    known_or_error(start, pool, f"group of start {name!r}")
    for group, number in start.items():
        if not 0 <= number <= pool[group]:
            raise ValueError(f"start {name!r}: expected 0 to {pool[group]} of group {group}")


def _check_ids(name: str, start: tuple[str, ...], pool: Mapping[str, int]) -> None:
    twice = [case_id for case_id, number in Counter(start).items() if number > 1]
    if twice:
        raise ValueError(f"start {name!r}: expected each scan once, got {', '.join(twice)} again")
    there = pool_ids(pool)
    missing = [case_id for case_id in start if case_id not in there]
    if missing:
        raise ValueError(
            f"start {name!r}: the pool has no scan {', '.join(missing)}; expected some of "
            f"{there[0]} to {there[-1]}"
        )
