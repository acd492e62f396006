"""What `python -m validate.export` writes: others' layouts, a card, the check that goes along.

TARGETS: name -> piece.
"""
from validate.exporting.ddranking import DDRanking
from validate.exporting.hub import Hub
from validate.exporting.targets import ImageFolder, Safetensors

TARGETS: dict[str, type[ImageFolder]] = {"imagefolder": ImageFolder, "hub": Hub, "ddranking": DDRanking,
                                         "safetensors": Safetensors}
