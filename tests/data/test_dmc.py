"""DeepMind Control: names, seeds, ends, replay, drawing."""

import os
import sys

import numpy as np
import pytest

from sdewm.data.dmc import DmcEnv, dmc_tasks
from sdewm.data.envs import make_env
from sdewm.data.wrappers import Position, episode_seed
from tests.child_process import run
from tests.data.opengl_here import needs_opengl

TASKS = ["cartpole_swingup", "walker_walk", "quadruped_walk"]


def make(name, obs="proprio", *, render="fast", seed=0, index=0, action_repeat=2):
    return make_env(
        f"dmc:{name}", obs=obs, action_repeat=action_repeat, render=render, seed=seed, index=index
    )


def play(env, steps, seed=0):
    """Rows of random actions, and the actions."""
    actions = np.random.default_rng(seed).uniform(-1, 1, (steps, *env.action_space.shape))
    actions = actions.astype(np.float32)
    return [env.step(action)[:2] for action in actions], actions


def same(rows, others):
    return all(
        np.array_equal(row[0], other[0]) and row[1] == other[1]
        for row, other in zip(rows, others, strict=True)
    )


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("ball_in_cup_catch", ("ball_in_cup", "catch")),
        ("cartpole_swingup_sparse", ("cartpole", "swingup_sparse")),
        ("point_mass_easy", ("point_mass", "easy")),
        ("humanoid_CMU_run", ("humanoid_CMU", "run")),
        ("quadruped_walk", ("quadruped", "walk")),
    ],
)
def test_domain_and_task_are_told_apart(name, parts):
    assert dmc_tasks()[name] == parts


def test_every_task_of_the_suite_has_a_name():
    from dm_control import suite

    assert sorted(dmc_tasks().values()) == sorted(suite.ALL_TASKS)


@pytest.mark.parametrize(
    ("given", "near"), [("walker_wlak", "walker_walk"), ("cartpole_swing_up", "cartpole_swingup")]
)
def test_an_unknown_task_is_refused_with_the_nearest_name(given, near):
    with pytest.raises(ValueError, match=f"did you mean '{near}'"):
        DmcEnv(given, render="full", pixels=False, seed=0)


@pytest.mark.parametrize(
    ("name", "sizes"), [("walker_walk", (24, 6)), ("quadruped_walk", (78, 12))]
)
def test_observations_are_all_entries_in_order(name, sizes):
    env = make(name)
    observation, _ = env.reset()
    assert (observation.shape, env.action_space.shape) == ((sizes[0],), (sizes[1],))
    assert observation.dtype == np.float32
    parts = env.unwrapped.task.get_observation(env.unwrapped.physics)
    expected = np.concatenate([np.ravel(part) for part in parts.values()])
    np.testing.assert_allclose(observation, expected, rtol=1e-6)


# One task of each domain, and all that observe other entries: what "positions" leaves out.
VELOCITIES = {
    "acrobot_swingup": ["velocity"],
    "ball_in_cup_catch": ["velocity"],
    "cartpole_swingup": ["velocity"],
    "cheetah_run": ["velocity"],
    "dog_run": ["joint_velocites", "torso_com_velocity", "inertial_sensors"],
    "finger_turn_hard": ["velocity"],
    "fish_swim": ["velocity"],
    "hopper_hop": ["velocity"],
    "humanoid_run": ["com_velocity", "velocity"],
    "humanoid_run_pure_state": ["velocity"],
    "humanoid_CMU_run": ["com_velocity", "velocity"],
    "lqr_lqr_6_2": ["velocity"],
    "manipulator_insert_peg": ["arm_vel", "object_vel"],
    "pendulum_swingup": ["velocity"],
    "point_mass_hard": ["velocity"],
    "reacher_hard": ["velocity"],
    "stacker_stack_4": ["arm_vel", "box_vel"],
    "swimmer_swimmer6": ["body_velocities"],
    "walker_walk": ["velocity"],
}


@pytest.mark.parametrize("name", VELOCITIES)
def test_positions_leave_out_all_velocities_and_nothing_else(name):
    full = DmcEnv(name, render="fast", pixels=False, seed=0)
    env = DmcEnv(name, render="fast", pixels=False, seed=0, velocities=False)
    assert [entry for entry in full.entries if entry not in env.entries] == VELOCITIES[name]
    env.reset(seed=0)
    assert env.observation_space.shape == env.step(env.action_space.sample())[0].shape

    def differs(entries):
        found = env.task.get_observation(env.physics)
        return [not np.array_equal(found[entry], before[entry]) for entry in entries]

    before = env.task.get_observation(env.physics)
    # Other velocities at the same place: `forward` also computes forces, which depend on them.
    env.physics.data.qvel[:] += 0.1
    env.physics.forward()
    forces = {"touch", "foot_forces", "touch_sensors"}
    assert not any(differs(entry for entry in env.entries if entry not in forces))
    assert all(differs(VELOCITIES[name]))  # negative control


def test_every_domain_is_listed_or_refused_without_velocities():
    mixed = {"quadruped"}
    assert {dmc_tasks()[name][0] for name in VELOCITIES} | mixed == {
        d for d, _ in dmc_tasks().values()
    }
    for name in ("quadruped_walk", "quadruped_fetch", "dog_fetch"):
        with pytest.raises(ValueError, match=f"{name} observes .*_state, positions and velocities"):
            make(name, "positions")
        DmcEnv(name, render="fast", pixels=False, seed=0)


def test_actions_reach_the_bounds_of_the_task():
    env = make("quadruped_walk", action_repeat=1)
    env.reset()
    env.step(np.ones(12, np.float32))
    assert env.unwrapped.physics.data.ctrl.tolist() == [1, 1.1, 0.8] * 4
    env.step(-np.ones(12, np.float32))
    assert env.unwrapped.physics.data.ctrl.tolist() == [-1, -1, -0.8] * 4


@pytest.mark.parametrize("name", TASKS)
def test_seed_environment_and_episode_decide_the_first_episodes(name):
    def first_states(seed, index):
        env = make(name, seed=seed, index=index)
        return [env.reset()[0] for _ in range(3)]

    rows = first_states(0, 0)
    assert all(np.array_equal(a, b) for a, b in zip(rows, first_states(0, 0), strict=True))
    others = [*rows, *first_states(1, 0), *first_states(0, 1)]
    assert len({row.tobytes() for row in others}) == 9


@pytest.mark.parametrize("name", TASKS)
def test_an_episode_is_recovered_bitwise_by_playing_it_again(name):
    env = make(name)
    for episode in range(3):  # what earlier episodes did must leave no trace
        env.reset()
        play(env, 20, seed=episode)
    env.reset()
    rows, actions = play(env, 40, seed=9)
    other = make(name)
    found = other.restore([Position(0, 3, actions[:25], False)])
    assert found is not None and same([found], [rows[24]])
    assert same([other.step(action)[:2] for action in actions[25:]], rows[25:])
    # One action changed by one part in a million is seen.
    wrong = actions[:25].copy()
    wrong[3] *= np.float32(1 + 1e-6)
    assert not same([make(name).restore([Position(0, 3, wrong, False)])], [rows[24]])


def test_an_episode_of_a_thousand_steps_is_cut_off_at_policy_step_500():
    env = make("cartpole_swingup")
    env.reset()
    ends = [env.step(np.zeros(1, np.float32))[2:4] for _ in range(500)]
    assert ends[-1] == (False, True)
    assert set(ends[:-1]) == {(False, False)}
    # With 3 simulator steps per policy step, the last of 334 has only one.
    env = make("cartpole_swingup", action_repeat=3)
    env.reset()
    steps = [env.step(np.zeros(1, np.float32)) for _ in range(334)]
    assert steps[-1][3] and not steps[-2][3]
    assert env.unwrapped.physics.time() == pytest.approx(10.0, abs=1e-6)


@pytest.mark.parametrize(("discount", "ends"), [(0.0, (True, False)), (1.0, (False, True))])
def test_discount_zero_is_terminal_and_the_time_limit_is_not(monkeypatch, discount, ends):
    env = make("walker_walk", action_repeat=1)
    env.reset()
    assert env.step(np.zeros(6, np.float32))[2:4] == (False, False)
    monkeypatch.setattr(env.unwrapped.task, "get_termination", lambda physics: discount)
    assert env.step(np.zeros(6, np.float32))[2:4] == ends


def test_unlimited_actions_are_refused():
    with pytest.raises(ValueError, match="lqr_2_1.*finite bounds"):
        make("lqr_lqr_2_1")


def count_drawings(monkeypatch):
    from dm_control.mujoco import engine

    counts, render = [], engine.Camera.render
    monkeypatch.setattr(
        engine.Camera, "render", lambda *a, **k: counts.append(1) or render(*a, **k)
    )
    monkeypatch.setattr(
        engine.Physics, "_make_rendering_contexts", lambda *a: counts.append(1) or original(*a)
    )
    return counts


original = None


def test_nothing_is_drawn_for_vectors(monkeypatch):
    from dm_control.mujoco import engine

    monkeypatch.setitem(globals(), "original", engine.Physics._make_rendering_contexts)
    counts = count_drawings(monkeypatch)
    env = make("walker_walk")
    env.reset()
    play(env, 10)
    assert counts == []


@needs_opengl
def test_one_frame_is_drawn_for_each_row_of_pixels(monkeypatch):
    from dm_control.mujoco import engine

    monkeypatch.setitem(globals(), "original", engine.Physics._make_rendering_contexts)
    counts = count_drawings(monkeypatch)
    env = make("walker_walk", "pixels")
    env.reset()
    rows, actions = play(env, 10)
    assert len(counts) == 1 + 11  # the drawing context, and the rows
    assert rows[0][0].shape == (64, 64, 3) and rows[0][0].dtype == np.uint8
    env.get_wrapper_attr("restore")([Position(0, 0, actions, False)])
    assert len(counts) == 12
    env.close()


@needs_opengl
@pytest.mark.parametrize(("name", "camera"), [("walker_walk", 0), ("quadruped_walk", 2)])
def test_full_frames_are_the_published_ones(name, camera):
    env = make(name, "pixels", render="full")
    frame, _ = env.reset()
    published = env.unwrapped.physics.render(height=64, width=64, camera_id=camera)
    other = env.unwrapped.physics.render(height=64, width=64, camera_id=1)
    assert np.array_equal(frame, published)
    assert not np.array_equal(frame, other)
    env.close()


@needs_opengl
def test_frames_are_copies_and_change_nothing():
    env, blind = make("walker_walk", "pixels"), make("walker_walk")
    first, _ = env.reset()
    kept = first.copy()
    blind.reset()
    frames, _ = play(env, 10)
    rows, _ = play(blind, 10)
    assert np.array_equal(first, kept) and not np.array_equal(frames[-1][0], kept)
    state, other = env.unwrapped.physics.get_state(), blind.unwrapped.physics.get_state()
    assert np.array_equal(state, other)
    assert [frame[1] for frame in frames] == [row[1] for row in rows]
    env.close()


@needs_opengl
def test_fast_frames_show_the_same_body():
    frames = {}
    for render in ("full", "fast"):
        env = make("walker_walk", "pixels", render=render)
        frames[render], _ = env.reset()
        env.close()
    # The body is orange: much red, little blue; sky and floor are blue.
    body = {name: frame[:, :, 0] > frame[:, :, 2] + 30.0 for name, frame in frames.items()}
    assert body["full"].sum() > 30
    overlap = (body["full"] & body["fast"]).sum() / (body["full"] | body["fast"]).sum()
    assert overlap > 0.7


@pytest.mark.parametrize("broken", ["egl", pytest.param("", marks=pytest.mark.slow)])
def test_without_opengl_pixels_say_what_to_install_and_vectors_work(broken):
    # No vendor library for EGL, no OSMesa: as on a machine with no OpenGL.
    program = (
        "import sys, ctypes.util\n"
        "from sdewm.data.envs import make_env\n"
        "make = lambda obs: make_env('dmc:walker_walk', obs=obs, action_repeat=2,\n"
        "                            render='fast', seed=0, index=0)\n"
        "env = make('proprio'); env.reset(); print(env.step(env.action_space.sample())[0].shape)\n"
        "try: make('pixels')\n"
        "except RuntimeError as problem: print(problem)\n"
    )
    environment = {name: None for name in os.environ if name.startswith(("SDEWM", "MUJOCO"))}
    environment |= {"__EGL_VENDOR_LIBRARY_FILENAMES": "/nonexistent", "MUJOCO_GL": broken or None}
    if not broken:
        environment["PYOPENGL_PLATFORM"] = "egl"  # so that an installed OSMesa is not taken
    ended = run(sys.executable, "-W", "error", "-c", program, environment=environment)
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert lines[0] == "(24,)"
    for part in ("libegl1", "libosmesa6", "MUJOCO_GL=egl", "proprio", "own:cartpole_pixels"):
        assert part in lines[1]
    assert len(lines) == 2


def test_models_drawn_by_the_suite_come_from_the_seed():
    seeds = [episode_seed(0, index, 0) for index in (0, 1)]
    assert seeds[0] != seeds[1]
    env = make("swimmer_swimmer6")
    first = env.reset()[0]
    assert np.array_equal(first, make("swimmer_swimmer6").reset()[0])
    assert not np.array_equal(first, make("swimmer_swimmer6", index=1).reset()[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(dmc_tasks()) - set(TASKS)))
def test_every_task_recovers_bitwise(name):
    if name.startswith("lqr"):
        pytest.skip("refused: unlimited actions")
    if name == "quadruped_escape":
        pytest.skip("draws its hills with OpenGL")
    env = make(name, action_repeat=1)
    env.reset()
    play(env, 5, seed=1)
    env.reset()
    rows, actions = play(env, 10)
    other = make(name, action_repeat=1)
    found = other.restore([Position(0, 1, actions[:7], False)])
    assert found is not None and same([found], [rows[6]])
    assert same([other.step(action)[:2] for action in actions[7:]], rows[7:])
