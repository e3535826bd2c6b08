"""The PACS that the site fetches studies from: `pacs` of site.yaml."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from minet_core.settings.yaml_file import Settings
from sites.settings.receive_settings import Title


class PacsSettings(Settings):
    """What `fedminet site fetch` asks. The site's own title is `receive.title`."""

    title: Title = Field("PACS", description="the PACS's AE title")
    host: str | None = Field(None, description="its name or address; null: there is none to fetch from")
    port: int = Field(104, ge=1, le=65535, description="its port")
    retrieve: Literal["move", "get"] = Field(
        "move",
        description="move: it opens a connection to the receiver, whose place it must know; get: it does not",
    )
    tls: bool = Field(False, description="speak TLS, with the certificate, key and authority of receive")
    max_studies: PositiveInt = Field(1000, description="studies in one fetch; of more, none is fetched")
    timeout_s: PositiveFloat = Field(60.0, description="silence after which the PACS is given up, s")
