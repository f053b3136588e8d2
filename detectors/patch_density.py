"""Whether patches share one Gaussian or have one a location: decided without labels.

Li et al. (CVPR 2021, 4.2) decide it by hand, object by object: one a location where objects are aligned.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from augmentations import InputError
from detectors.classifier import LOCATION_ROWS, some_rows
from detectors.gaussian import Gaussian, LocationGaussians

LAYOUTS = SHARED, PER_LOCATION = "shared", "per location"
LEAST_IMAGES = 8  # to hold two out, and fit to six
HELD_OUT_SHARE = 4  # one image in so many is held out,
HELD_OUT_MOST = 64  # and no more than these
MARGIN = 2.0  # standard errors by which two AUROC must differ to count as different


def hold_out(n: int, source: torch.Generator) -> Tensor:
    """(n,) which of n images are held out."""
    held = torch.zeros(n, dtype=torch.bool)
    held[torch.randperm(n, generator=source)[: min(n // HELD_OUT_SHARE, HELD_OUT_MOST)]] = True
    return held


def choose(rows: Tensor, held: Tensor, anomalies: Iterable[Tensor]) -> tuple[str, str]:
    """The layout, and why, of embeddings ``rows`` (n,h,w,d) of normal images on the CPU.

    Both layouts are fitted to the images that are not ``held`` (n,). The one whose highest patch score better tells
    held-out images from ``anomalies`` (batches (m,h,w,d), made from them) is taken; where neither does, beyond
    chance, the one under which held-out patches are likelier. If all is equal, they share one.
    """
    known, held_out = rows[~held], rows[held]
    try:
        local = LocationGaussians.fit(known)
    except InputError as error:
        return SHARED, f"shared: one Gaussian a location can't be fitted ({error})."
    share = max(1, LOCATION_ROWS // len(known))
    shared = Gaussian.fit(some_rows(known, share, torch.Generator().manual_seed(0)))
    made: list[tuple[Tensor, Tensor]] = []
    for batch in anomalies:
        patches = batch.cpu()
        made.append((shared.score(patches).amax((1, 2)), local.score(patches).amax((1, 2))))
    by_shared, by_local = (torch.cat(scores) for scores in zip(*made, strict=True))
    shared_wins = _wins(shared.score(held_out).amax((1, 2)), by_shared)
    local_wins = _wins(local.score(held_out).amax((1, 2)), by_local)
    difference = local_wins - shared_wins
    gain, error_of_it = difference.mean().item(), _standard_error(difference)
    auroc = f"AUROC {local_wins.mean():.3f} by location, {shared_wins.mean():.3f} shared"
    if abs(gain) > MARGIN * error_of_it:
        chosen = PER_LOCATION if gain > 0 else SHARED
        return chosen, f"{chosen}: better tells held-out normal images from pseudo anomalies ({auroc})."
    likelihoods = _log_likelihood(local, held_out), _log_likelihood(shared, held_out)
    chosen = PER_LOCATION if likelihoods[0] > likelihoods[1] else SHARED
    return chosen, (
        f"{chosen}: both tell held-out normal images from pseudo anomalies alike ({auroc}), and it explains held-out "
        f"normal patches better (mean log-likelihood {likelihoods[0]:.1f} by location, {likelihoods[1]:.1f} shared)."
    )


def _wins(normal: Tensor, anomalous: Tensor) -> Tensor:
    """(m,n): 1 where the anomaly scores higher, 1/2 where they tie; the mean is the AUROC."""
    return torch.heaviside((anomalous[:, None] - normal).double(), torch.tensor(0.5, dtype=torch.float64))


def _standard_error(difference: Tensor) -> float:
    """Of the difference of two AUROC on the same images, from that of their wins (DeLong et al., 1988)."""
    placements = difference.mean(1), difference.mean(0)
    return sum(each.var().item() / len(each) for each in placements) ** 0.5


def _log_likelihood(density: Gaussian | LocationGaussians, rows: Tensor) -> float:
    """The mean over rows and locations, without the constant. The whitening is triangular."""
    log_determinant = density.whitening.double().diagonal(dim1=-2, dim2=-1).log().sum(-1).mean()
    return (log_determinant - density.score(rows).double().square().mean() / 2).item()
