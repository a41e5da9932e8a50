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
# # 4. The findings
#
# The paper concludes with four findings. Each is restated here as a test on numbers, with a
# threshold, and is confirmed or refuted only if the whole of the interval that the measurements
# allow lies on one side of it. Where a run lacks what a test needs, or its noise spans the
# threshold, the finding is *not decidable here*, and the reason is given.
#
# Times are preferred to counts, since the paper's findings are about time. Where the host lacks
# protection keys a modelled time is tried next: the range of the published cost of WRPKRU
# is in the interval, and is often too wide to decide. Then instruction counts decide, and
# say so.

# %%
from harness import findings, notebooks, tables

run = notebooks.run()

# %%
notebooks.show_tables(
    [tables.findings_table(run)] if len(run.table) else [], "any result to decide a finding by"
)

# %% [markdown]
# ## How many hold

# %%
verdicts = [finding.verdict for finding in findings.decide(run.table)]
{verdict: verdicts.count(verdict) for verdict in dict.fromkeys(verdicts)}
