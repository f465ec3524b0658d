# ATSS without centerness whose classifier learns the IoU of its box by Quality Focal Loss. No release with
# Correlation Loss: 4 images per GPU on 4 GPUs, SGD 0.01, as the release trains ATSS.
_base_ = "./atss.py"

model = dict(
    bbox_head=dict(loss_cls=dict(_delete_=True, type="QualityFocalLoss", use_sigmoid=True, beta=2.0))
)

correlation = dict(head="CorrelationQFLATSSHead")
