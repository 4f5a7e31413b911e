"""Every option of a study and of its server, once: for ``--conf``, YAML and the command line alike.

`StudySettings` decides what is measured and selected; it is stored with the study, in versions.
`HostSettings` decides how one server runs; it is not stored.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

Rule = Literal[
    "uniform",
    "error_proportional",
    "reducible_error",
    "inverse_performance",
    "softmax",
    "exponentiated",
    "inverse_frequency",
    "worst_group",
]
Estimator = Literal["validation", "labelled", "prequential", "cross_validated"]
Reduction = Literal["mean", "sum", "per_boundary"]
Region = Literal["roi", "volume"]
ObjectiveName = Literal["erm", "balanced", "group_dro"]
ConsensusName = Literal["staple", "majority"]

LABEL_DERIVED = ("enhancing_volume",)
"""Features that only the label of a case tells: for audits, never for selection."""


class SettingsError(ValueError):
    """An option that does not exist, or a value that it cannot take."""


def _comma_separated(value: Any) -> Any:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _name_value_pairs(value: Any) -> Any:
    if isinstance(value, str):
        return tuple(tuple(part.split("=", 1)) for part in _comma_separated(value))
    return value


Names = Annotated[tuple[str, ...], BeforeValidator(_comma_separated)]
Numbers = Annotated[tuple[float, ...], BeforeValidator(_comma_separated)]


def _filter_pairs(value: Any) -> Any:
    from pydicom.datadict import tag_for_keyword

    pairs = _name_value_pairs(value)
    for pair in pairs if isinstance(pairs, tuple | list) else ():
        if len(pair) != 2 or not pair[0] or tag_for_keyword(str(pair[0])) is None:
            raise ValueError("expected DICOM keywords and values, such as Modality=MR")
    return pairs


Filter = Annotated[tuple[tuple[str, str], ...], BeforeValidator(_filter_pairs)]
Pairs = Annotated[tuple[tuple[str, float], ...], BeforeValidator(_name_value_pairs)]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class StudySettings(_Settings):
    """What a study measures and how it selects, for server, script and simulation alike."""

    sensitive_feature: Names | None = Field(
        default=None,
        description="column(s) of participants.tsv; several make intersections; "
        "default: the column 'group' where there is one",
    )
    age_bins: Numbers = Field(default=(0, 60, 70, 200), description="edges of 'age_group', years")
    label_value: int | None = Field(
        default=None, gt=0, description="value of the left caudate in existing multi-label maps"
    )
    rule: Rule = Field(default="error_proportional", description="from performance to weights")
    estimator: Estimator = Field(
        default="validation", description="which cases tell how well a subgroup is segmented"
    )
    attainable: Pairs = Field(
        default=(), description="for reducible_error: best Dice within reach, e.g. A=0.9,B=0.87"
    )
    temperature: float = Field(default=0.1, gt=0, description="for softmax")
    eta: float = Field(default=1.0, ge=0, description="for exponentiated")
    reduction: Reduction = Field(default="mean", description="from entropy map to case entropy")
    region: Region = Field(
        default="roi", description="whose entropy weighted_entropy uses: the ROI's, the volume's"
    )
    margin_mm: float = Field(default=2.0, ge=0, le=50, description="margin of the ROI")
    roi_threshold: float = Field(
        default=0.1, gt=0, le=0.5, description="foreground probability that belongs to the ROI"
    )
    passes: int = Field(default=1, ge=1, le=100, description="1: deterministic; more: MC dropout")
    quota_batch: int = Field(
        default=10, ge=0, description="a batch of this size follows the weights; 0: pure utility"
    )
    audit_every: int = Field(
        default=8, ge=0, description="one of so many scans is drawn at random; 0: none"
    )
    validation_per_group: int = Field(
        default=5, ge=0, description="subjects a subgroup in the frozen validation set"
    )
    train_every: int = Field(default=0, ge=0, description="train after so many labels; 0: never")
    train_steps: int = Field(default=300, ge=1, description="optimisation steps of one round")
    objective: ObjectiveName = Field(
        default="erm",
        description="training by the mean loss, on subgroups cut to equal size, or by the worst "
        "subgroup's loss",
    )
    objective_eta: float = Field(
        default=0.01, ge=0, allow_inf_nan=False, description="for group_dro: how fast q moves"
    )
    objective_adjustment: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="for group_dro: C of C / sqrt(n), added to the loss of a subgroup of n cases",
    )
    lease_minutes: float = Field(default=60.0, gt=0, description="how long a scan is held")
    skip_minutes: float = Field(default=120.0, ge=0, description="how long a skipped scan rests")
    readers_per_case: int = Field(
        default=1,
        ge=1,
        le=20,
        description="so many different readers label each scan, blind to each other",
    )
    consensus: ConsensusName = Field(
        default="staple", description="from several readers' labels to the final one"
    )
    dicom_filter: Filter = Field(
        default=(("Modality", "MR"),),
        description="which series of a PACS belong to the study: Keyword=value, several with "
        "commas; * stands for any text",
    )
    seed: int = Field(default=0, ge=0, description="of every random choice of the study")

    @model_validator(mode="after")
    def _attainable_where_needed(self) -> "StudySettings":
        if self.rule == "reducible_error" and not self.attainable:
            raise ValueError("rule reducible_error needs attainable, e.g. attainable A=0.9,B=0.87")
        return self

    @model_validator(mode="after")
    def _known_before_the_label(self) -> "StudySettings":
        derived = [name for name in self.sensitive_feature or () if name in LABEL_DERIVED]
        if derived:
            raise ValueError(
                f"sensitive_feature {', '.join(derived)}: is known from the label only, which "
                "selection is to ask for; take one that is known before, and audit by this one"
            )
        return self

    @model_validator(mode="after")
    def _boundary_inside_the_roi_alone(self) -> "StudySettings":
        if self.region == "volume" and self.reduction == "per_boundary":
            raise ValueError(
                "reduction per_boundary needs region roi; with region volume take mean or sum"
            )
        return self


class HostSettings(_Settings):
    """How one server runs."""

    state_dir: Path | None = Field(
        default=None, description="default: the user's data folder under the study's id"
    )
    allow_remote: bool = Field(default=False, description="answer other machines")
    allow_reload: bool = Field(
        default=False,
        description="open POST /reload, after which a stock MONAI Label that scores hangs at Next "
        "Sample; this server answers on, with the settings of its start",
    )
    allow_model_upload: bool = Field(default=False, description="open PUT and DELETE /model")
    allow_logs: bool = Field(default=False, description="open GET /logs")
    allow_export: bool = Field(
        default=False,
        description="without a proxy: open GET /datastore/dataset and DELETE /datastore/label; "
        "behind one they are the admin's",
    )
    proxy_secret_file: Path | None = Field(
        default=None,
        description="file with the secret of the reverse proxy, which alone is answered then: it "
        "names each user and role, and readers act under that name",
    )
    max_upload_mb: int = Field(
        default=2048, ge=1, description="an upload may have so many MiB, a request without a file 1"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto",
        description="where networks run: auto trains on every GPU, or on the CPU without one, and "
        "predicts on the CPU; cuda does both on one GPU, where scans are scored in batches",
    )
    enable_background: bool = Field(default=True, description="score, compare and train by itself")
    pacs_timeout_s: float = Field(
        default=20.0, gt=0, le=600, description="the longest silence of a PACS, in seconds"
    )
    pacs_poll_s: float = Field(
        default=60.0, gt=0, description="how often a PACS is asked for new series, in seconds"
    )
    pacs_keep_gb: float = Field(
        default=50.0,
        ge=0,
        allow_inf_nan=False,
        description="so many GB of fetched scans of a PACS are kept on the disk: beyond it those "
        "used longest ago are removed, and fetched again when they are needed; 0: all are kept",
    )
    lead_token: SecretStr | None = Field(
        default=None,
        min_length=12,
        description="opens the dashboard, 12 characters or more; default: one drawn at each start "
        "and printed to the console",
    )
    min_cell: int = Field(
        default=5, ge=1, description="the dashboard shows no subgroup figure of fewer cases"
    )


S = TypeVar("S", bound=_Settings)


def parse_settings(kind: type[S], options: Mapping[str, Any]) -> S:
    """Validated settings from strings or plain values.

    Raises:
        SettingsError: for an unknown option (the good ones are listed) or a bad value.
    """
    _refuse_unknown(options, kind.model_fields)
    try:
        return kind.model_validate(dict(options))
    except ValidationError as error:
        raise SettingsError(_sentence(error)) from None


def parse_conf(
    conf: Mapping[str, str], *, ignore: Iterable[str] = ()
) -> tuple[StudySettings, HostSettings]:
    """Study and host settings from the ``--conf`` pairs of ``monailabel start_server``.

    Args:
        conf: option -> text.
        ignore: keys that MONAI Label itself adds.
    Raises:
        SettingsError: for an unknown option (the good ones are listed) or a bad value.
    """
    given = {key: value for key, value in conf.items() if key not in set(ignore)}
    _refuse_unknown(given, {**StudySettings.model_fields, **HostSettings.model_fields})
    host = {key: value for key, value in given.items() if key in HostSettings.model_fields}
    study = {key: value for key, value in given.items() if key not in host}
    return parse_settings(StudySettings, study), parse_settings(HostSettings, host)


def _refuse_unknown(given: Iterable[str], known: Iterable[str]) -> None:
    known = sorted(known)
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise SettingsError(
            f"unknown option {', '.join(map(repr, unknown))}; the options are: {', '.join(known)}"
        )


def _sentence(error: ValidationError) -> str:
    return "; ".join(
        f"option {'.'.join(map(str, e['loc']))!r}: {e['msg']}, got {_shown(e)}"
        if e["loc"]
        else e["msg"].removeprefix("Value error, ")  # of several options: it names them itself
        for e in error.errors()
    )


def _shown(error: Mapping[str, Any]) -> str:
    return "another (not shown)" if error["loc"][0] == "lead_token" else repr(error["input"])
