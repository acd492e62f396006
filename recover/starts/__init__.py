"""What a unit starts from.   STARTS: name -> piece, a file an idea."""
from recover.starts.centre_margin import CentreMargin
from recover.starts.coreset import Herding, KCentre
from recover.starts.latent import Latent
from recover.starts.medium import Medium
from recover.starts.mosaic import Mosaic
from recover.starts.real import Noise, RandomImage, RealImage
from recover.starts.start import Start

STARTS: dict[str, type[Start]] = {
    "real": RealImage, "random": RandomImage, "noise": Noise, "mosaic": Mosaic, "medium": Medium,
    "latent": Latent, "herding": Herding, "k-centre": KCentre, "centre-margin": CentreMargin}
