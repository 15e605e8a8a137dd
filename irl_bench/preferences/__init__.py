"""Learning from preferences.

`teachers` answers, `queries` chooses the pairs, `reward_model` fits a reward to the answers,
`trainer` and `ranked` train a policy on it, and `offline` fits a policy without a reward.
"""
