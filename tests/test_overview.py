"""A comparison at a glance: means, spreads, and what pairs differ by, worked out by hand."""
from comparison_files import cell, write

from scripts.comparing.overview import overview
from scripts.comparing.read import read_comparison


def test_a_line_a_method_then_the_pairs(tmp_path):
    path = write(tmp_path / "a.json", [
        cell("random", "usual", [30, 32, 34], hard=[20, 20, 20], work=(0.0, 0.0, 1.0)),
        cell("random", "prism", [40, 42, 44]), cell("random", "random", [40, 42, 44]),
        cell("herding", "usual", [31, None, 35], hard=[20, 20, 20]),
        cell("prism", "usual", [29, 32, 36], hard=[24, 25, 26]),
        cell("prism", "prism", [44, 47, 50], work=(2.0, 1.5, 0.5)),
        cell("sre2l", "usual", [20, None, None], hard=[1, 1, 1])])
    head, line, *rows = overview(read_comparison([path]), ipc=10, pairs=[
        ("prism", "random"), ("prism", "sre2l")]).splitlines()
    assert head == "| digits, 10 images a class, n = 3 draws | soft labels, own protocol " \
                   "| soft labels, usual for all | hard labels | TFLOPs of a draw |"
    assert line == "|---|---|---|---|---|"
    assert rows == [
        "| prism | 47.0 +- 3.0 | 32.3 +- 3.5 | 25.0 +- 1.0 | 4.0 |",
        "| sre2l | - | 20.0 (n = 1) | 1.0 (n = 1) | - |",
        "| random, real images | 42.0 +- 2.0 | 32.0 +- 2.0 | 20.0 +- 0.0 | 2.0 |",
        "| herding, real images | - | 33.0 +- 2.8 (n = 2) | 20.0 +- 0.0 (n = 2) | - |",
        # 4, 5, 6: mean 5, 4.303 / sqrt(3) = 2.48;  -1, 0, 2: 1/3, s.e. sqrt(7 / 9), 3.79
        "| prism - random, paired (95 %) | **+5.0 (+2.5 to +7.5)** | +0.3 (-3.5 to +4.1) "
        "| **+5.0 (+2.5 to +7.5)** |  |",
        "| prism - sre2l, paired (95 %) | - | +9.0 | +23.0 |  |"]


def test_a_variant_of_real_images_stands_with_them(tmp_path):
    path = write(tmp_path / "a.json", [
        cell("longer", "longer", [50, 52]), cell("prism", "prism", [44, 46]),
        cell("random", "random", [40, 42])],
        variants={"longer": {"method": "herding", "relabel": {"epochs": 600}}})
    rows = overview(read_comparison([path]), ipc=10, pairs=()).splitlines()[2:]
    assert rows == ["| prism | 45.0 +- 1.4 | 2.0 |", "| longer, real images | 51.0 +- 1.4 | 2.0 |",
                    "| random, real images | 41.0 +- 1.4 | 2.0 |"]


def test_random_real_images_stand_with_a_variants_labels_and_students(tmp_path):
    path = write(tmp_path / "a.json", [
        cell("random", "random", [40, 42]), cell("random", "prism", [40, 42]),
        cell("random", "longer", [45, 47], work=(0.0, 2.0, 1.5)),
        cell("random", "longer-too", [45, None], work=(0.0, 2.0, 1.5)), cell("random", "half", [40, 42]),
        cell("prism", "prism", [44, 46]), cell("half", "half", [43, 45]), cell("longer", "longer", [50, 52]),
        cell("longer-too", "longer-too", [51, None])],
        variants={"longer": {"method": "prism", "relabel": {"epochs": 600}},
                  "longer-too": {"method": "herding", "relabel": {"epochs": 600}},
                  "half": {"method": "prism", "recover": {"iteration": 4}}})
    rows = overview(read_comparison([path]), ipc=10, pairs=()).splitlines()[2:]
    assert rows[-2:] == ["| longer-too, real images | 51.0 (n = 1) | 2.0 |",
                         "| random, as longer | 46.0 +- 1.4 | 3.5 |"]
