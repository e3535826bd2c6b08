"""Whether the request for admission that lies in the site's folder says what a new one would; no key is read."""

from __future__ import annotations

from client.site_home import SiteHome
from minet_core.protocol.cohort_declaration import DECLARATION_FILE
from minet_core.runtime.json_text import NOT_AS_WRITTEN, parse_json


def request_stands(home: SiteHome) -> bool:
    """Whether request.json holds the site's declaration as it is, and is younger than every key.

    Parameters
    ----------
    home
        The site.

    Returns
    -------
    bool
        False where there is no request, no declaration, or one that cannot be read.
    """
    try:
        written = home.request.stat().st_mtime_ns
        if any(key.stat().st_mtime_ns >= written for key in (home.keys, *home.keys.iterdir())):
            return False
        texts = [path.read_text(encoding="utf-8") for path in (home.request, home.path / DECLARATION_FILE)]
        request, declaration = (parse_json(text) for text in texts)
        return bool(request["site"] == home.settings().name and request["declaration"] == declaration)
    except (OSError, *NOT_AS_WRITTEN):
        return False
