"""Images held out of training data: every image once, in its class, with its pixels."""
import numpy
import pytest
from helpers import write_data
from PIL import Image

from scripts import hold_out
from utils.data import RealSet

pytest_plugins = ["stage_fixtures"]


def pixels(root, split: str) -> dict[str, list[bytes]]:
    return {folder.name: sorted(numpy.asarray(Image.open(path).convert("RGB")).tobytes()
                                for path in folder.iterdir()) for folder in (root / split).iterdir()}


def test_every_image_is_in_one_part_of_its_class(tmp_path):
    data = write_data(tmp_path / "pets")
    words = ["--dataset", f"folder:{data}", "--share", "0.3", "--out"]
    made = hold_out.main([*words, str(tmp_path / "a")])
    train, test, every = pixels(made, "train"), pixels(made, "test"), pixels(data, "train")
    for name, own in every.items():
        assert len(test[name]) == round(0.3 * len(own)) and sorted(train[name] + test[name]) == own
    again = hold_out.main([*words, str(tmp_path / "b")])
    assert pixels(again, "test") == test
    other = hold_out.main([*words, str(tmp_path / "c"), "--seed", "1"])
    assert pixels(other, "test") != test
    assert len(RealSet(f"folder:{made}", "", "val", size=8)) == sum(map(len, test.values()))


def test_what_cannot_be_held_out_is_refused_before_anything_is_written(tmp_path, refused):
    data = write_data(tmp_path / "pets")
    words = ["--dataset", f"folder:{data}"]
    assert "--out is missing" in refused(hold_out.main, words)
    assert "is there already" in refused(hold_out.main, [*words, "--out", data])
    assert "leaves none" in refused(hold_out.main, [*words, "--out", tmp_path / "x", "--share", "0.99"])
    assert {path.name for path in tmp_path.iterdir()} == {"pets"}
    with pytest.raises(ValueError, match="class 3 has 1 images"):
        hold_out.held_out([4], share=0.5, seed=0, k=3)
