"""Steps in which drafted tokens are verified: several tokens of a row in one forward pass."""

import time
from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import replace

import mlx.core as mx

from models.language.batch.drafts import Drafter
from models.language.batch.emission import emit
from models.language.batch.paged_rows import PagedRows
from models.language.batch.sequence import Output, Sequence
from models.language.batch.verification import Checked, Run, check


class Speculation:
    """Drafts by `drafter` for rows whose latest tokens have been read."""

    def __init__(
        self, held: PagedRows, drafter: Drafter, vocab: int, launch: Callable[[mx.array], None]
    ) -> None:
        self._held = held
        self._drafter = drafter
        self._vocab = vocab
        self._launch = launch

    def due(self, rows: Items[Sequence]) -> bool:
        """Whether the latest tokens should be read before the next forward pass, because drafts are likely."""
        return any(row.drafting.enabled for row in rows) and self._drafter.due(rows)

    def runs(self, rows: Items[Sequence], pending: Items[int]) -> list[Run]:
        """What to feed each row; empty if there are no drafts, or no memory for them."""
        if not any(row.drafting.enabled for row in rows):
            return []
        drafts = self._drafter.propose(rows, pending)
        if not any(drafts):
            return []
        runs = [Run.of(row, token, draft) for row, token, draft in zip(rows, pending, drafts, strict=True)]
        return runs if self._held.has_room([run.tokens for run in runs]) else []

    def step(self, runs: Items[Run]) -> tuple[list[Output], list[int]]:
        """Verify the drafts of all rows. The tokens that were accepted, and each row's token that is to be fed next."""
        began = time.perf_counter()
        logits = self._held.runs([run.tokens for run in runs])
        self._launch(logits)
        checked = check(runs, logits, self._vocab)
        seconds = time.perf_counter() - began
        outputs: list[Output] = []
        for index, one in enumerate(checked):
            row, fed = one.run.row, one.run.tokens[: one.right + 1]
            row.tokens.extend(fed)
            self._held.rewind(index, len(row.tokens))
            row.drafted += len(one.run.drafts)
            outputs += self._outputs(one)
        self._drafter.learn(
            [run.row for run in runs],
            [len(run.drafts) for run in runs],
            [one.right for one in checked],
            seconds,
        )
        return outputs, [one.tokens[-1] for one in checked]

    def _outputs(self, checked: Checked) -> list[Output]:
        outputs: list[Output] = []
        row, error = checked.run.row, checked.run.error
        if error is not None:
            return [Output(row, None, error=error)]
        for at, (token, logprob) in enumerate(zip(checked.tokens, checked.logprobs, strict=True)):
            output = emit(row, token, logprob)
            outputs.append(replace(output, accepted=at < checked.right))
            if output.finish or output.error:
                break
        row.awaiting_first_token, row.pending_token_emitted = False, True
        return outputs

    def forget(self, row: Sequence) -> None:
        self._drafter.forget(row)
