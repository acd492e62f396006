"""The figures of validate.figures, a file each: `numbers(runs)`, what is drawn, as JSON; `draw(values)`.

FIGURES: name -> piece.  The numbers are read from what runs and their measures left on disk and need no
matplotlib.
"""
from validate.figuring.cosine import Cosine
from validate.figuring.curves import Curves
from validate.figuring.embedding import Embedding
from validate.figuring.figure import Figure
from validate.figuring.starts import Starts
from validate.figuring.teachers import Teachers
from validate.figuring.terms import Terms

FIGURES: dict[str, type[Figure]] = {"embedding": Embedding, "cosine": Cosine, "starts": Starts,
                                    "curves": Curves, "terms": Terms, "teachers": Teachers}
