"""What a unit starts from.   STARTS: name -> piece, a file an idea."""
from recover.starts.latent import Latent
from recover.starts.real import Noise, RandomImage, RealImage
from recover.starts.start import Start

STARTS: dict[str, type[Start]] = {"real": RealImage, "random": RandomImage, "noise": Noise,
                                 "latent": Latent}
