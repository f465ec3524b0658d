# Sparse R-CNN R50 3x, 300 proposals, short side 480-800 with crops. Release: 4 images a GPU on 4 GPUs, AdamW
# 2.5e-5, clip 1, 36 epochs with steps at 27 and 33. Only for scale paper: it has no section `mini`.
_base_ = "mmdet::sparse_rcnn/sparse-rcnn_r50_fpn_300-proposals_crop-ms-480-800-3x_coco.py"

train_dataloader = dict(batch_size=4)

correlation = dict(head="CorrelationDIIHead", at="model.roi_head.bbox_head", scope="batch")
