"""The data folder of a server: nobody else's to read, and not taken for a new one when its database is gone."""

from collections.abc import Callable
from typing import Any


def test_a_data_folder_is_made_private_and_missed_when_its_database_is_gone(
    serve: Callable[..., Any], light: dict[str, str]
) -> None:
    first = serve(**light)
    assert first.stop() == 0
    first.data_dir.chmod(0o755)
    (first.data_dir / "mien.db").chmod(0o644)
    second = serve(**light)
    modes = [path.stat().st_mode & 0o777 for path in (second.data_dir, second.data_dir / "mien.db")]
    assert modes == [0o700, 0o600]
    assert "others could read these" in second.log
    assert second.stop() == 0
    for left in first.data_dir.glob("mien.db*"):
        left.unlink()
    third = serve(ready=False, **light)
    assert third.process.wait(60) != 0
    assert "missing or empty, but the folder was used before" in third.log
