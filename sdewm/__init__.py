"""World models as stochastic differential equations: error expansions, bounds and checks.

Theorems on stochastic differential equations:

    Perturbation        an error drift and an error diffusion added to a system
    expand              small-noise expansion of the expected loss, term by term
    term_bounds         bounds on the terms of the expansion
    fundamental_matrix  growth of infinitesimal differences: measured, exact and bounded
    lyapunov_exponents  mean exponential growth rates of infinitesimal differences
    rollout_divergence  distance between two rollouts from different initial states
    rollout_bounds      bounds on that distance, by grade
    value_expansion     bias of a value function caused by an error in the initial state
    check_system        what is wrong with a system, an error or a loss, with a remedy each
    certify             proven Lipschitz constants, curvatures and logarithmic norms of networks
    ray_workers         a context in which Monte Carlo sums are computed on a Ray cluster

The same theorems on trained world models:

    as_system                     a world model and its inputs as a stochastic system
    check_model                   what is wrong with a world model, with a remedy each
    RSSM                          a recurrent state-space model, given by its functions
    StepModel                     any world model, given by its step and its encoder
    LatentModel                   what the analyses ask of a world model
    Episodes                      recorded episodes
    encoder_error, tabled_error   errors of the encoder as perturbations of that system
    measure_representation_error  drift and diffusion of the encoder's error on recorded episodes
    measure_transition_error      drift and diffusion between prior and posterior
    expand_on_model               change of a model's loss under that error, term by term
    diverge_on_model              divergence of imagination from an erroneous latent, with bounds
    enclose_rollouts              proven bounds on that divergence, for a ball of errors
    value_bias_on_model           the resulting bias of the critic's value
    analyse                       all of this at once: tables, figures, summaries, a page

The penalty, for any trainer:

    jacobian_penalty              mean squared Frobenius norm of the Jacobian of a step function
    check_step                    what is wrong with a step, with a remedy each
"""

from sdewm.base.stats import Estimate as Estimate
from sdewm.certificates.certificate import Certificate as Certificate
from sdewm.certificates.certificate import certify as certify
from sdewm.data.recorded_episodes import Episodes as Episodes
from sdewm.jacobian.penalty import jacobian_penalty as jacobian_penalty
from sdewm.jacobian.step_contract import check_step as check_step
from sdewm.latent_sde.errors import encoder_error as encoder_error
from sdewm.latent_sde.errors import tabled_error as tabled_error
from sdewm.latent_sde.model_contract import check_model as check_model
from sdewm.latent_sde.models import LatentModel as LatentModel
from sdewm.latent_sde.models import StepModel as StepModel
from sdewm.latent_sde.rssm import RSSM as RSSM
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
from sdewm.report.analyse_model import analyse as analyse
from sdewm.sde.contract import check_system as check_system
from sdewm.sde.ray_workers import ray_workers as ray_workers
from sdewm.theory.bounds.fundamental_matrix import fundamental_matrix as fundamental_matrix
from sdewm.theory.bounds.rollout_bounds import rollout_bounds as rollout_bounds
from sdewm.theory.bounds.term_bounds import term_bounds as term_bounds
from sdewm.theory.curve import Curve as Curve
from sdewm.theory.expansion.expand import expand as expand
from sdewm.theory.expansion.perturbation import Perturbation as Perturbation
from sdewm.theory.flow.lyapunov import lyapunov_exponents as lyapunov_exponents
from sdewm.theory.flow.rollout_divergence import rollout_divergence as rollout_divergence
from sdewm.theory.flow.rollout_enclosure import enclose_rollouts as enclose_rollouts
from sdewm.theory.flow.value_expansion import value_expansion as value_expansion
from sdewm.theory.verdict import Verdict as Verdict

__version__ = "0.1.0"
