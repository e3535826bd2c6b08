"""The sites' definitions that come with fedminet: one folder below `sites/` with one `site.yaml`."""

from __future__ import annotations

from importlib import resources
from importlib.resources.abc import Traversable

from minet_core.errors import InvalidSetting
from minet_core.settings.yaml_file import parse_settings, parse_yaml
from sites.settings.site_settings import SiteSettings

FILE_NAME = "site.yaml"


def definition_names() -> tuple[str, ...]:
    """The names of all definitions that come with fedminet.

    Returns
    -------
    tuple[str, ...]
        Sorted.
    """
    return tuple(sorted(entry.name for entry in resources.files("sites").iterdir() if _file(entry).is_file()))


def definition_text(name: str) -> str:
    """The commented text of a definition: what an engineer copies and edits.

    Parameters
    ----------
    name
        One of `definition_names`.

    Returns
    -------
    str
        YAML.

    Raises
    ------
    InvalidSetting
        FM-C102: there is no such definition.
    """
    if name not in definition_names():
        raise InvalidSetting(
            "there is no such site definition",
            got=repr(name),
            expected=f"one of {', '.join(definition_names())}",
        )
    return _file(resources.files("sites").joinpath(name)).read_text(encoding="utf-8")


def definition(name: str) -> SiteSettings:
    """The settings of a definition.

    Parameters
    ----------
    name
        One of `definition_names`.

    Returns
    -------
    SiteSettings
        As its site.yaml has them.

    Raises
    ------
    InvalidSetting
        FM-C102: there is no such definition.
    """
    content = parse_yaml(definition_text(name))
    return parse_settings(content, SiteSettings, source=f"the definition {name}")


def _file(folder: Traversable) -> Traversable:
    return folder.joinpath(FILE_NAME)
