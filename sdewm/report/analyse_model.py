"""The analyses of anyone's world model on anyone's episodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdewm.base.checks import check_choice, check_count
from sdewm.data.recorded_episodes import Episodes, check_rows
from sdewm.latent_sde.inputs import episode_inputs
from sdewm.latent_sde.model_contract import require_model
from sdewm.latent_sde.model_parts import REMEDIES
from sdewm.latent_sde.models import LatentModel, as_latent_model
from sdewm.model.world_model import WorldModel

if TYPE_CHECKING:
    from sdewm.report.subject import Subject


def analyse(
    model: WorldModel | LatentModel,
    episodes: Episodes | Path | str,
    *,
    out: Path | str,
    only: Iterable[str] | None = None,
    seed: int = 0,
    settings: Mapping[str, Mapping[str, object]] | None = None,
) -> list[Path]:
    """Check the theorems on a world model: five analyses, each with a table, a figure, a summary.

    The analyses are those of `sdewm analyse`: "error" (S28), "expansion", "divergence", "open_loop"
    and "stability" (S10, S26). Summaries are printed, and a page shows all that are finished.
    Results that need a decoder, a reward head, a critic or a policy that the model does not have
    are left out, with the reason. A finished analysis is read from its table if model, episodes,
    settings, seed and code are the same; models are told apart by their tensors, and by what their
    functions return on the first rows of the episodes.

    Args:
        model: a `WorldModel` or any `LatentModel`, such as a `StepModel`, in float64.
        episodes: an `Episodes`, or the directory of a dataset of `sdewm record` or `sdewm import`.
        out: folder of the figures and of report.html; tables are written to its subfolder data.
        only: names of the analyses to run; None: all.
        seed: root seed of each analysis.
        settings: values that differ from the defaults, by the name of the analysis and the setting,
            for example {"stability": {"steps": 50}}; `sdewm analyse --help` lists them.

    Returns:
        The paths of the files; the last one is the page.

    Raises:
        ValueError: a name or value that is not allowed, episodes that are too few or too short for
            the settings, or what `sdewm.check_model` finds in the model; before any work.
    """
    from sdewm.report.analyses import ANALYSES, run_analyses  # matplotlib, a second to import

    if isinstance(only, str):
        raise ValueError(f"only={only!r}: expected names in a list, such as [{only!r}].")
    names = [check_choice("only", name, ANALYSES) for name in only or ()] or [*ANALYSES]
    check_count("seed", seed, minimum=0)
    chosen = {}
    for name in settings or {}:
        check_choice("settings", name, ANALYSES)
    for name, analysis in ANALYSES.items():
        given = (settings or {}).get(name, {})
        if not isinstance(given, Mapping):
            raise ValueError(f"settings[{name!r}]={given!r}: expected values by name, as a dict.")
        plain = {field.name: field.default for field in fields(analysis.settings)}
        for key in given:
            check_choice(f"settings[{name!r}]", key, [*plain])
        own = {
            key: _whole(value) if type(plain[key]) is int else value for key, value in given.items()
        }
        chosen[name] = analysis.settings(**own)
    subject = model_subject(model, episodes)
    return run_analyses(subject, Path(out), chosen, names, seed)


def _whole(value: Any) -> Any:
    """A whole number that is given as a float, such as 6.0, as 6; all else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def model_subject(
    model: object,
    episodes: Episodes | Path | str,
    *,
    name: str | None = None,
    identity: Mapping[str, Any] | None = None,
) -> Subject:
    """A world model with its episodes as the analyses take them.

    Args:
        model: the model.
        episodes: in memory, or the directory of a dataset.
        name: of the model; None: its type.
        identity: facts that identify the model besides its weights and outputs.

    Raises:
        ValueError: not a model, no episodes, or a model that does not take these episodes.
    """
    from sdewm.report.model_identity import outputs_digest, weights_digest_of
    from sdewm.report.subject import DatasetEpisodes, GivenEpisodes, Subject

    latent = as_latent_model(model)
    if isinstance(episodes, (str, Path)):
        source: Any = DatasetEpisodes(Path(episodes))
        first = source.whole(2)
    else:
        check_rows(episodes, 1)
        source, first = GivenEpisodes(episodes), episodes
    there = tuple(part for part in REMEDIES if getattr(latent, part, None) is not None)
    require_model(latent, episode_inputs(first), prior=True, parts=there)
    title = name or type(model).__name__
    facts = {
        "model": title,
        **(identity or {}),
        "weights": weights_digest_of(latent),
        "outputs": outputs_digest(latent, first),
    }
    return Subject(f"Analysis of {title}", f"the world model {title}", latent, source, facts)
