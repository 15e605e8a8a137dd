"""Films of episodes: the same scene driven by several policies, as GIF, MP4 or a page that plays
it."""
