"""Objects as text: YAML and JSON as kubectl prints them, and lists of several; pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

_STR = "tag:yaml.org,2002:str"
# Texts that a YAML 1.1 reader such as kubectl's takes for a number or a boolean and PyYAML writes bare.
_NEEDS_QUOTES = re.compile(
    r"[yYnN]|[-+]?(\.\d+|\d[\d_]*(\.[\d_]*)?)([eE][-+]?\d+)?|[-+]?0[xXoObB][\da-fA-F_]+|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)


class _Dumper(yaml.SafeDumper):
    """Block style, lists not indented, long texts on one line, texts of several lines as blocks."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    tag = dumper.resolve(yaml.ScalarNode, value, (True, False))  # type: ignore[no-untyped-call]
    plain = tag == _STR and not _NEEDS_QUOTES.fullmatch(value)
    style = "|" if "\n" in value else None if plain else '"'
    return dumper.represent_scalar(_STR, value, style=style)


_Dumper.add_representer(str, _text)


def to_yaml(manifest: Mapping[str, Any]) -> str:
    """YAML that our reader and kubectl's read back equal; keys sorted."""
    return str(yaml.dump(dict(manifest), Dumper=_Dumper, default_flow_style=False, allow_unicode=True, width=2**31))


def to_json(manifest: Mapping[str, Any]) -> str:
    """Indented JSON, one line feed at the end."""
    return json.dumps(manifest, indent=4, ensure_ascii=False, sort_keys=True) + "\n"


def as_list(manifests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Several manifests as one v1 List."""
    return {"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": list(manifests)}
