"""kdlib: what knowledge distillation changes for classes, groups and individuals.

Symbols, kept everywhere
    N, C, R         test samples, classes, runs
    logits          (N, C) float, a model's output before the softmax
    labels          (N,) int, 0 .. C-1; in a binary task class 1 is the positive one
    groups          (N,) the value of a sensitive feature for each sample
    T               temperature of the softmax, > 0
    alpha           weight of the distillation term, 0 .. 1; the label term has 1 - alpha
    teacher         the large model
    NDS             non-distilled student: the small model trained on labels alone
    DS              distilled student: the small model trained on labels and a teacher
    #SC, #TC        classes significantly different between NDS and DS, teacher and DS
    DPD, EOD        demographic parity difference, equalized odds difference, 0 .. 1

The code works in fractions; percentages appear only where numbers are shown.
Data flow, one way: params/*.yaml -> Study -> Runs -> predictions on disk -> measures -> table or figure.
"""

from pkgutil import resolve_name

__version__ = "0.1.0"

# Where each public name lives. It is loaded when it is first used, so that `import kdlib` is quick and needs no torch.
PUBLIC = {
    "Predictions": "kdlib.predictions:Predictions",
    "audit": "kdlib.auditing:audit",
    "class_bias": "kdlib.measure.class_bias",
    "collect": "kdlib.predictions.collect:collect",
    "distillation_loss": "kdlib.losses:distillation_loss",
    "fairness": "kdlib.measure.fairness",
    "load_profile": "kdlib.studies:load_profile",
    "read_table": "kdlib.predictions.user_table:read_table",
    "train": "kdlib.training.sweep:train",
}
__all__ = list(PUBLIC)


def __getattr__(name: str) -> object:
    """A public name (PEP 562). Raises AttributeError for any other."""
    if name not in PUBLIC:
        raise AttributeError(f"module 'kdlib' has no attribute {name!r}; it has {', '.join(PUBLIC)}")
    return resolve_name(PUBLIC[name])


def __dir__() -> list[str]:
    return sorted([*globals(), *PUBLIC])
