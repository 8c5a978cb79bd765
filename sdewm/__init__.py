"""World models as stochastic differential equations: error expansions, bounds and checks.

The public surface of the theory half:

    Perturbation        an error drift and an error diffusion added to a system
    expand              the small-noise expansion of the expected loss, term by term
    term_bounds         bounds of its terms
    fundamental_matrix  growth of small differences: measured, exact, bounded
    lyapunov_exponents  mean growth rates of small differences along trajectories
    rollout_divergence  distance of two rollouts from different initial states
    rollout_bounds      its bounds, grade by grade
    value_expansion     the bias of a value function under a wrong initial state
    certify             proven Lipschitz constants, curvatures and logarithmic norms of networks

Its bridge to trained world models:

    as_system                     a world model with its inputs as a system of the theory
    StepModel                     anybody's world model, by its step and its encoder
    encoder_error, tabled_error   errors of the encoder as perturbations of that system
    measure_representation_error  drift and diffusion of the encoder's error on recorded episodes
    expand_on_model               the change of a model's loss under that error, term by term
    diverge_on_model              how far a wrong latent carries its imagination, and every bound
    value_bias_on_model           what that does to the critic's value
"""

import importlib
from typing import TYPE_CHECKING, Any

from sdewm.base.stats import Estimate as Estimate
from sdewm.certificates.certificate import Certificate as Certificate
from sdewm.certificates.certificate import certify as certify
from sdewm.theory.bounds.fundamental_matrix import fundamental_matrix as fundamental_matrix
from sdewm.theory.bounds.rollout_bounds import rollout_bounds as rollout_bounds
from sdewm.theory.bounds.term_bounds import term_bounds as term_bounds
from sdewm.theory.curve import Curve as Curve
from sdewm.theory.expansion.expand import expand as expand
from sdewm.theory.expansion.perturbation import Perturbation as Perturbation
from sdewm.theory.flow.lyapunov import lyapunov_exponents as lyapunov_exponents
from sdewm.theory.flow.rollout_divergence import rollout_divergence as rollout_divergence
from sdewm.theory.flow.value_expansion import value_expansion as value_expansion
from sdewm.theory.verdict import Verdict as Verdict

if TYPE_CHECKING:
    from sdewm.data.recorded_episodes import Episodes as Episodes
    from sdewm.latent_sde.errors import encoder_error as encoder_error
    from sdewm.latent_sde.errors import tabled_error as tabled_error
    from sdewm.latent_sde.models import StepModel as StepModel
    from sdewm.latent_sde.system import as_system as as_system
    from sdewm.model_theorems.divergence import diverge_on_model as diverge_on_model
    from sdewm.model_theorems.expansion import expand_on_model as expand_on_model
    from sdewm.model_theorems.representation_error import (
        measure_representation_error as measure_representation_error,
    )
    from sdewm.model_theorems.representation_error import (
        measure_transition_error as measure_transition_error,
    )
    from sdewm.model_theorems.value_bias import value_bias_on_model as value_bias_on_model

__version__ = "0.1.0"

# The bridge is loaded when it is first asked for: whoever checks a theorem need not wait for it.
_BRIDGE = {
    "Episodes": "evaluate.episodes",
    "StepModel": "latent_sde.models",
    "as_system": "latent_sde.system",
    "diverge_on_model": "evaluate.model_divergence",
    "encoder_error": "latent_sde.errors",
    "expand_on_model": "evaluate.model_expansion",
    "measure_representation_error": "evaluate.representation_error",
    "measure_transition_error": "evaluate.representation_error",
    "tabled_error": "latent_sde.errors",
    "value_bias_on_model": "evaluate.model_value",
}


def __getattr__(name: str) -> Any:
    if name in _BRIDGE:
        return getattr(importlib.import_module(f"sdewm.{_BRIDGE[name]}"), name)
    raise AttributeError(f"module 'sdewm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_BRIDGE})
