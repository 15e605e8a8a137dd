# %% [markdown]
# # A first sweep
#
# An imitation learner copies an expert. It is judged by its *regret*: how much more cost it
# collects than the expert over an episode of T steps. Theory makes two predictions about it.
#
# - Behavioural cloning (`bc`) never practises its own mistakes. One error can lead to states that
#   no demonstration covers, so regret may grow like T².
# - DAgger asks the expert about the states that the learner itself visits. Where the expert can
#   undo an error, regret grows like T.
#
# This notebook measures both on `chain`, a small world with a closed-form answer. It takes about
# a minute on two CPU cores.

# %%
import pathlib

import matplotlib.pyplot as plt
import pandas as pd

import irl_bench

# %% [markdown]
# ## Run it
#
# A sweep trains every algorithm on every world, in every mode, with every seed. Then it rolls
# each policy out to the longest horizon and stores the cost at every T on the way. The mode
# `dagger_chain` is the world as it is. In the mode `recoverable` the world brings everybody back
# after a few steps, whatever they do: it is the control.

# %%
verdicts = irl_bench.run(
    ["bc", "dagger"],
    "chain",
    mode=["dagger_chain", "recoverable"],
    seeds=10,
    budget="default",
    out="runs/first_sweep",
)

# %% [markdown]
# ## Read the table
#
# The first line is the *window*: the horizons at which an exponent means something. Below it the
# expert itself is still busy undoing errors. Above it episodes fail so often that nothing is left
# to lose. Every learner of a world shares one window.
#
# | column | meaning |
# |---|---|
# | verdict | the first rule that applies: QUADRATIC, LINEAR, SATURATED, NO-WINDOW and so on |
# | slope | the exponent of regret in T, with a 95 % interval over seeds |
# | h | hazard: how often per step the learner leaves the states that demonstrations cover |
# | ρ | recovery: how often per step it comes back to them |
# | level | regret per step at the longest horizon |
# | untrained | the same for a policy that was never trained |
#
# Below the table stands the reason for each verdict. The last sentence says what theory predicts,
# what was measured, and whether they agree.
#
# Read h and ρ together with the slope. In the mode `dagger_chain`, `bc` errs even less often than
# `dagger`, but it never comes back: ρ is 0, and regret grows like T². In the mode `recoverable` the
# same clone is brought back, and regret grows like T. It errs as often as before. An error just
# costs less.
#
# A slope near 1 can also mean that a policy has failed everywhere. Compare `level` with
# `untrained` to rule that out.
#
# `run` returns what it stores in `verdicts.json`: one dictionary per algorithm and mode.

# %%
table = pd.DataFrame(verdicts).query("not reference")
columns = ["mode", "algo", "verdict", "slope", "ci_low", "ci_high", "hazard", "recovery", "level"]
table[columns].round(5)

# %% [markdown]
# ## Draw the law
#
# On logarithmic axes a power law is a straight line, and its slope is the exponent. The dashed
# lines grow like T and like T².

# %%
figure, axes = plt.subplots(figsize=(6, 3.8), layout="constrained")
for verdict in table.to_dict("records"):
    low, high = zip(*verdict["regret_ci"]) if verdict["horizons"] else ((), ())
    label = f"{verdict['algo']}, {verdict['mode']}: {verdict['verdict']}"
    (line,) = axes.plot(verdict["horizons"], verdict["regret"], marker="o", ms=3, label=label)
    axes.fill_between(verdict["horizons"], low, high, color=line.get_color(), alpha=0.2, lw=0)
for power, start in ((1, 0.6), (2, 0.6)):
    axes.plot([120, 1024], [start, start * (1024 / 120) ** power], "k--", lw=0.8)
    axes.text(1050, start * (1024 / 120) ** power, "T" if power == 1 else "T²", va="center")
ticks = [128, 256, 512, 1024]
axes.set(xscale="log", yscale="log", xlabel="horizon T [steps]", ylabel="regret [cost]")
axes.set_xticks(ticks, ticks)
axes.minorticks_off()
axes.legend(frameon=False, loc="upper left")
plt.show()

# %% [markdown]
# ## Read the report
#
# `report.html` is one page that opens without a network. It starts with the same verdicts, then
# shows regret, local slopes, error rates, hazard and recovery, and ends with all settings and the
# files behind each row. `figures/` holds the plots as PNG and PDF.

# %%
run = pathlib.Path("runs/first_sweep")
for path in sorted(run.iterdir()):
    if not path.name.startswith("."):
        print(path.name, f"({len(list(path.iterdir()))} files)" if path.is_dir() else "")

# %% [markdown]
# ## When a sweep cannot answer
#
# A sweep that is too small says so. The budget `smoke` does everything once with few
# demonstrations. Its clone errs so often that no window is left, and no slope is fitted.

# %%
small = irl_bench.run("bc", "chain", mode="dagger_chain", budget="smoke", out="runs/too_small")
print(small[-1]["verdict"], "because the window is", small[-1]["reason"])

# %% [markdown]
# The same call again uses the finished results in `out`. More seeds add only what is missing, and
# an interrupted sweep continues where it stopped. Next: `an_algorithm` measures a learner of your
# own, and `read_a_run` opens the stored files.
