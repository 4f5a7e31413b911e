"""A real Orthanc for the tests that need one; without it they are skipped, and say so."""

import warnings
from collections.abc import Iterator

import numpy as np
import pytest

with warnings.catch_warnings():
    # MONAI Label's own imports warn (distutils, pkg_resources); ours must not.
    warnings.simplefilter("ignore")
    import monailabel.app  # noqa: F401

from tests.app import cohorts
from tests.pacs import orthanc as archives
from tests.pacs.dicom_files import Series, slices
from tests.pacs.faulty_proxy import FaultyProxy

MISSING = "no Orthanc with DICOMweb here: apt-get install orthanc orthanc-dicomweb"

TOLD = {
    "PatientID": "H-0017", "PatientName": "Nobody^Known", "PatientSex": "F", "PatientAge": "063Y",
    "EthnicGroup": "Blue",
}  # fmt: skip


@pytest.fixture
def moments(monkeypatch) -> None:
    """An archive that does not answer is asked again in a moment."""
    monkeypatch.setattr("fair_strategy.data.dicom.archive.WAITS_S", (0.01, 0.01))


@pytest.fixture(scope="session")
def shared_orthanc(tmp_path_factory) -> Iterator[archives.Orthanc]:
    if archives.command() is None or archives.plugin() is None:
        pytest.skip(MISSING)
    server = archives.Orthanc(tmp_path_factory.mktemp("orthanc"))
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture
def orthanc(shared_orthanc) -> archives.Orthanc:
    """The archive, empty."""
    shared_orthanc.start()
    shared_orthanc.clear()
    return shared_orthanc


@pytest.fixture
def proxy(orthanc) -> Iterator[FaultyProxy]:
    """The same archive behind a proxy that can spoil its answers."""
    found = FaultyProxy(orthanc.url)
    try:
        yield found
    finally:
        found.close()


AFFINE = np.array([[-2.0, 0, 0, 30], [0, -2.0, 0, 40], [0, 0, 2.0, -30], [0, 0, 0, 1]])
"""Rows and columns as in most axial series, so that slices are in the order of the volume."""


def stored_scan(number: int) -> np.ndarray:
    """A small scan of noise and a blob, as a scanner stores it."""
    return np.clip(cohorts.scan(number)[0], 0, None).astype(np.uint16)


def scan_series(number: int, **told: str) -> tuple[Series, list]:
    """A series of one small scan of an invented person."""
    patient = TOLD | {"PatientID": f"H-{number:04d}"} | told
    series = Series(patient=patient)
    return series, slices(stored_scan(number), AFFINE, series)
