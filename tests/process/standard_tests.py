"""Run the standard library's own tests of shared memory with Flagstone's in its place.

Its argument is a start method. The last line that it prints is a JSON object: of each test "ok",
"skipped" with the reason, or what it raised. `test_shared_memory_standard.py` starts it.
"""

import json
import sys
import unittest

from flagstone.shared_memory import install

install()

from test import _test_multiprocessing as standard  # noqa: E402


def main():
    module = {"__name__": "__main__"}
    standard.install_tests_in_module_dict(module, sys.argv[1])
    tests = module["WithProcessesTestSharedMemory"]
    globals()[tests.__name__] = tests  # for what is pickled
    results = unittest.TestResult()
    module["setUpModule"]()
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(tests)
    outcome = {test._testMethodName: "ok" for test in suite}
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(tests)
    suite.run(results)
    module["tearDownModule"]()
    for test, reason in results.skipped:
        outcome[test._testMethodName] = f"skipped: {reason}"
    for test, text in results.failures + results.errors:
        outcome[getattr(test, "test_case", test)._testMethodName] = text
    print(json.dumps(outcome))


if __name__ == "__main__":
    main()
