"""The syntax of names, labels and keys, and the making of generated names; each check returns what is wrong or None."""

from __future__ import annotations

import re
import secrets

MAX_LABEL = 63
MAX_SUBDOMAIN = 253
# Lower-case letters and digits that cannot be mistaken for one another or spell words.
SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
SUFFIX_LENGTH = 5

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_SERVICE = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_QUALIFIED = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_ENV = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
_CONFIG_KEY = re.compile(r"[-._a-zA-Z0-9]+")
_PORT_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


def label_fault(text: str) -> str | None:
    """RFC 1123 label: what a pod's container, a namespace or a port of a service may be called."""
    if len(text) > MAX_LABEL:
        return f"must be at most {MAX_LABEL} characters, has {len(text)}"
    if not _LABEL.fullmatch(text):
        return (
            "must consist of lower-case letters, digits and '-', and start and end with a letter or digit "
            f"(like 'my-name' or '123-abc'), got {_shown(text)}"
        )
    return None


def subdomain_fault(text: str) -> str | None:
    """RFC 1123 subdomain: what most objects may be called."""
    if len(text) > MAX_SUBDOMAIN:
        return f"must be at most {MAX_SUBDOMAIN} characters, has {len(text)}"
    if not _SUBDOMAIN.fullmatch(text):
        return (
            "must consist of lower-case letters, digits, '-' and '.', and start and end with a letter or digit "
            f"(like 'web' or 'example.com'), got {_shown(text)}"
        )
    return None


def service_name_fault(text: str) -> str | None:
    """RFC 1035 label: the name of a Service, which becomes a host name and an environment variable."""
    if len(text) > MAX_LABEL:
        return f"must be at most {MAX_LABEL} characters, has {len(text)}"
    if not _SERVICE.fullmatch(text):
        return (
            "must consist of lower-case letters, digits and '-', start with a letter and end with a letter or "
            f"digit (like 'my-name' or 'abc-123'), got {_shown(text)}"
        )
    return None


def label_key_fault(text: str) -> str | None:
    """A label or annotation key: an optional DNS prefix and '/', then at most 63 characters."""
    prefix, slash, name = text.rpartition("/")
    if slash:
        if not prefix:
            return f"has an empty prefix before '/', got {_shown(text)}"
        fault = subdomain_fault(prefix)
        if fault:
            return f"prefix {fault}"
    if not name:
        return "must not be empty" if not slash else f"must have a name after '/', got {_shown(text)}"
    if len(name) > MAX_LABEL:
        return f"name must be at most {MAX_LABEL} characters, has {len(name)}"
    if not _QUALIFIED.fullmatch(name):
        return (
            "must consist of letters, digits, '-', '_' and '.', and start and end with a letter or digit "
            f"(like 'app' or 'example.com/tier'), got {_shown(text)}"
        )
    return None


def label_value_fault(text: str) -> str | None:
    """A label's value: empty, or at most 63 characters."""
    if len(text) > MAX_LABEL:
        return f"must be at most {MAX_LABEL} characters, has {len(text)}"
    if text and not _QUALIFIED.fullmatch(text):
        return (
            "must be empty or consist of letters, digits, '-', '_' and '.', and start and end with a letter or "
            f"digit (like 'web' or 'v1.2'), got {_shown(text)}"
        )
    return None


def env_name_fault(text: str) -> str | None:
    """The name of an environment variable."""
    if not _ENV.fullmatch(text):
        return (
            "must consist of letters, digits, '_', '-' and '.', and not start with a digit "
            f"(like 'MY_VAR'), got {_shown(text)}"
        )
    if text in {".", ".."}:
        return f"must not be {_shown(text)}"
    return None


def config_key_fault(text: str) -> str | None:
    """A key of a ConfigMap or Secret, which may become a file's name."""
    if len(text) > MAX_SUBDOMAIN:
        return f"must be at most {MAX_SUBDOMAIN} characters, has {len(text)}"
    if not _CONFIG_KEY.fullmatch(text):
        return f"must consist of letters, digits, '-', '_' and '.' (like 'app.properties'), got {_shown(text)}"
    if text == "." or text.startswith(".."):
        return f"must not be '.' or start with '..', got {_shown(text)}"
    return None


def port_name_fault(text: str) -> str | None:
    """The name of a container's port (IANA service name): at most 15 characters, one of them a letter."""
    if len(text) > 15:
        return f"must be at most 15 characters, has {len(text)}"
    if not _PORT_NAME.fullmatch(text) or "--" in text:
        return (
            "must consist of lower-case letters, digits and single '-', and start and end with a letter or digit "
            f"(like 'http'), got {_shown(text)}"
        )
    if not any("a" <= char <= "z" for char in text):
        return f"must contain at least one letter (like 'http'), got {_shown(text)}"
    return None


def generate_name(prefix: str) -> str:
    """`prefix` and five random characters, cut so that the whole stays a DNS label (63 characters)."""
    suffix = "".join(secrets.choice(SUFFIX_ALPHABET) for _ in range(SUFFIX_LENGTH))
    return prefix[: MAX_LABEL - SUFFIX_LENGTH] + suffix


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
