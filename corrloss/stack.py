"""The installed stack of mmdet: OpenMMLab's packages, or OneDL's fork of them under the same import names."""

from importlib.metadata import PackageNotFoundError, version

ONEDL = {"mmcv": "onedl-mmcv", "mmdet": "onedl-mmdetection", "mmengine": "onedl-mmengine"}


def version_of(package: str) -> str:
    """Version of an installed package, by its import name, without importing it.

    Returns:
        The version, for example ``3.3.0``; of a package of OneDL's with its name: ``3.5.1 (onedl)``.

    Raises:
        importlib.metadata.PackageNotFoundError: The package is not installed.
    """
    try:
        return version(package)
    except PackageNotFoundError:
        if package not in ONEDL:
            raise
        return f"{version(ONEDL[package])} (onedl)"
