"""What a set of scores is worth. NumPy (and SciPy for one fit): scores in, fractions out."""

from lightcnn.metrics.classification import (
    accuracy,
    calibration_bins,
    confusion_matrix,
    cross_entropy,
    expected_calibration_error,
    precision_recall,
    top_k_accuracy,
)
from lightcnn.metrics.detection import (
    DetectionCosts,
    act_dcf,
    bayes_threshold,
    cllr,
    det_curve,
    eer,
    eer_per_group,
    effective_prior,
    min_cllr,
    min_dcf,
)
from lightcnn.metrics.intervals import eer_interval
from lightcnn.metrics.tandem import ASVErrorRates, TandemCosts, a_dcf, asv_error_rates, min_t_dcf, t_eer

__all__ = [
    "ASVErrorRates",
    "DetectionCosts",
    "TandemCosts",
    "a_dcf",
    "accuracy",
    "act_dcf",
    "asv_error_rates",
    "bayes_threshold",
    "calibration_bins",
    "cllr",
    "confusion_matrix",
    "cross_entropy",
    "det_curve",
    "eer",
    "eer_interval",
    "eer_per_group",
    "effective_prior",
    "expected_calibration_error",
    "min_cllr",
    "min_dcf",
    "min_t_dcf",
    "precision_recall",
    "t_eer",
    "top_k_accuracy",
]
