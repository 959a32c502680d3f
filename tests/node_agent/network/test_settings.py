"""Changed kernel settings are remembered over restarts and put back once."""

from __future__ import annotations

from pathlib import Path

from node_agent.network.settings import Settings


def test_the_first_value_is_what_counts(tmp_path: Path) -> None:
    kernel = {"a": "1", "b": "0"}
    first = Settings(tmp_path / "kept.json")
    first.changed("a", kernel["a"], "2")
    kernel["a"] = "2"
    again = Settings(tmp_path / "kept.json")
    # Somebody made it strict in between, and the agent loosened it once more.
    again.changed("a", "1", "2")
    again.changed("b", "0", "1")
    kernel["b"] = "7"
    Settings(tmp_path / "kept.json").put_back(lambda name: kernel[name], kernel.__setitem__)
    assert kernel == {"a": "1", "b": "7"}, "what others have changed since is theirs"
    assert not (tmp_path / "kept.json").exists()
    Settings(tmp_path / "kept.json").put_back(lambda name: kernel[name], kernel.__setitem__)


def test_without_a_file_it_lasts_as_long_as_the_process() -> None:
    kernel = {"a": "2"}
    settings = Settings(None)
    settings.changed("a", "1", "2")
    settings.put_back(lambda name: kernel[name], kernel.__setitem__)
    assert kernel == {"a": "1"} and settings.before == {}
