"""What the site's DICOM receiver takes, from whom and how much, and what becomes of it: `receive` of site.yaml."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    StringConstraints,
    field_validator,
    model_validator,
)

from minet_core.settings.yaml_file import Settings

Title = Annotated[str, StringConstraints(pattern=r"^[!-\[\]-~]([ -\[\]-~]{0,14}[!-\[\]-~])?$")]


Endpoint = Annotated[
    str, StringConstraints(pattern=r"^([A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}$")
]


class ReceiveSettings(Settings):
    """The Storage SCP of `fedminet site receive`. As it is, nobody may send."""

    title: Title = Field("FEDMINET", description="the receiver's own AE title; another one called is refused")
    address: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(11112, ge=0, le=65535, description="port to listen on; 0: any free one")
    calling_titles: tuple[Title, ...] = Field((), description="AE titles that may send; empty: nobody")
    peers: tuple[str, ...] = Field(
        ("127.0.0.1", "::1"), description="addresses and networks that may connect, as 10.1.2.0/24"
    )
    certificate: Path | None = Field(None, description="TLS: the receiver's certificate, PEM; null: no TLS")
    private_key: Path | None = Field(None, description="TLS: its key, PEM")
    authority: Path | None = Field(None, description="TLS: who signs the peers' certificates, PEM")
    max_associations: PositiveInt = Field(4, description="associations at once")
    max_pdu_bytes: int = Field(65536, ge=4096, le=1 << 20, description="length of a PDU, bytes")
    max_objects: PositiveInt = Field(20_000, description="objects in one association")
    max_object_bytes: PositiveInt = Field(
        1 << 29, description="length of an object, which is held in memory for each association, bytes"
    )
    min_free_bytes: PositiveInt = Field(
        10**10, description="room that is left on the disk; with less, objects are refused"
    )
    timeout_s: PositiveFloat = Field(60.0, description="silence after which an association ends, s")
    settled_s: NonNegativeFloat = Field(
        300.0, description="silence after which a study in the inbox is taken for whole, s"
    )
    keep_taken_days: NonNegativeFloat | None = Field(
        7.0, description="how long the inbox keeps objects that the store has taken, days; null: for ever"
    )
    commitment: dict[Title, Endpoint] = Field(
        {},
        description="storage commitment: by AE title of a peer, the host:port where its reports go; "
        "asks for keep_taken_days: null",
    )

    @field_validator("address")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        ipaddress.ip_address(value)
        return value

    @field_validator("peers")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            ipaddress.ip_network(one)
        return value

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if len({self.certificate is None, self.private_key is None, self.authority is None}) > 1:
            raise ValueError("certificate, private_key and authority belong together")
        return self

    @model_validator(mode="after")
    def _keeps_what_it_commits_to(self) -> Self:
        if self.commitment and self.keep_taken_days is not None:
            raise ValueError("commitment asks for keep_taken_days: null: who commits to objects keeps them")
        if not set(self.commitment) <= set(self.calling_titles):
            raise ValueError("commitment names a title that calling_titles does not")
        return self
