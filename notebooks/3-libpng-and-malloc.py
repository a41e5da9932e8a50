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
# # 3. libpng and malloc
#
# Two questions closer to use. What does a wall cost around a library that does real work on each
# call, a PNG decoder? And what does the domain's own heap cost, which the foreign code allocates
# from in place of glibc's?

# %%
from harness import notebooks, tables

run = notebooks.run()

# %% [markdown]
# ## Decoding pictures (Table I)
#
# libpng decodes four pictures into rows. Its error path, `setjmp` and `longjmp`, stays inside the
# wall. Decoding takes milliseconds, so what is left of the switch is nothing; what a wall still
# costs is moving the rows out, which for a process is a pipe.
#
# Upstream's ratios stand beside ours where the artifact was run on the same kind of picture. Its
# pictures and ours differ in content, so that only ratios compare.

# %%
notebooks.show_tables(tables.table1_tables(run), "the workload png-decode")

# %% [markdown]
# ## malloc and free (Section V-A)
#
# Pairs of `malloc` and `free` of 0 to 4,095 bytes, sizes from the paper's generator. `pairs` frees
# each block at once, which is what glibc's per-thread cache is best at; `live-1000` keeps a
# thousand blocks alive, which is closer to a program.

# %%
notebooks.show_tables([tables.section5a_table(run)], "the workload malloc")
