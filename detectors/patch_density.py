"""Whether patches share one model of what is normal or have one for each location: decided without labels.

Li et al. (CVPR 2021, 4.2) decide it by hand, object by object: one for each location where objects are aligned.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from augmentations import InputError
from detectors.kind import LOCATION_ROWS
from detectors.scorers import Scorer, ScorerSpec
from detectors.scoring import some_rows

DENSITIES = SHARED, PER_LOCATION = "shared", "per location"
MIN_IMAGES = 8  # to hold two out, and fit to six
HELD_OUT_SHARE = 4  # images for each one that is held out
HELD_OUT_MOST = 64  # held-out images, at most
MARGIN = 2.0  # standard errors by which two AUROC must differ to count as different


def held_out_mask(n: int, source: torch.Generator) -> Tensor:
    """(n,) which of n images are held out."""
    mask = torch.zeros(n, dtype=torch.bool)
    mask[torch.randperm(n, generator=source)[: min(n // HELD_OUT_SHARE, HELD_OUT_MOST)]] = True
    return mask


def select_density(spec: ScorerSpec, rows: Tensor, is_held_out: Tensor, anomalies: Iterable[Tensor]) -> tuple[str, str]:
    """Which density suits the embeddings of normal images.

    A shared scorer and one for each location are fitted to the images that are not held out. The one whose highest
    patch score better distinguishes held-out images from anomalies is taken; where neither does, beyond chance, the one
    under which held-out patches are likelier. If all is equal, locations share one.

    Args:
        spec: the scorer.
        rows: (n,h,w,d) embeddings of patches, on the CPU.
        is_held_out: (n,).
        anomalies: batches (m,h,w,d) of embeddings of pseudo anomalies, made from the held-out images.
    Returns:
        ``SHARED`` or ``PER_LOCATION``, and why.
    """
    known, held_out = rows[~is_held_out], rows[is_held_out]
    try:
        local = spec.make(per_location=True).fit(known)
    except InputError as error:
        return SHARED, f"shared: one model for each location can't be fitted ({error})."
    share = max(1, LOCATION_ROWS // len(known))
    shared = spec.make().fit(some_rows(known, share, torch.Generator().manual_seed(0)))
    scores: list[tuple[Tensor, Tensor]] = []
    for batch in anomalies:
        patches = batch.cpu()
        scores.append((shared.score(patches).amax((1, 2)), local.score(patches).amax((1, 2))))
    by_shared, by_local = (torch.cat(parts) for parts in zip(*scores, strict=True))
    shared_wins = _wins(shared.score(held_out).amax((1, 2)), by_shared)
    local_wins = _wins(local.score(held_out).amax((1, 2)), by_local)
    difference = local_wins - shared_wins
    gain, error_of_it = difference.mean().item(), _standard_error(difference)
    auroc = f"AUROC {local_wins.mean():.3f} by location, {shared_wins.mean():.3f} shared"
    if abs(gain) > MARGIN * error_of_it:
        chosen = PER_LOCATION if gain > 0 else SHARED
        return chosen, f"{chosen}: better distinguishes held-out normal images from pseudo anomalies ({auroc})."
    return _likelier(local, shared, held_out, auroc)


def _likelier(local: Scorer, shared: Scorer, held_out: Tensor, auroc: str) -> tuple[str, str]:
    equal = f"both distinguish held-out normal images from pseudo anomalies equally well ({auroc})"
    likelihoods = [scorer.log_likelihood(held_out) for scorer in (local, shared)]
    if None in likelihoods:
        return SHARED, f"{SHARED}: {equal}."
    by_location, in_common = (value or 0.0 for value in likelihoods)
    chosen = PER_LOCATION if by_location > in_common else SHARED
    return chosen, (
        f"{chosen}: {equal}, and it explains held-out normal patches better "
        f"(mean log-likelihood {by_location:.1f} by location, {in_common:.1f} shared)."
    )


def _wins(normal: Tensor, anomalous: Tensor) -> Tensor:
    """(m,n): 1 where the anomaly scores higher, 1/2 where they tie; the mean is the AUROC."""
    return torch.heaviside((anomalous[:, None] - normal).double(), torch.tensor(0.5, dtype=torch.float64))


def _standard_error(difference: Tensor) -> float:
    """Of the difference of two AUROC on the same images, from that of their wins (DeLong et al., 1988)."""
    placements = difference.mean(1), difference.mean(0)
    return sum(each.var().item() / len(each) for each in placements) ** 0.5
