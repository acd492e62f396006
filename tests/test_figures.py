"""validate.figures: numbers against records made by hand, and each figure drawn of a tiny run."""
import json
from types import SimpleNamespace

import numpy
import pytest
import torch
from helpers import POOL, words
from PIL import Image

from utils.formats import Entry, ImageManifest, image_set_digest
from utils.image_sets import open_images
from utils.measures import save_measure
from utils.metrics import student_t
from utils.records import read_json
from validate import figures
from validate.features import Network
from validate.figuring import cosine, curves, embedding, starts, style, teachers, terms
from validate.figuring.figure import SourceFlags
from validate.figuring.runs import NamedRun, names_of, open_runs, split_word, spread_over

pytest_plugins = ["stage_fixtures"]


def set_of(folder, units=(), **saved) -> ImageManifest:
    folder.mkdir(parents=True, exist_ok=True)
    entries = tuple(Entry(f"syn/{k}/{k}_ipc{i:04d}.png", f"{folder}{k}{i}", label)
                    for label, k in enumerate("ab") for i in range(2))
    return ImageManifest(run=folder, dataset="x", class_names=["a", "b"], ipc=2, size=8, mean=(0.5,) * 3,
                         std=(0.5,) * 3, stem="small", entries=entries,
                         saved={"units": list(units), "weights": {}, "config": {}, **saved})


def write_log(folder, *rows) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "log.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))


# ---------------------------------------------------------------- runs and names

def test_words_name_runs_and_their_draws(tmp_path):
    assert split_word("a/x,b/x") == ("", ["a/x", "b/x"]) and split_word("ours=a,b") == ("ours", ["a", "b"])
    assert split_word("out/lr=1") == ("", ["out/lr=1"])
    (tmp_path / "a=b,c").mkdir()
    assert split_word(f"{tmp_path}/a=b,c") == ("", [f"{tmp_path}/a=b,c"])
    assert names_of([("", ["d0/prism", "d1/prism"]), ("", ["d0/sre2l/syn"])]) == ["prism", "sre2l"]
    assert names_of([("", ["/d0/prism"]), ("", ["/d1/prism"]), ("ours", ["/x"])]) == [
        "d0/prism", "d1/prism", "ours"]
    with pytest.raises(ValueError, match="two runs are called a; name them: A=RUN B=RUN"):
        names_of([("a", ["x"]), ("a", ["y"])])


def test_names_of_others_are_shown_as_text():
    assert style.plain("a$b$\n<i>") == "a$b$ <i>" and style.plain("_x") == " _x"
    assert style.plain("x" * 50, 10) == "xxxxxxx..."
    assert figures.file_name("terms", [NamedRun("a/b c", ()), NamedRun("é<", ())]) == "terms_a-b-c_é-"


# ---------------------------------------------------------------- numbers by hand

def test_teachers_are_counted_by_the_records(tmp_path):
    def unit(ipc_id, chunk, **roles):
        return {"ipc_id": ipc_id, "chunk": chunk, "iterations": 4, **roles}
    both = {"aligned": {"r": 4, "m": 2}, "primary": {"r": 4}}
    images = set_of(tmp_path, [unit(0, 0, **both), unit(0, 1, **both),
                               unit(1, 0, aligned={"r": 4}, primary={"s": 4})],
                    weights=dict.fromkeys(("r", "m", "s", "never"), ""),
                    config={"pool": ["s", "r", "m", "other"]})
    run, real = teachers.numbers([NamedRun("A", (images,)), NamedRun("real", (set_of(tmp_path),))])["runs"]
    assert run["networks"] == ["s", "r", "m", "never"] and run["n"] == 3
    assert run["aligned"] == {"s": 0, "r": 3, "m": 2, "never": 0}
    assert run["primary"] == {"s": 1, "r": 2, "m": 0, "never": 0}
    assert run["units"] == [
        {"draw": 0, "index": 0, "chunks": 2, "aligned": {"r": 1.0, "m": 0.5}, "primary": {"r": 1.0}},
        {"draw": 0, "index": 1, "chunks": 1, "aligned": {"r": 1.0}, "primary": {"s": 1.0}}]
    assert real["n"] == 0 and real["networks"] == real["units"] == []


def test_terms_are_over_finished_units(tmp_path):
    def row(ipc_id, step, **values):
        return {"ipc_id": ipc_id, "chunk": 0, "step": step, "elapsed_s": 1.0, **values}
    write_log(tmp_path, row(0, 0, loss=8.0, ce=4), row(1, 0, loss=9), row(1, 0, loss=6.0),
              row(0, 5, loss=4.0), row(1, 5, loss=2.0), {"network": "r", "kept_mb": 1.0},
              row(0, 10, loss=2.0, ce=0.0, done=True), row(2, 0, loss=99.0),
              row(1, 10, loss=1.0, done=True, seconds_per_iteration=1.0, **{"bn/m": 0.0}))
    images = set_of(tmp_path, [{"ipc_id": 0}])
    run, = terms.numbers([NamedRun("A", (images,))])["runs"]
    assert (run["n"], run["unit"], run["at"], run["zero"]) == (2, "iterations", [0, 5, 10], ["bn/m"])
    assert run["terms"] == {
        "loss": {"n": 2, "mean": [7, 3, 1.5],
                 "std": pytest.approx([2 ** 0.5, 2 ** 0.5, 0.5 ** 0.5], rel=1e-5)},
        "ce": {"n": 1, "mean": [4, 2, 0], "std": [None] * 3}}  # logged at 0 and 10


def test_units_of_unequal_lengths_are_compared_by_their_share(tmp_path):
    rows = [{"ipc_id": i, "chunk": 0, "step": step, "loss": loss, "done": step == end}
            for i, end, losses in ((0, 100, {0: 10.0, 100: 0.0}), (1, 10, {0: 20.0, 5: 10.0, 10: 10.0}))
            for step, loss in losses.items()]
    write_log(tmp_path, *rows)
    run, = terms.numbers([NamedRun("A", (set_of(tmp_path, [{"ipc_id": 0}]),))])["runs"]
    mean = dict(zip(run["at"], run["terms"]["loss"]["mean"], strict=True))
    assert run["unit"] == "% of its iterations" and (mean[0], mean[50], mean[100]) == (15, 7.5, 5)
    assert mean[24] == pytest.approx((10 - 2.4 + 20 - 4.8) / 2)


def write_students(folder, losses: dict[int, list[float]], top1: dict[int, dict[int, float]], *,
                   images: str) -> None:
    for seed, values in losses.items():
        seen_at = {epoch: {"top1": value} for epoch, value in top1[seed].items()}
        write_log(folder / f"seed{seed}", *({"epoch": epoch, "loss": loss, **seen_at.get(epoch, {})}
                                            for epoch, loss in enumerate(values)))
        seen = {"epoch": 1, "top1": 0.5, "top5": 0.5}
        (folder / f"seed{seed}" / "result.json").write_text(json.dumps({
            "seed": seed, "last": seen, "best": seen, "config": {"model": "m", "loss_type": "ce"},
            "protocol": {"name": "prism", "changed": []}, "images": images}))


def test_curves_are_over_seeds_or_over_draws(tmp_path):
    a, b = (set_of(tmp_path / name) for name in "AB")
    of_a, of_b = (image_set_digest(list(images.entries)) for images in (a, b))
    write_students(tmp_path / "A" / "hard", {0: [4.0, 2.0], 1: [2.0, 1.0]}, {0: {1: 0.25}, 1: {1: 0.75}},
                   images=of_a)
    write_students(tmp_path / "B" / "hard", {0: [5.0, 3.5]}, {0: {0: 0.1, 1: 1.0}}, images=of_b)
    write_students(tmp_path / "A" / "made_before", {0: [9.0]}, {0: {0: 0.9}}, images=of_b)
    write_log(tmp_path / "A" / "hard" / "seed2", {"epoch": 0, "loss": 99})  # not finished
    student, = curves.numbers([NamedRun("A", (a,))])["runs"][0]["students"]
    assert (student["folder"], student["over"], student["n"], student["model"]) == ("hard", "seeds", 2, "m")
    assert student["loss"] == {"epochs": [0, 1], "mean": [3, 1.5],
                               "std": pytest.approx([2 ** 0.5, 0.5 ** 0.5], rel=1e-5)}
    assert student["top1"] == {"epochs": [1], "mean": [50], "std": [pytest.approx(1250 ** 0.5, rel=1e-5)]}
    student, = curves.numbers([NamedRun("AB", (a, b))])["runs"][0]["students"]
    assert (student["over"], student["n"], student["loss"]["mean"]) == ("draws", 2, [4, 2.5])
    write_students(tmp_path / "B" / "few", {0: [1.0]}, {0: {0: 0.5}}, images=image_set_digest(a.select(1)))
    write_students(tmp_path / "A" / "few", {0: [1.0]}, {0: {0: 0.5}}, images=of_a)
    assert [own["folder"] for own in curves.numbers([NamedRun("AB", (a, b))])["runs"][0]["students"]] == [
        "few", "hard"]  # B's saw other images
    student, = curves.numbers([NamedRun("B", (b,))])["runs"][0]["students"]
    assert student["loss"]["std"] == [None, None]


def test_cosine_is_of_saved_measures_with_an_interval_over_draws(tmp_path):
    draws = tuple(set_of(tmp_path / name) for name in "AB")
    for images, values in zip(draws, ({"a": 0.5, "b": 0.7}, {"a": 0.7, "b": 0.9}), strict=True):
        for arch, taught in (("bad", True), ("good", False)):
            own = {"arch": arch, "taught": taught, "mean": sum(values.values()) / 2, "std": 0.1,
                   "classes": values}
            save_measure(images, f"diversity_{arch}", own, ipc=0, command=f"measure {arch}")
    found = cosine.numbers([NamedRun("A", draws), NamedRun("one", draws[:1])])
    several, one = found["runs"]
    assert found["arch"] == "good" and cosine.numbers([NamedRun("A", draws)], "bad")["arch"] == "bad"
    assert several["mean"] == pytest.approx(0.7) and several["draws"] == pytest.approx([0.6, 0.8])
    half = student_t(1) * 0.2 / 2  # Student's t with one degree of freedom
    assert several["interval"] == pytest.approx([0.7 - half, 0.7 + half])
    assert several["classes"] == pytest.approx({"a": 0.6, "b": 0.8}) and several["ipc"] == 2
    assert one["std"] is one["interval"] is None and one["class_std"] == 0.1
    assert cosine.numbers([NamedRun("none", (set_of(tmp_path / "C"),))]) == {"arch": None, "runs": []}


def test_a_figure_is_of_the_ipc_and_the_network_that_were_just_measured(tmp_path, monkeypatch):
    images = set_of(tmp_path)
    for arch, ipc, mean in (("vgg", 2, 0.5), ("alexnet", 1, 0.25)):
        save_measure(images, f"diversity_{arch}", {"arch": arch, "taught": False, "mean": mean, "std": 0.1,
                                                   "classes": {"a": mean}}, ipc=ipc, command=arch)
    runs = [NamedRun("A", (images,))]
    assert cosine.numbers(runs)["runs"][0]["mean"] == 0.5  # of all images
    assert cosine.numbers(runs, ipc=1)["arch"] == "alexnet" and cosine.numbers(runs, "vgg", 1)["runs"] == []
    network = Network(name="vgg", model=torch.nn.Identity(), taught=False)
    monkeypatch.setattr(cosine, "open_network", lambda *args, **kwargs: network)
    monkeypatch.setattr(cosine, "measure", lambda own, network, config, device: save_measure(
        own, "diversity_vgg", {"mean": 0.75, "std": 0.1, "classes": {"a": 0.75}}, ipc=config.ipc,
        command=f"--dataset {config.dataset} --val-dir {config.val_dir}"))
    flags = SourceFlags(dataset="x", val_dir="y")
    figure = cosine.Cosine(arch_name="vgg", ipc=1).prepare(runs, flags, device=torch.device("cpu"),
                                                           command="")
    run, = figure.numbers(runs)["runs"]
    assert (run["mean"], run["ipc"], run["commands"]) == (0.75, 1, ["--dataset x --val-dir y"])


def test_an_embedding_is_shown_of_the_network_that_was_asked_for(tmp_path, monkeypatch):
    pytest.importorskip("sklearn")
    images, values = set_of(tmp_path), {"taught": False, "method": "t-sne", "points": []}
    save_measure(images, "embedding_alexnet", {**values, "arch": "alexnet", "seed": 0}, ipc=0, command="old")
    network = Network(name="vgg", model=torch.nn.Identity(), taught=False)
    monkeypatch.setattr(embedding, "RealSet", lambda *args, **kwargs: SimpleNamespace(
        check_classes=lambda *args, **kwargs: None))
    monkeypatch.setattr(embedding, "open_network", lambda *args, **kwargs: network)
    monkeypatch.setattr(embedding, "embed", lambda sets, *args, seed, **kwargs: [
        {**values, "arch": "vgg", "seed": seed} for _ in sets])
    runs = [NamedRun("A", (images,))]
    figure = embedding.Embedding(seed=7, ipc=1).prepare(runs, SourceFlags(), device=torch.device("cpu"),
                                                        command="new")
    found = figure.numbers(runs)
    run, = found["runs"]
    assert (found["arch"], run["seed"], run["ipc"], run["command"]) == ("vgg", 7, 1, "new")


def test_starts_are_paired_with_what_was_made_of_them(tiny, tmp_path):
    a = tiny.recover(tmp_path / "a")
    tiny.recover(a / "starts", "--exp-name", "starts", "--iteration", 0)
    b = tiny.recover(tmp_path / "b", "--iteration", 0)
    runs = open_runs([f"A={a}", f"real={b}"])
    found = starts.numbers(runs, cells=4)
    assert found["starts"] == [0, 0]
    assert [cell["class"] for cell in found["images"]] == ["ant", "ant", "cat", "cat"]
    for cell in found["images"]:
        path = f"syn/{cell['class']}/{cell['class']}_ipc{cell['index']:04d}.png"
        mine, theirs = (numpy.asarray(Image.open(run / path), float) / 255 for run in (a, b))
        own, real = cell["made"]
        assert (own["path"], own["start"]) == (str(a / path), str(a / "starts" / "starts" / path))
        assert own["moved"] == pytest.approx(numpy.sqrt(((mine - theirs) ** 2).mean()), rel=1e-5)
        assert own["moved"] > 0 and real["moved"] == 0 and real["start"] == real["path"]
    other = tiny.recover(tmp_path / "c", "--init", "noise", "--seed", 5)
    assert starts.numbers(open_runs([f"A={a}", f"C={other}"]))["starts"] == [0, None]
    assert starts.chosen_cells(1000, 50) == [(k, i) for k in (0, 200, 400, 600, 800) for i in (0, 1)]
    assert starts.chosen_cells(2, 1) == [(0, 0), (1, 0)]


def test_an_embedding_keeps_groups_together_and_is_repeated():
    pytest.importorskip("sklearn")
    rng = numpy.random.default_rng(0)
    centres = numpy.repeat(numpy.eye(8)[:3], 12, axis=0)
    features = centres + 0.02 * rng.normal(size=(36, 8))
    plane = embedding.place(features, method="t-sne", seed=0)
    distance = numpy.linalg.norm(plane[:, None] - plane[None], axis=2)
    same = numpy.repeat(numpy.arange(3), 12)[:, None] == numpy.repeat(numpy.arange(3), 12)
    assert distance[same].max() < distance[~same].min()
    assert (plane == embedding.place(features, method="t-sne", seed=0)).all()
    assert spread_over(1000, 4) == [0, 250, 500, 750]
    assert spread_over(3, 10) == [0, 1, 2]
    with pytest.raises(ValueError, match="6 images are too few to embed"):
        embedding.place(features[:6], method="t-sne", seed=0)


# ---------------------------------------------------------------- the command

@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory):
    """A run with students and with starts made again, that may be written into."""
    made = tiny.recover(tmp_path_factory.mktemp("figures"))
    tiny.relabel(made)
    tiny.validate(made)
    tiny.recover(made / "starts", "--exp-name", "starts", "--iteration", 0)
    return made


@pytest.mark.parametrize("figure, flags, form", [
    ("teachers", [], "png"), ("terms", [], "svg"), ("curves", [], "pdf"), ("starts", ["--images", 4], "png"),
    ("cosine", ["--arch-name", POOL[1]], "png"),
    ("embedding", ["--arch-name", POOL[2], "--classes", 3, "--real-images", 5], "png")])
def test_each_figure_is_drawn_with_its_numbers_beside_it(figure, flags, form, run, tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    argv = words(figure, f"a$b={run}", "--out", tmp_path, "--format", form, "--threads", 1, "--device", "cpu")
    path = figures.main(argv + words(*flags))
    begin = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[form]
    assert path == tmp_path / f"{figure}_a-b.{form}" and path.read_bytes().startswith(begin)
    beside = read_json(path.with_suffix(".json"))
    assert beside["command"].startswith(f"python -m validate.figures {figure} 'a$b={run}'")
    module = {"cosine": cosine, "curves": curves, "embedding": embedding, "starts": starts, "terms": terms,
              "teachers": teachers}[figure]
    more = {"starts": {"cells": 4}, "cosine": {"arch": POOL[1]}, "embedding": {"arch": POOL[2]}}
    runs = [NamedRun("a$b", (open_images(str(run), flag="RUN"),))]
    assert beside["values"] == json.loads(json.dumps(module.numbers(runs, **more.get(figure, {}))))
    if form != "png":  # no date, no identifier of a moment
        first = path.read_bytes()
        assert figures.main(argv + words(*flags)).read_bytes() == first
    if figure == "embedding":
        points = beside["values"]["runs"][0]["points"]
        kinds = [(point["class"], point["kind"]) for point in points]
        assert {kinds.count((name, "real")) for name in ("ant", "bee", "cat")} == {5}
        assert {kinds.count((name, "distilled")) for name in ("ant", "bee", "cat")} == {2}
        assert len(points) == 21


@pytest.mark.parametrize("argv, error", [
    ([], "expected a run: python -m validate.figures FIGURE RUN"),
    (["cosine"], "expected a run"),
    (["cosin", "x"], "cosin is no figure; expected one of embedding, cosine,"),
    (["terms", "nowhere"], "RUN nowhere: "), (["terms", "x,x"], "x,x: a folder is listed twice"),
    (["terms", "x", "--classes", "3"], "--classes is of --figure embedding"),
    (["starts", "x", "--images", "0"], "--images must be in [1, 100], got 0")])
def test_bad_words_are_refused(argv, error, refused, monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    assert error in refused(figures.main, argv) and not list(tmp_path.iterdir())


def test_what_is_missing_is_said_in_one_line(refused, monkeypatch, run, tmp_path):
    monkeypatch.setattr(figures.style.importlib.util, "find_spec", lambda name: None)
    assert "bash scripts/setup.sh figures" in refused(figures.main, ["terms", run, "--out", tmp_path])
    with pytest.raises(ValueError, match="scikit-learn .* bash scripts/setup.sh figures"):
        embedding.method_at_hand()


def test_what_has_nothing_to_show_says_so(tmp_path):
    pytest.importorskip("matplotlib")
    runs = [NamedRun("A", (set_of(tmp_path),))]
    for module, error in ((teachers, "no run has units that drew networks"), (curves, "no finished students"),
                          (terms, "no run has logged terms"), (cosine, "was not measured by one network"),
                          (embedding, "not embedded")):
        with pytest.raises(ValueError, match=error):
            module.draw(module.numbers(runs))
