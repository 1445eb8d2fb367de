"""Content that others made, served from this origin: uploads, outputs of apps, results of nodes."""

from mien.http.media import bare
from mien.storage.media_types import inline


def untrusted_headers(content_type: str, disposition: str = "") -> dict[str, str]:
    """Headers that keep a browser from running the content as part of this origin.

    `disposition`: parameters of Content-Disposition, such as `filename="…"`.
    """
    shown = "inline" if inline(bare(content_type)) else "attachment"
    return {
        "Content-Type": content_type,
        "Content-Disposition": f"{shown}; {disposition}" if disposition else shown,
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
