"""Measures of stored detections: AP, correlation, orders of scores, error types, intervals and verdicts.

Reads files only; imports numpy, scipy and COCO tools, never torch or mmdet.
"""
