"""Pictures of a run: open-loop predictions compared with the truth, and an episode as a GIF."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageDraw

from sdewm.data.envs import make_env
from sdewm.data.observations import frames_of_both
from sdewm.train.agent import Agent
from sdewm.train.config import Config

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CONTEXT, LENGTH = 5, 50  # of open-loop predictions, in policy steps
FRAMES = 12  # columns of a strip of frames
COMPONENTS = 9  # panels of a vector's plot
ENLARGE = 3  # sides of GIF frames, in pixels per pixel
MOST_GIF_FRAMES = 250
SECONDS_PER_FRAME = 0.04
CONTEXT_COLOUR = (30, 120, 220)
LEFT, ABOVE = 40, 12  # margins of a strip for names and step numbers, in pixels


def draw_open_loop(agent: Agent, episode: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """Picture of an open-loop prediction of the first 50 rows of an episode.

    Args:
        agent: the agent whose world model predicts.
        episode: rows of the episode, (T, …) per field.

    Returns:
        (H, W, 3) uint8; None if the episode is too short to predict anything.
    """
    length = min(LENGTH, len(episode["reward"]))
    if length <= CONTEXT:
        return None
    device = agent.config.device
    batch = {name: torch.as_tensor(x[:length])[None].to(device) for name, x in episode.items()}
    predicted = agent.open_loop(batch, CONTEXT)
    truth, model = (predicted[name][0].float().cpu().numpy() for name in ("truth", "model"))
    if agent.config.obs == "both":
        truth, model = frames_of_both(truth), frames_of_both(model)
    return open_loop_picture(truth, model, CONTEXT)


def episode_frames(config: Config, episode: Mapping[str, np.ndarray], seed: int) -> np.ndarray:
    """The frames of the first episode of an evaluation, (T, height, width, 3) uint8.

    A run with vector observations has no frames: its actions are replayed in an environment that
    renders.

    Args:
        config: configuration of the run.
        episode: rows of the first episode of environment 0.
        seed: seed of the evaluation.

    Raises:
        ValueError: the environment cannot be rendered.
        RuntimeError: rendering needs OpenGL, and none works.
    """
    if config.obs == "pixels":
        return episode["observation"]
    if config.obs == "both":
        return (255 * frames_of_both(episode["observation"])).round().astype(np.uint8)
    if config.env.startswith("gym:"):
        raise ValueError(f"{config.env} has no frames apart from its observations.")
    env = make_env(
        config.env,
        obs="pixels",
        action_repeat=config.action_repeat,
        render="fast",
        seed=seed,
        index=0,
    )
    try:
        frames = [env.reset()[0]]
        frames += [env.step(action)[0] for action in episode["previous_action"][1:]]
    finally:
        env.close()
    return np.stack(frames)


def open_loop_picture(truth: np.ndarray, model: np.ndarray, context: int) -> np.ndarray:
    """An open-loop prediction: truth, model and their difference.

    Frames are drawn as a strip with three labelled rows below the step numbers: truth, model, and
    error (model − truth + 1)/2, which is mid-grey where the error is zero. The observed steps of
    the context have blue numbers and a blue line below. Vectors are drawn in one panel per
    component (at most nine) with truth, model and error over the steps, the context shaded.

    Args:
        truth: (T, height, width, 3) in [0, 1], or (T, D).
        model: the same shape.
        context: number of first steps that the model observed; the later ones are predicted.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: shapes that differ or are neither of these.

    >>> grey = np.full((20, 64, 64, 3), 0.5)
    >>> open_loop_picture(grey, grey, context=5).shape
    (206, 808, 3)
    """
    if truth.shape != model.shape or truth.ndim not in (2, 4):
        raise ValueError(
            f"truth {truth.shape} and model {model.shape}: expected two equal shapes, "
            "(T, height, width, 3) or (T, D)."
        )
    draw = _strip if truth.ndim == 4 else _panels
    return draw(np.asarray(truth, np.float64), np.asarray(model, np.float64), context)


def save_picture(path: Path, image: np.ndarray) -> None:
    """Write (H, W, 3) uint8 as PNG; the folder is created if missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def save_gif(path: Path, frames: np.ndarray) -> None:
    """Write (T, height, width, 3) uint8 as an endless GIF of at most 250 frames.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_gif(Path(folder) / "a.gif", np.random.default_rng(0).integers(
    ...         0, 255, (500, 8, 8, 3), dtype=np.uint8))
    ...     with Image.open(Path(folder) / "a.gif") as image:
    ...         image.n_frames, image.size
    (250, (24, 24))
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    every = -(-len(frames) // MOST_GIF_FRAMES)
    size = (frames.shape[2] * ENLARGE, frames.shape[1] * ENLARGE)
    images = [
        Image.fromarray(frame).resize(size, Image.Resampling.NEAREST) for frame in frames[::every]
    ]
    duration = int(1000 * SECONDS_PER_FRAME * every)
    images[0].save(path, save_all=True, append_images=images[1:], duration=duration, loop=0)


def _strip(truth: np.ndarray, model: np.ndarray, context: int) -> np.ndarray:
    steps = np.unique(np.linspace(0, len(truth) - 1, FRAMES).round().astype(int))
    error = (model - truth + 1) / 2
    rows = [np.concatenate(list(part[steps]), axis=1) for part in (truth, model, error)]
    marks = np.full((2, rows[0].shape[1], 3), 1.0)
    for place, step in enumerate(steps):
        if step < context:
            width = truth.shape[2]
            marks[:, place * width : (place + 1) * width] = np.array(CONTEXT_COLOUR) / 255
    image = np.concatenate([*rows, marks])
    return _with_names((np.clip(image, 0, 1) * 255).round().astype(np.uint8), steps, context)


def _with_names(strip: np.ndarray, steps: np.ndarray, context: int) -> np.ndarray:
    """The strip with the names of its rows at the left and the step of each column above."""
    canvas = Image.new("RGB", (strip.shape[1] + LEFT, strip.shape[0] + ABOVE), "white")
    canvas.paste(Image.fromarray(strip), (LEFT, ABOVE))
    pen, height, width = ImageDraw.Draw(canvas), strip.shape[0] // 3, strip.shape[1] // len(steps)
    for row, name in enumerate(("truth", "model", "error")):
        pen.text((3, ABOVE + row * height + height // 2), name, fill="black", anchor="lm")
    for column, step in enumerate(steps):
        colour = CONTEXT_COLOUR if step < context else "black"
        place = LEFT + column * width + width // 2
        pen.text((place, 0), f"t = {step}" if column == 0 else str(step), fill=colour, anchor="mt")
    return np.array(canvas)


def _panels(truth: np.ndarray, model: np.ndarray, context: int) -> np.ndarray:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import
    from matplotlib.figure import Figure

    shown = min(truth.shape[1], COMPONENTS)
    columns = min(shown, 3)
    rows = -(-shown // columns)
    figure = Figure(figsize=(3.2 * columns, 0.5 + 1.8 * rows), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    panels: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).flat)
    for place, panel in enumerate(panels):
        if place >= shown:
            panel.set_axis_off()
            continue
        panel.axvspan(-0.5, context - 0.5, color="0.9")
        panel.plot(truth[:, place], color="black", label="truth")
        panel.plot(model[:, place], color="tab:blue", label="model")
        panel.plot(model[:, place] - truth[:, place], color="tab:red", lw=0.8, label="error")
        panel.set_title(f"component {place} of {truth.shape[1]}", fontsize=8)
        panel.tick_params(labelsize=7)
    panels[0].legend(fontsize=7)
    figure.supxlabel("policy steps (grey: observed by the model)", fontsize=8)
    buffer = io.BytesIO()
    canvas.print_png(buffer)
    with Image.open(buffer) as image:
        return np.array(image.convert("RGB"))
