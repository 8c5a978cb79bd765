"""A run that observes an image and a vector: it goes on where it was, and draws its images."""

from PIL import Image

from sdewm.base.records import read_log
from sdewm.cli import main

WORDS = (
    "--preset tiny --env own:cartpole_pixels --obs both --action-repeat 8 --env-frames 600 "
    "--prefill-policy-steps 60 --train-ratio 64 --batch-size 4 --batch-length 16 "
    "--replay-capacity 500 --log-every-updates 5 --eval-every-env-frames 100000 --eval-episodes 1"
).split()


def test_a_run_from_both_is_lengthened_in_the_middle_of_an_episode_and_drawn(tmp_path):
    run = str(tmp_path / "run")
    assert main(["train", *WORDS, "--run", run]) == 0
    assert main(["resume", run, "--env-frames", "640"]) == 0  # episodes have 1000
    rows, _ = read_log(tmp_path / "run" / "metrics.jsonl")
    assert rows[-1]["env_frames"] == 640
    assert rows[-1]["loss/reconstruction"] < rows[0]["loss/reconstruction"]
    pictures = tmp_path / "run" / "pictures"
    with Image.open(pictures / "open_loop-000000600.png") as drawn:
        assert drawn.size == (808, 206)  # a strip of frames
    with Image.open(pictures / "episode-000000600.gif") as drawn:
        assert drawn.size == (192, 192) and drawn.n_frames > 100
