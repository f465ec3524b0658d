"""Measures of stored detections: AP, correlation, orders of scores, error types, intervals and verdicts.

Reads files only; knows numpy, scipy and COCO tools, never the detector that made the files.
"""
