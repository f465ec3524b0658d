"""From the files of ``experiments/`` to runs and resolved configs; imports YAML and mmengine's Config."""
