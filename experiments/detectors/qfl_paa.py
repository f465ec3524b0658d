# PAA without its IoU branch whose classifier learns the IoU of its box by Quality Focal Loss. No release with
# Correlation Loss: 4 images per GPU on 4 GPUs, SGD 0.01, as the release trains PAA.
_base_ = "./paa.py"

model = dict(
    bbox_head=dict(
        loss_cls=dict(_delete_=True, type="QualityFocalLoss", use_sigmoid=True, beta=2.0),
        # Ranks the candidates in PAA's reassignment, as in plain PAA.
        loss_candidates=dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25),
    )
)

correlation = dict(head="CorrelationQFLPAAHead")
