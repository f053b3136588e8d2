"""Evidence of many candidates, read from the run folder one candidate at a time."""

from collections.abc import Collection, Iterator, Mapping

from selector.evidence.evidence import Evidence
from selector.zoo.store import Store


class StoredEvidence(Mapping[str, list[Evidence]]):
    """The evidence of these candidates, read at each access and not kept: that of all may exceed memory."""

    def __init__(self, store: Store, candidate_ids: Collection[str]) -> None:
        self._store = store
        self._ids = dict.fromkeys(candidate_ids)

    def __getitem__(self, candidate_id: str) -> list[Evidence]:
        if candidate_id not in self._ids:
            raise KeyError(candidate_id)
        return self._store.evidence(candidate_id)

    def __contains__(self, candidate_id: object) -> bool:
        return candidate_id in self._ids

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)
