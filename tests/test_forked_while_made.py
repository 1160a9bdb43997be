"""Workers that are forked while a thread of the parent makes what a process makes once."""

from __future__ import annotations

from pathlib import Path

import pytest
from testkit.scripts import run_script

FIRST_DISPATCH = """
    import builtins, sys, threading
    from functools import partial
    from testkit.ledger import wait_until
    from testkit.work import meet
    from millpond import Pool

    def in_company(heavy, directory, x):
        meet(directory, x, 3)
        return len(heavy)

    if __name__ == "__main__":
        with Pool(1) as pool:
            plain_import, dispatcher = builtins.__import__, threading.current_thread()
            imports = []

            def import_while_the_keeper_forks(name, *rest, **others):
                if threading.current_thread() is dispatcher:
                    imports.append(name)
                    if len(imports) == int(sys.argv[2]):
                        pool.resize(3)
                        wait_until(lambda: len(pool._pool) == 3, "the forks")
                return plain_import(name, *rest, **others)

            function = partial(in_company, [{"value": x} for x in range(5000)], sys.argv[1])
            builtins.__import__ = import_while_the_keeper_forks
            results = [pool.apply_async(function, (x,)) for x in range(3)]
            builtins.__import__ = plain_import
            pool.resize(3)
            assert [result.get() for result in results] == [5000] * 3
            print(len(imports))
        pool.join()
"""


@pytest.mark.parametrize("import_number", range(1, 17))
def test_a_worker_that_is_forked_during_the_first_dispatch_is_whole(
    import_number: int, tmp_path: Path
) -> None:
    """It may inherit nothing that was being made just then, for nobody finishes it there."""
    ended = run_script(FIRST_DISPATCH, tmp_path, str(tmp_path), str(import_number))
    assert (ended.returncode, ended.orphans) == (0, []), ended.stderr
    # By these the test lets the keeper fork; without any it would show nothing.
    assert int(ended.stdout) > 0
    if int(ended.stdout) < import_number:
        pytest.skip(f"the first dispatch imports {ended.stdout.strip()} modules")
