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

The code works in fractions; percent only where a number is shown.
Data flow, one way: params/*.yaml -> Study -> Runs -> predictions on disk -> measures -> table or figure.
"""

__version__ = "0.1.0"
