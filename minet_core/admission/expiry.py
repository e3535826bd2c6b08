"""When a certificate ends, and from when on somebody has to be told."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

CLOCK_SKEW = datetime.timedelta(minutes=10)
"""A certificate is valid this long before it is made, and a kit is taken: a site's clock may be behind."""

WARNING_DAYS = 30
"""A hospital's change of anything takes weeks."""


@dataclass(frozen=True)
class Expiry:
    """Something that ends to be valid, and what is to be done about it."""

    what: str
    expires_at: datetime.datetime
    action: str

    def days_left(self, now: datetime.datetime | None = None) -> int:
        """Whole days until the end.

        Parameters
        ----------
        now
            With a time zone; None for the machine's clock.

        Returns
        -------
        int
            Negative once it has expired.
        """
        return (self.expires_at - (now or datetime.datetime.now(datetime.UTC))).days

    def state(self, now: datetime.datetime | None = None) -> str:
        """Whether it is valid.

        Parameters
        ----------
        now
            With a time zone; None for the machine's clock.

        Returns
        -------
        str
            `valid`, `expires soon` (less than `WARNING_DAYS`) or `expired`.
        """
        days = self.days_left(now)
        if days < 0:
            return "expired"
        return "expires soon" if days < WARNING_DAYS else "valid"

    def warning(self, now: datetime.datetime | None = None) -> str | None:
        """What to tell people from `WARNING_DAYS` before the end.

        Parameters
        ----------
        now
            With a time zone; None for the machine's clock.

        Returns
        -------
        str or None
            One or two sentences; None until then.
        """
        state = self.state(now)
        if state == "valid":
            return None
        date = f"{self.expires_at:%Y-%m-%d %H:%M} UTC"
        if state == "expired":
            return f"Warning: {self.what} has expired on {date}. {self.action}."
        return f"Warning: {self.what} expires in {self.days_left(now)} days, on {date}. {self.action}."
