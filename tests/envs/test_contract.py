"""The contract of a world: a correct world passes without a warning, and each mistake raises one
line."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

import envs
from envs import contract
from envs.contract import ContractError
from envs.core import State, World, dial, soundness

pytestmark = pytest.mark.usefixtures("quick_compilation")


@struct.dataclass
class Dials:
    gust: float = dial(0.1, "standard deviation of a gust", unit="m", low=0.0, high=10.0)
    grip: float = dial(0.5, "largest correction in a step", unit="m", low=0.01, high=1.0)


class Gusts(World):
    """A point that gusts push off the middle of a lane. Observation float32[1] [m], action
    float32[1]."""

    name = "gusts"
    modes = {"nominal": {}, "calm": {"gust": 0.02}}  # noqa: RUF012 as in `World`
    horizon = 512
    recovery_steps = 5
    latency = 1
    observation_size: object = 1
    action_size: object = 1

    def __init__(self):
        self.dials = Dials()

    def reset(self, rng):
        rng, start = jax.random.split(rng)
        return self.state(jax.random.uniform(start, minval=-0.5, maxval=0.5), rng)

    def step(self, state, action):
        offset, rng = state.pipeline_state
        rng, draw = jax.random.split(rng)
        moved = (
            offset
            + self.dials.grip * jnp.clip(self.push(action), -1.0, 1.0)
            + self.dials.gust * jax.random.normal(draw)
        )
        return self.state(jnp.clip(moved, -3.0, 3.0), rng)

    def expert(self, state, key):
        offset, _ = state.pipeline_state
        return jnp.clip(-offset / self.dials.grip, -1.0, 1.0)[None]

    def push(self, action):
        return action[0]

    def state(self, offset, rng):
        cost = (jnp.abs(offset) > 1.0).astype(jnp.float32) + soundness(offset)
        metrics = {"cost": cost, "graded_cost": jnp.minimum(jnp.abs(offset) / 3.0, 1.0)}
        return State((offset, rng), offset[None], 1.0 - cost, jnp.zeros(()), metrics)


class Pushes(Gusts):
    """`Gusts` with three discrete actions: left, nothing and right."""

    name = "pushes"
    n_actions: object = 3

    def push(self, action):
        return action - 1

    def expert(self, state, key):
        offset, _ = state.pipeline_state
        return 1 - jnp.sign(jnp.round(offset / self.dials.grip)).astype(jnp.int32)


def spoilt(base=Gusts, **attributes):
    """Returns an instance of `base` with some attributes or methods replaced."""
    return type("Spoilt", (base,), attributes)()


def states(change):
    """Returns a `Gusts` whose reset and step return `change(state)`."""
    return spoilt(state=lambda self, offset, rng: change(Gusts.state(self, offset, rng)))


def after_step(change):
    """Returns a `Gusts` whose step alone returns `change(state)`."""
    return spoilt(step=lambda self, state, action: change(Gusts.step(self, state, action)))


def with_metrics(**changes):
    """Returns a `Gusts` with metrics changed by functions of their value; None removes a metric."""

    def change(state):
        metrics = {
            name: changes.get(name, lambda x: x)(x)
            for name, x in state.metrics.items()
            if changes.get(name, 1)
        }
        return state.replace(metrics=metrics)

    return states(change)


def expert(answer, base=Gusts, **attributes):
    """Returns a world whose expert returns `answer(correct action)`."""
    return spoilt(
        base, expert=lambda self, state, key: answer(base.expert(self, state, key)), **attributes
    )


def rounded():
    """`Gusts` whose expert's actions are off by a rounding error."""
    return expert(lambda action: 1.0005 * action)


def dialled(**dials):
    world = Gusts()
    return world.bind(world.dials.replace(**dials))


@dataclasses.dataclass(frozen=True)
class Plain:
    gust: float = 0.1


@struct.dataclass
class Static:
    grip: float = struct.field(pytree_node=False, default=0.5)


def holding(dials):
    """Returns a `Gusts` with other dials."""
    world = Gusts()
    world.dials = dials
    return world


def branching(self, state, action):
    return Gusts.step(self, state, action if self.dials.gust > 0.5 else -action)


def measured(self, state, action):
    return Gusts.step(self, state, jnp.ones(int(10 * self.dials.grip))[:1] * action)


def shaped(self, state, action):
    return Gusts.step(self, state, jnp.ones(self.dials.grip)[:1] * action)


def peeking(self, state, action):
    return Gusts.step(self, state, action if state.obs[0] > 0 else -action)


ATTRIBUTES = {
    "no world": (object(), "object is not an envs.core.World", "class object(envs.core.World)"),
    "the class": (Gusts, "Gusts is not an envs.core.World", "Gusts()"),
    "name": (spoilt(name="gusts of wind"), "Spoilt.name is 'gusts of wind'", 'name = "spoilt"'),
    "horizon": (spoilt(horizon=512.0), "gusts.horizon is 512.0", ">= 2", "horizon = 512"),
    "one step": (spoilt(horizon=1), "gusts.horizon is 1,", ">= 2"),
    "no horizon": (spoilt(horizon=None), "gusts.horizon is missing"),
    "n_actions": (spoilt(Pushes, n_actions=1), "pushes.n_actions is 1,", ">= 2 or None"),
    "sizes by name": (
        spoilt(observation_size={"offset": 1}),
        "observation_size is {'offset': 1}",
        "one flat vector",
    ),
    "action_size": (spoilt(action_size=(1,)), "gusts.action_size is (1,)", "length of an action"),
    "recovery_steps": (spoilt(recovery_steps=0), "gusts.recovery_steps is 0,", ">= 1 or None"),
    "latency": (spoilt(latency=True), "gusts.latency is True", ">= 1"),
    "no dials": (holding(None), "gusts.dials is missing", "flax.struct.dataclass"),
    "plain dials": (holding(Plain()), "gusts.dials is Plain(", "flax.struct.dataclass"),
    "dials' class": (holding(Dials), "gusts.dials is <class", "self.dials = Dials()"),
    "static dial": (holding(Static()), "gusts.dials.grip is static", "envs.core.dial"),
    "word": (
        dialled(gust="strong"),
        "gusts.dials.gust is 'strong', not a number",
        "envs.core.dial(",
    ),
    "vector": (dialled(gust=np.ones(2)), "gusts.dials.gust is array([1., 1.]), not a number"),
    "NaN dial": (dialled(gust=float("nan")), "gusts.dials.gust is nan", "[0, 10]"),
    "dial out of range": (dialled(grip=2.0), "gusts.dials.grip is 2,", "[0.01, 1]"),
    "no modes": (spoilt(modes={}), "gusts.modes is {}", 'modes = {"nominal": {}}'),
    "mode's name": (spoilt(modes={"a, b": {}}), "'a, b'"),
    "mode": (spoilt(modes={"nominal": None}), "gusts.modes['nominal'] is None"),
    "mode's dial": (
        spoilt(modes={"nominal": {"gusts": 1.0}}),
        "changes 'gusts', which is no dial",
        "nearest: 'gust'",
    ),
    "mode's value": (
        spoilt(modes={"nominal": {"gust": -1}}),
        "modes['nominal']['gust'] is -1",
        "[0, 10]",
        "nearest: 0.1",
    ),
    "flags": (spoilt(failure_flags=1), "failure_flags is 1", "failure_flags = ()"),
    "flag": (spoilt(failure_flags=(1,)), "failure_flags holds 1", "(0,)"),
    "negative flag": (spoilt(failure_flags=(-1,)), "failure_flags holds -1", "(0,)"),
    "options": (spoilt(options=("mjx",)), "gusts.options is ('mjx',), not a mapping"),
    "option": (
        spoilt(options={"backend": "mjx"}),
        "gusts.options['backend'] is 'mjx', not a tuple",
    ),
    "option and dial": (
        spoilt(options={"grip": ("a",)}),
        "gusts.options has 'grip', which is a dial too",
    ),
    "chosen": (
        spoilt(options={"a": ("b",)}, chosen={"a": "c"}),
        "gusts.chosen['a'] is 'c'",
        "nearest: 'b'",
    ),
    "no expert": (spoilt(expert=World.expert), "gusts has no expert", "has_expert = False"),
    "signature": (
        spoilt(expert=lambda self, state: 0),
        "gusts.expert(state) cannot be called as expert(state, key)",
    ),
}

SHAPES = {
    "bind": (spoilt(bind=lambda self, dials: None), "gusts.bind(dials) returns None"),
    "gym's reset": (
        spoilt(reset=lambda self, rng: (jnp.zeros(1), {})),
        "gusts.reset returns a tuple of 2",
        "State",
    ),
    "gym's step": (
        after_step(lambda s: (s.obs, s.reward)),
        "gusts.step returns a tuple of 2",
        "State",
    ),
    "words": (
        states(lambda s: s.replace(info={"at": "x"})),
        "gusts.reset: state.info['at'] is 'x', not an array",
    ),
    "dict": (
        states(lambda s: s.replace(obs={"offset": s.obs})),
        "gusts.reset: obs is a dict (offset), not float32[1]",
        "jnp.concatenate",
    ),
    "list": (
        states(lambda s: s.replace(obs=[s.obs[0]])),
        "obs is a list of 1, not float32[1]",
        "jnp.concatenate",
    ),
    "scalar": (
        states(lambda s: s.replace(obs=s.obs[0])),
        "obs is float32[], not float32[1]",
        "obs[None]",
    ),
    "matrix": (
        states(lambda s: s.replace(obs=s.obs[None])),
        "obs is float32[1, 1], not",
        "obs.reshape(-1)",
    ),
    "whole": (
        states(lambda s: s.replace(obs=s.obs.astype(int))),
        "obs is int32[1], not",
        "obs.astype(jnp.float32)",
    ),
    "size": (
        spoilt(observation_size=2),
        "obs is float32[1], not float32[2]",
        "observation_size = 1",
    ),
    "reward [1]": (
        states(lambda s: s.replace(reward=s.reward[None])),
        "reward is float32[1], not float32[]",
        "reward[0]",
    ),
    "rewards": (
        states(lambda s: s.replace(reward=jnp.ones(3))),
        "reward is float32[3], not float32[]",
        "one number per state",
    ),
    "bool reward": (
        states(lambda s: s.replace(reward=s.reward > 0)),
        "reward is bool[], not",
        "reward.astype(jnp.float32)",
    ),
    "Python reward": (
        after_step(lambda s: s.replace(reward=1.0)),
        "gusts.step: reward is a Python float",
        "jnp.float32(reward)",
    ),
    "no done": (
        states(lambda s: s.replace(done=None)),
        "done is None, not a scalar",
        "done = jnp.zeros(())",
    ),
    "done [1]": (
        states(lambda s: s.replace(done=s.done[None])),
        "done is float32[1], not a scalar",
        "done[0]",
    ),
    "no metrics": (
        states(lambda s: s.replace(metrics={})),
        "gusts.reset: metrics has no 'cost', it is empty",
    ),
    "no cost": (
        with_metrics(cost=None),
        "gusts.reset: metrics has no 'cost'",
        "(graded_cost)",
        '"cost": ',
    ),
    "no graded cost": (
        with_metrics(graded_cost=None),
        "metrics has no 'graded_cost'",
        '"graded_cost": cost',
    ),
    "bool cost": (
        with_metrics(cost=lambda x: x > 0),
        "cost is bool[], not float32[]",
        "cost.astype(jnp.float32)",
    ),
    "cost [1]": (
        with_metrics(graded_cost=lambda x: x[None]),
        "graded_cost is float32[1]",
        "graded_cost[0]",
    ),
    "reward [1] after step": (
        after_step(lambda s: s.replace(reward=s.reward[None])),
        "gusts.step: state.reward is float32[1] after step but float32[] after reset",
        "reward[0]",
    ),
    "type after step": (
        after_step(
            lambda s: s.replace(
                pipeline_state=(s.pipeline_state[0].astype(int), s.pipeline_state[1])
            )
        ),
        "gusts.step: state.pipeline_state[0] is int32[] after step but float32[] after reset",
        ".astype(jnp.float32)",
    ),
    "new field": (
        after_step(lambda s: s.replace(info={"n": s.done})),
        "gusts.reset: state.info['n'] is missing, but step",
    ),
    "lost field": (
        after_step(lambda s: s.replace(metrics={"cost": s.done})),
        "gusts.step: state.metrics['graded_cost'] is missing, but reset",
    ),
    "container": (
        after_step(lambda s: s.replace(pipeline_state=list(s.pipeline_state))),
        "the structure of state.pipeline_state changes, a list of 2 after step but a tuple of 2 "
        "after reset",
    ),
    "scalar action": (
        expert(lambda a: a[0]),
        "gusts.expert: the action is float32[], not float32[1]",
        "action[None]",
    ),
    "pair": (
        expert(lambda a: (a, {})),
        "gusts.expert: the action is a tuple of 2, not",
        "the action alone",
    ),
    "action [1, 1]": (
        expert(lambda a: a[None]),
        "the action is float32[1, 1], not",
        "action.reshape(-1)",
    ),
    "action size": (
        expert(lambda a: a, action_size=2),
        "the action is float32[1], not float32[2]",
        "action_size = 1",
    ),
    "whole action": (
        expert(lambda a: a.astype(int)),
        "the action is int32[1], not",
        "action.astype(jnp.float32)",
    ),
    "discrete [1]": (
        expert(lambda a: a[None], Pushes),
        "pushes.expert: the action is int32[1], not int32[]",
        "action[0]",
    ),
    "discrete float": (
        expert(lambda a: 1.0 * a, Pushes),
        "the action is float32[], not",
        "action.astype(jnp.int32)",
    ),
    "one-hot": (
        expert(lambda a: jax.nn.one_hot(a, 3), Pushes),
        "the action is float32[3], not int32[]",
        "jnp.argmax(action)",
    ),
    "dial as a branch": (
        spoilt(step=branching),
        "gusts.step: dial 'gust' is data",
        "test_contract.py:",
        "jnp.where(self.dials.gust",
    ),
    "dial as a number": (
        spoilt(step=measured),
        "gusts.step: dial 'grip' is data",
        "ConcretizationTypeError",
    ),
    "state as a branch": (
        spoilt(step=peeking),
        "gusts.step cannot be traced by JAX (TracerBool",
        "test_contract.py:",
        "jax.lax.cond",
    ),
}

NUMBERS = {
    "NaN start": (
        spoilt(
            reset=lambda self, rng: (lambda s: s.replace(obs=s.obs * jnp.nan))(
                Gusts.reset(self, rng)
            )
        ),
        "gusts.reset: obs is not finite",
    ),
    "NaN later": (
        after_step(lambda s: s.replace(reward=s.reward / 0.0)),
        "gusts.step: reward is not finite at step 1 ",
    ),
    "NaN physics": (
        spoilt(step=lambda self, state, action: Gusts.step(self, state, jnp.nan * action)),
        "gusts.step: obs is not finite at step 1 of an episode of the expert's",
    ),
    "cost of 5": (
        with_metrics(cost=lambda x: 5.0 * x),
        "gusts: cost is 5, not 0 or 1",
        "graded_cost",
    ),
    "cost at first": (
        with_metrics(cost=lambda x: jnp.maximum(x, 1.0)),
        "gusts.reset: cost is 1, not 0",
    ),
    "graded cost": (
        with_metrics(graded_cost=lambda x: -2.0 - x),
        "gusts: graded_cost is -3, not in [0, 1]",
        "jnp.clip(graded_cost, 0.0, 1.0)",
    ),
    "action of 10": (
        expert(lambda a: jnp.sign(a) * 10.0),
        "gusts.expert: an action is ",
        "10, not in [-1, 1]",
        "jnp.clip(action",
    ),
    "NaN action": (
        expert(lambda a: a * jnp.nan),
        "gusts.expert: an action is not finite in a state that is",
    ),
    "one action more": (
        expert(lambda a: a + 1, Pushes),
        "pushes.expert: an action is 3, not one of 0 .. 2",
        "n_actions = 4",
    ),
    "one action less": (
        expert(lambda a: a - 1, Pushes),
        "pushes.expert: an action is -1, not one of 0 .. 2",
        "nearest: 0",
    ),
}


@pytest.mark.parametrize(
    "world",
    [Gusts, Pushes, rounded, lambda: dialled(gust=jnp.float32(10.0))],
    ids=["gusts", "pushes", "rounded", "bound"],
)
def test_a_world_that_keeps_the_contract_passes_in_silence(world):
    assert contract.check(world()) == ()


@pytest.mark.parametrize(
    "spoilt, words", [(case[0], case[1:]) for case in ATTRIBUTES.values()], ids=ATTRIBUTES
)
def test_an_attribute_that_is_wrong_is_named(spoilt, words):
    assert_line(spoilt, words)


@pytest.mark.parametrize(
    "spoilt, words", [(case[0], case[1:]) for case in SHAPES.values()], ids=SHAPES
)
def test_a_shape_or_type_that_is_wrong_is_named(spoilt, words):
    assert_line(spoilt, words)


@pytest.mark.parametrize(
    "spoilt, words", [(case[0], case[1:]) for case in NUMBERS.values()], ids=NUMBERS
)
def test_a_number_that_is_wrong_is_named(spoilt, words):
    contract.check_shapes(spoilt)
    assert_line(spoilt, words)


def assert_line(world, words):
    with pytest.raises(ContractError) as raised:
        contract.check(world)
    line = str(raised.value)
    assert "\n" not in line and "; nearest: " in line and len(line) < 300
    for word in words:
        assert word in line


def test_a_dial_that_is_a_shape_is_named_though_jax_speaks_of_shapes():
    world = spoilt(step=shaped)
    world.dials = world.dials.replace(grip=1)
    assert_line(world, ("gusts.step: dial 'grip' is data", "TypeError"))


@pytest.mark.parametrize("raised", [ValueError, TypeError, KeyError])
def test_what_a_world_raises_itself_passes_through(raised):
    def reset(self, rng):
        raise raised("its own")

    with pytest.raises(raised, match="its own") as found:
        contract.check(spoilt(reset=reset))
    assert not isinstance(found.value, ContractError)


def test_numbers_without_a_type_of_their_own_are_taken_where_a_scan_takes_them():
    start = {"steps": 0, "rest": 1, "key": jax.random.key(0)}
    later = {"steps": lambda x: x + 1, "rest": lambda x: 0.5 * x, "key": lambda x: x}
    world = spoilt(
        reset=lambda self, rng: Gusts.reset(self, rng).replace(reward=0.0, done=False, info=start),
        step=lambda self, state, action: Gusts.step(self, state, action).replace(
            done=jnp.array(False),
            info={name: later[name](value) for name, value in state.info.items()},
        ),
    )
    assert contract.check(world) == ()


def ends(state):
    return state.replace(done=state.metrics["cost"])


def always(self, rng):
    return Gusts.reset(self, jax.random.PRNGKey(0))


def careless(self, offset, rng):
    state = Gusts.state(self, offset, rng)
    return state.replace(
        metrics={**state.metrics, "cost": (jnp.abs(offset) > 1.0).astype(jnp.float32)}
    )


def fragile(self, state, action):
    after = Gusts.step(self, state, action)
    return after.replace(obs=after.obs / (jnp.abs(after.obs) < 1.0))


@pytest.mark.parametrize(
    "world, words",
    [
        (
            states(ends),
            "gusts sets done, which is ignored: a failure never ends an episode here, its cost is "
            "paid until the horizon",
        ),
        (spoilt(reset=always), "gusts.reset ignores its key"),
        (spoilt(state=careless), "gusts.step: cost is 0 after an action that is not a number"),
        (spoilt(step=fragile), "gusts: obs not finite under random actions"),
        (spoilt(step=fragile, has_expert=False), "gusts: obs not finite under random actions"),
    ],
    ids=["done", "key", "NaN action", "NaN state", "NaN state, no expert"],
)
def test_what_is_allowed_and_hardly_meant_is_a_warning(world, words):
    (line,) = contract.check(world)
    assert line.startswith(words) and "\n" not in line


def test_a_world_without_an_expert_is_not_asked_for_one():
    world = spoilt(has_expert=False, expert=World.expert)
    assert contract.check(world) == ()


def test_a_short_world_is_not_run_past_its_horizon():
    """Its cost is wrong from the fifth step on."""

    def world(horizon):
        return spoilt(
            horizon=horizon,
            reset=lambda self, rng: Gusts.reset(self, rng).replace(info={"age": 0}),
            step=lambda self, state, action: (
                lambda after, age: after.replace(
                    info={"age": age}, metrics={**after.metrics, "cost": 1.0 * age * (age > 4)}
                )
            )(Gusts.step(self, state, action), state.info["age"] + 1),
        )

    with pytest.raises(ContractError, match="cost is 8, not 0 or 1"):
        contract.check(world(8))
    contract.check_values(world(4))


@pytest.mark.parametrize(
    "name", ["chain", "lane_keep", "race", "swing_up", "plant", "grid", "coarse_lane"]
)
def test_the_worlds_here_keep_the_contract(name):
    assert contract.check(envs.make(name)) == ()


@pytest.mark.parametrize("name", ["hopper", "ant", "ant_course"])
def test_the_robots_shapes_keep_the_contract(name):
    contract.check_shapes(envs.make(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hopper", "ant", "ant_course"])
def test_the_robots_keep_the_contract(name):
    """Robots set `done` at a fall, so that a trainer can end its own episodes there."""
    assert all("sets done" in line for line in contract.check(envs.make(name)))


@pytest.mark.parametrize("method", ["reset", "step", "expert"])
def test_numbers_drawn_outside_jax_are_told_of(method):
    """NumPy's generator draws once, when the program is traced, and never again."""
    usual = getattr(Gusts, method)

    def noisy(self, *arguments):
        shift = np.float32(1e-3 * np.random.default_rng().normal())
        result = usual(self, *arguments)
        return (
            result + 0.1 * shift
            if method == "expert"
            else result.replace(reward=result.reward + shift)
        )

    (line,) = contract.check(spoilt(**{method: noisy}))
    assert (
        line.startswith(f"gusts.{method} traces to a different program each time")
        and "\n" not in line
    )
