"""Makes policies that run on the host, such as those of PyTorch or stable-baselines3, usable in
jitted rollouts.

    model = stable_baselines3.PPO.load("ppo.zip")
    irl_bench.score(irl_bench.host_policy(model), "lane_keep")

At each step the observations of all episodes travel to the host in one batch, and the actions
travel back. Such a rollout is much slower than one of a policy in JAX.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np

from irl_bench.core.settings import BadInput
from irl_bench.core.types import Spec

__all__ = ["HostPolicy", "host_policy"]


@dataclasses.dataclass(frozen=True)
class HostPolicy:
    """A batched policy on the host, and what identifies it. `host_policy` makes one.

    Attributes:
      predict: observations float32[N, O] -> actions [N, A], or [N] in a discrete world.
      source: {name: SHA-256} of its weights and files.
    """

    predict: Callable[[np.ndarray], np.ndarray]
    source: dict[str, str]

    def __call__(self, observation: Any) -> np.ndarray:
        """Returns the actions at observations [N, O], or the action at one observation [O]."""
        rows = np.asarray(observation, np.float32)
        return self.predict(rows) if rows.ndim > 1 else self.predict(rows[None])[0]

    def bind(self, spec: Spec) -> Callable[[Any, jax.Array, jax.Array], jax.Array]:
        """Returns a function (params, observation[O], key) -> action for a world's shapes. It
        ignores params and key.

        Raises:
          BadInput: the policy fails at two observations of zeros, or its actions there do not have
            the world's shape and type.
        """
        shape = () if spec.n_actions is not None else (spec.action_size,)
        dtype = np.int32 if spec.n_actions is not None else np.float32

        def ask(observation: Any) -> np.ndarray:
            rows = np.array(observation, np.float32)  # a copy: policies may change it in place
            actions = np.asarray(self.predict(rows.reshape(-1, spec.observation_size)))
            if actions.shape != (rows.size // spec.observation_size, *shape):
                count = rows.size // spec.observation_size
                wanted = f"{[count, *shape]} for observations {[count, spec.observation_size]}"
                raise BadInput(
                    f"the host policy must return actions {wanted} in {spec.world.name}, not "
                    f"{list(actions.shape)}"
                )
            if actions.dtype.kind not in "biuf":
                raise BadInput(
                    f"the host policy must return numbers in {spec.world.name}, not {actions.dtype}"
                )
            if np.issubdtype(dtype, np.integer) and not np.issubdtype(actions.dtype, np.integer):
                raise BadInput(
                    f"the host policy must return integers in {spec.world.name}, not "
                    f"{actions.dtype}; nearest: actions.astype(int)"
                )
            return actions.astype(dtype).reshape(*rows.shape[:-1], *shape)

        try:
            ask(np.zeros((2, spec.observation_size), np.float32))
        except BadInput:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise BadInput(
                f"the host policy fails at a batch of observations [2, {spec.observation_size}] of "
                f"{spec.world.name} "
                f"({type(error).__name__}: {reason}); it must take one and return its actions"
            ) from error

        def act(params: Any, observation: jax.Array, key: jax.Array) -> jax.Array:
            del params, key
            return jax.pure_callback(
                ask, jax.ShapeDtypeStruct(shape, dtype), observation, vmap_method="expand_dims"
            )

        return act


def host_policy(policy: Any, files: Sequence[str | Path] = ()) -> HostPolicy:
    """Returns a wrapper of a policy that JAX cannot trace.

    Args:
      policy: a function observations float32[N, O] -> actions [N, A] (or int[N] in a discrete
        world); a `torch.nn.Module` of the same kind; or an object with stable-baselines3's
        `predict(observation, deterministic=True) -> (action, state)`. Deterministic and without a
        state: it is asked once about each state. A model's `VecNormalize` is applied, if the model
        holds the environment that has it.
      files: files that hold its weights. Their SHA-256 becomes part of a sweep's results' names, as
        that of a module's weights does by itself; without either, only the source of the file that
        makes it tells two policies apart.

    Raises:
      BadInput: it is neither, or a file cannot be read.
    """
    source = {}
    for file in files:
        try:
            source[f"weights {Path(file).name}"] = hashlib.sha256(
                Path(file).read_bytes()
            ).hexdigest()
        except OSError as error:
            raise BadInput(
                f"host_policy cannot read the file {file}: {error.strerror or error}"
            ) from None
    if isinstance(policy, HostPolicy):
        return policy
    if isinstance(policy, type):
        raise BadInput(
            f"host_policy takes a policy, not the class {policy.__name__}; nearest: "
            f"{policy.__name__}(...)"
        )
    if hasattr(policy, "predict"):
        return HostPolicy(
            _model(policy),
            {**source, **_weights(getattr(policy, "policy", None)), **_statistics(policy)},
        )
    if hasattr(policy, "state_dict") and callable(policy):
        return HostPolicy(_torch(policy), {**source, **_weights(policy)})
    if callable(policy):
        return HostPolicy(lambda rows: np.asarray(_detached(_first(policy(rows)))), source)
    raise BadInput(
        "host_policy takes a function, a torch module or a model with `predict`, not "
        f"{type(policy).__name__}"
    )


def _first(returned: Any) -> Any:
    """The actions, if the result may be a pair of actions and something else."""
    return returned[0] if isinstance(returned, tuple) else returned


def _detached(actions: Any) -> Any:
    """A tensor of PyTorch without its graph, on the host; anything else unchanged."""
    return actions.detach().cpu() if hasattr(actions, "detach") else actions


def _model(model: Any) -> Callable[[np.ndarray], np.ndarray]:
    """The `predict` of a model of stable-baselines3's kind."""
    normalise = _normaliser(model)
    try:
        known = inspect.signature(model.predict).parameters
    except (TypeError, ValueError):
        known = {}
    mode = {"deterministic": True} if "deterministic" in known else {}

    def predict(rows: np.ndarray) -> np.ndarray:
        result: Any = model.predict(normalise.normalize_obs(rows) if normalise else rows, **mode)
        is_pair = isinstance(result, tuple) and len(cast("tuple[Any, ...]", result)) == 2
        actions, state = cast("Any", result) if is_pair else (cast("Any", result), None)
        if state is not None:
            raise BadInput(
                "host_policy: the model is recurrent, and would lose its state at every step; "
                "nearest: a policy in JAX, "
                "act(params, carry, observation, key)"
            )
        return actions

    return predict


def _normaliser(model: Any) -> Any:
    """The `VecNormalize` of the environment that a stable-baselines3 model holds; None without
    one."""
    find = getattr(model, "get_vec_normalize_env", None)
    return find() if callable(find) else None


def _statistics(model: Any) -> dict[str, str]:
    """{"statistics": SHA-256} of the running statistics that normalise a model's observations; {}
    without any."""
    running = getattr(_normaliser(model), "obs_rms", None)
    if running is None:
        return {}
    return {
        "statistics": hashlib.sha256(
            np.asarray(running.mean).tobytes() + np.asarray(running.var).tobytes()
        ).hexdigest()
    }


def _torch(module: Any) -> Callable[[np.ndarray], np.ndarray]:
    """A PyTorch module as a function of observations."""
    import torch  # type: ignore[import-not-found]

    def predict(rows: np.ndarray) -> np.ndarray:
        parameter, training = next(iter(module.parameters()), torch.zeros(())), module.training
        inputs = torch.from_numpy(np.array(rows)).to(parameter.device, parameter.dtype)
        module.eval()  # no dropout, and batch statistics stay as they are
        try:
            with torch.no_grad():
                action = _first(module(inputs))
                return (action.float() if action.is_floating_point() else action).cpu().numpy()
        finally:
            module.train(training)

    return predict


def _weights(module: Any) -> dict[str, str]:
    """{"weights": SHA-256} of a PyTorch module's state; {} if it has none."""
    if not hasattr(module, "state_dict"):
        return {}
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        if hasattr(value, "detach"):
            value = value.detach().cpu()
            array = (
                value.double() if value.is_floating_point() else value
            ).numpy()  # NumPy has no bfloat16
            digest.update(
                f"{name}{array.dtype}{array.shape}".encode() + np.ascontiguousarray(array).tobytes()
            )
    return {"weights": digest.hexdigest()}
