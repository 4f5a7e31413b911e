"""What stands in the place of the review page: before it is there, and when its process is gone.

trame's page notices a lost connection only once it stands. So the broker, which knows at any time,
puts a script into each page that asks it, and the sentence that the script shows.
"""

from html import escape
from pathlib import Path

WATCH = Path(__file__).with_name("static") / "watch.js"
LOST = (
    '<div class="fr-lost" role="alert"><h2>The connection to the review page is lost.</h2>'
    "<p>What you drew was kept as a draft, but for the last seconds.</p>"
    '<p><a href="." id="reconnect">Connect again</a></p></div>'
)
ENDED = "This session has ended; open / for a new one."
FULL = (
    "All {most} places are taken. A place is free again when a colleague closes the page; "
    "this page tries again by itself."
)
SILENT = "The review page does not answer; this page tries again by itself."
NOT_STARTED = (
    "The review page did not start; this page tries again by itself. If that does not help, the "
    "study lead finds the reason in the output of the review server."
)
_STYLE = (
    "html,body{height:100%;margin:0;background:#14181d}.fr-lost{height:100vh;display:grid;"
    "place-content:center;justify-items:center;gap:16px;text-align:center;color:#e8ecf1;"
    "font:16px/1.5 system-ui,sans-serif}.fr-lost p{max-width:36em;margin:0}"
    ".fr-lost a{color:#5cc8e0}"
)
# Not deferred: what comes after it in the page may never arrive.
_PART = (
    f'<style>{_STYLE}</style><template id="fr-lost">{LOST}</template>'
    '<script src="watch.js"></script></head>'
)


def watched(index: bytes) -> bytes:
    """A page's HTML with the script and the sentence at the end of its head."""
    return index.replace(b"</head>", _PART.encode(), 1)


def notice(sentence: str, *, again_s: int = 0) -> str:
    """A page of one sentence and a way to try again.

    Args:
        sentence: plain text.
        again_s: it tries again by itself after so many seconds; 0: never.
    """
    again = f'<meta http-equiv="refresh" content="{again_s}">' if again_s else ""
    return (
        f"<!doctype html><html lang=en><head><title>Review</title>{again}<style>{_STYLE}</style>"
        f'</head><body><div class="fr-lost" role="alert"><p>{escape(sentence)}</p>'
        '<p><a href="/">Try again</a></p></div></body></html>'
    )
