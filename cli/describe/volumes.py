"""One volume on a pod's page: its kind and what it is made from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from cli.describe.page import Page

if TYPE_CHECKING:
    from protos.core_pb2 import Volume


def volume(page: Page, item: Volume) -> None:
    """A section named after the volume, with the fields of its source as in the manifest."""
    from common.manifest import to_manifest

    manifest = to_manifest(item)
    manifest.pop("name", None)
    with page.section(item.name):
        for kind, source in manifest.items():
            page.field("Type", kind)
            for key, value in source.items():
                page.field(key, value if isinstance(value, str | int) else json.dumps(value, ensure_ascii=False))
