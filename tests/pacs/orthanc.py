"""A real Orthanc on loopback, in a temporary folder, with its DICOMweb plugin."""

import json
import os
import shutil
import subprocess
import urllib.request
import zipfile
from collections.abc import Iterable
from contextlib import suppress
from io import BytesIO
from pathlib import Path

from pydicom.dataset import Dataset

from tests.app.serving import free_port, wait_for
from tests.pacs.dicom_files import as_bytes

PLUGINS = (
    Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so"),
    Path("/usr/lib/orthanc/libOrthancDicomWeb.so"),
)


def command() -> str | None:
    """The server's program; Debian puts it where no user's path looks."""
    return shutil.which("Orthanc", path=os.pathsep.join([os.environ["PATH"], "/usr/sbin"]))


def plugin() -> Path | None:
    """The DICOMweb plugin."""
    return next((path for path in PLUGINS if path.exists()), None)


class Orthanc:
    """One archive; `stop` and `start` take it away and bring it back with what it holds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.dicomweb = f"{self.url}/dicom-web"
        self._process: subprocess.Popen | None = None
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "orthanc.json").write_text(json.dumps(self._configuration()))

    def _configuration(self) -> dict:
        return {
            "Name": "test",
            "StorageDirectory": str(self.folder / "storage"),
            "IndexDirectory": str(self.folder / "index"),
            "Plugins": [str(plugin())],
            "HttpPort": self.port,
            "DicomServerEnabled": False,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "SyncStorageArea": False,
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }

    def start(self) -> "Orthanc":
        if self._process is not None:
            return self
        with open(self.folder / "orthanc.log", "ab") as log:
            self._process = subprocess.Popen(
                [str(command()), str(self.folder / "orthanc.json")], stdout=log, stderr=log
            )
        wait_for(lambda: self.ask("/system"), what="start of Orthanc", within_s=60)
        return self

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=20)
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            self._process = None

    def clear(self) -> None:
        for patient in self.ask("/patients"):
            self.ask(f"/patients/{patient}", method="DELETE")

    def ask(self, path: str, body: bytes | None = None, *, method: str | None = None):
        """JSON of a request to Orthanc's own interface."""
        request = urllib.request.Request(self.url + path, data=body, method=method)
        with urllib.request.urlopen(request, timeout=30) as reply:
            return json.loads(reply.read())

    def store(self, datasets: Iterable[Dataset]) -> None:
        archive = BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            for number, ds in enumerate(datasets):
                file.writestr(f"{number}.dcm", as_bytes(ds))
        self.ask("/instances", archive.getvalue())

    def count(self, modality: str) -> int:
        """Number of series of a modality."""
        query = {"Level": "Series", "Query": {"Modality": modality}}
        return len(self.ask("/tools/find", json.dumps(query).encode()))
