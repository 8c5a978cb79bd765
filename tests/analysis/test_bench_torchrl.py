"""The update beside torchrl's: measured where it is installed, else left out with the reason."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sdewm.train.presets import preset

SCRIPT = Path(__file__).resolve().parents[2] / "analysis" / "bench_torchrl.py"
CPU = torch.device("cpu")

specification = importlib.util.spec_from_file_location("bench_torchrl", SCRIPT)
assert specification is not None and specification.loader is not None
script = importlib.util.module_from_spec(specification)
sys.modules["bench_torchrl"] = script
specification.loader.exec_module(script)


def test_without_torchrl_there_is_no_row_and_a_reason(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert script.jobs("cpu") == {}
    assert "is left out: torchrl is not installed" in capsys.readouterr().err
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert list(script.jobs("cpu")) == [(script.ROW,)]


def test_our_parameters_are_counted():
    run, parameters = script.ours(preset("dreamerv3-1m", batch_size=2, batch_length=4), CPU)
    assert parameters == 637_446  # walker's 24 numbers and 6 actions make it the known 640,867
    run()


@pytest.mark.filterwarnings("ignore")  # torchrl's own, of many kinds
def test_both_update_the_same_number_of_parameters(monkeypatch):
    pytest.importorskip("torchrl")
    small = preset("dreamerv3-1m", batch_size=2, batch_length=4)
    monkeypatch.setattr(script, "preset", lambda name: small)
    monkeypatch.setattr(script, "ROUNDS", 2)
    (row,) = script.compare(CPU)
    assert 0 < row["low"] <= row["ratio"] <= row["high"]
    behaviour = replace(small.behaviour, units=32)
    monkeypatch.setattr(script, "preset", lambda name: replace(small, behaviour=behaviour))
    with pytest.raises(RuntimeError, match="numbers of parameters differ"):
        next(script.compare(CPU))
