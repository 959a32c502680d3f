"""`python -m cli`: the same as `sampan`."""

from __future__ import annotations

from cli.main import main

main()
