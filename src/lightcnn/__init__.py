"""Light CNNs for Keras 3: small convolutional networks with the Max-Feature-Map activation.

Every name below is imported when it is first used; `import lightcnn` itself only looks which Keras backend there is.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lightcnn.backends import choose_backend

if TYPE_CHECKING:
    from lightcnn.bootstrapping import bootstrap
    from lightcnn.errors import LightCNNError
    from lightcnn.evaluation import evaluate
    from lightcnn.exporting import export
    from lightcnn.importing import convert
    from lightcnn.inference import Predictor
    from lightcnn.layers import MaxFeatureMap, MFMConv2D, MFMDense, ResidualMFMBlock
    from lightcnn.models import lcnn, load_model, save_model
    from lightcnn.recipes import get_recipe
    from lightcnn.runs import Recipe, Run, compare
    from lightcnn.scoring import score
    from lightcnn.training import train

__version__ = "0.1.0"

__all__ = [
    "LightCNNError",
    "MFMConv2D",
    "MFMDense",
    "MaxFeatureMap",
    "Predictor",
    "Recipe",
    "ResidualMFMBlock",
    "Run",
    "__version__",
    "bootstrap",
    "compare",
    "convert",
    "evaluate",
    "export",
    "get_recipe",
    "lcnn",
    "load_model",
    "save_model",
    "score",
    "train",
]

_HOME = {
    "LightCNNError": "errors",
    "MFMConv2D": "layers",
    "MFMDense": "layers",
    "MaxFeatureMap": "layers",
    "Predictor": "inference",
    "Recipe": "runs",
    "ResidualMFMBlock": "layers",
    "Run": "runs",
    "bootstrap": "bootstrapping",
    "compare": "runs",
    "convert": "importing",
    "evaluate": "evaluation",
    "export": "exporting",
    "get_recipe": "recipes",
    "lcnn": "models",
    "load_model": "models",
    "save_model": "models",
    "score": "scoring",
    "train": "training",
}
_MODULES = {
    "alignment",
    "article",
    "augmentation",
    "bootstrapping",
    "calibration",
    "datasets",
    "decoding",
    "detection",
    "errors",
    "evaluation",
    "exporting",
    "frontends",
    "importing",
    "inference",
    "layers",
    "losses",
    "metrics",
    "models",
    "optimizers",
    "recipes",
    "reporting",
    "runs",
    "runtimes",
    "schedules",
    "scoring",
    "training",
    "verification",
}

choose_backend()  # before anybody imports Keras; it only looks which packages there are


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"lightcnn.{name}")
    if name in _HOME:
        return getattr(import_module(f"lightcnn.{_HOME[name]}"), name)
    raise AttributeError(f"module 'lightcnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_MODULES})
