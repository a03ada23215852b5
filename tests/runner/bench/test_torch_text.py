"""Compiled PyTorch writes what transformers writes: its figures are those of the same work."""

import pytest

from tests.toys import toy_text


@pytest.mark.slow
@pytest.mark.reference
def test_the_compiled_step_writes_what_generate_writes() -> None:
    torch = pytest.importorskip("torch")
    from runner.bench.engines.with_torch_text import Engine

    engine = Engine("torch-compile", {"folder": str(toy_text()), "dtype": None})
    ids = torch.tensor([[5, 6, 7, 8, 9, 10], [20, 19, 18, 17, 16, 15]])
    with torch.inference_mode():
        for _ in range(2):  # the second time in the memory of the first
            cache = engine._cache(2, ids.shape[1] + 12)
            tokens = [engine._next(ids, cache)]
            for _ in range(11):
                tokens.append(engine._step(tokens[-1], cache).clone())
            written = torch.cat(tokens, dim=1)
    plain = engine.model.generate(
        ids, max_new_tokens=12, do_sample=False, attention_mask=torch.ones_like(ids)
    )
    assert written.tolist() == plain[:, ids.shape[1] :].tolist()
