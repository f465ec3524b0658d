# RS-ATSS R50 1x: Rank & Sort Loss, no centerness. Release: 3 anchors a location, 4 images per GPU on 4 GPUs,
# SGD 0.008, positives pooled over the batch.
_base_ = "./atss.py"

optim_wrapper = dict(optimizer=dict(lr=0.008))
model = dict(
    bbox_head=dict(
        anchor_generator=dict(octave_base_scale=4, scales_per_octave=3),
        loss_cls=dict(_delete_=True, type="RankSortLoss", use_sigmoid=True),
        loss_bbox=dict(loss_weight=1.0),  # its weight is derived from the ranking loss
    )
)

correlation = dict(head="CorrelationRankSortATSSHead")

mini = dict(
    epochs=5,
    model=dict(
        bbox_head=dict(anchor_generator=dict(octave_base_scale=2)),
        test_cfg=dict(score_thr=0.02),  # in so short a training scores stay near their initial value, 0.01
    ),
)
