"""Schedules against the reference scheduler, stored and live."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from pipelines.sampling import (
    FlowMatch,
    Schedule,
    ScheduleError,
    add_noise,
    euler_step,
    flux2_mu,
    predict_clean,
)
from tests.pipelines.schedules import CONFIGS, STEPS

STORED = np.load(Path(__file__).parent / "references" / "sampling.npz")
GRID = [
    (name, steps)
    for name, (config, _) in CONFIGS.items()
    for steps in STEPS
    if steps > 1 or "shift_terminal" not in config
]


def made(name: str, steps: int) -> Schedule:
    config, mu = CONFIGS[name]
    return FlowMatch.from_config(config).schedule(steps, mu)


@pytest.mark.parametrize(("name", "steps"), GRID)
def test_a_schedule_is_the_references(name: str, steps: int) -> None:
    schedule = made(name, steps)
    assert len(schedule) == steps
    assert schedule.sigmas.dtype == schedule.timesteps.dtype == np.float32
    np.testing.assert_allclose(schedule.sigmas, STORED[f"sigmas {name} {steps}"], rtol=3e-7)
    np.testing.assert_allclose(schedule.timesteps, STORED[f"timesteps {name} {steps}"], rtol=3e-7)


def test_a_schedule_closes_with_zero() -> None:
    assert made("static 3", 4).sigmas[-1] == 0


def test_flux2_shifts_by_the_references_fit() -> None:
    for tokens, steps, mu in STORED["flux2_mu"]:
        assert flux2_mu(int(tokens), int(steps)) == pytest.approx(mu, rel=1e-12)


def test_the_linear_mu_runs_from_the_base_shift_to_the_largest() -> None:
    schedule = FlowMatch(base_shift=0.5, max_shift=1.15)
    assert schedule.linear_mu(256) == pytest.approx(0.5)
    assert schedule.linear_mu(4096) == pytest.approx(1.15)


@pytest.mark.parametrize(
    ("steps", "strength", "left"), [(4, 1.0, 4), (4, 0.6, 3), (9, 0.5, 5), (50, 0.3, 15), (2, 0.5, 1)]
)
def test_strength_decides_where_an_image_to_image_run_starts(steps: int, strength: float, left: int) -> None:
    whole = made("static 3", steps)
    part = whole.after(strength)
    assert len(part) == left
    np.testing.assert_array_equal(part.sigmas, whole.sigmas[steps - left :])
    np.testing.assert_array_equal(part.timesteps, whole.timesteps[steps - left :])


@pytest.mark.parametrize("strength", [0.0, -0.1, 1.01, float("nan")])
def test_a_strength_that_leaves_nothing_to_do_is_an_error(strength: float) -> None:
    with pytest.raises(ScheduleError, match="strength"):
        made("static 3", 4).after(strength)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"_class_name": "DDIMScheduler"}, "DDIMScheduler"),
        ({"use_karras_sigmas": True}, "use_karras_sigmas"),
        ({"use_exponential_sigmas": True}, "use_exponential_sigmas"),
        ({"use_beta_sigmas": True}, "use_beta_sigmas"),
        ({"invert_sigmas": True}, "invert_sigmas"),
        ({"stochastic_sampling": True}, "stochastic_sampling"),
        ({"time_shift_type": "cubic"}, "cubic"),
        ({"shift": "3"}, "shift"),
        ({"shift": 0}, "shift"),
        ({"use_dynamic_shifting": 1}, "use_dynamic_shifting"),
        ({"shift_terminal": 1.0}, "shift_terminal"),
        ({"base_image_seq_len": 4096}, "max_image_seq_len"),
    ],
)
def test_a_config_that_cannot_be_followed_is_an_error_that_names_it(
    config: dict[str, Any], named: str
) -> None:
    with pytest.raises(ScheduleError, match=named):
        FlowMatch.from_config(config)


def test_a_config_may_leave_out_or_null_what_has_a_default() -> None:
    written = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift_terminal": None, "unknown": 3}
    assert FlowMatch.from_config(written) == FlowMatch()


def test_no_steps_make_no_schedule() -> None:
    with pytest.raises(ScheduleError, match="steps is 0"):
        FlowMatch().schedule(0, 0.0)


def test_an_euler_step_is_taken_in_float32() -> None:
    sample = mx.array([1.0, 2.0])
    velocity = mx.array([0.5, -1.0]).astype(mx.bfloat16)
    moved = euler_step(sample, velocity, 1.0, 0.5)
    assert moved.dtype == mx.bfloat16
    assert moved.tolist() == [0.75, 2.5]


def test_the_clean_prediction_undoes_the_noise_of_a_right_velocity() -> None:
    clean, noise = mx.array([0.25, -1.0]), mx.array([1.0, 3.0])
    noisy = add_noise(clean, noise, 0.5)
    assert predict_clean(noisy, noise - clean, 0.5).tolist() == clean.tolist()


@pytest.mark.reference
def test_a_whole_run_takes_the_references_steps() -> None:
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    rng = np.random.default_rng(3)
    for name, (config, mu) in CONFIGS.items():
        for steps in (2, 9):
            reference = diffusers.FlowMatchEulerDiscreteScheduler(**config)
            reference.set_timesteps(steps, sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)
            first = int(max(steps - min(steps * 0.6, steps), 0))
            reference.set_begin_index(first)
            schedule = made(name, steps).after(0.6)
            clean, noise = rng.standard_normal((2, 1, 8), dtype=np.float32)
            theirs = reference.scale_noise(
                torch.from_numpy(clean), reference.timesteps[first : first + 1], torch.from_numpy(noise)
            )
            ours = add_noise(mx.array(clean), mx.array(noise), float(schedule.sigmas[0]))
            for index, timestep in enumerate(reference.timesteps[first:]):
                velocity = rng.standard_normal((1, 8), dtype=np.float32)
                theirs = reference.step(torch.from_numpy(velocity), timestep, theirs, return_dict=False)[0]
                sigma, following = map(float, schedule.sigmas[index : index + 2])
                ours = euler_step(ours, mx.array(velocity), sigma, following)
            np.testing.assert_allclose(np.array(ours), theirs.numpy(), atol=1e-5)
