"""The list of mutants, and the runner that tries them."""

from pathlib import Path

import pytest

from tests import run_mutants
from tests.child_process import ROOT
from tests.run_mutants import Mutant

LIST = ROOT / "tests" / "mutants.toml"


def test_every_mutant_changes_one_place_and_names_tests_that_exist():
    mutants = run_mutants.read_mutants(LIST)
    assert len(mutants) >= 150
    for mutant in mutants:
        compile(mutant.text(ROOT), mutant.file, "exec")
        for test in mutant.tests:
            path, *names = test.split("::")
            function = names[-1].split("[")[0].rsplit(".", 1)[-1] if names else ""
            assert function in (ROOT / path).read_text(encoding="utf-8"), (mutant.name, test)


def planted(root: Path) -> dict[str, Mutant]:
    """A project of one function, with mutants of three fates."""
    for name, text in {
        "pyproject.toml": '[tool.pytest.ini_options]\npythonpath = ["."]\n',
        "half.py": "def half(x):\n    return 0.5 * x\n\n\ndef size(x):\n    return max(x, -x)\n",
        "test_half.py": (
            "from half import half, size\n\n\ndef test_half():\n    assert half(3.0) == 1.5\n\n\n"
            "def test_size():\n    assert size(-2.0) == 2.0\n"
        ),
    }.items():
        (root / name).write_text(text, encoding="utf-8")
    entries = [
        Mutant("factor", "factor", "half.py", "0.5 * x", "1.0 * x", ("test_half.py",)),
        Mutant("order", "driver", "half.py", "max(x, -x)", "max(-x, x)", ("test_half.py",), "even"),
        Mutant("unseen", "sign", "half.py", "max(x, -x)", "max(-x, -x)", ("test_half.py",)),
        Mutant("wrong", "factor", "half.py", "0.5 * x", "0.4 * x", ("test_half.py",), "no reason"),
    ]
    return {entry.name: entry for entry in entries}


def test_a_planted_mutant_is_caught_and_outcomes_are_kept(tmp_path, capsys):
    root, store = tmp_path / "project", tmp_path / "runs" / "mutants.jsonl"
    root.mkdir()
    mutants = planted(root)
    outcomes = run_mutants.run(root, list(mutants.values()), store, workers=2)
    assert outcomes == {
        "factor": "caught",
        "order": "equivalent",
        "unseen": "survived",
        "wrong": "not equivalent",
    }
    assert (root / "half.py").read_text(encoding="utf-8").count("0.5 * x") == 1
    last = run_mutants.table(list(mutants.values()), outcomes).splitlines()[-1]
    assert last.split() == ["all", "4", "1", "1", "1", "1"]

    # Nothing is run again, not even after a line that was cut off, until a file changes.
    with store.open("a", encoding="utf-8") as records:
        records.write('{"name": "fac')
    (root / "pyproject.toml").write_text("broken", encoding="utf-8")
    assert run_mutants.run(root, list(mutants.values()), store, workers=1) == outcomes
    assert capsys.readouterr().err.count("on the unchanged files") == 1
    with (root / "test_half.py").open("a", encoding="utf-8") as tests:
        tests.write("\n")
    with pytest.raises(ValueError, match="do not pass on the unchanged files"):
        run_mutants.run(root, list(mutants.values()), store, workers=1)


def test_entries_that_cannot_be_tried_are_named(tmp_path):
    root = tmp_path
    mutants = planted(root)
    twice = Mutant("twice", "factor", "half.py", "return", "yield", ("test_half.py",))
    with pytest.raises(ValueError, match="mutant twice: find='return' occurs 2 times in half.py"):
        run_mutants.run(root, [twice], tmp_path / "store", workers=1)
    failing = {"test_half.py": "def test_half():\n    assert False\n"}
    (root / "test_half.py").write_text(failing["test_half.py"], encoding="utf-8")
    with pytest.raises(ValueError, match="do not pass on the unchanged files"):
        run_mutants.run(root, [mutants["factor"]], tmp_path / "store", workers=1)
    with pytest.raises(ValueError, match="--only factr: no such mutant; did you mean factor?"):
        run_mutants.chosen(list(mutants.values()), ["factr"])
    assert [one.name for one in run_mutants.chosen(list(mutants.values()), ["order"])] == ["order"]


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ('kind = "colour"\nfind = "a"\nreplace = "b"\ntests = ["t.py"]', "kind='colour'"),
        ('kind = "sign"\nfind = "a"\nreplace = "a"\ntests = ["t.py"]', "a change"),
        ('kind = "sign"\nfind = "a"\nreplace = "b"', "expected"),
    ],
)
def test_a_malformed_entry_is_named(tmp_path, entry, sentence):
    path = tmp_path / "mutants.toml"
    path.write_text(f'[[mutant]]\nname = "one"\nfile = "f.py"\n{entry}\n', encoding="utf-8")
    with pytest.raises(ValueError, match=f"mutant one: .*{sentence}"):
        run_mutants.read_mutants(path)
