"""What a valid COCO annotation or detection is: schema, reading, the check of a data set, masks, submission.

Knows numpy, msgspec and the COCO tools; never torch or mmdet.
"""
