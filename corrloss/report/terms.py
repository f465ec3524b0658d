"""Terms and abbreviations of the page, explained."""

TERMS = {
    "AP": "average precision as COCO defines it, mean over ten IoU thresholds, 0 to 100 points. AP50, AP75: "
    "at one threshold. AP_S, AP_M, AP_L: of small, medium and large objects. mask AP: of masks",
    "ΔAP": "the gain: AP with the loss minus AP of the same detector without it, trained from the same seeds",
    "IoU": "intersection over union of a detected and an annotated box, 0 to 1: how well the detection fits",
    "λ": "weight of Correlation Loss in the whole loss; 0 for the baseline",
    "baseline": "the same detector, data, seed and schedule without Correlation Loss; coefficient “none”",
    "positive": "a detection that overlaps an annotated object of its class enough (IoU of at least 0.5)",
    "ρ_img": "Spearman's correlation of score and IoU of an image's positives before post-processing, mean "
    "over images, in points",
    "ρ_cls": "the same for the true positives of a class after post-processing, mean over classes",
    "coefficient": "the correlation in the loss: Concordance (Lin), Pearson or Spearman; the released "
    "Spearman equals Pearson, see “What the soft rank does”",
    "95% interval": "from a bootstrap over test images. With one seed it covers other images and not other "
    "trainings; with several seeds it covers both",
    "seed": "number that fixes a training's initialisation, order of images and augmentation",
    "oLRP": "optimal localisation-recall-precision error, 0 to 100, lower is better",
    "TIDE": "division of errors into classification, localisation, both, duplicates, background and missed",
    "NMS": "non-maximum suppression: removes detections that overlap a better-scored one of their class",
}
