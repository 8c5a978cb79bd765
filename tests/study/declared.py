"""Small declarations of studies for the tests, and rows for them."""

from tests.child_process import ROOT

EPISODES = ROOT / "paper_checks" / "small_models" / "episodes"


TEXT = f"""
name = "smoke"
data = "{EPISODES}"
test_data = "{EPISODES}"
preset = "tiny"
updates = 4
seeds = [0, 1, 2]
end_points = ["open_loop 5", "jacobian"]

[settings]
"model.units" = 16
"model.rssm.deter" = 16
"model.rssm.hidden" = 16
batch_size = 2
batch_length = 8

[arms.baseline]
[arms.strong]
"jacobian.weight" = 1.0
pictures = false

[[comparisons]]
claim = "C5"
arm = "strong"
baseline = "baseline"
end_point = "open_loop 5"

[[controls]]
arm = "strong"
baseline = "baseline"
end_point = "jacobian"
expected = "better"
"""


AGENTS = """
name = "agents"
env = "own:cartpole_pixels"
preset = "tiny"
env_frames = 1200
seeds = [0, 1]
end_points = ["return_area", "final_return", "final_loss"]

[settings]
obs = "proprio"
action_repeat = 10
prefill_policy_steps = 100
eval_every_env_frames = 600
eval_episodes = 1
train_ratio = 32
batch_size = 4
batch_length = 8
log_every_updates = 2
"model.units" = 16
"model.rssm.deter" = 16
"model.rssm.hidden" = 16
pictures = false

[arms.baseline]
[arms.penalty]
"jacobian.weight" = 0.01
"""


def written(folder, text=TEXT):
    path = folder / "study.toml"
    path.write_text(text)
    return path


def rows_for(study, values):
    """Rows from {(arm, end_point): values by seed}."""
    return [
        {
            "arm": arm, "end_point": name, "seed": str(seed), "digest": study.digest,
            "value": repr(value), "standard_error": "0.1", "updates": str(study.updates),
        }
        for (arm, name), row in values.items()
        for seed, value in enumerate(row)
    ]  # fmt: skip
