"""Run CPython's own tests of the process pool against `millpond.Pool`.

    python run_cpython_tests.py START_METHOD

The tests are those of the `test` package of the interpreter that runs this script. They reach the
pool as `self.Pool`, as `multiprocessing.Pool` (once in a child), and once by an import in a fresh
interpreter: all are led to Millpond. Nothing else is changed, and nothing is left out.
"""

# mypy: disable-error-code="import-not-found, misc"
# (Typeshed leaves the `test` package out.)

from __future__ import annotations

import multiprocessing
import multiprocessing.pool
import os
import sys
import unittest
from typing import Any
from unittest import mock

import millpond
import test._test_multiprocessing as cpython
from test import support
from test.support import script_helper


class MillpondMixin(cpython.ProcessesMixin):
    """CPython's mixin for processes, with our pool in it."""

    Pool = millpond.Pool


# These classes stand at module level, and not under `main`, because the tests send their own class
# methods to workers: a spawned worker imports this file and must find the classes in it.


class WithProcessesTestPool(cpython._TestPool, MillpondMixin, unittest.TestCase):
    pass


class WithProcessesTestPoolWorkerErrors(
    cpython._TestPoolWorkerErrors, MillpondMixin, unittest.TestCase
):
    pass


class WithProcessesTestPoolWorkerLifetime(
    cpython._TestPoolWorkerLifetime, MillpondMixin, unittest.TestCase
):
    def test_worker_finalization_via_atexit_handler_of_multiprocessing(self) -> None:
        """CPython's text, with the import changed, under the start method of this run."""
        original = script_helper.assert_python_ok
        theirs = "from multiprocessing import Pool"
        method = multiprocessing.get_start_method()
        ours = (
            "from millpond import Pool; import multiprocessing; "
            f"multiprocessing.set_start_method({method!r})"
        )

        def assert_python_ok(*args: str, **variables: str) -> Any:
            self.assertTrue(any(theirs in text for text in args), "CPython has changed its test")
            changed = [text.replace(theirs, ours) for text in args]
            # A variable of our own also keeps `-I` away, which would hide PYTHONPATH.
            return original(*changed, PYTHONPATH=os.pathsep.join(sys.path), **variables)

        with mock.patch.object(script_helper, "assert_python_ok", assert_python_ok):
            super().test_worker_finalization_via_atexit_handler_of_multiprocessing()


class TestInitializers(cpython.TestInitializers):
    pass


class TestPoolNotLeakOnFailure(cpython.TestPoolNotLeakOnFailure):
    def test_release_unused_processes(self) -> None:
        with mock.patch.object(multiprocessing.pool, "Pool", millpond.Pool):
            super().test_release_unused_processes()


CPYTHONS_POOL_IN_PROCESS = cpython.pool_in_process


def pool_in_process() -> None:
    """CPython's, in a child that may be spawned, and so has its pool to be led to ours."""
    with mock.patch.object(multiprocessing, "Pool", wraps=millpond.Pool) as ours:
        CPYTHONS_POOL_IN_PROCESS()
    sys.exit(0 if ours.call_count == 1 else "CPython has changed its test")


class TestStdinBadfiledescriptor(unittest.TestCase):
    """The one test of this class that is of pools."""

    def test_pool_in_process(self) -> None:
        """CPython's text, which does not look at how the child has ended: here that is told."""
        children: list[multiprocessing.Process] = []
        original = multiprocessing.Process

        def start_child(*args: Any, **kwds: Any) -> multiprocessing.Process:
            children.append(original(*args, **kwds))
            return children[-1]

        with (
            mock.patch.object(cpython, "pool_in_process", pool_in_process),
            mock.patch.object(multiprocessing, "Process", start_child),
        ):
            cpython.TestStdinBadfiledescriptor.test_pool_in_process(self)
        self.assertEqual([child.exitcode for child in children], [0])


CLASSES = (
    WithProcessesTestPool,
    WithProcessesTestPoolWorkerErrors,
    WithProcessesTestPoolWorkerLifetime,
    TestInitializers,
    TestPoolNotLeakOnFailure,
    TestStdinBadfiledescriptor,
)


def main(start_method: str) -> int:
    """Run them all; 0 when none failed and none left a process or thread behind."""
    hooks: dict[str, Any] = {"__name__": __name__}
    cpython.install_tests_in_module_dict(hooks, start_method, only_type="none")
    multiprocessing.Pool = millpond.Pool
    support.environment_altered = False
    suite = unittest.TestSuite(
        unittest.defaultTestLoader.loadTestsFromTestCase(case) for case in CLASSES
    )
    hooks["setUpModule"]()
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    hooks["tearDownModule"]()
    for test, reason in result.skipped:
        print(f"SKIPPED {test}: {reason}")
    if support.environment_altered:
        print("DANGLING: processes or threads outlived their tests")
    print(f"Ran {result.testsRun} tests under {start_method} on {sys.version.split()[0]}")
    return 0 if result.wasSuccessful() and not support.environment_altered else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
