"""The address of a PACS: as `--studies` names it, without a password in it."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class PacsAddress:
    """Where a PACS answers.

    Attributes:
        url: root of its DICOMweb services, without a slash at the end.
        timeout_s: its longest silence.
        keep_gb: fetched scans beyond so many GB (10^9 bytes) make room for others; 0: all stay.
    """

    url: str
    timeout_s: float = 20.0
    keep_gb: float = 0.0

    @property
    def host(self) -> str:
        """Host and port."""
        return urlsplit(self.url).netloc


def is_address(text: object) -> bool:
    """Whether `--studies` names a PACS and not a folder."""
    return isinstance(text, str) and text.lower().startswith(("http://", "https://"))


def pacs_address(text: str, *, timeout_s: float = 20.0, keep_gb: float = 0.0) -> PacsAddress:
    """The address in a text; the rest see `PacsAddress`.

    Raises:
        ValueError: no host, or a user, a password, a query or a fragment in it.
    """
    parts = urlsplit(text.strip())
    if parts.username or parts.password:
        raise ValueError(
            "--studies: no user or password belongs into the address, which logs show; set "
            "MONAI_LABEL_DICOMWEB_USERNAME and MONAI_LABEL_DICOMWEB_PASSWORD"
        )
    if not parts.hostname or parts.query or parts.fragment:
        raise ValueError(
            "--studies: expected the root of a PACS's DICOMweb services, such as "
            "https://pacs.example/dicom-web"
        )
    return PacsAddress(text.strip().rstrip("/"), timeout_s, keep_gb)
