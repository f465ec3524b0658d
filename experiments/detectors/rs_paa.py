# RS-PAA R50 1x: Rank & Sort Loss, no IoU branch. Release: 3 anchors a location, 4 images per GPU on 4 GPUs,
# SGD 0.008, positives pooled over the batch.
_base_ = "./paa.py"

optim_wrapper = dict(optimizer=dict(lr=0.008))
model = dict(
    bbox_head=dict(
        anchor_generator=dict(octave_base_scale=4, scales_per_octave=3),
        loss_cls=dict(_delete_=True, type="RankSortLoss", use_sigmoid=True),
        # Ranks the candidates in PAA's reassignment; a ranking loss has no value for a single candidate.
        loss_candidates=dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25),
        loss_bbox=dict(loss_weight=1.0),  # its weight is derived from the ranking loss
    )
)

correlation = dict(head="CorrelationRankSortPAAHead")

mini = dict(
    epochs=4,
    model=dict(
        bbox_head=dict(anchor_generator=dict(octave_base_scale=2)),
        test_cfg=dict(score_thr=0.02),  # in so short a training scores stay near their initial value, 0.01
    ),
)
