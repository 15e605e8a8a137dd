"""BC that tries by driving which parts of the past it should see."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.core import State
from irl_bench.algos import _masks, bc
from irl_bench.core.settings import BadInput
from irl_bench.core.types import Demonstrations, Spec, Task
from tests.worlds.helpers import Line

pytestmark = pytest.mark.usefixtures("quick_compilation")
KEY = jax.random.PRNGKey(0)
SMALL = {"hidden": (8,), "rounds": 3, "steps_per_round": 60, "batch_size": 64, "interventions": 4}


class Tempting(Line):
    """Observation: a cue of both signs, and the last action. The expert answers the cue, and in
    demonstrations the cue never changes, so the last action tells as much. In the world the cue
    changes sign at random, and the reward is 1 for an answer with the right sign."""

    past = ((1,),)
    observation_size: object = 2
    action_size: object = 1

    def reset(self, rng):
        key, draw = jax.random.split(rng)
        cue = jnp.where(jax.random.bernoulli(draw), 1.0, -1.0)
        return self._made(cue, jnp.zeros(()), key, jnp.zeros(()))

    def step(self, state, action):
        cue, _, rng = state.pipeline_state
        key, draw = jax.random.split(rng)
        right = 1.0 * (action[0] * cue > 0)
        later = jnp.where(jax.random.bernoulli(draw, 0.3), -cue, cue)
        return self._made(later, action[0], key, right)

    def _made(self, cue, last, key, reward):
        metrics = {"cost": jnp.zeros(()), "graded_cost": jnp.zeros(())}
        # The cue is faint beside the last action.
        observation = jnp.stack([cue + 1.5 * jax.random.normal(key), last])
        return State((cue, last, key), observation, reward, jnp.zeros(()), metrics)


def tempting():
    rng = np.random.default_rng(0)
    cue = np.repeat(rng.choice([-1.0, 1.0], (40, 1)), 20, 1)
    action = 0.8 * cue
    last = np.concatenate([np.zeros((40, 1)), action[:, :-1]], 1)
    seen = np.stack([cue + 1.5 * rng.normal(size=cue.shape), last], -1)
    arrays = (jnp.asarray(x, jnp.float32) for x in (seen, action[..., None], np.ones((40, 20))))
    return Task(Demonstrations(*arrays), Tempting().dials)


def trained(task, spec, **settings):
    learner = bc.make(spec, bc.Config(**{**SMALL, **settings}))
    state, rows = learner.init(KEY, task), []
    update = jax.jit(learner.update)
    for _ in range(learner.rounds):
        state, metrics = update(state, task)
        rows.append({name: float(value) for name, value in metrics.items()})
    return learner, state, rows


@functools.cache
def tempted():
    return trained(tempting(), Spec(Tempting(), 64, 40, 20))


def test_it_finds_that_the_last_action_does_harm():
    learner, state, rows = tempted()
    assert learner.rounds == 7 and learner.consumes.env_steps == 4 * _masks.EPISODES * _masks.STEPS
    # It drives once it is trained, and does not train any more then.
    assert [row["intervention_reward"] > 0 for row in rows] == [False] * 3 + [True] * 4
    assert [row["loss"] != 0 for row in rows] == [True] * 3 + [False] * 4
    assert rows[-1]["effect_0"] < -0.01
    assert learner.policy(state).mask.tolist() == [0.0]


def test_the_held_out_demonstrations_are_not_trained_on():
    """As plain BC: of 40 episodes the last 4. Their actions change no weights, and choose which
    round's weights are kept."""
    task, spec = tempting(), Spec(Tempting(), 64, 40, 20)
    demos = task.demonstrations
    other = task.replace(demonstrations=demos.replace(action=demos.action.at[-4:].multiply(-1.0)))
    first, second = (trained(t, spec, rounds=2, interventions=1) for t in (task, other))
    for one, two in zip(*(jax.tree.leaves(s.weights) for _, s, _ in (first, second)), strict=True):
        np.testing.assert_array_equal(one, two)
    losses = [[row["best_masked_held_out_loss"] for row in rows] for _, _, rows in (first, second)]
    assert losses[0][0] != losses[1][0] and losses[0][1] <= losses[0][0]
    seen = task.replace(demonstrations=demos.replace(action=demos.action.at[0].multiply(-1.0)))
    third = trained(seen, spec, rounds=2, interventions=1)[1]
    leaves = zip(*(jax.tree.leaves(s.weights) for s in (first[1], third)), strict=True)
    assert any(np.any(np.asarray(one) != np.asarray(two)) for one, two in leaves)


def test_a_hidden_group_does_not_move_the_action():
    learner, state, _ = tempted()
    params = learner.policy(state)
    act = lambda last: learner.act(params, jnp.array([1.0, last]), KEY)
    np.testing.assert_array_equal(act(-0.8), act(0.8))
    seen = params.replace(mask=jnp.ones(1))
    assert abs(float(learner.act(seen, jnp.array([1.0, 0.8]), KEY)[0])
               - float(learner.act(seen, jnp.array([1.0, -0.8]), KEY)[0])) > 0.5  # fmt: skip


def test_effects_are_a_ridge_regression():
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 2, (400, 3)).astype(float)
    reward = masks @ [0.3, -0.2, 0.0] + 0.5 + 0.01 * rng.normal(size=400)
    x = np.concatenate([masks - 0.5, np.ones((400, 1))], 1)
    found = _masks.effects(jnp.asarray(x.T @ x), jnp.asarray(reward @ x))
    ridge = np.diag([1.0, 1.0, 1.0, 1e-6])
    np.testing.assert_allclose(found, np.linalg.solve(x.T @ x + ridge, x.T @ reward)[:3], atol=1e-4)
    np.testing.assert_allclose(found, [0.3, -0.2, 0.0], atol=0.02)
    nothing = _masks.effects(jnp.zeros((4, 4)), jnp.zeros(4))
    np.testing.assert_array_equal(nothing, np.zeros(3))  # every mask is as likely as any other


def test_in_a_twin_every_former_frame_and_the_last_action_has_an_effect():
    world = envs.make("lane_keep", frames="2", last_action="visible")
    rng = np.random.default_rng(0)
    demos = Demonstrations(
        jnp.asarray(rng.normal(size=(3, 8, world.observation_size)), jnp.float32),
        jnp.asarray(rng.uniform(-1, 1, (3, 8, 2)), jnp.float32),
        jnp.ones((3, 8)),
    )
    task = Task(demos, world.dials_for("nominal"))
    _, _, rows = trained(task, Spec(world, 64, 3, 8), rounds=1, interventions=1, steps_per_round=3)
    assert {"effect_0", "effect_1"} <= rows[-1].keys() and "effect_2" not in rows[-1]
    assert all(np.isfinite(list(rows[-1].values())))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"interventions": 2}, r"bc.interventions=2 needs a world that shows the past"),
        ({"interventions": 2, "frames": "2", "ema": 0.9}, r"does without bc.ema; .* bc.ema=0$"),
        ({"interventions": 2, "frames": "2", "top": 0.5}, r"does without bc.top; .* bc.top=1$"),
    ],
)
def test_bad_input_is_one_line(settings, words):
    options = {name: settings.pop(name) for name in ("frames",) if name in settings}
    with pytest.raises(BadInput, match=words):
        bc.make(Spec(envs.make("lane_keep", **options), 64, 4, 64), bc.Config(**settings))
