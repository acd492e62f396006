"""Images of the sets as thumbnails in the page: as many, and as large, as its bytes allow."""
import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from utils.pictures import decode_image, open_image
from validate.figuring.runs import spread_over
from validate.reporting.parts import Grid, Row, Tile
from validate.reporting.sets import Draw, ImageSet

MARKUP = 420  # bytes of HTML around a thumbnail, at most, its texts left aside
NATIVE = 64  # pixels up to which an image that is shown larger keeps its pixels apart
STRIP, SMALL = 10, 96  # images of the first screen, and their side [pixels]
SAMPLE = 24  # images by which a layout's bytes are estimated


class Layout(NamedTuple):
    """Side of a thumbnail [pixels] and images a class at most."""

    side: int
    columns: int


# The layouts that are tried, the best first; the last one with ever fewer classes.
LAYOUTS = tuple(Layout(*own) for own in (
    (224, 10), (160, 10), (128, 10), (96, 10), (96, 6), (80, 4), (64, 3), (64, 2), (64, 1)))


def encode(path: Path, side: int) -> str:
    """An image as a data URI, its longer side at most `side` pixels; small files as they are."""
    content = path.read_bytes()
    with open_image(path) as picture:
        kind = (picture.format or "").lower()
        as_it_is = max(picture.size) <= side and kind in ("png", "jpeg") and len(content) <= side * side // 2
    if not as_it_is:
        small, file, kind = decode_image(path), io.BytesIO(), "jpeg"
        small.thumbnail((side, side))
        small.save(file, "JPEG", quality=82)
        content = file.getvalue()
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


class Place(NamedTuple):
    """One image of a set's first draw."""

    draw: Draw
    path: str
    label: int


def places_of(own: ImageSet) -> dict[int, list[Place]]:
    """Class -> its images in the first draw."""
    found: dict[int, list[Place]] = {}
    for entry in own.draws[0].images.entries:
        found.setdefault(entry.label, []).append(Place(own.draws[0], entry.path, entry.label))
    return found


def choose_layout(sets: Sequence[ImageSet], budget: int) -> tuple[Layout, int]:
    """The best layout whose thumbnails fit into `budget` bytes, and how many classes it shows."""
    every = [places_of(own) for own in sets]
    num_classes = sets[0].images.num_classes
    longest = max(len(name.encode()) for name in sets[0].images.class_names)
    for layout in LAYOUTS:
        shown = [place for own in every for places in own.values() for place in places[:layout.columns]]
        some = [shown[i] for i in spread_over(len(shown), SAMPLE)]
        each = 1.15 * sum(len(load(place, layout.side)) for place in some) / max(1, len(some))
        each += MARKUP + 6 * longest  # which is escaped, and said more than once
        if each * len(shown) <= budget:
            return layout, num_classes
    return layout, min(num_classes, int(budget / each / max(1, len(shown)) * num_classes))


def load(place: Place, side: int) -> str:
    """An image's data URI."""
    return encode(place.draw.images.run / place.path, side)


def make_grids(sets: Sequence[ImageSet], budget: int) -> tuple[list[Grid], str]:
    """A grid a set, within `budget` bytes; and what is shown of how much, in words."""
    layout, classes = choose_layout(sets, budget)
    images = sets[0].images
    if classes < 1:
        return [], "The page has no room for images: its tables fill it."
    chosen = spread_over(images.num_classes, classes)
    grids = [_grid(i, own, chosen, layout) for i, own in enumerate(sets)]
    num = max((len(row.tiles) for grid in grids for row in grid.rows), default=0)
    which = "every class" if classes == images.num_classes else \
        f"{classes:,} of {images.num_classes:,} classes, spread evenly"
    seed = sets[0].draws[0].config.get("seed")
    draw = f" of the first draw (seed {seed})" if any(len(own.draws) > 1 for own in sets) else ""
    first = "the first image" if num == 1 else f"the first {num} images"
    return grids, f"A row a class: {which}; {first} of each{draw}. " \
                  f"A click, or Enter, shows an image larger."


def make_strip(own: ImageSet) -> Grid:
    """The first image of up to ten classes, spread evenly, in one row for the first screen."""
    places, images = places_of(own), own.images
    chosen = [places[k][0] for k in spread_over(images.num_classes, STRIP) if places.get(k)]
    tiles = [Tile(id=f"strip-{place.label}", uri=load(place, SMALL), text=images.class_names[place.label])
             for place in chosen]
    caption = f"{own.name}: the first image of " + (
        "every class" if len(tiles) == images.num_classes else f"{len(tiles)} classes")
    return Grid(id="strip", caption=caption, rows=[Row(id="strip-row", name=own.name, tiles=tiles)],
                native=min(images.size, SMALL) <= NATIVE, open=True)


def _grid(number: int, own: ImageSet, chosen: Sequence[int], layout: Layout) -> Grid:
    places, names = places_of(own), own.images.class_names
    rows = [Row(id=f"i{number}-{k}", name=names[k], tiles=[
        Tile(id=f"i{number}-{k}-{i}", uri=load(place, layout.side),
             text=f"{own.name}, class {names[k]}, image {i}")
        for i, place in enumerate(places.get(k, [])[:layout.columns])]) for k in chosen]
    native = min(own.images.size, layout.side) <= NATIVE
    return Grid(id=f"g{number}", caption=own.name, rows=rows, native=native, open=own.kind == "distilled")
