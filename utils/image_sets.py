"""A distilled set as any command takes it: a run of recover."""
from utils.formats import ImageManifest, assemble_manifest, run_folder


def open_images(path: str, *, flag: str, dataset: str = "", val_dir: str = "",
                write: bool = True) -> ImageManifest:
    """The set that a path names.

    Args:   flag: which named it;  dataset, val_dir: of a set that says neither data set nor class names
            itself;  write: its manifest, where that is ours and has changed.
    Raises: FileNotFoundError or ValueError naming the flag, what is there and what was expected.
    """
    return assemble_manifest(run_folder(path, flag=flag), write=write)
