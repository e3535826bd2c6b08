"""Who is logged in: in this process's memory alone, so that a restart logs everybody out."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

IDLE_S = 30 * 60.0
"""A session that is not used ends after this, as the OWASP session guide has it for what matters."""

MAX_DURATION_S = 8 * 3600.0
MAX_SESSIONS = 50

MAX_ATTEMPTS = 5
ATTEMPTS_WITHIN_S = 300.0
"""Five guesses in five minutes, whoever makes them: behind a proxy all readers have one address. Who locks the
coordinator out so can be waited for; `fedminet server stop` needs no login."""


@dataclass
class Session:
    """One login. csrf: what a form of this session must bring. password: the hash it was made under."""

    csrf: str
    password: str
    began: float
    used: float


@dataclass
class Sessions:
    """The sessions by the SHA-256 of their token: a look into this memory gives nobody a cookie."""

    now: Callable[[], float] = time.monotonic
    _by_digest: dict[str, Session] = field(default_factory=dict)
    _alone: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, *, password: str) -> str:
        """Begin a session and return its token, which is told once."""
        token = secrets.token_urlsafe(32)
        with self._alone:
            self._forget_old()
            while len(self._by_digest) >= MAX_SESSIONS:
                del self._by_digest[min(self._by_digest, key=lambda key: self._by_digest[key].used)]
            moment = self.now()
            self._by_digest[_digest(token)] = Session(secrets.token_urlsafe(32), password, moment, moment)
        return token

    def find(self, token: str | None, *, password: str) -> Session | None:
        """The session of a token, if it has not run out and the password has not changed since."""
        if not token:
            return None
        with self._alone:
            self._forget_old()
            session = self._by_digest.get(_digest(token))
            if session is None or not hmac.compare_digest(session.password, password):
                return None
            session.used = self.now()
            return session

    def end(self, token: str | None) -> None:
        """End a session."""
        with self._alone:
            self._by_digest.pop(_digest(token or ""), None)

    def _forget_old(self) -> None:
        moment = self.now()
        for key, session in list(self._by_digest.items()):
            if moment - session.used > IDLE_S or moment - session.began > MAX_DURATION_S:
                del self._by_digest[key]


@dataclass
class Attempts:
    """The login attempts of the last minutes."""

    now: Callable[[], float] = time.monotonic
    _moments: deque[float] = field(default_factory=deque)
    _alone: threading.Lock = field(default_factory=threading.Lock)

    def take(self) -> float:
        """Count one more attempt; 0.0 where it may be made, else how long to wait, s. Counted before it is tried."""
        with self._alone:
            moment = self.now()
            while self._moments and moment - self._moments[0] > ATTEMPTS_WITHIN_S:
                self._moments.popleft()
            if len(self._moments) >= MAX_ATTEMPTS:
                return self._moments[0] + ATTEMPTS_WITHIN_S - moment
            self._moments.append(moment)
            return 0.0

    def forgive(self) -> None:
        """A login that succeeded: what was mistyped before it no longer counts."""
        with self._alone:
            self._moments.clear()


def csrf_matches(session: Session, given: str) -> bool:
    """Whether a form's token is the session's, compared in constant time."""
    return hmac.compare_digest(session.csrf.encode(), given.encode())


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
