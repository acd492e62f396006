"""Measures of a set lie beside it, of exactly these images."""
import json

from utils import verify
from utils.image_sets import open_images
from utils.measures import command_of, read_measures, save_measure
from validate.diversity import DiversityConfig

pytest_plugins = ["stage_fixtures"]


def test_a_measure_is_of_its_images_alone(tiny, tmp_path):
    run = tiny.recover(tmp_path)
    images = open_images(str(run), flag="--data")
    path = save_measure(images, "diversity_x", {"mean": 0.5}, ipc=1, command="python -m validate.x")
    found = read_measures(images, "diversity")["diversity_x"]
    assert found["values"] == {"mean": 0.5} and found["ipc"] == 1 and found["versions"]
    assert ("whole", path) in verify.verify(run) and read_measures(images, "other") == {}
    path.write_text(json.dumps({**found, "images": "of others"}))
    assert read_measures(images) == {}


def test_a_command_says_what_was_given():
    config = DiversityConfig(data=("a run",), ipc=3)
    words = command_of("validate.diversity", config, lambda given: {})
    assert words == "python -m validate.diversity --data 'a run' --ipc 3"
