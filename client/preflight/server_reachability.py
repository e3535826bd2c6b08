"""Asking the coordinator's server for an answer, the way the node will: by httpx, through the proxy if there is one.

One answer says four things: that the way is open, that the server is the federation's (its certificate verifies),
until when that certificate is valid, and what time it is there. The last is in the header `Date` of every answer,
also of one that says "not found" or "no certificate": whatever stands in front of the server may answer.
"""

from __future__ import annotations

import datetime
import ssl
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import httpx
from cryptography import x509

from client.admission.tls import TlsFiles, tls_context
from client.preflight.web_proxy import proxy_for, without_credentials
from minet_core.errors import AdmissionRefused, InvalidSetting, ServerUnreachable

REACH_DEADLINE_S = 30.0
FLEET_PATH = "/v1/fleet/"
"""The one path that a proxy in front of the server lets through."""

DATE_STEP_S = 2.0
"""`Date` has whole seconds, and a server may write it from a text that it renews once a second: the time that is
meant lies up to this much after the one that is written."""


@dataclass(frozen=True)
class ServerAnswer:
    """What one answer of the server told.

    clock_ahead_s: the site's clock minus the server's, None where nothing was told. clock_error_s: how far that may
    be wrong. certificate_ends: of the certificate that the server, or what stands in front of it, showed.
    """

    address: str
    proxy: str | None
    http_status: int
    clock_ahead_s: float | None
    clock_error_s: float
    certificate_ends: datetime.datetime


def require_server(address: str, *, tls: TlsFiles, deadline_s: float = REACH_DEADLINE_S) -> ServerAnswer:
    """Wait until the server at `address` answers with a certificate of the federation's authority.

    It is shown the site's own certificate. Raises AdmissionRefused (FM-F404) where that cannot be used,
    ServerUnreachable (FM-S502) after `deadline_s`, and at once for a certificate that does not verify;
    InvalidSetting (FM-C102) where HTTPS_PROXY names no proxy.
    """
    proxy = proxy_for(address.rpartition(":")[0].strip("[]"))
    context = _context(tls)
    ends = time.monotonic() + deadline_s
    while True:
        try:
            return _ask(address, context=context, proxy=proxy, timeout_s=min(5.0, deadline_s))
        except httpx.HTTPError as failure:
            verification = _verification_error(failure)
            if verification is not None:
                raise ServerUnreachable(
                    f"the server at {address} does not prove to be the federation's",
                    got=verification.verify_message,
                    expected="a valid certificate of the kit's authority",
                    action="If the message is about a date, look at this machine's clock. "
                    "Else ask the coordinator; do not go on",
                ) from None
            if time.monotonic() > ends:
                raise _unreachable(address, failure, proxy=proxy) from None  # the cause may name a password
            time.sleep(min(1.0, deadline_s / 10))


def _context(tls: TlsFiles) -> ssl.SSLContext:
    """The node's own context (client.admission.tls), so that what is tried here is what the node will do."""
    try:
        return tls_context(tls)
    except OSError as failure:  # ssl.SSLError is one
        raise AdmissionRefused(
            "the site's TLS certificate and its key do not belong together, or a TLS file cannot be read",
            got=failure.strerror or type(failure).__name__,
            action="Ask the coordinator for a kit that was made for this site's present key",
        ) from failure


def _ask(address: str, *, context: ssl.SSLContext, proxy: str | None, timeout_s: float) -> ServerAnswer:
    try:
        client = httpx.Client(verify=context, timeout=timeout_s)
    except (ValueError, ImportError, httpx.InvalidURL):
        raise InvalidSetting(
            "the proxy settings of the environment are not understood",
            got="HTTPS_PROXY, ALL_PROXY or NO_PROXY, not shown here",
            expected="http://NAME:PORT",
        ) from None
    with client:
        asked = time.time()
        with client.stream("GET", f"https://{address}{FLEET_PATH}") as response:
            answered = time.time()
            connection = response.extensions["network_stream"].get_extra_info("ssl_object")
            certificate = x509.load_der_x509_certificate(connection.getpeercert(True))
            ahead, error = _clock(response.headers.get("date"), asked=asked, answered=answered)
            return ServerAnswer(
                address, proxy, response.status_code, ahead, error, certificate.not_valid_after_utc
            )


def _clock(date: str | None, *, asked: float, answered: float) -> tuple[float | None, float]:
    """How far this machine's clock is ahead of a `Date`, and how far that may be wrong, both in seconds."""
    error = (answered - asked + DATE_STEP_S) / 2
    try:
        there = parsedate_to_datetime(date or "").timestamp() + DATE_STEP_S / 2
    except ValueError:
        return None, error
    return (asked + answered) / 2 - there, error


def _verification_error(failure: BaseException | None) -> ssl.SSLCertVerificationError | None:
    while failure is not None:
        if isinstance(failure, ssl.SSLCertVerificationError):
            return failure
        failure = failure.__cause__ or failure.__context__
    return None


def _unreachable(address: str, failure: httpx.HTTPError, *, proxy: str | None) -> ServerUnreachable:
    got = without_credentials(str(failure)) or type(failure).__name__
    if proxy is None:
        return ServerUnreachable(
            f"the server at {address} does not answer",
            got=got,
            action="Check that the coordinator has started it and that the hospital's firewall lets you out; "
            "where the hospital has a web proxy, set HTTPS_PROXY",
        )
    by_proxy = isinstance(failure, httpx.ProxyError)
    return ServerUnreachable(
        f"the proxy {proxy} does not lead to {address}"
        if by_proxy
        else f"the server at {address} does not answer through the proxy {proxy}",
        got=got,
        action="Ask the hospital's network department to allow CONNECT to it"
        + (", and for the user and password that HTTPS_PROXY needs" if "407" in got else ""),
    )
