"""Correlation Loss in detectors of other libraries: torchvision, transformers and Ultralytics.

Each library has a module with one function, ``with_correlation_loss(model, **settings)``, where ``settings``
are the arguments of `corrloss.CorrelationLoss`. Each module needs torch and its library, and nothing else.
"""
