"""What is being drawn and not yet handed in: kept at the server, and here while it is away."""

import hashlib
import os
import shutil
from pathlib import Path

from fair_strategy.viewer.client import RefusedError, ReviewClient, ServerUnreachableError


def default_rescue_folder() -> Path:
    """Where masks wait for a server that is away: the user's state folder."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "fair-strategy" / "review"


class Drafts:
    """The drafts of one reader.

    Args:
        rescue: folder of this machine that takes a draft when the server does not; owner-only.
    """

    def __init__(self, client: ReviewClient, rescue: Path) -> None:
        self._client = client
        self._rescue = rescue

    def save(self, case_id: str, mask: Path) -> None:
        """Keep a draft at the server, or here.

        Raises:
            ServerUnreachableError: it is kept here for now.
            RefusedError: the server does not take it.
        """
        kept = self._kept(case_id)
        try:
            self._client.save_draft(case_id, mask)
        except ServerUnreachableError:
            self._rescue.mkdir(parents=True, exist_ok=True, mode=0o700)
            part = kept.with_name(f".{kept.name}")
            shutil.copyfile(mask, part)
            os.replace(part, kept)
            raise
        kept.unlink(missing_ok=True)

    def load(self, case_id: str, folder: Path) -> Path | None:
        """The latest draft; None where there is none."""
        kept = self._kept(case_id)
        return kept if kept.exists() else self._client.draft(case_id, folder)

    def forget(self, case_id: str) -> None:
        """The case was handed in or given back; the server forgets its draft by itself."""
        self._kept(case_id).unlink(missing_ok=True)

    def drop(self, case_id: str) -> None:
        """Forget a draft everywhere: what was drawn is not wanted."""
        self.forget(case_id)
        try:
            self._client.drop_draft(case_id)
        except RefusedError as error:
            if error.status != 404:
                raise

    def _kept(self, case_id: str) -> Path:
        # Neither a reader's name nor a case id is fit for a file name.
        whose = "\0".join((self._client.url, self._client.client_id, case_id))
        return self._rescue / f"{hashlib.sha256(whose.encode()).hexdigest()[:32]}.nii.gz"
