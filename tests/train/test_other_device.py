"""Training on a device that is not the CPU: no mixture of devices, nothing read in an update."""

import json
import sys

import pytest

from sdewm.train.presets import PRESETS
from tests.child_process import run

CASES = ["tiny/bfloat16/0.01", "dreamerv3-12m/bfloat16/0.01"]
CASES += ["dreamerv2/float32/0", "dreamerv2-gaussian/float32/0.01"]


@pytest.fixture(scope="module")
def found():
    words = ["-m", "tests.train.on_other_device", "controls", "run", *CASES]
    result = run(sys.executable, *words)
    assert result.returncode == 0, result.stderr
    return {row["name"]: row for row in map(json.loads, result.stdout.splitlines())}


def test_mixtures_and_crossings_are_noticed(found):
    control = found["controls"]
    assert control["mixed"] and control["noticed"]
    assert control["crossed"] == ["read", "counted", "counted", "copied"]


@pytest.mark.parametrize("case", CASES)
def test_nothing_crosses_in_an_update_and_little_elsewhere(case, found):
    assert found[case]["second"] == []
    assert found[case]["logged"] == ["copied"]  # the row of the log: sizes of the Jacobian
    assert found[case]["acting"] == ["copied", "copied"]  # to the device and back


def kinds(name):
    """What decides which code an agent runs, whatever its sizes."""
    config = PRESETS[name]
    rssm, behaviour = config.model.rssm, config.behaviour
    parts = rssm.cell, rssm.latent, behaviour.actor_gradient, behaviour.actor_distribution
    return (*parts, config.context, config.optimiser.algorithm, config.model.image_encoder)


def test_every_kind_of_preset_is_among_the_cases():
    tried = {kinds(case.partition("/")[0]) for case in CASES}
    assert {kinds(name) for name in PRESETS} == tried


def test_a_run_is_saved_and_resumed(found):
    assert found["run"]["updates"] > 5 and found["run"]["device"] == "other"
