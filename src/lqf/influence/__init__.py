"""What each training sample does to the model: exact leave-one-out, removal, informativeness."""

from lqf.curvature import Coordinates
from lqf.influence.approximate import fsi_kfac, kfac_leave_one_out, kfac_leverage
from lqf.influence.compressed import CompressedRidge, residual_probes
from lqf.influence.dual import DualRidge, head_gram, head_leverage
from lqf.influence.forgetting import add, removal_effect, remove, removed_coefficients
from lqf.influence.informativeness import (
    eq8_effect,
    fsi_eq8,
    functional_sample_information,
    influence,
)
from lqf.influence.leave_one_out import (
    LeaveOneOut,
    leave_one_out,
    leave_one_out_error,
    leave_one_out_outputs,
    leave_one_out_residuals,
    leverage_blocks,
)
from lqf.influence.uncertainty import (
    predictive_covariance,
    selected_covariance,
    selected_leverage,
)

__all__ = [
    "CompressedRidge",
    "Coordinates",
    "DualRidge",
    "LeaveOneOut",
    "add",
    "eq8_effect",
    "fsi_eq8",
    "fsi_kfac",
    "functional_sample_information",
    "head_gram",
    "head_leverage",
    "influence",
    "kfac_leave_one_out",
    "kfac_leverage",
    "leave_one_out",
    "leave_one_out_error",
    "leave_one_out_outputs",
    "leave_one_out_residuals",
    "leverage_blocks",
    "predictive_covariance",
    "removal_effect",
    "remove",
    "removed_coefficients",
    "residual_probes",
    "selected_covariance",
    "selected_leverage",
]
