"""Learning from preferences: who is asked (`teachers`), about what (`queries`), what is learned
(`reward_model`), how it is used (`trainer`, `ranked`), and doing without a reward (`offline`)."""
