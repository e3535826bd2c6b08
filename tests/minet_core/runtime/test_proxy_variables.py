"""The variables of a web proxy: left out of what a process gets that speaks with its own machine alone."""

from __future__ import annotations

import httpx
import pytest

from minet_core.runtime.processes.proxy_variables import stay_on_this_machine, without_proxy

DEAD_PROXY = "http://127.0.0.1:1"


def test_they_are_left_out_however_they_are_written() -> None:
    given = {"HTTPS_PROXY": "a", "https_proxy": "b", "No_Proxy": "c", "PATH": "d"}
    assert without_proxy(given) == {"PATH": "d"}


def test_httpx_asks_the_proxy_for_this_machine_until_they_are_taken_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", DEAD_PROXY)
    monkeypatch.setenv("All_Proxy", DEAD_PROXY)
    assert _proxied()
    stay_on_this_machine()  # what it took out is put back after the test
    assert not _proxied()


def _proxied() -> bool:
    with httpx.Client() as client:
        return any(pattern.matches(httpx.URL("https://127.0.0.1:9443")) for pattern in client._mounts)
