# %% [markdown]
# # Read a run with pandas and DuckDB
#
# A run is a folder of plain files. Nothing in it needs this package to be read.
#
# | file | what it holds |
# |---|---|
# | `verdicts.json` | every verdict with all its figures |
# | `plan.json` | which cells the report is made of, and their settings |
# | `cells/*.parquet` | the results: one file per algorithm, world, mode and group of seeds |
# | `learned/*.safetensors` | the policy of each seed and, if one was learned, the reward |
#
# This notebook makes a run and then answers questions that the report does not ask. DuckDB comes
# with `pip install 'irl-bench[examples]'`.

# %%
import json
import pathlib

import duckdb
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import pandas as pd

import irl_bench

run = pathlib.Path("runs/to_read")
verdicts = irl_bench.run(
    ["bc", "dagger"], "chain", mode="dagger_chain", seeds=10, budget="default", out=str(run)
)

# %% [markdown]
# ## Verdicts in pandas
#
# `verdicts.json` is a list with one entry per algorithm, world and mode. The entries marked
# `reference` are the expert and a policy that was never trained.

# %%
table = pd.DataFrame(json.loads((run / "verdicts.json").read_text()))
table[["algo", "reference", "verdict", "slope", "hazard", "recovery", "level"]].round(5)

# %% [markdown]
# ## Which file holds what
#
# `plan.json` maps every entry to its cells. One row per cell makes it a table to join with.

# %%
plan = json.loads((run / "plan.json").read_text())
cells = pd.DataFrame(plan["entries"])[["algo", "mode", "rounds", "cells"]].explode("cells")
cells = cells.rename(columns={"cells": "cell"}).reset_index(drop=True)
cells.head(8)

# %% [markdown]
# ## Results in DuckDB
#
# DuckDB reads all Parquet files as one table with the columns cell, seed, round, T, quantity and
# value. It also reads the data frame `cells` by its name.

# %%
files = str(run / "cells" / "*.parquet")
duckdb.sql(f"""
    select quantity, count(*) as rows, max(T) as longest_T, max(round) as last_round
    from '{files}'
    where quantity not like 'train/%'
    group by quantity
    order by quantity
""").df()

# %% [markdown]
# `cost` is the cumulative cost of an episode up to T, averaged over episodes. Regret is the
# learner's cost minus the expert's, seed by seed.

# %%
regret = duckdb.sql(f"""
    with cost as (
        select algo, seed, T, value
        from '{files}' join cells using (cell)
        where quantity = 'cost' and round = rounds
    )
    select learner.algo, learner.seed, learner.T, learner.value - expert.value as regret
    from cost as learner join cost as expert using (seed, T)
    where learner.algo in ('bc', 'dagger') and expert.algo = 'expert'
    order by all
""").df()
regret.query("T == 1024").groupby("algo").regret.describe().round(3)

# %%
figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
for (algo, seed), curve in regret[regret["T"] >= 16].groupby(["algo", "seed"]):
    colour = {"bc": "tab:blue", "dagger": "tab:orange"}[algo]
    label = algo if seed == 0 else None
    axes.plot(curve["T"], curve["regret"], color=colour, lw=1, alpha=0.7, label=label)
ticks = [16, 64, 256, 1024]
axes.set(xscale="log", yscale="log", xlabel="horizon T [steps]", ylabel="regret [cost]")
axes.set_xticks(ticks, ticks)
axes.minorticks_off()
axes.legend(frameon=False, title="one line per seed")
plt.show()

# %% [markdown]
# Events are counted over all episodes of a seed. Their ratios are the hazard and the recovery of
# the verdict, here seed by seed.

# %%
counts = duckdb.sql(f"""
    pivot (
        select algo, seed, quantity, value
        from '{files}' join cells using (cell)
        where quantity in ('on_steps', 'on_to_off', 'off_steps', 'off_to_on') and round = rounds
    ) on quantity using sum(value)
    order by algo, seed
""").df()
counts["hazard"] = counts["on_to_off"] / counts["on_steps"]
counts["recovery"] = counts["off_to_on"] / counts["off_steps"]
counts.groupby("algo")[["hazard", "recovery"]].agg(["min", "median", "max"]).round(5)

# %% [markdown]
# Training metrics are quantities named `train/...`, one value per round.

# %%
loss = duckdb.sql(f"""
    select algo, round, avg(value) as loss
    from '{files}' join cells using (cell)
    where quantity = 'train/loss'
    group by all
    order by all
""").df()
loss.pivot(index="algo", columns="round", values="loss").round(4)

# %% [markdown]
# ## What was learned
#
# `irl_bench.load` returns the policy of a seed as a function. In `chain` the last entry of the
# observation says that the learner is off the states that demonstrations cover, and action 3 is the
# only way back. No demonstration shows it. Which seeds take it?

# %%
off = jnp.zeros(65).at[64].set(1.0)
actions = {
    algo: [int(irl_bench.load(run, algo, "chain", seed=seed).act(off)) for seed in range(10)]
    for algo in ("bc", "dagger")
}
pd.DataFrame(actions).rename_axis("seed").transpose()

# %% [markdown]
# A loaded policy knows its world, with the dials of the run. `chain` has its cost in closed form,
# so the measured curve of a seed can be checked. The difference is the noise of 2048 episodes.

# %%
learned = irl_bench.load(run, "bc", "chain", seed=0)
exact = jax.jit(lambda: learned.world.expected_cost(learned.act, 1024))()
measured = duckdb.sql(f"""
    select T, value from '{files}' join cells using (cell)
    where quantity = 'cost' and algo = 'bc' and seed = 0 and round = rounds
    order by T
""").df()
for T in (64, 256, 1024):
    found = measured.set_index("T")["value"][T]
    print(f"T = {T}: measured {found:.3f}, exact {float(exact[T - 1]):.3f}")

# %% [markdown]
# ## Damage is noticed
#
# Every cell and every learned file carries a SHA-256 of its content. One flipped bit is enough.

# %%
key = cells.query("algo == 'bc'")["cell"].iloc[0]
path = run / "learned" / f"{key}.safetensors"
content = path.read_bytes()
path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
try:
    irl_bench.load(run, "bc", "chain", seed=0)
except ValueError as error:
    print(str(error).replace(key, "KEY"))
_ = path.write_bytes(content)
