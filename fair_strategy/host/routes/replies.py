"""What the reader's routes take and answer, as their OpenAPI page shows it.

Nothing here tells a subgroup, a weight or a utility.
"""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

CaseId = Annotated[str, Field(description="id of the scan")]
ClientId = Annotated[str, Field(description="the reader's own name, as sent with Next Sample")]


class _Reply(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class _Request(BaseModel):
    # Empty where nothing is sent: the check then says in a sentence what is missing.
    model_config = ConfigDict(frozen=True, extra="forbid")
    client_id: ClientId = ""


class OfScan(_Request):
    """A reader and a scan."""

    image: CaseId = ""


class OfScanBecause(OfScan):
    """A reader, a scan and a reason."""

    reason: str = Field(default="", description="skip: one of the options; exclude: free text")


class Reopening(_Request):
    """A reader and, if not their last one, a scan."""

    image: str | None = Field(default=None, description="default: the scan submitted last")


class Options(_Reply):
    """What a page offers its reader."""

    skip_reasons: list[str] = Field(description="reasons that POST /reader/skip takes")
    labels: dict[str, int] = Field(description="structure -> its value in a mask")
    lease_minutes: float = Field(description="how long a scan stays with a reader unless renewed")
    strategies: list[str] = Field(description="that Next Sample takes; the first is the default")


class Why(_Reply):
    """What a reader may know of why a scan is before them."""

    image: CaseId
    percentile: float | None = Field(
        description="where its uncertainty lies in the pool, 0 to 100; null without a score"
    )
    implausible: list[str] = Field(description="what is implausible about the prediction")
    model: str | None = Field(description="short checksum; null without a prediction")
    trained_at: datetime | None = Field(description="null for the model that was shipped")
    stale: bool = Field(description="scored by an earlier model or under other settings")
    note: str = Field(description="sentences for the reader; may be empty")
    hide_presegmentation: bool = Field(
        description="do not fetch or show the pre-segmentation until the reader asks for it"
    )
    revealed: bool = Field(description="it was hidden, and this reader has asked for it")
    route: str | None = Field(description="how the structure was found: localised or sliding")
    trust: float | None = Field(description="in the localisation, 0 to 1")


class Revealed(_Reply):
    """The pre-segmentation may be shown."""

    image: CaseId
    revealed: bool = Field(description="always true")


class Peak(_Reply):
    """A place of high uncertainty."""

    position: tuple[float, float, float] = Field(description="right, anterior, superior, mm")
    entropy: float = Field(description="nats")


class Peaks(_Reply):
    """Where the model is least certain."""

    image: CaseId
    peaks: list[Peak] = Field(description="highest first")


class Lease(_Reply):
    """Whether the reader holds the scan."""

    image: CaseId
    held: bool = Field(description="false after the lease ran out")
    seconds_left: float = Field(description="0 if not held")


class Current(_Reply):
    """The scan that a reader holds, for a page that does not know it: another browser's."""

    image: CaseId | None = Field(description="null if the reader holds nothing")
    seconds_left: float = Field(description="of the lease; 0 without one")
    draft: bool = Field(description="whether GET /reader/draft has an unfinished mask of it")
    submitted: bool = Field(description="whether it has a label of this reader: it was re-opened")


class Skipped(_Reply):
    """Whether the scan went back to the others."""

    image: CaseId
    released: bool = Field(description="false, and nothing done, if the reader did not hold it")


class Excluded(_Reply):
    """The scan is handed out no more, until it is re-opened."""

    image: CaseId
    excluded: bool = Field(description="always true")


class Sample(_Reply):
    """A scan handed to a reader, as Next Sample answers."""

    id: CaseId
    PatientID: str = Field(description="what Slicer shows as the volume's name")
    path: str = Field(description="of the file on the server; use GET /datastore/image elsewhere")
    name: str = Field(description="of the file")
    strategy: str
    served_by: str = Field(description="the strategy whose plan served")
    uncertainty_percentile: float | None = Field(description="in the pool, 0 to 100")
    stale: bool
    implausible: bool
    note: str


class DraftInfo(_Reply):
    """What is known of a reader's draft."""

    image: CaseId
    exists: bool
    saved_at: datetime | None = Field(description="null without a draft")
    seconds_spent: float | None = Field(
        description="from handing the scan out to saving the draft; null if not known"
    )


class Discarded(_Reply):
    """The draft is gone."""

    image: CaseId
    discarded: bool = Field(description="false if there was none")


class Progress(_Reply):
    """Counts over the whole study; none by subgroup."""

    labelled: int = Field(description="scans with a submitted label")
    pool: int = Field(description="scans still to be labelled by this reader")
    mine: int = Field(description="labels by this reader")
