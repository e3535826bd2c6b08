"""How many requests a site has answered for a study, under all its run names: on the disk, before the work begins.

    state/requests.json   by the federation's name, each request that counted: task, run, round, what it asked

A request counts once: asked again word for word, as after a kill, it is the same one. The count outlives a restart, a
new kit and a run's name; the hospital alone raises it, in site.yaml.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from minet_core.errors import ConfigurationError, RunBusy
from minet_core.runtime.files.atomic_write import write_json
from minet_core.runtime.files.file_lock import locked_within
from minet_core.runtime.json_text import parse_json
from sites.settings.site_policy import require_budget_left
from sites.settings.site_settings import PolicySettings

BUDGET_FILE = "requests.json"

_LOCK_FILE = "requests.lock"
_LOCK_PATIENCE_S = 30.0
_DIGITS = 32


def count_request(state: Path, policy: PolicySettings, *, study: str, request: tuple[str | int, ...]) -> int:
    """Count a request of `study`, durably, unless it counted before; how many have by now.

    request: what makes it this one: task, digest of the federation file, run, round, SHA-256 of the parcel. Raises
    PolicyRefused (FM-F420) where the budget is used up, ConfigurationError (FM-C100) where the page is damaged: then
    nobody knows what was answered, and nothing is.
    """
    state.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(state / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not locked_within(descriptor, _LOCK_PATIENCE_S):
            raise RunBusy("another process counts requests", got=state)
        counted = _counted(state / BUDGET_FILE)
        answered = counted.setdefault(study, [])
        key = hashlib.sha256("/".join(map(str, request)).encode()).hexdigest()[:_DIGITS]
        if key not in answered:
            require_budget_left(policy, n_answered=len(answered))
            answered.append(key)
            write_json(state / BUDGET_FILE, counted)
        return len(answered)
    finally:
        os.close(descriptor)


def requests_answered(state: Path) -> dict[str, int]:
    """By study, how many requests have counted."""
    return {study: len(keys) for study, keys in _counted(state / BUDGET_FILE).items()}


def _counted(path: Path) -> dict[str, list[str]]:
    if not path.exists():
        return {}
    try:
        content: Any = parse_json(path.read_bytes())
    except ValueError as failure:
        raise _damaged(path) from failure
    if not isinstance(content, dict) or not all(isinstance(keys, list) for keys in content.values()):
        raise _damaged(path)
    return content


def _damaged(path: Path) -> ConfigurationError:
    return ConfigurationError(
        "the count of the requests that were answered is damaged",
        got=path,
        action="Restore it, or write what `fedminet site audit show` counts",
    )
