"""Reinforcement learning whose reward is an argument: the inner loop of every algorithm that
learns a reward."""
