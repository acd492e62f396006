"""The same networks trained on all real images with hard labels: what HLR measures a set against."""
from pathlib import Path

from models import train_teachers
from utils.files import sha256_json
from utils.flags import to_words
from utils.formats import ImageManifest
from utils.pieces import Values
from utils.records import Teacher, find_record, read_record
from utils.runtime import hushed, say
from validate.controls import command_line_of

NOT_RECIPE = ("dataset", "seed", "threads")


def teacher_recipe(weights_dir: str, names: tuple[str, ...]) -> Values:
    """How the first of these networks was trained, by its record; empty where none has one."""
    records = (find_record(Path(weights_dir, f"{name}.json"), Teacher) for name in names)
    recipe = next((record["recipe"] for record in records if record and record.get("recipe")), {})
    return {name: value for name, value in recipe.items() if name not in NOT_RECIPE and value is not None}


def train_on_all(images: ImageManifest, models: tuple[str, ...], *, seed: int, out: Path, recipe: Values,
                 places: Values, more: list[str]) -> tuple[dict[str, float], str]:
    """Trains networks on all real images, those that are not there, in a folder below `out`.

    Args:    recipe: flat settings of models.train_teachers, over its defaults;  places: where data and
             devices are;  more: words behind all, which win.
    Returns: network -> percent of the test images that it gets right; the command.
    """
    about = {name: getattr(images, name) for name in ("dataset", "size", "mean", "std", "stem")}
    values = {**recipe, **about, "seed": seed}
    folder = out / f"seed{seed}_{sha256_json([values, more, places['threads']])[:8]}"
    words = to_words({**values, "output_dir": folder, "models": models, **places}) + more
    say(f"all real images, seed {seed}: {', '.join(models)}")
    with hushed():
        train_teachers.main(words)
    return ({model: 100 * read_record(folder / f"{model}.json", Teacher)["accuracy"] for model in models},
            command_line_of("models.train_teachers", words))
