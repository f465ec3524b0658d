"""A copy of the workflow with one small table at scale smoke, and a way to call Snakemake in it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
TABLE = {
    "title": "Two detectors",
    "data": "coco",
    "metrics": ["AP", "AP50", "mask_AP"],
    "rows": [
        {
            "detector": "retinanet",
            "variants": [{"coefficient": "none"}, {"coefficient": "spearman", "weight": 0.1}],
        },
        {"detector": "yolact", "variants": [{"coefficient": "none"}]},
    ],
}


class Project:
    """The copy; its only table is called ``pair``."""

    def __init__(self, folder: Path, table: dict = TABLE) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        for name in ("Snakefile", "config", "workflows", "experiments", "environment.yml"):
            source = ROOT / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
        (folder / "profiles").symlink_to("workflows/profiles")
        for path in (folder / "experiments" / "tables").glob("*.yaml"):
            path.unlink()
        self.write_table(table)

    def write_table(self, table: dict) -> None:
        text = yaml.safe_dump(table)
        (self.folder / "experiments" / "tables" / "pair.yaml").write_text(text)

    def start(self, *arguments: str, config: tuple[str, ...] = ()) -> subprocess.Popen:
        """Start Snakemake, in a session of its own; ``config`` are further settings."""
        bin_folder = Path(sys.executable).parent
        environment = {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            [bin_folder / "snakemake", *arguments, "--config", "scale=smoke", *config],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def snakemake(self, *arguments: str, config: tuple[str, ...] = ()) -> subprocess.CompletedProcess:
        """Run Snakemake to its end."""
        process = self.start(*arguments, config=config)
        output, _ = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, output)
