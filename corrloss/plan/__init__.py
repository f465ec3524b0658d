"""From the files of ``experiments/`` to runs and their resolved configs; knows YAML and mmengine's Config."""
