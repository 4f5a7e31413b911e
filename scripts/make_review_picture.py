"""Draws docs/images/review-page.png: the review page at a scan of the sample cohort.

Run from the repository's root, with the extra `viewer`, playwright and Chromium installed.
"""

import sys
import tempfile
import time
from pathlib import Path

from review_study import browser, log_in, review_page, study_server, until

PICTURE = Path("docs/images/review-page.png")
SIZE = {"width": 1440, "height": 900}
SETTLED_S = 20.0
"""The views send a sharper picture some moments after the last change."""


def main() -> int:
    """Exit status: 0."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with (
            study_server(root, audit_every="0") as server,
            review_page(root, server, "--readers", "1") as (url, _),
            browser() as chrome,
        ):
            page = chrome.new_context(viewport=SIZE).new_page()
            log_in(page, url, "Dr. Example")
            page.keyboard.press("n")
            until(page, "s.has_case && !s.busy")
            for key in ("u", "z", "z", "z", "2"):
                page.keyboard.press(key)
            until(page, "s.tool === 'paint' && s.peaks.startsWith('place 1 of')")
            page.locator(".v-snackbar__wrapper").wait_for(state="hidden")
            time.sleep(SETTLED_S)
            PICTURE.parent.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=str(PICTURE))
    sys.stdout.write(f"{PICTURE}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
