"""What a user's environment says of servers that speak HTTP: names and passwords, and proxies.

Invariants
  * Names and passwords are those of .netrc (or the file that NETRC names), for its hosts alone.
  * Proxies are those of HTTP_PROXY, HTTPS_PROXY and ALL_PROXY, but for hosts that NO_PROXY names.
  * No message and no representation has a password.

aiohttp can do this too, but reads the file anew for each request: four times the work of a HEAD.
"""

from __future__ import annotations

import netrc
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL

from indexer.errors import InvalidSetting


@dataclass(frozen=True, slots=True)
class Route:
    """How an origin is asked: with headers of its own, and through a proxy that has others."""

    proxy: URL | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    proxy_headers: Mapping[str, str] | None = field(default=None, repr=False)


def find_route(url: URL) -> Route:
    """How the environment wants the origin of a URL to be asked; reads files.

    Raises `InvalidSetting` where it says what cannot be done.
    """
    route = find_proxy(url)
    credentials = _credentials(url.host or "")
    if credentials is None:
        return route
    return replace(route, headers={**route.headers, "Authorization": _basic(*credentials)})


def find_proxy(url: URL) -> Route:
    """The same without names and passwords for the server itself."""
    proxy = _proxy(url)
    if proxy is None or proxy.user is None:
        return Route(proxy)
    told = {"Proxy-Authorization": _basic(proxy.user, proxy.password or "")}
    proxy = proxy.with_user(None)
    # A proxy sees the requests that it hands on; of those within TLS it sees the first words alone.
    return Route(proxy, {}, told) if url.scheme == "https" else Route(proxy, told)


def netrc_file() -> Path | None:
    """The file of names and passwords, if there is one."""
    named = os.environ.get("NETRC")
    path = Path(named) if named else Path("~/.netrc").expanduser()
    return path if path.is_file() else None


def _credentials(host: str) -> tuple[str, str] | None:
    path = netrc_file()
    if path is None:
        return None
    try:
        found = netrc.netrc(str(path)).authenticators(host)
    except netrc.NetrcParseError as error:
        raise InvalidSetting(
            f"{path} cannot be read: line {error.lineno} is not as it has to be. Correct it, or "
            f"name another file with NETRC."
        ) from None
    except (OSError, UnicodeError) as error:
        raise InvalidSetting(f"{path} cannot be read: {type(error).__name__}.") from error
    if found is None:
        return None
    login, account, password = found
    return login or account or "", password or ""


def _proxy(url: URL) -> URL | None:
    proxies = getproxies()
    text = proxies.get(url.scheme) or proxies.get("all")
    if not text or proxy_bypass(f"{url.host}:{url.port}"):
        return None
    try:
        proxy = URL(text if "://" in text else f"http://{text}")
    except ValueError:
        proxy = URL()
    if proxy.scheme != "http" or not proxy.host:
        raise InvalidSetting(
            f"the proxy for {url.scheme}:// is none that can be used: write http://host:port into "
            f"{url.scheme.upper()}_PROXY, or name {url.host} in NO_PROXY."
        )
    return proxy


def _basic(login: str, password: str) -> str:
    if ":" in login:
        raise InvalidSetting("a name for a server or proxy holds a colon, which none can have.")
    return aiohttp.encode_basic_auth(login, password)
