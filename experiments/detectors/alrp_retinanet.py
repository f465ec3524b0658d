# RetinaNet R50 with aLRP Loss on GIoU, self-balancing, SGD 0.008, all else as for AP Loss, as in aLRP Loss's
# release. The release of Correlation Loss has no recipe.
_base_ = "./ap_loss_retinanet.py"

optim_wrapper = dict(optimizer=dict(lr=0.008))
model = dict(
    bbox_head=dict(
        reg_decoded_bbox=True,
        loss_cls=dict(_delete_=True, type="ALRPLoss", use_sigmoid=True),
        loss_bbox=dict(_delete_=True, type="GIoULoss", loss_weight=1.0),
        balance=dict(period=3665, initial=50.0),  # iterations of an epoch: 117,266 images in batches of 32
    )
)

correlation = dict(head="CorrelationALRPRetinaHead")

mini = dict(model=dict(bbox_head=dict(balance=dict(period=50))))  # about an epoch of mini_coco
