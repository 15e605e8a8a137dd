"""Behavioural cloning: early stopping against its definition, and the chain it must solve."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs import chain
from envs.chain import OFF_VIEW, RECOVER, Chain
from irl_bench.algos import bc
from irl_bench.core.settings import BadInput
from irl_bench.core.types import Demonstrations, Spec, Task
from tests.worlds.helpers import Line, chain_actions, demonstrate, seen, train

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.PRNGKey(0)
SPEC = Spec(Line(), 16, 4, 8)


def task(targets, seed=0):
    """Four episodes; the actions of the last one, which is held out, are tanh(target x), those
    of the others tanh(x)."""
    x = np.random.default_rng(seed).normal(0, 0.5, (4, 8, 3)).astype(np.float32)
    gain = np.array([1.0, 1.0, 1.0, targets], np.float32)[:, None, None]
    action = np.tanh(gain * x[..., :2])
    return Task(
        Demonstrations(jnp.asarray(x), jnp.asarray(action), jnp.ones((4, 8))), SPEC.world.dials
    )


@functools.cache
def learner_of(**changes):
    """A learner of `task`, with its functions jitted."""
    config = {
        "hidden": (),
        "loss": "mse",
        "learning_rate": 0.1,
        "rounds": 30,
        "steps_per_round": 4,
        "held_out": 0.25,
    }
    learner = bc.make(
        SPEC, bc.Config(**{**config, "weight_decay": 0.0, "batch_size": 32, **changes})
    )
    return dataclasses.replace(
        learner,
        init=jax.jit(learner.init),
        update=jax.jit(learner.update),
        act=jax.jit(learner.act),
    )


def follow(learner, tasks):
    """States after init and each update, and the metrics of each, as NumPy."""
    states, metrics = [learner.init(KEY, tasks[0])], []
    for each in tasks:
        state, row = learner.update(states[-1], each)
        states.append(state)
        metrics.append({name: float(value) for name, value in row.items()})
    return states, metrics


def same(first, second):
    leaves = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    return all(np.array_equal(a, b, equal_nan=True) for a, b in leaves)


def test_only_the_best_demonstrations_are_cloned():
    whole = task(1.0)
    paid = jnp.zeros((4, 8)).at[:, 3].set(jnp.array([1.0, 5.0, 3.0, 9.0]))
    mask = jnp.ones((4, 8)).at[3].set(0.0)  # steps that do not count pay nothing
    whole = whole.replace(demonstrations=whole.demonstrations.replace(reward=paid, mask=mask))
    for share, kept in ((0.5, [1, 2]), (0.1, [1]), (0.51, [0, 1, 2]), (1.0, [0, 1, 2, 3])):
        chosen = bc.best_of(whole, share).demonstrations
        np.testing.assert_array_equal(
            chosen.observation, whole.demonstrations.observation[np.array(kept)]
        )
    assert (
        learner_of(top=0.5).consumes.preference_labels
        > 0
        == learner_of().consumes.preference_labels
    )
    with pytest.raises(BadInput, match="top=1"):
        bc.best_of(task(1.0), 0.5)


def test_split_holds_out_the_last_episodes():
    demos = task(1.0).demonstrations
    for share, held in ((0.25, 1), (0.5, 2), (0.01, 1)):
        training, test = bc.split(Task(demos, None), share)
        np.testing.assert_array_equal(
            training.observation, demos.observation[: 4 - held].reshape(-1, 3)
        )
        np.testing.assert_array_equal(test.action, demos.action[4 - held :].reshape(-1, 2))
    training, test = bc.split(Task(demos, None), 0.0)
    assert same(training, test) and training.mask.size == 32
    lone = jax.tree.map(lambda x: x[:1], demos)
    training, test = bc.split(
        Task(lone, None), 0.5
    )  # a lone episode is trained on and, for want of another, tested on
    assert same(training, test) and training.mask.size == 8


def test_weights_of_the_best_round_are_kept():
    """The held-out actions ask for half the gain of the training ones: the held-out loss falls,
    then rises for good."""
    states, metrics = follow(learner_of(patience=30), [task(0.5)] * 30)
    losses = [row["held_out_loss"] for row in metrics]
    best = int(np.argmin(losses))
    assert 0 < best < 20 and losses[-1] > 1.2 * losses[best]  # the case is what it is meant to be
    assert same(states[-1].best.policy.weights, states[best + 1].weights)
    assert not same(states[-1].best.policy.weights, states[-1].weights)
    assert metrics[-1]["best_held_out_loss"] == pytest.approx(losses[best])
    assert same(learner_of().policy(states[-1]), states[-1].best.policy)


def early_stopping(losses, patience):
    """int[rounds]: the round whose weights are kept after each round, counted from 1."""
    kept, best, stale, history = 0, np.inf, 0, []
    for i, loss in enumerate(losses, 1):
        if stale < patience:
            if not loss >= best:
                kept, best, stale = i, loss, 0
            else:
                stale += 1
        history.append(kept)
    return history


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("patience", [1, 3])
def test_patience_against_its_definition(patience, seed):
    """Held-out labels that change from round to round give losses that go up and down at will."""
    learner = learner_of(patience=patience, learning_rate=0.01)
    tasks = [task(gain) for gain in np.random.default_rng(seed).uniform(-1, 1, 16)]
    if seed == 4:  # from there on the weights are not numbers
        tasks[1] = tasks[1].replace(demonstrations=task(np.nan).demonstrations)
    states, metrics = follow(learner, tasks)
    kept = early_stopping([row["held_out_loss"] for row in metrics], patience)
    for state, round_ in zip(states[1:], kept):
        assert same(state.best.policy.weights, states[round_].weights)


def test_nothing_changes_once_patience_is_over():
    learner = learner_of(patience=2)
    # First a loss that can hardly be lower, then two bad ones, then a perfect one that comes too
    # late.
    states, _ = follow(learner, [task(0.05), task(-3.0), task(-3.0), *[task(1.0)] * 20])
    assert not same(states[1].best.policy, states[0].best.policy)
    for state in states[2:]:
        assert same(state.best.policy, states[1].best.policy)
    assert int(states[-1].best.stale) == 2 and not same(states[-1].weights, states[1].weights)


def test_a_loss_that_is_not_a_number_shows_in_the_policy():
    learner = learner_of(patience=2)
    broken = task(1.0).demonstrations
    broken = Task(broken.replace(action=broken.action.at[0, 0, 0].set(jnp.nan)), SPEC.world.dials)
    states, metrics = follow(
        learner, [task(1.0), task(1.0), broken, task(1.0), task(1.0), task(1.0)]
    )
    assert np.isfinite(metrics[1]["loss"]) and not np.isfinite(metrics[2]["loss"])
    for state in states[3:]:
        assert np.isnan(learner.act(learner.policy(state), jnp.ones(3), KEY)).any()
    # After training has stopped it shows in the loss, which the runner watches as well.
    states, metrics = follow(learner, [task(0.05), task(-3.0), task(-3.0), broken])
    assert (
        np.isnan(metrics[-1]["loss"])
        and np.isfinite(states[-1].best.policy.weights["log_std"]).all()
    )


def test_features_that_never_vary_play_no_part():
    learner = learner_of()
    states, _ = follow(
        learner, [demonstrate(SPEC, SPEC.world.dials, KEY)] * 3
    )  # the third value of `Line` is constant
    params = learner.policy(states[-1])
    actions = [learner.act(params, jnp.asarray([0.2, 0.1, c]), KEY) for c in (0.25, 9.0)]
    np.testing.assert_array_equal(*actions)
    kept = learner_of(keep_constant=True)
    params = kept.policy(follow(kept, [demonstrate(SPEC, SPEC.world.dials, KEY)] * 3)[0][-1])
    assert (
        kept.act(params, jnp.asarray([0.2, 0.1, 9.0]), KEY)
        != kept.act(params, jnp.asarray([0.2, 0.1, 0.25]), KEY)
    ).any()


def test_chain_is_solved_up_to_the_missing_mass():
    """Right in every situation seen; in all others one action, so h is exact, and below hazard
    times the missing mass."""
    spec = Spec(Chain(), 64, 32, 128)
    config = bc.Config(
        hidden=(64,), learning_rate=2e-2, rounds=10, steps_per_round=80, held_out=0.0
    )
    learner, dials = bc.make(spec, config), Chain().dials_for("dagger_chain")

    def one(key):
        task = demonstrate(spec, dials, jax.random.fold_in(key, 0))
        return task, train(learner, jax.random.fold_in(key, 1), task)[0]

    tasks, states = jax.jit(jax.vmap(one))(jax.random.split(KEY, 3))
    for i in range(3):
        of_seed = lambda tree, i=i: jax.tree.map(lambda x: x[i], tree)
        actions, views = (
            chain_actions(learner, learner.policy(of_seed(states))),
            seen(of_seed(tasks)),
        )
        assert 3 < views.sum() < 40
        np.testing.assert_array_equal(
            actions[:OFF_VIEW][views[:OFF_VIEW]], chain.CORRECT[views[:OFF_VIEW]]
        )
        guess = actions[OFF_VIEW]
        assert (
            actions[~views] == guess
        ).all() and guess != RECOVER  # what was never seen all looks the same
        h, rho = chain.exact_rates(actions, Chain().dials)
        missed = ~views[:OFF_VIEW] & (guess != chain.CORRECT)
        assert h == pytest.approx(Chain().dials.hazard * chain.PROBABILITY[missed].sum(), abs=1e-12)
        assert (
            0 < h <= Chain().dials.hazard * chain.PROBABILITY[~views[:OFF_VIEW]].sum()
            and rho == 0.0
        )
