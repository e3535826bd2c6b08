"""Making a site's folder: its settings from a definition, its keys, and its request for admission."""

from __future__ import annotations

import re
from pathlib import Path

from client.admission.keys import make_site_keys
from client.admission.request import make_request
from client.site_home import SiteHome
from minet_core.errors import ConfigurationError, FileMissing
from minet_core.runtime.files.atomic_write import write_text
from minet_core.runtime.files.private_files import private_files, tighten
from minet_core.settings.yaml_file import parse_settings, parse_yaml, read_settings
from sites.settings.definitions import definition_names, definition_text
from sites.settings.site_settings import SiteSettings


def init_site(path: Path, *, chosen: str, name: str | None = None) -> dict[str, str]:
    """Make the folder of a site from a definition's name or from the path of a site.yaml.

    Returns the site's name, the path of its request and the fingerprint to read out by telephone. Raises
    ConfigurationError (FM-C100) where a site is already there.
    """
    if (path / "site.yaml").exists():
        raise ConfigurationError(
            "a site is already here", got=path, action="Choose another folder; keys are never overwritten"
        )
    text = definition_text(chosen) if chosen in definition_names() else _text_of(Path(chosen))
    if name is not None:
        text = re.sub(r"^name:.*$", f"name: {name}", text, count=1, flags=re.MULTILINE)
    content = parse_yaml(text)
    settings = parse_settings(content, SiteSettings, source=chosen)
    with private_files():
        write_text(path / "site.yaml", text)
        SiteHome(path).make_folders()
        make_site_keys(SiteHome(path).keys, name=settings.name)
        made = make_request(SiteHome(path))
    tighten(path)
    return {"name": settings.name, "request": str(made.path), "fingerprint": made.fingerprint}


def _text_of(path: Path) -> str:
    if not path.exists():
        raise FileMissing(
            "there is no such definition",
            got=path,
            expected=f"{', '.join(definition_names())}, or the path of a site.yaml",
            action="Give one of these",
        )
    read_settings(path, SiteSettings)  # refuses a missing or a wrong file with its own message
    return path.read_text(encoding="utf-8")
