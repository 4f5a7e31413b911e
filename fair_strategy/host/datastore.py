"""MONAI Label's Datastore on the study's store: there is no `datastore_v2.json` beside it.

What a reader can see here are ids, file names, times and what readers themselves sent. Subgroups
are never written into an image's info, and keys named like a column of participants.tsv are
refused there.
"""

import json
import logging
import os
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore

from fair_strategy.data.bids import check_id, check_tag
from fair_strategy.host.clients import checked_client
from fair_strategy.host.errors import readable_errors
from fair_strategy.host.revision import Revision
from fair_strategy.host.stock_shape import (
    FINAL,
    MADE_BY_MODEL,
    ORIGINAL,
    UNCERTAINTY,
    counts,
    image_info,
    is_of_readers,
    label_info,
    objects,
    original_info,
    present,
)
from fair_strategy.host.uploads import place_scan
from fair_strategy.store import cases, readings
from fair_strategy.store.cases import LabelRecord
from fair_strategy.store.errors import UnknownCaseError
from fair_strategy.store.settings import get_value, set_value
from fair_strategy.workflows import desk, showing
from fair_strategy.workflows.intake import refresh
from fair_strategy.workflows.removal import remove_label
from fair_strategy.workflows.sources import image_path
from fair_strategy.workflows.study import Study

log = logging.getLogger(__name__)


class StudyDatastore(Datastore):
    """The study as MONAI Label sees it; every answer comes from the store, none from memory."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self._as_bytes = Revision(study.store.path, self._encode)
        self._counted = Revision(study.store.path, lambda: counts(study))

    def name(self) -> str:
        """Name given to the data, or that of the image folder or PACS."""
        return get_value(self.study.store, "datastore_name") or _name(self.study)

    def set_name(self, name: str) -> None:
        """Give the data a name."""
        set_value(self.study.store, "datastore_name", name)

    def description(self) -> str:
        """Description given to the data."""
        return get_value(self.study.store, "datastore_description") or "T1-weighted scans"

    def set_description(self, description: str) -> None:
        """Give the data a description."""
        set_value(self.study.store, "datastore_description", description)

    # ------------------------------------------------------------------ images

    def list_images(self) -> list[str]:
        """Ids of all scans that are there."""
        return cases.present_ids(self.study.store)

    def get_labeled_images(
        self, label_tag: str | None = None, labels: list[str] | None = None
    ) -> list[str]:
        """Ids of the scans with a label of this tag; default: submitted by a reader."""
        done = set(cases.labelled_ids(self.study.store, label_tag or FINAL))
        return [i for i in self.list_images() if i in done]

    def get_unlabeled_images(
        self, label_tag: str | None = None, labels: list[str] | None = None
    ) -> list[str]:
        """Ids of the scans without a label of this tag."""
        done = set(cases.labelled_ids(self.study.store, label_tag or FINAL))
        return [i for i in self.list_images() if i not in done]

    def get_image(self, image_id: str, params: Any = None) -> Any:
        """The scan's file in memory; None if there is no such scan."""
        return _in_memory(self.get_image_uri(image_id))

    def get_image_uri(self, image_id: str) -> str:
        """Path of the scan, which is fetched if it is in a PACS; empty if there is no such scan.

        Raises:
            HTTPException: 503 if a PACS does not send it, 422 if what it sends is no volume.
        """
        try:
            record = cases.case(self.study.store, image_id)
        except LookupError:
            return ""
        with readable_errors():
            return str(image_path(self.study, record))

    def known_path(self, image_id: str) -> Path | None:
        """Where the scan lies, or will lie once it is fetched; None if there is no such scan."""
        try:
            return cases.case(self.study.store, image_id).path
        except LookupError:
            return None

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        """Name, path and what was put there by `update_image_info`; empty for an unknown scan."""
        try:
            record = cases.case(self.study.store, image_id)
        except LookupError:
            return {}
        return {**image_info(record), "path": str(record.path)}

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        """Merge keys into a scan's info.

        Raises:
            HTTPException: 404 for an unknown scan; 422 for a key that names a personal attribute,
                and while participants.tsv, which tells what is personal, cannot be read.
        """
        with readable_errors():
            self._refuse_personal(info)
            cases.update_info(self.study.store, image_id, info)

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Put a new scan into the image folder; an existing one is never overwritten.

        Raises:
            HTTPException: 422 if it cannot be read, if the id is taken, if the folder is
                read-only, or for a key of the info that names a personal attribute.
        """
        with readable_errors():
            case_id = check_id(image_id)
            if image_info:
                self._refuse_personal(image_info)
            place_scan(self.study, case_id, Path(image_filename))
        if image_info:
            self.update_image_info(case_id, image_info)
        return case_id

    def remove_image(self, image_id: str) -> None:
        """Refused: an original scan is never deleted."""
        raise HTTPException(
            403, "scans are never deleted here; take the file out of the folder by hand"
        )

    # ------------------------------------------------------------------ labels

    def get_labels_by_image_id(self, image_id: str) -> dict[str, str]:
        """Tag -> label id (that of the scan) for every label of a scan."""
        found = cases.tags(self.study.store, image_id)
        tags = [tag for tag in found if not self._hidden(image_id, tag)]
        return dict.fromkeys([*tags, *([ORIGINAL] if self._predicted(image_id) else [])], image_id)

    def get_label_by_image_id(self, image_id: str, tag: str) -> str:
        """Label id of a scan under a tag; empty if there is none."""
        return self.get_labels_by_image_id(image_id).get(tag, "")

    def get_label(self, label_id: str, label_tag: str, params: Any = None) -> Any:
        """The label's file in memory; None if there is none."""
        return _in_memory(self.get_label_uri(label_id, label_tag))

    def get_label_uri(self, label_id: str, label_tag: str) -> str:
        """Path of a label; `original` and `uncertainty` are made from the stored prediction."""
        made: dict[str, Callable[[Study, str], Path | None]] = {
            ORIGINAL: showing.original,
            UNCERTAINTY: showing.entropy_volume,
        }
        try:
            if label_tag in made:
                path = made[label_tag](self.study, label_id)
                return str(path) if path else ""
            record = self._label(label_id, label_tag)
        except LookupError:
            return ""
        return str(record.path) if record and record.path.exists() else ""

    def get_label_info(self, label_id: str, label_tag: str) -> dict[str, Any]:
        """What was stored with a label; empty if there is none."""
        if label_tag == ORIGINAL:
            return original_info(label_id) if self._predicted(label_id) else {}
        record = self._label(label_id, label_tag)
        return label_info(record) if record else {}

    def save_label(
        self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]
    ) -> str:
        """Take a reader's mask; its row and info are committed in one transaction.

        Raises:
            HTTPException: 404 for an unknown scan; 422 for a bad tag, another grid, other values.
        """
        info = dict(label_info or {})
        with readable_errors():
            check_id(image_id)
            if check_tag(label_tag) in MADE_BY_MODEL:
                raise ValueError(f"tag {label_tag!r} belongs to the model; submit as 'final'")
            desk.submit(
                self.study,
                image_id,
                Path(label_filename),
                tag=label_tag,
                info=info,
                client_id=checked_client(info.get("client_id")),
            )
        log.info("label %s saved for %s", label_tag, image_id)
        return image_id

    def remove_label(self, label_id: str, label_tag: str) -> None:
        """Take a label out of the study; its file moves into the state directory.

        With the final label of a scan that several have read go their readings, so that it is read
        again; with one reading goes the final label that was made of it.
        """
        if not remove_label(self.study, label_id, label_tag):
            raise HTTPException(404, f"{label_id!r} has no label {label_tag!r}")

    def update_label_info(self, label_id: str, label_tag: str, info: dict[str, Any]) -> None:
        """Merge keys into a label's info."""
        with readable_errors():
            if self._hidden(label_id, label_tag):
                raise UnknownCaseError(f"case {label_id!r} has no label {label_tag!r}")
            cases.update_label_info(self.study.store, label_id, label_tag, info)

    # ------------------------------------------------------------------ all of it

    def datalist(self) -> list[dict[str, Any]]:
        """Image and submitted label of every labelled scan."""
        finals = {r.case_id: r for r in cases.labels(self.study.store, FINAL)}
        return [
            {"image": self.get_image_uri(c.case_id), "label": str(finals[c.case_id].path)}
            for c in present(self.study)
            if c.case_id in finals
        ]

    def get_dataset_archive(self, limit_cases: int | None) -> str:
        """Path of a ZIP of the labelled scans, their labels and this datastore's JSON."""
        labelled = self.get_labeled_images()[: limit_cases or None]
        if not labelled:
            raise HTTPException(404, "nothing is labelled yet: the archive would be empty")
        descriptor, path = tempfile.mkstemp(suffix=".zip")
        try:
            with open(descriptor, "wb") as file, zipfile.ZipFile(file, mode="w") as archive:
                for case_id in labelled:
                    self._pack(archive, case_id)
                archive.writestr("metadata.json", self.json_bytes())
        except BaseException:
            os.unlink(path)
            raise
        return path

    def _pack(self, archive: zipfile.ZipFile, case_id: str) -> None:
        # Each is asked for when it is its turn: one of a PACS need not stay until all are fetched.
        scan = Path(self.get_image_uri(case_id))
        archive.write(scan, arcname=f"image/{scan.name}")
        label = cases.label(self.study.store, case_id, FINAL)
        if label is not None:  # not removed meanwhile
            archive.write(label.path, arcname=f"label/{label.path.name}")

    def refresh(self) -> None:
        """Take up what came, went or changed in the image folder."""
        refresh(self.study)

    def status(self) -> dict[str, Any]:
        """Counts: scans, labelled scans, labels by tag."""
        return dict(self._counted())

    def json(self) -> dict[str, Any]:
        """The whole datastore in the stock shape, which Slicer reads."""
        return {
            "name": self.name(),
            "description": self.description(),
            "images_dir": "",
            "labels_dir": "labels",
            "objects": objects(self.study),
        }

    def json_bytes(self) -> bytes:
        """`json` as text; made once for each state of the store."""
        return self._as_bytes()

    def _encode(self) -> bytes:
        return json.dumps(self.json(), separators=(",", ":"), default=str).encode()

    def _refuse_personal(self, info: Mapping[str, Any]) -> None:
        columns = self.study.cohort().columns
        personal = {name.lower() for name in columns} - {"participant_id"}
        named = sorted(key for key in info if key.lower() in personal)
        if named:
            raise ValueError(
                f"info {', '.join(map(repr, named))}: readers see image info, and must not see "
                "personal attributes; they belong into participants.tsv"
            )

    def _label(self, case_id: str, tag: str) -> LabelRecord | None:
        return None if self._hidden(case_id, tag) else cases.label(self.study.store, case_id, tag)

    def _hidden(self, case_id: str, tag: str) -> bool:
        """Whether a label would show one reader what another made of a scan that is still open."""
        return is_of_readers(tag) and readings.is_blind(
            self.study.store, case_id, now=time.monotonic()
        )

    def _predicted(self, case_id: str) -> bool:
        return showing.count_predicted(self.study, case_id) == 1


def _name(study: Study) -> str:
    return study.pacs.host if study.pacs else study.images_dir.name


def _in_memory(path: str) -> BytesIO | None:
    return BytesIO(Path(path).read_bytes()) if path else None
