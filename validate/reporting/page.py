"""The page: its sections in order, as HTML, below a size.

Jinja2 writes it (an extra, requirements-report.txt); every value is escaped, since names of classes and
folders are other people's.
"""
import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path

from utils.formats import ImageManifest
from utils.runtime import versions
from validate.reporting import curves, evaluated, facts, measured
from validate.reporting.headline import EVALUATE, Headline, headline, score_block, verdict_block, verdicts_of
from validate.reporting.parts import Block, Grid, Section, Table, thin
from validate.reporting.scores import find_tests, score
from validate.reporting.sets import Draw, ImageSet, count_real
from validate.reporting.thumbnails import make_grids, make_strip

FOLDER = Path(__file__).parent
MOST_BYTES = 4_900_000  # of the whole page, which stays below 5 MB
MOST_ROWS = (100_000, 1000, 300, 100)  # of a table, the first at which half of the page is left for images


def write_page(sets: Sequence[ImageSet], *, command: str) -> str:
    """The whole page; its images take what the rest of it leaves of MOST_BYTES.

    Raises: ValueError without Jinja2.
    """
    run = run_words(sets[0].images)
    real_images = known_real(sets)
    head = headline(sets, real_images, run=run)
    every, strip = sections_of(sets, head, real_images), make_strip(sets[0])
    for most in MOST_ROWS:
        sections = [thin(section, most) for section in every]
        rest = len(render(head, sections, strip, command=command).encode())
        if rest <= MOST_BYTES / 2:
            break
    share = 1.0
    while True:
        grids, says = make_grids(sets, int(share * (MOST_BYTES - rest)))
        images = Section(id="images", title="The images", text=[says], grids=grids)
        page = render(head, [*sections[:1], images, *sections[1:]], strip, command=command)
        if len(page.encode()) <= MOST_BYTES or not grids:
            return page
        share *= 0.8  # images of these classes are larger than those that were looked at


def known_real(sets: Sequence[ImageSet]) -> int | None:
    """How many real training images there are, by whatever says so."""
    whole = next((int(own.size) for own in sets if own.kind == "whole"), None)
    said = [measure["values"].get("real_images") for own in sets for draw in own.draws
            for name, measure in draw.measures.items() if name.startswith("memorisation_")]
    return whole or count_real(sets[0].images.dataset) or next(filter(None, said), None)


def render(head: Headline, sections: Sequence[Section], strip: Grid, *, command: str) -> str:
    """HTML by the templates beside this file."""
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError as error:
        raise ValueError("the report needs jinja2, which is not installed; bash scripts/setup.sh report "
                         "gives it") from error
    environment = Environment(loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True)
    return environment.get_template("page.html.jinja").render(
        head=head, sections=sections, strip=strip, command=command,
        versions=", ".join(f"{name} {version}" for name, version in versions().items()))


# ---------------------------------------------------------------- sections

def sections_of(sets: Sequence[ImageSet], head: Headline, real_images: int | None) -> list[Section]:
    """Every section that there is something to say in; images come between the first and the second."""
    tests = find_tests(list(sets))
    optional = [measured.diversity(sets), measured.memorisation(sets), measured.privacy(sets),
                curves.student_curves(sets), curves.loss_terms(sets), curves.drawn_teachers(sets),
                measured.embedded(sets)]
    made = facts.how_made(sets, tests)
    return [scores(sets, head), made, facts.from_what(sets, real_images), facts.cost(sets),
            *filter(None, optional), *filter(None, [missing(sets)])]


def scores(sets: Sequence[ImageSet], head: Headline) -> Section:
    """Every test's accuracies with their controls, and the differences."""
    blocks: list[Block] = []
    for test in find_tests(list(sets)):
        found = [own for one in sets if (own := score(one, test))]
        block = score_block(found, test)
        seen = head.block and block.chart == head.block.chart  # on the first screen
        blocks.append(dataclasses.replace(block, chart=None, folded=False, notes=block.notes[1:])
                      if seen else block)
        if len(found) > 1 and found[0].set.kind == "distilled":
            blocks.append(verdict_block(verdicts_of(found, test), found, test))
    blocks += evaluated.evaluation_blocks(sets)
    text = ["Accuracies are of the last epoch; the best epoch stands beside them in the "
            "tables, never instead."]
    return Section(id="scores", title="Scores", text=text, blocks=blocks)


DISTILLED_ALONE = ("evaluation", "membership", "embedding")  # measures that real images need not


def missing(sets: Sequence[ImageSet]) -> Section | None:
    """What could be measured of which set and was not, with the command for the first of them."""
    rows = []
    for name, what in {"evaluation": "scores under one protocol, with real images as controls",
                       "diversity": "diversity", "memorisation": "memorisation", "membership": "privacy",
                       "embedding": "the plane of real and distilled images",
                       "scores": "DD-Ranking's scores, all of them"}.items():
        lacking = [(own, draw) for own in sets for draw in own.draws if _lacks(own, draw, name)]
        if lacking:
            of = [own.name + f", draw {draw.seed}" * (len(own.draws) > 1) for own, draw in lacking]
            rows.append([what, "; ".join(of), _command(lacking[0][1], name)])
    return Section(id="missing", title="Not measured", blocks=[Block(table=Table(
        caption="What a report could also say, and how for the first of these sets",
        head=["what", "of", "command"], rows=rows))]) if rows else None


def _lacks(own: ImageSet, draw: Draw, name: str) -> bool:
    """Whether a draw has no such measure; of a plane one draw is enough, and privacy needs a student."""
    if own.kind == "whole" or own.kind == "real" and name in (*DISTILLED_ALONE, "scores"):
        return False
    if name == "scores":  # of an evaluation that has not all of them
        return any(score is None for measure in draw.measures.values()
                   for of in measure["values"].get("scores", {}).values() for score in of.values())
    draws = own.draws if name == "embedding" else [draw]
    measured = any(key.startswith(f"{name}_") for one in draws for key in one.measures)
    return not measured and (name != "membership" or bool(draw.students)) and \
        (name != "embedding" or draw is own.draws[0])


def _command(draw: Draw, name: str) -> str:
    """What measures it of a draw."""
    run = run_words(draw.images)
    student = [str(one.folder / f"seed{seed}") for one in draw.students for seed in one.top1]
    if name in ("evaluation", "scores"):
        return EVALUATE.format(run=run) + " --full-data --robustness" * (name == "scores")
    if name == "embedding":
        return f"python -m validate.figures embedding {run}"
    with_student = f" --student {shlex.quote(student[0])}" if name == "membership" else ""
    return f"python -m validate.{name} --data {run}{with_student}"


def run_words(images: ImageManifest) -> str:
    """A set's folder, and of others' images whose they are, for a shell."""
    return shlex.join([str(images.run), *(["--dataset", images.dataset] if images.foreign else [])])
