"""What makes or downloads data: the synthetic sets, COCO, Cityscapes, published weights.

Imports numpy, Pillow and the COCO and Cityscapes tools; never torch or mmdet, so every step here starts
in a fraction of a second, and runs on a machine that cannot train.
"""
