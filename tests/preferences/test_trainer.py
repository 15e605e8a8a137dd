"""Training on comparisons: what is asked when, what the policy is rewarded with, and that
preferences beat their data."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_bench.algos import cpl, dpo, drex, rlhf, rlhf_iterated, trex
from irl_bench.core.settings import BadInput
from irl_bench.core.types import Spec, Task
from irl_bench.nets.policies import view
from irl_bench.preferences import offline, ranked, teachers, trainer
from irl_bench.rl import ppo
from irl_bench.rollouts.evaluation import collect, evaluate
from tests.worlds.helpers import Line, Windy, train

KEY = jax.random.PRNGKey(0)
pytestmark = pytest.mark.usefixtures("quick_compilation")
SMALL = {
    "hidden": (16,),
    "value_hidden": (16,),
    "worlds": 16,
    "unroll": 16,
    "minibatches": 4,
    "bc_steps": 100,
    "rounds": 6,
    "reward_hidden": (16,),
    "pool_worlds": 20,
    "pool_steps": 32,
    "segment": 8,
    "reward_steps": 60,
    "episode_steps": 16,
}


def spec_of(world):
    return Spec(world, world.horizon, 4, 8)


def task_of(world, dials=None):
    return Task(collect(world, KEY, 4, 8), dials or world.dials)


@functools.cache
def trained(module, seeds=2, **settings):
    """(learner, states, metrics [seeds, rounds])"""
    world = Windy()
    names = module.Config.__dataclass_fields__
    config = module.Config(**{k: v for k, v in {**SMALL, **settings}.items() if k in names})
    learner = module.make(spec_of(world), config)
    task = task_of(world)
    states, metrics = jax.jit(jax.vmap(lambda key: train(learner, key, task)))(
        jax.random.split(KEY, seeds)
    )
    return learner, states, jax.tree.map(np.asarray, metrics)


def level(learner, states):
    """Mean reward per step of each seed's policy."""
    world = Windy()
    run = lambda state: evaluate(world, learner.act, learner.policy(state), KEY, 128, 64).reward
    return np.asarray(jax.jit(jax.vmap(run))(states)) / (128 * 64)


def test_when_changes_only_who_is_due():
    count = lambda state: {"n": state["n"] + 1}
    run = jax.jit(jax.vmap(lambda due, n: trainer.when(due, count, {"n": n})))
    found = run(jnp.array([True, False, True]), jnp.array([1, 5, 7]))["n"]
    np.testing.assert_array_equal(found, [2, 5, 8])


def test_segments_are_what_followed_in_one_world():
    world = Line()
    act = lambda x, key: (jnp.zeros((len(x), 2)), jnp.zeros((len(x), 2)), jnp.zeros(len(x)))
    segments, batch = trainer.pool(spec_of(world), world.dials, act, 3, 11, 4, KEY)
    assert segments.observation.shape == (6, 4, 3) and segments.reward.shape == (6, 4)
    for world_index in range(3):
        for part in range(2):
            own = slice(4 * part, 4 * part + 4)
            np.testing.assert_array_equal(
                segments.observation[2 * world_index + part],
                batch.next_observation[own, world_index],
            )
            np.testing.assert_array_equal(
                segments.reward[2 * world_index + part], batch.reward[own, world_index]
            )
    assert not batch.truncation.any() and not batch.termination.any()


def test_one_shot_asks_once_and_iterated_asks_again():
    _, states, metrics = trained(rlhf, labels=60)
    assert (metrics["answered"] == 60).all() and (
        metrics["reward_loss"] == metrics["reward_loss"][:, :1]
    ).all()
    learner, states, metrics = trained(rlhf_iterated, labels=60, iterations=4, pool_worlds=60)
    # Iterations begin at equal distances: in 6 rounds at 0, 1.5, 3 and 4.5, rounded down.
    np.testing.assert_array_equal(metrics["answered"][0], [15, 30, 30, 45, 60, 60])
    assert len(np.unique(metrics["reward_loss"][0])) == 4
    assert learner.consumes.preference_labels == 60 and learner.consumes.expert_queries == 32
    judged = 2 * 2 * 16 * 32  # four of six rounds hold the policy, so that two are left
    assert learner.consumes.env_steps == 6 * 16 * 16 + 4 * 15 * 32 + judged
    made = jax.tree.map(lambda x: np.asarray(x[0]), states.comparisons)
    for i in range(4):  # each iteration's pairs are of its own segments
        own = made.first[15 * i : 15 * i + 15]
        assert (own >= 60 * i).all() and (own < 60 * (i + 1)).all()


def test_the_first_questions_are_uniform_and_the_next_are_chosen(monkeypatch):
    monkeypatch.setattr(
        rlhf.queries, "choose", lambda kind, margin, count: jnp.zeros(count, jnp.int32)
    )
    _, states, _ = trained(rlhf_iterated, labels=44, iterations=2, queries="disagreement")
    first, second = np.asarray(states.comparisons.first[0]).reshape(2, 22)
    assert len(np.unique(first)) > 10 and len(np.unique(second)) == 1


def test_noise_in_the_pool_rises_from_none():
    world = Windy()
    act = lambda x, key: (jnp.zeros((len(x), 2)), jnp.zeros((len(x), 2)), jnp.zeros(len(x)))
    lost = trainer.noisy(spec_of(world), act, jnp.linspace(0.0, 1.0, 5))
    actions = np.stack([lost(jnp.zeros((5, 3)), key)[0] for key in jax.random.split(KEY, 200)])
    share = (actions != 0).any(-1).mean(0)
    np.testing.assert_allclose(share, np.linspace(0, 1, 5), atol=0.1)
    assert share[0] == 0 and share[-1] == 1 and np.abs(actions).max() <= 1


@pytest.mark.slow
def test_noise_in_the_pool_widens_what_is_asked_about():
    spread = lambda **noise: float(
        np.std(trained(rlhf, labels=60, **noise)[1].segments.observation[..., 0])
    )
    assert spread(pool_noise=1.0) != spread()  # 0.3 by default


def test_answers_are_those_of_the_true_returns():
    _, states, _ = trained(rlhf, labels=60)
    made, segments = (
        jax.tree.map(lambda x: np.asarray(x[0]), x) for x in (states.comparisons, states.segments)
    )
    total = segments.reward.sum(1)
    np.testing.assert_array_equal(
        made.label, np.where(total[made.first] > total[made.second], 1.0, 0.0)
    )


def test_the_clone_is_where_it_starts_and_what_kl_is_measured_from():
    _, _, metrics = trained(rlhf, labels=60, policy_delay=2)
    np.testing.assert_allclose(
        metrics["reference_kl"][:, :3], 0, atol=1e-6
    )  # the first two rounds hold the policy
    assert (metrics["reference_kl"][:, -1] > 1e-5).all()


def walk(**more):
    """(learner, its states before the first and after each of 10 rounds, the rounds' metrics)"""
    learner = rlhf.make(
        spec_of(Windy()),
        rlhf.Config(**{**SMALL, "labels": 60, "reference_kl": 0.02, "rounds": 10, **more}),
    )
    task = task_of(Windy())
    states, metrics, update = [jax.jit(learner.init)(KEY, task)], [], jax.jit(learner.update)
    for _ in range(10):
        state, found = update(states[-1], task)
        states.append(state)
        metrics.append({name: float(value) for name, value in found.items()})
    return learner, states, metrics


def same_policy(a, b):
    return all(np.array_equal(x, y) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.3, 1e-3])
def test_the_policy_that_is_kept_is_the_best_by_its_own_reward(rate):
    """With the larger step size PPO spoils what it maximises and the clone or an early candidate
    is best, with the smaller it helps; either way it is the best of the candidates when they are
    judged by hand, on other rollouts."""
    own = {"learning_rate": rate, "policy_delay": 2}
    bare, plain, none = walk(keep="last", **own)
    learner, states, metrics = walk(candidates=4, judged_worlds=64, **own)
    assert same_policy(bare.policy(plain[-1]), inner(plain[-1])) and "kept_round" not in none[-1]
    # Judging changes nothing in the training but how its program is rounded, which large steps make
    # more of in every round.
    same = slice(4) if rate == 0.3 else slice(None)
    proxies = [np.array([m["proxy"] for m in found])[same] for found in (metrics, none)]
    np.testing.assert_allclose(*proxies, atol=1e-5)
    assert learner.consumes.env_steps - bare.consumes.env_steps == 2 * 4 * 64 * 32
    candidates = {
        n: inner(states[n]) for n in (0, 4, 6, 8, 10)
    }  # two rounds hold the clone, eight move it
    scores = {n: objective(learner, states[-1], params) for n, params in candidates.items()}
    for n in (0, 4, 6, 8, 10):
        best = max((m for m in scores if m <= n), key=lambda m: scores[m])
        assert int(states[n].best_round) == best and same_policy(
            learner.policy(states[n]), candidates[best]
        )
    assert (rate == 0.3) == (int(states[-1].best_round) == 0)


def inner(state):
    """The policy of a state as it is."""
    return ppo.PPO(spec_of(Windy()), rlhf.Config(**SMALL), init="bc").params(state.policy)


def objective(learner, state, params):
    """By hand: mean learned reward of a mode less beta times the mean KL of its distance from
    the clone's."""
    world, policy = Windy(), ppo.PPO(spec_of(Windy()), rlhf.Config(**SMALL), init="bc").policy
    see = lambda x: view(params.inputs, x)
    act = lambda x, key: (policy.mode(params.weights, see(x)),) * 2 + (jnp.zeros(len(x)),)
    _, batch = trainer.pool(spec_of(world), world.dials, act, 256, 32, 32, jax.random.PRNGKey(5))
    reward = learner.reward_fn(
        state.reward, batch.observation, batch.action, batch.next_observation
    )
    gap = policy._out(params.weights, see(batch.observation)) - policy._out(
        state.policy.reference, see(batch.observation)
    )
    kl = 0.5 * jnp.sum(jnp.square(gap) * jnp.exp(-2 * state.policy.reference["log_std"]), -1)
    return float(reward.mean() - 0.02 * kl.mean())


@pytest.mark.slow
def test_what_was_kept_is_judged_by_the_reward_of_now():
    """The opposite reward chooses the other of the two, whatever was best before."""
    _, states, _ = walk(learning_rate=1e-3, policy_delay=0, keep="last")
    asking = rlhf.asking(
        spec_of(Windy()), rlhf.Config(**{**SMALL, "labels": 60, "reference_kl": 0.0})
    )
    state, reward = states[-1], states[-1].reward  # the clone is kept, the policy has moved
    choose = jax.jit(
        lambda reward: asking.chosen(state.replace(reward=reward), task_of(Windy()), KEY)
    )
    better, worse = choose(reward), choose(reward.replace(scale=-reward.scale))
    assert (better.best_round, worse.best_round) == (10.0, 0.0)
    assert same_policy(better.best, inner(state)) and same_policy(worse.best, state.best)


@pytest.mark.slow
def test_restart_returns_to_the_clone():
    _, _, metrics = trained(rlhf_iterated, labels=60, iterations=2, restart=True, policy_delay=0)
    assert (metrics["reference_kl"][:, 2] > 1e-5).all()
    np.testing.assert_allclose(metrics["reference_kl"][:, [0, 3]], 0, atol=1e-6)


@pytest.mark.slow
def test_a_restarted_policy_is_pushed_by_no_earlier_update():
    _, states, _ = trained(rlhf, labels=60, policy_delay=0)
    inner = ppo.PPO(spec_of(Windy()), rlhf.Config(**SMALL), init="bc")
    before = jax.tree.map(lambda x: x[0], states.policy)
    after = inner.restarted(before)
    adam = after.opt_state[1][0]
    largest = lambda tree: max(float(jnp.abs(x).max()) for x in jax.tree.leaves(tree))
    assert largest(adam.mu) == largest(adam.nu) == adam.count == 0 < before.opt_state[1][0].count
    schedule = lambda state: state.opt_state[1][1].count
    assert schedule(after) == schedule(before) > 0  # the step size goes on falling
    jax.tree.map(np.testing.assert_array_equal, after.weights["policy"], before.reference)
    jax.tree.map(np.testing.assert_array_equal, after.weights["value"], before.weights["value"])


@pytest.mark.slow
@pytest.mark.parametrize("module", [rlhf, rlhf_iterated, trex, drex])
def test_a_learned_reward_makes_it_better_than_its_data(module):
    longer = {
        "rounds": 40,
        "labels": 200,
        "pairs": 400,
        "reward_steps": 400,
        "learning_rate": 1e-3,
        "reference_kl": 0.0,
    }
    learner, states, metrics = trained(module, **longer)
    clone = level(*trained(rlhf, labels=60, rounds=1, policy_delay=0, learning_rate=1e-8)[:2])
    assert (level(learner, states) > clone + 0.05).all()
    assert (metrics["reward_accuracy"][:, -1] > 0.8).all()


@pytest.mark.slow
@pytest.mark.parametrize("module", [dpo, cpl])
def test_the_policy_alone_learns_from_comparisons(module):
    learner, states, metrics = trained(
        module, labels=200, rounds=20, tail=8, warm=8, learning_rate=1e-3
    )
    clone = level(*trained(module, labels=20, rounds=1, tail=8, warm=8, learning_rate=1e-8)[:2])
    assert (level(learner, states) > clone + 0.02).all()
    assert (metrics["reward_accuracy"][:, -1] > 0.6).all()


def test_pairs_of_dpo_share_their_start():
    _, states, _ = trained(dpo, labels=20, rounds=1, tail=4, warm=8)
    seen = np.asarray(states.pairs.observation)  # [seeds, L, 2, H, O]
    np.testing.assert_array_equal(seen[:, :, 0, 0], seen[:, :, 1, 0])
    assert (np.abs(seen[:, :, 0, 1:] - seen[:, :, 1, 1:]).max((2, 3)) > 0).all()
    wind = seen[..., 1]  # the world's own draws are shared too: nothing but actions differs
    np.testing.assert_array_equal(wind[:, :, 0], wind[:, :, 1])
    assert len(np.unique(seen[0, :, 0, 0, 0])) > 10


def test_the_tail_counts_whole_however_a_teacher_weighs_the_segment():
    reward = np.arange(1.0, 6.0)  # a segment of 3 and a tail of 2
    folded = np.asarray(offline._with_tail(jnp.asarray(reward), 3))
    np.testing.assert_array_equal(folded, [1, 2, 3 + 4 + 5])
    myopic = teachers.Teacher(discount=0.5)
    assert float(teachers.worth(myopic, jnp.asarray(folded))) == pytest.approx(
        0.25 * 1 + 0.5 * 2 + 3 + 9
    )


@pytest.mark.slow
def test_noise_ranks_rollouts_of_drex_and_returns_those_of_trex():
    _, states, _ = trained(drex, pairs=50)
    made = jax.tree.map(lambda x: np.asarray(x[0]), states.comparisons)
    noise = np.repeat(np.arange(20) * 0.05, 4)  # of the segments: 32 // 8 in each of 20 rollouts
    assert (noise[made.second] - noise[made.first] > 0.3 - 1e-6).all() and (made.label == 1).all()
    _, states, _ = trained(trex, pairs=50)
    made, segments = (
        jax.tree.map(lambda x: np.asarray(x[0]), x) for x in (states.comparisons, states.segments)
    )
    total = segments.reward.reshape(20, -1).sum(1)
    np.testing.assert_array_equal(made.label, total[made.first // 4] > total[made.second // 4])


def test_a_random_ranking_is_one_of_the_same_rollouts():
    order = lambda **settings: np.asarray(
        ranked.Pool(spec_of(Windy()), ranked.Config(pool_worlds=20, **settings)).order(KEY)
    )
    np.testing.assert_array_equal(order(), np.arange(20))
    shuffled = order(shuffled=True)
    assert sorted(shuffled) == list(range(20)) and (shuffled != np.arange(20)).sum() > 10


@pytest.mark.slow
@pytest.mark.parametrize("module", [trex, drex])
def test_a_random_ranking_tells_nothing_and_is_a_ranking(module):
    _, states, _ = trained(module, pairs=300, shuffled=True)
    made, segments = (
        jax.tree.map(lambda x: np.asarray(x[0]), x) for x in (states.comparisons, states.segments)
    )
    total = segments.reward.reshape(20, -1).sum(1)
    winner, loser = np.where(made.label == 1, (made.first, made.second), (made.second, made.first))
    pairs = set(zip(winner // 4, loser // 4, strict=True))
    assert not any((worse, better) in pairs for better, worse in pairs)
    right = np.mean([total[better] > total[worse] for better, worse in pairs])
    assert 0.25 < right < 0.75


@pytest.mark.parametrize(
    ("module", "settings", "words"),
    [
        (rlhf, {"segment": 64}, "segment=32"),
        (rlhf_iterated, {"labels": 64, "iterations": 5}, "labels=60"),
        (rlhf_iterated, {"labels": 20, "iterations": 5}, "labels=50"),
        (rlhf_iterated, {"labels": 60, "iterations": 6, "pool_worlds": 20}, "pool_worlds=18"),
        (rlhf_iterated, {"labels": 80, "iterations": 8, "pool_worlds": 16}, "iterations=6"),
        (drex, {"pool_worlds": 30}, "pool_worlds=20"),
    ],
)
def test_bad_settings_name_the_nearest(module, settings, words):
    with pytest.raises(BadInput, match=words):
        module.make(spec_of(Line()), module.Config(**{**SMALL, **settings}))
