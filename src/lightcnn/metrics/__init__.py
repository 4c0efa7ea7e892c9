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
from lightcnn.metrics.identification import dir_at_far, identification_rates, search
from lightcnn.metrics.intervals import eer_interval
from lightcnn.metrics.tandem import ASVErrorRates, TandemCosts, a_dcf, asv_error_rates, min_t_dcf, t_eer
from lightcnn.metrics.verification import (
    FoldAccuracy,
    accuracy_threshold,
    cosine_similarity,
    l2_normalize,
    mean_minus_std,
    pair_scores,
    tar_at_far,
    verification_accuracy,
)

__all__ = [
    "ASVErrorRates",
    "DetectionCosts",
    "FoldAccuracy",
    "TandemCosts",
    "a_dcf",
    "accuracy",
    "accuracy_threshold",
    "act_dcf",
    "asv_error_rates",
    "bayes_threshold",
    "calibration_bins",
    "cllr",
    "confusion_matrix",
    "cosine_similarity",
    "cross_entropy",
    "det_curve",
    "dir_at_far",
    "eer",
    "eer_interval",
    "eer_per_group",
    "effective_prior",
    "expected_calibration_error",
    "identification_rates",
    "l2_normalize",
    "mean_minus_std",
    "min_cllr",
    "min_dcf",
    "min_t_dcf",
    "pair_scores",
    "precision_recall",
    "search",
    "t_eer",
    "tar_at_far",
    "top_k_accuracy",
    "verification_accuracy",
]
