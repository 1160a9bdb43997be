"""The soak's short form; the long one is `make soak`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from testkit.forms import by_form
from testkit.scripts import run_script

MINUTES = by_form(0.1, 5.0)

PROGRAM = """
    import sys
    from reliability import soak

    if __name__ == "__main__":
        sys.exit(soak.main())
"""


@pytest.mark.limit_s(by_form(120, 600))
def test_a_pool_under_everything_grows_nothing(tmp_path: Path) -> None:
    ended = run_script(PROGRAM, tmp_path, "--minutes", str(MINUTES), "--samples", "5")
    print(ended.stdout, file=sys.stdout)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "nothing has grown" in ended.stdout
    assert ended.orphans == []
