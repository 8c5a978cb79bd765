"""`sdewm analyse file.py:build` with the mistakes that a user makes."""

import numpy as np
import pytest

from sdewm.base.records import read_table
from sdewm.cli import main
from sdewm.commands.model_file import model_file

FILE = """
import torch
import neighbour
import sdewm

def build():
    return sdewm.StepModel(
        lambda x, a, v: neighbour.RATE * x + a + 0.1 * v, state_size=2, noise_size=2,
        encoder=lambda x, o: (0.5 * x + 0.5 * o, torch.full_like(x, 0.1)))

def asks(path): return build()
def number(): return 3
def fails(): return build().weights
"""
STABILITY = "--only stability --stability.start 1 --stability.steps 4 --stability.discard 1".split()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scratch")
    (folder / "model.py").write_text(FILE)
    (folder / "broken.py").write_text("import nothing_of_this_name\n")
    (folder / "neighbour.py").write_text("RATE = 0.5\n")
    draw = np.random.default_rng(0)
    (folder / "eps").mkdir()
    for name, shape in (("eps", (2,)), ("other", (3,))):
        (folder / name).mkdir(exist_ok=True)
        for number in range(3):
            rows = {"state": draw.standard_normal((8, *shape)), "action": np.zeros((8, 2))}
            np.savez(folder / name / f"{number}.npz", **rows, reward=np.zeros(8))
        assert main(["import", str(folder / name), str(folder / f"data-{name}")]) == 0
    return folder


def test_a_file_of_a_user_is_analysed(place, tmp_path, capsys):
    words = ["analyse", f"{place / 'model.py'}:build", "--data", str(place / "data-eps")]
    assert main([*words, *STABILITY, "--stability.exponents", "1", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "Left out: policy in the loop, because StepModel has no policy" in said
    _, facts = read_table(tmp_path / "data" / "fig_model_stability.csv")
    file = model_file(words[1])
    assert (facts["model"], facts["file"]) == ("model.py:build", file.digest)
    assert facts["data_policy"] == facts["data_seed"] == "unknown"


WRONG = {
    "no file": ("modl.py:build", "data-eps", "there is no file"),
    "no function": ("model.py", "data-eps", "model.py:FUNCTION, which returns the model"),
    "function": ("model.py:biuld", "data-eps", "did you mean 'build'"),
    "arguments": ("model.py:asks", "data-eps", "is called without arguments and raised TypeError"),
    "type": ("model.py:number", "data-eps", "world_model=int: expected a sdewm WorldModel"),
    "error": ("model.py:fails", "data-eps", "no attribute 'weights' (model.py, line 13)"),
    "import": ("broken.py:build", "data-eps", "No module named 'nothing_of_this_name' (broken.py"),
    "no data": ("model.py:build", None, "needs --data DIRECTORY"),
    "data": ("model.py:build", "data-ep", "holds no dataset"),
    "shape": ("model.py:build", "data-other", "encoder"),
    "short": ("model.py:build", "data-eps", "error (episodes=None, steps=100, draws=64): "),
}


@pytest.mark.parametrize("case", WRONG)
def test_mistakes_end_in_one_sentence(case, place, tmp_path, capsys):
    model, data, text = WRONG[case]
    words = ["analyse", str(place / model), "--out", str(tmp_path / "out")]
    code = main([*words, *(["--data", str(place / data)] if data else [])])
    said = capsys.readouterr().err
    assert code == 2 and text in " ".join(said.split()), said
    assert len(said.strip().splitlines()) == 1 and not (tmp_path / "out").exists()
