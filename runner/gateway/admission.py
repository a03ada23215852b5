"""Whether a model fits beside the others: an estimate, corrected by what its runner last reported."""

from collections.abc import Sequence

from runner.errors import NotEnoughMemory
from runner.gateway.estimate import Need, option
from runner.gateway.lease import LoadedModel, Phase
from runner.gateway.resolver import ResolvedModel
from runner.units import show_size


class Admission:
    def __init__(self, budget: int, most: int | None = None, force: bool = False) -> None:
        self.budget = budget
        self._most = most
        self._force = force
        self._learned: dict[str, int] = {}

    def learn(self, loaded: LoadedModel) -> None:
        """Remember what a model that was loaded turned out to need."""
        if loaded.weights:
            self._learned[loaded.model.argument] = loaded.reload_bytes

    def needs(self, model: ResolvedModel) -> int:
        learned = self._learned.get(model.argument)
        need = self.need(model)
        return learned or (need.staged if self.stage(model) else need.resident)

    def need(self, model: ResolvedModel) -> Need:
        """Of the ways to hold its weights, packed or not, the one that the budget has room for."""
        return model.need.within(self.budget, option(model.options, "memory") == "resident")

    def options(self, model: ResolvedModel) -> list[str]:
        """What its runner is told beside the model's own options."""
        staged = ["--memory", "staged"] if self.stage(model) else []
        return [*staged, *(["--room", str(self.budget)] if model.need.packed is not None else [])]

    def stage(self, model: ResolvedModel) -> bool:
        """Whether to hold a picture model's parts in turn: nobody said how, and at once they never fit."""
        return model.chooses_memory_mode and self.need(model).resident > self.budget

    def check(self, model: ResolvedModel) -> None:
        """NotEnoughMemory for what cannot fit even alone, with both numbers and what would help."""
        needs = self.needs(model)
        if needs <= self.budget or self._force:
            return
        message = f"{model.name} needs about {show_size(needs)}; models may take {show_size(self.budget)} in all (--memory)"
        need = self.need(model)
        if need.staged <= self.budget:
            message += f"; with memory = staged it needs {show_size(need.staged)}"
        elif need.smallest <= self.budget:
            message += f"; with quantize = 4 and memory = staged it needs {show_size(need.smallest)}"
        else:
            message += "; --force loads it all the same"
        raise NotEnoughMemory(message)

    def fits(self, needs: int, others: Sequence[LoadedModel]) -> bool:
        """Whether there is room beside the others. Alone, a model that was not refused always has it."""
        if self._most is not None and len(others) >= self._most:
            return False
        return not others or sum(loaded.held for loaded in others) + needs <= self.budget

    def in_the_way(self, needs: int, others: Sequence[LoadedModel]) -> list[LoadedModel]:
        """The fewest of the others, those that are ending and then the longest loaded, without which it fits."""
        staying = sorted(others, key=lambda loaded: (loaded.phase is not Phase.ENDING, loaded.began))
        going = []
        while staying and not self.fits(needs, staying):
            going.append(staying.pop(0))
        return going
