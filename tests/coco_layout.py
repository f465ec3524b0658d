"""Made images in the layout of the real COCO."""

import json

from PIL import Image

from corrloss.coco.published import COCO_CATEGORIES
from corrloss.data.mini_coco import make_mini_coco


def made_coco(folder, train_images=60):
    """mini_coco's images as JPEG under COCO's names, with COCO's categories, of which four are used."""
    make_mini_coco(folder / "mini", train_images=train_images, val_images=8, seed=1)
    (folder / "annotations").mkdir()
    for part in ("train", "val"):
        document = json.loads((folder / "mini" / "annotations" / f"instances_{part}.json").read_text())
        (folder / f"{part}2017").mkdir()
        for image in document["images"]:
            name = f"{image['id']:012d}.jpg"
            source = folder / "mini" / part / image["file_name"]
            Image.open(source).save(folder / f"{part}2017" / name, quality=95)
            image |= {
                "file_name": name,
                "coco_url": f"http://images.cocodataset.org/{part}2017/{name}",
            }
        document["categories"] = [{"id": i, "name": name} for i, name in COCO_CATEGORIES.items()]
        path = folder / "annotations" / f"instances_{part}2017.json"
        path.write_text(json.dumps(document))
