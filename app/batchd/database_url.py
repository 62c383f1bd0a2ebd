"""Database URLs: what is wrong with one, and the servers that it names. None is ever quoted."""

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_SESSION_ATTRIBUTES = ("any", "primary", "read-write")
"""batchd writes: a standby is of no use to it."""
_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile")
_UNSUPPORTED = frozenset(
    {
        *("channel_binding", "connect_timeout", "client_encoding", "fallback_application_name"),
        *("gssdelegation", "gssencmode", "hostaddr", "keepalives", "keepalives_count"),
        *("keepalives_idle", "keepalives_interval", "load_balance_hosts", "pgbouncer"),
        *("pool_timeout", "replication", "require_auth", "requirepeer", "requiressl", "schema"),
        *("ssl", "sslcertmode", "sslcompression", "sslcrldir", "sslsni", "tcp_user_timeout"),
    }
)
"""Of libpq and other drivers. As parameters of the server, it would refuse them by name only."""


def check_database_url(url: str) -> None:
    """Raise ValueError, with a reason that quotes no part of the user or password."""
    if re.search(r"[\s\x00-\x1f\x7f]", url):
        raise ValueError("contains white space: percent-encode it")
    if not url.startswith(("postgresql://", "postgres://")):
        raise ValueError("must be a URL like postgresql://user:password@host:5432/database")
    if "#" in url:
        raise ValueError("contains a raw '#': write it as %23")
    if re.search(r"%(?![0-9A-Fa-f]{2})", url):
        raise ValueError("contains a raw '%': write it as %25")
    authority, _, rest = url.partition("://")[2].partition("/")
    if authority.count("@") > 1:
        raise ValueError("the user or password contains a raw '@': write it as %40")
    if "@" not in authority and "@" in rest.partition("?")[0]:
        raise ValueError("the user or password contains a raw '/': write it as %2F")
    if "?" in authority and "@" in authority.partition("?")[2] + rest:
        raise ValueError("the user or password contains a raw '?': write it as %3F")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("the host, user or password contains a raw '[' or ']'") from None
    _check_hosts(parts.netloc.rpartition("@")[2])
    _check_parameters(parts.query)


def _check_hosts(hosts: str) -> None:
    for host in hosts.split(",") if hosts else ():
        match = re.fullmatch(r"(\[[0-9A-Fa-f:.%]+\]|[^\[\]:]*)(?::([^:]*))?", host)
        if match is None:
            raise ValueError("a host must be a name, an IPv4 address, or an IPv6 address in []")
        port = match[2]
        if port and not (re.fullmatch("[0-9]{1,5}", port) and 1 <= int(port) <= 65535):
            raise ValueError("a port must be a number from 1 to 65535")


def _check_parameters(query: str) -> None:
    try:
        parameters = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    except ValueError:
        raise ValueError("the part after '?' must be name=value&…") from None
    for name, value in parameters:
        if name in _UNSUPPORTED:
            raise ValueError(f"the parameter '{name}' is not supported: leave it out")
        if not value:
            raise ValueError(f"the parameter '{name}' has no value")
        if name == "sslmode" and value not in _SSL_MODES:
            raise ValueError(f"sslmode must be one of {', '.join(_SSL_MODES)}")
        if name == "target_session_attrs" and value not in _SESSION_ATTRIBUTES:
            raise ValueError(
                f"target_session_attrs must be one of {', '.join(_SESSION_ATTRIBUTES)}"
            )
        if name in _FILES and not Path(value).is_file():
            raise ValueError(f"the file of the parameter '{name}' does not exist")


def _parameters(parts: SplitResult) -> dict[str, str]:
    return dict(parse_qsl(parts.query))


def _with_parameters(parts: SplitResult, parameters: dict[str, str]) -> str:
    # Not urlunsplit: it leaves "//" out if there is no host.
    query = f"?{urlencode(parameters)}" if parameters else ""
    return f"{parts.scheme}://{parts.netloc}{parts.path}{query}"


def each_server(url: str) -> Sequence[str]:
    """Return a URL for each of the servers, in order.

    Of several, one is wanted that takes writes, unless the URL says otherwise.
    """
    parts = urlsplit(url)
    credentials, at, hosts = parts.netloc.rpartition("@")
    if "," not in hosts:
        return [url]
    parameters = {"target_session_attrs": "read-write"} | _parameters(parts)
    return [
        _with_parameters(parts._replace(netloc=f"{credentials}{at}{host}"), parameters)
        for host in hosts.split(",")
    ]


def address_of(url: str) -> str:
    """Return the servers and the database, for messages."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2] or _parameters(parts).get("host", "the local server")
    return f"{host}{parts.path}"


def ssl_mode(url: str) -> str:
    return _parameters(urlsplit(url)).get("sslmode", "prefer")


def with_ssl_mode(url: str, mode: str) -> str:
    parts = urlsplit(url)
    return _with_parameters(parts, _parameters(parts) | {"sslmode": mode})


def without_parameters(url: str, names: frozenset[str]) -> str:
    """Leave out these parameters, which another driver does not know."""
    parts = urlsplit(url)
    remaining = {name: value for name, value in _parameters(parts).items() if name not in names}
    return _with_parameters(parts, remaining)


def secrets_of(url: str) -> Sequence[str]:
    """Return what must never be shown: the password, as it is and as it is encoded."""
    parts = urlsplit(url)
    encoded = parts.netloc.rpartition("@")[0].partition(":")[2]
    passwords = (encoded, unquote(encoded), _parameters(parts).get("password", ""))
    return [password for password in passwords if password]
