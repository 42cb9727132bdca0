"""Balancing of per-task gradients at the shared representation, inside the one backward pass.

Three lines in any PyTorch model::

    layer = BalancingLayer(create_balancer("multibalance", num_tasks=3))
    losses = [loss(head(h), y) for head, h, y in zip(heads, layer(representation), labels)]
    sum(losses).backward()

It needs torch and NumPy, and imports nothing else of the project.
"""

from dlrm_mtl.balancing.algebra.simplex import min_norm_point, project_to_simplex
from dlrm_mtl.balancing.cut import Mixture
from dlrm_mtl.balancing.layer import BalancingLayer
from dlrm_mtl.balancing.methods.balancer import Balancer
from dlrm_mtl.balancing.methods.class_reference import MissingModuleError
from dlrm_mtl.balancing.methods.create import available_balancers, balancer_options, create_balancer
from dlrm_mtl.balancing.methods.loss_weighting import LossWeighting
from dlrm_mtl.balancing.methods.multibalance import MultiBalance
from dlrm_mtl.balancing.methods.static import Mean, Static, Sum
from dlrm_mtl.balancing.parameter_level import ParameterLevelLayer

__all__ = [
    "Balancer",
    "BalancingLayer",
    "LossWeighting",
    "Mean",
    "MissingModuleError",
    "Mixture",
    "MultiBalance",
    "ParameterLevelLayer",
    "Static",
    "Sum",
    "available_balancers",
    "balancer_options",
    "create_balancer",
    "min_norm_point",
    "project_to_simplex",
]
