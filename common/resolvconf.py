"""resolv.conf(5): read and written; pure."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

# glibc's limit; more are not asked.
MAX_NAMESERVERS = 3


@dataclass(frozen=True)
class ResolvConf:
    """Nameservers (addresses), search domains and options ("ndots:5"), in order."""

    nameservers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def parse(text: str) -> ResolvConf:
    """What a resolver would read from it: what it cannot understand is left out, the last search list counts."""
    nameservers: list[str] = []
    searches: list[str] = []
    options: list[str] = []
    for line in text.splitlines():
        words = line.split("#", 1)[0].split(";", 1)[0].split()
        if len(words) < 2:
            continue
        if words[0] == "nameserver" and _is_address(words[1]):
            nameservers.append(words[1])
        elif words[0] in ("search", "domain"):
            searches = words[1:] if words[0] == "search" else words[1:2]
        elif words[0] == "options":
            options += words[1:]
    return ResolvConf(tuple(dict.fromkeys(nameservers)), tuple(searches), tuple(options))


def render(conf: ResolvConf) -> str:
    """The text that `parse` reads back equal."""
    lines = [f"search {' '.join(conf.searches)}"] if conf.searches else []
    lines += [f"nameserver {address}" for address in conf.nameservers]
    lines += [f"options {' '.join(conf.options)}"] if conf.options else []
    return "\n".join(lines) + "\n"


def is_loopback(address: str) -> bool:
    """True for a nameserver that only its own network namespace can reach."""
    return ip_address(address.partition("%")[0]).is_loopback


def _is_address(text: str) -> bool:
    try:
        ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True
