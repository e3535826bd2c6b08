"""`docs/configuration.md`, written from the settings themselves so that no key is undocumented: `make docs`."""

from __future__ import annotations

import types
import typing
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from minet_core.runtime.logs import DEFAULT_FORMAT, DEFAULT_LEVEL, FORMAT_VARIABLE, LEVEL_VARIABLE, LEVELS
from minet_core.settings.federation import FederationSettings
from server.server_home import ServerSettings
from sites.settings.site_settings import SiteSettings

PAGES: tuple[tuple[str, str, type[BaseModel]], ...] = (
    (
        "federation.yaml",
        "What all members agree on. `fedminet server init` writes it, every site's kit holds it, and its digest "
        "travels with each message.",
        FederationSettings,
    ),
    (
        "server.yaml",
        "The coordinator's addresses. `fedminet server init` writes it; no site reads it.",
        ServerSettings,
    ),
    (
        "site.yaml",
        "The hospital's own. `fedminet site init` writes it from a definition; nothing that the coordinator sends can "
        "change it.",
        SiteSettings,
    ),
)


HEAD = """Take from this page:

1. Three YAML files hold every setting: `federation.yaml` is what all members agree on, `server.yaml` the coordinator's,
   `site.yaml` the hospital's.
2. A key without a line in your file has the default below. A key marked *required* must be there.
3. An unknown key is refused, and the nearest known key is named; so is a key that is there twice, a number as
   010 or 1:30, which readers of YAML read differently, and yes or no in place of a number.
4. A command reads each file once, into frozen settings. Edit `federation.yaml` before anybody is admitted: every kit
   holds it.
5. `policy` of `site.yaml` bounds what a federation file may ask of the site.

`make docs` writes this page from the settings.
"""


LOG = f"""## The log

What runs for long (`server start`, `server dashboard`, `site start`) logs to its standard error: time in UTC, level,
logger, message. An option is also taken from the environment, which the programs that it starts have too.

| option | environment | default | meaning |
|---|---|---|---|
| `--log-level` | `{LEVEL_VARIABLE}` | `{DEFAULT_LEVEL}` | from which level on: {", ".join(LEVELS)} |
| `--log-format` | `{FORMAT_VARIABLE}` | `{DEFAULT_FORMAT}` | text, or json: one object a line |

The object has `time`, `level`, `logger`, `message` and, where there is one, `exception`. Libraries log their warnings
alone. Flower's processes log into files in the folder's `logs/`, in the same form, from info on: the client reads there
why its node was not let in. `debug` has details of the connections in it: for the search of a fault, not for every day.
"""


def configuration_page() -> str:
    """The page, Markdown."""
    parts = [
        "# Configuration\n",
        HEAD,
    ]
    for name, purpose, model in PAGES:
        parts.append(f"## {name}\n\n{purpose}\n")
        parts.append(
            "| key | type | default | meaning |\n|---|---|---|---|\n" + "".join(_rows(model, prefix=""))
        )
    return "\n".join([*parts, LOG])


def _rows(model: type[BaseModel], *, prefix: str) -> list[str]:
    rows: list[str] = []
    for name, field in model.model_fields.items():
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            rows += _rows(nested, prefix=f"{prefix}{name}.")
            continue
        cells = (
            f"`{prefix}{name}`",
            _type_text(field.annotation),
            _default_text(field),
            field.description or "",
        )
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n")
        for part in typing.get_args(nested):  # of a section that may be null
            if isinstance(part, type) and issubclass(part, BaseModel):
                rows += _rows(part, prefix=f"{prefix}{name}.")
    return rows


def _default_text(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    return f"`{list(value) if isinstance(value, tuple) else value}`"


def _type_text(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is type(None):
        return "null"
    if origin is typing.Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type_text(part) for part in arguments)
    if origin is tuple:
        return f"list of {_type_text(arguments[0])}"
    if origin is dict:
        return f"map to {_type_text(arguments[1])}"
    if origin is typing.Annotated:
        return _type_text(arguments[0])
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "a section of " + ", ".join(f"`{name}`" for name in annotation.model_fields)
    names = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)).lower())


if __name__ == "__main__":
    print(configuration_page(), end="")
