"""Other views of a minimum: Hessian, SAM-sharpness and the local learning coefficient, as checks on its volume."""

from minima_volume.curvature.hessian import MeanLoss
from minima_volume.curvature.learning_coefficient import LearningCoefficient, learning_coefficient
from minima_volume.curvature.sam_sharpness import Sharpness, sam_sharpness
from minima_volume.curvature.spectrum import Spectrum, top_eigenvalues
from minima_volume.curvature.trace import Trace, hessian_trace
from minima_volume.curvature.views import OtherViews, ViewSettings, other_views

__all__ = [
    "LearningCoefficient",
    "MeanLoss",
    "OtherViews",
    "Sharpness",
    "Spectrum",
    "Trace",
    "ViewSettings",
    "hessian_trace",
    "learning_coefficient",
    "other_views",
    "sam_sharpness",
    "top_eigenvalues",
]
