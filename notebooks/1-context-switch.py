# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 1. The context switch
#
# What does a wall cost when no data move? One call of an empty foreign function is timed, arguments
# in and result out included, by reading the clock around a batch of calls. The baseline, `none`,
# is a real call that the compiler can neither inline nor leave out: what is above it is the wall.
#
# The environment variable `ISOBENCH_RUN` names the run that is read; without it, it is the
# reference run. Nothing is measured here.

# %%
from harness import notebooks, tables
from harness.figures import figure1, figure2

run = notebooks.run()

# %% [markdown]
# ## What a call goes through (Figure 1)
#
# The paper's macro generates a wrapper around each foreign function. Here a call passes through the
# functions below. All that is saved on the way in is on the caller's stack, and its address is the
# whole of what a rewind needs: that is why a violation costs little, and a call less.

# %%
notebooks.show_figures([figure1.draw()], "Figure 1")

# %% [markdown]
# ## What an empty call costs (Figure 2)
#
# The axis is logarithmic: a step to the next labelled tick is a factor of hundreds or thousands.
# Each panel is of one provenance, told by the filling of its bars. Solid bars are wall clock on the
# named host. Hatched ones are not: instructions counted on an emulated machine say nothing of
# stalls and caches, so read them against each other and never against a time.
#
# Two things to look for. First, a process wall (`sandcrust-…`) costs two switches of the kernel's;
# where its child runs on another core, waking that core is added. `pipe-floor` is the same
# exchange with nothing but `write` and `read`: what lies between it and `sandcrust-pipe` is all
# that the wall itself adds. Second, a protection key costs two instructions, WRPKRU, and the care
# around them.
#
# Open bars are quoted. PKRU-Safe's in time is the paper's extrapolation, 8.55 times the baseline;
# the paper multiplied a baseline with two clock readings in it, this one has none.

# %%
has_switch = run.table["workload"].isin(tables.FIGURE_2).any()
notebooks.show_figures([figure2.draw(run)] if has_switch else [], "the workload switch")

# %% [markdown]
# ## The numbers

# %%
notebooks.show_tables([tables.figure2_table(run)] if has_switch else [], "the workload switch")

# %% [markdown]
# ## After a violation
#
# The other half of a wall is what happens when it is hit: from the fault to the error that the
# caller sees, the domain's memory discarded. Upstream's cost grew with the heap that was in use.

# %%
notebooks.show_tables([tables.rewind_table(run)], "the workload rewind")
