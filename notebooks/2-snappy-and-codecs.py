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
# # 2. Snappy and the codecs
#
# A switch alone is rare: arguments go in and results come out. Snappy compresses and uncompresses
# byte strings from 1 byte to 2 MiB. Under the walls named after a *codec* the bytes are serialised
# into the domain and back, as in the paper; under `mpk` they are read where they lie and only the
# result is copied; under `mpk-view` nothing is.
#
# Content matters. `random`, the paper's, does not compress: Snappy gives up early and mostly
# copies, which makes every wall look dear. `text` gives it work to do.

# %%
from harness import notebooks, tables
from harness.figures import figure3, figure4

run = notebooks.run()

# %% [markdown]
# ## Cost against size (Figure 3)
#
# Both axes are logarithmic and sizes stand at their true places. A flat line is a fixed cost per
# call: the switch. A line that rises with a slope of one costs by the byte. Where a wall's line
# meets the baseline's, its cost has been drowned by the work.
#
# Small open marks are quoted from the published artifact, counted on a machine like ours.

# %%
notebooks.show_figures(
    (figure3.draw(run, content) for content in figure3.contents(run)), "the Snappy workloads"
)

# %% [markdown]
# ## Level of optimisation (Figure 4)
#
# The two abomonation codecs, each compiled at -O0 to -O3. v1 visits a byte string element by
# element; only the optimiser can make one copy of that. v2 copies it whole whatever the compiler
# does.

# %%
notebooks.show_figures(
    (figure4.draw(run, content) for content in figure4.contents(run)),
    "the codecs at other levels of optimisation than the usual",
)

# %% [markdown]
# ## The detailed tables
#
# Execution time, relative deviation and the ratio to no wall for each size, one table for each
# workload, content and provenance. All of them are in the run's folder; here are those of
# random content.

# %%
detailed = [*tables.figure3_tables(run), *tables.figure4_tables(run)]
notebooks.show_tables(
    (table for table in detailed if "-random-" in table.name), "the Snappy workloads"
)
