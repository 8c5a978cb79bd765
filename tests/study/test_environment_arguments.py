"""Settings of a study that are arguments of the environment's constructor reach the command."""

import pytest

from sdewm.commands.train import train_arguments
from sdewm.study.study_file import read_study

TEXT = """
name = "lake"
env = "gym:FrozenLake-v1"
preset = "tiny"
env_frames = 3000
seeds = [0]
end_points = ["final_return"]

[settings]
action_repeat = 1
time_limit = 40
"env_kwargs.map_name" = "8x8"

[arms.slippery]
[arms.firm]
"env_kwargs.is_slippery" = false
"""


def test_arguments_keep_their_names_and_types(tmp_path):
    (tmp_path / "lake.toml").write_text(TEXT)
    study = read_study(tmp_path / "lake.toml")
    expected = {"slippery": {"map_name": "8x8"}, "firm": {"map_name": "8x8", "is_slippery": False}}
    for cell in study.cells:
        config = study.config(cell)
        assert config.env_kwargs == expected[cell.arm] and config.time_limit == 40
        given = train_arguments(study.words(cell, tmp_path / "run")[1:]).config
        assert given.env_kwargs == config.env_kwargs and given.time_limit == 40
    (tmp_path / "lake.toml").write_text(TEXT.replace('"8x8"', '[["SF"]]'))
    with pytest.raises(ValueError, match="env_kwargs.map_name=.*: expected numbers, texts"):
        read_study(tmp_path / "lake.toml")
