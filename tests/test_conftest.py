"""The fixtures of conftest.py, on a small test suite made for it."""

from __future__ import annotations

import pytest

from tests.models import REPO

pytest_plugins = ["pytester"]


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeconftest((REPO / "tests" / "conftest.py").read_text())
    pytester.makepyfile(
        test_it="""
        def test_text(golden):
            golden("one\\ntwo")

        def test_random(rng):
            assert rng.random() < 0
        """
    )
    return pytester


def test_golden_text(suite: pytest.Pytester):
    first = suite.runpytest("-k", "text")
    first.assert_outcomes(failed=1)
    first.stdout.fnmatch_lines(["*does not exist; write it with --update-golden*"])
    suite.runpytest("-k", "text", "--update-golden").assert_outcomes(passed=1)
    suite.runpytest("-k", "text").assert_outcomes(passed=1)

    (file,) = suite.path.glob("golden/test_it/test_text.txt")
    file.write_text("one\nthree\n")
    changed = suite.runpytest("-k", "text")
    changed.assert_outcomes(failed=1)
    changed.stdout.fnmatch_lines(["*-three*", "*+two*", "*--update-golden*"])


def test_seed_is_printed_and_used(suite: pytest.Pytester):
    values = []
    for seed in (3, 3, 4):
        run = suite.runpytest("-k", "random", "--seed", str(seed))
        run.assert_outcomes(failed=1)
        run.stdout.fnmatch_lines([f"*repeat with --seed {seed}*"])
        values.append(next(line for line in run.outlines if "assert 0." in line))
    assert values[0] == values[1] != values[2]
